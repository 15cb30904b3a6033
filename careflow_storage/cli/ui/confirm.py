"""Questions before actions that cannot be undone."""

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
        typer.Exit: The user declined; the exit code is 1, and nothing was changed.
        InvalidInputError: The user cannot be asked: stdin has ended, or the output is JSON.
    """
    if not yes:
        typed = _ask(output, question, "y/N")
        _exit_unless(typed.lower() in ("y", "yes"), output)


def confirm_by_typing(output: Output, question: str, expected: str, *, yes: bool) -> None:
    """Ask the user to type ``expected``, such as a key or a bucket, unless ``--yes`` was given.

    Raises:
        typer.Exit: The user typed something else; the exit code is 1, and nothing was changed.
        InvalidInputError: The user cannot be asked: stdin has ended, or the output is JSON.
    """
    if not yes:
        typed = _ask(output, question, f"type {expected}")
        _exit_unless(typed == expected, output)


def _ask(output: Output, question: str, how: str) -> str:
    hint = "To agree in advance, add --yes."
    if output.as_json:
        raise InvalidInputError("This needs confirmation, and --json cannot ask.", hint=hint)
    prompt = Text.assemble(("? ", "bold yellow"), clean(question), (f" [{clean(how)}] ", "dim"))
    output.stderr.print(prompt, end="", soft_wrap=True)
    with interruptible():
        line = sys.stdin.readline()
    if not sys.stdin.isatty():
        output.stderr.print()
    if not line:
        raise InvalidInputError("This needs confirmation, and stdin has ended.", hint=hint)
    return line.strip()


def _exit_unless(agreed: bool, output: Output) -> None:
    if not agreed:
        output.note("Cancelled; nothing was changed.")
        raise typer.Exit(1)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let signals end a blocking read, which keeps the event loop from handling them."""
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
