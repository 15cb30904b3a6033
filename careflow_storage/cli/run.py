"""How a command runs: one event loop, signals, errors as messages, exit codes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence

import typer
from pydantic import ValidationError

from careflow_storage._lazy import is_loaded
from careflow_storage.cli.exit_codes import (
    FAILED,
    INTERRUPTED,
    NOT_ALLOWED,
    NOT_FOUND,
    WRONG_USE,
)
from careflow_storage.cli.ui.logs import log_warnings_to
from careflow_storage.cli.ui.output import Output
from careflow_storage.errors import (
    AccessDeniedError,
    InvalidCredentialsError,
    InvalidInputError,
    NoSuchApplicationKeyError,
    NoSuchBucketError,
    NoSuchKeyError,
    NoSuchUploadError,
    NotConfiguredError,
    StorageError,
)
from careflow_storage.jobs.errors import NoSuchJobError

# The first that fits decides.
_EXIT_CODES: tuple[tuple[type[Exception], int], ...] = (
    (NoSuchJobError, NOT_FOUND),
    (InvalidInputError, WRONG_USE),
    (NotConfiguredError, WRONG_USE),
    (ValidationError, WRONG_USE),
    (NoSuchKeyError, NOT_FOUND),
    (NoSuchBucketError, NOT_FOUND),
    (NoSuchUploadError, NOT_FOUND),
    (NoSuchApplicationKeyError, NOT_FOUND),
    (AccessDeniedError, NOT_ALLOWED),
    (InvalidCredentialsError, NOT_ALLOWED),
)


def run(
    main: Callable[[Output], Awaitable[int | None]], *, as_json: bool, options: Sequence[str] = ()
) -> None:
    """Run ``main`` on an event loop of its own, and exit with the code that it returns.

    Ctrl-C, SIGTERM and a closed terminal cancel it; it cleans up before the command ends.

    Args:
        main: Gets the output to write to.
        as_json: Whether the output is JSON.
        options: Those before the command's name, for the commands that hints suggest.
    """
    output = Output(as_json=as_json, options=options)
    received: list[int] = []

    async def cancellable() -> int | None:
        _cancel_on_signals(received)
        return await main(output)

    with report_errors(output), log_warnings_to(output):
        try:
            code = asyncio.run(cancellable())
        except asyncio.CancelledError:
            raise KeyboardInterrupt(*received[:1]) from None
        if code:
            raise typer.Exit(code)


def _cancel_on_signals(received: list[int]) -> None:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        return

    def stop(number: int) -> None:
        received.append(number)
        if task is not None:
            task.cancel()

    # asyncio does the same for Ctrl-C. nohup has SIGHUP ignored, and so it stays.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, stop, number)


@contextlib.contextmanager
def report_errors(output: Output) -> Iterator[None]:
    """Report an error and a hint instead of a traceback, and exit with the code of the error."""
    try:
        yield
    except BrokenPipeError:
        # The reader of our output, such as `head`, closed the pipe.
        _discard_stdout()
        raise typer.Exit(0) from None
    except _reported_errors() as error:
        output.failed(error)
        raise typer.Exit(exit_code(error)) from None
    except KeyboardInterrupt as stop:
        output.interrupted()
        raise typer.Exit(128 + stop.args[0] if stop.args else INTERRUPTED) from None


def _reported_errors() -> tuple[type[Exception], ...]:
    # An error of aiohttp can only be raised where aiohttp is loaded already.
    aiohttp = (sys.modules["aiohttp"].ClientError,) if is_loaded("aiohttp") else ()
    return (StorageError, OSError, ValidationError, *aiohttp)


def exit_code(error: Exception) -> int:
    """Return the exit code for an error."""
    return next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), FAILED)


def _discard_stdout() -> None:
    # Python flushes stdout when it exits, and would report the broken pipe again.
    with contextlib.suppress(OSError, ValueError):
        number, nowhere = sys.stdout.fileno(), os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)
