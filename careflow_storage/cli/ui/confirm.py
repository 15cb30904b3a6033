"""Questions before what cannot be undone."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator

import typer
from rich.text import Text

from careflow_storage.cli.ui.cleaning import clean
from careflow_storage.cli.ui.output import Output
from careflow_storage.errors import InvalidInputError


def confirm(output: Output, question: str, *, yes: bool) -> None:
    """Ask for a "y", unless ``--yes`` was given.

    Raises:
        typer.Exit: The answer was another one; the exit code is 1 and nothing was done.
        InvalidInputError: Nobody can answer: stdin has ended, or the output is JSON.
    """
    if not yes:
        answer = _ask(output, question, "y/N")
        _stop_unless(answer.lower() in ("y", "yes"), output)


def confirm_by_typing(output: Output, question: str, expected: str, *, yes: bool) -> None:
    """Ask to type ``expected``, such as a key or a bucket's name, unless ``--yes`` was given.

    Raises:
        typer.Exit: Something else was typed; the exit code is 1 and nothing was done.
        InvalidInputError: Nobody can answer: stdin has ended, or the output is JSON.
    """
    if not yes:
        answer = _ask(output, question, f"type {expected}")
        _stop_unless(answer == expected, output)


def _ask(output: Output, question: str, how: str) -> str:
    hint = "Add --yes if you are sure."
    if output.as_json:
        raise InvalidInputError("With --json no questions are asked.", hint=hint)
    prompt = Text.assemble(("? ", "bold yellow"), clean(question), (f" [{clean(how)}] ", "dim"))
    output.stderr.print(prompt, end="", soft_wrap=True)
    with interruptible():
        line = sys.stdin.readline()
    if not sys.stdin.isatty():
        output.stderr.print()
    if not line:
        raise InvalidInputError("Nobody is there to answer.", hint=hint)
    return line.strip()


def _stop_unless(agreed: bool, output: Output) -> None:
    if not agreed:
        output.note("Nothing was done.")
        raise typer.Exit(1)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let signals end a blocking read: the event loop, which else takes them, stands still."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler),
        signal.SIGTERM: signal.signal(signal.SIGTERM, signal.SIG_DFL),
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
