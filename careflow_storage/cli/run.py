"""How a command runs: settings, one event loop, errors for people, exit codes, Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import typer
from pydantic import ValidationError

from careflow_storage import (
    AccessDeniedError,
    BackblazeStorage,
    InvalidCredentialsError,
    InvalidInputError,
    NoSuchApplicationKeyError,
    NoSuchBucketError,
    NoSuchKeyError,
    NoSuchUploadError,
    NotConfiguredError,
    StorageError,
    StorageSettings,
)
from careflow_storage.cli.ui.logs import logs_for_people
from careflow_storage.cli.ui.output import Output
from careflow_storage.settings import settings_from_environment

FAILED = 1
"""The operation failed, or found what it was asked to find wrong."""
WRONG_USE = 2
"""An argument or a setting is missing or wrong; nothing was sent."""
NOT_THERE = 3
"""The file, version, upload or bucket does not exist."""
NOT_ALLOWED = 4
"""The key is wrong, or may not do this."""
OVER_LIMIT = 5
"""A threshold that was given is crossed."""
INTERRUPTED = 130
"""Ctrl-C; what was begun was cleaned up. SIGTERM is 143 (128 and the signal's number)."""

_BUCKET_VARIABLE = re.compile(r"BACKBLAZE_BUCKET_NAME( \(or [A-Z0-9_]+\))?")
# The first that fits decides.
_EXIT_CODES: tuple[tuple[type[Exception], int], ...] = (
    (InvalidInputError, WRONG_USE),
    (NotConfiguredError, WRONG_USE),
    (ValidationError, WRONG_USE),
    (NoSuchKeyError, NOT_THERE),
    (NoSuchBucketError, NOT_THERE),
    (NoSuchUploadError, NOT_THERE),
    (NoSuchApplicationKeyError, NOT_THERE),
    (AccessDeniedError, NOT_ALLOWED),
    (InvalidCredentialsError, NOT_ALLOWED),
)


@dataclass(frozen=True)
class Globals:
    """The options before the command's name."""

    env_file: Path | None = None
    bucket: str | None = None

    @classmethod
    def of(cls, context: typer.Context) -> Globals:
        """Return those of a command."""
        return context.find_root().obj or cls()

    def words(self) -> list[str]:
        """Return them as they are typed."""
        given = {"--env-file": self.env_file, "--bucket": self.bucket}
        return [text for name, value in given.items() if value for text in (name, str(value))]


def settings_of(context: typer.Context) -> StorageSettings:
    """Read the settings as ``--env-file`` and ``--bucket`` say.

    Raises:
        InvalidInputError: A setting is malformed.
    """
    given = Globals.of(context)
    values: dict[str, Any] = {}
    if given.bucket is not None:
        values["bucket_name"] = given.bucket
    if given.env_file is not None:
        values["_env_file"] = given.env_file
    try:
        return settings_from_environment(**values)
    except InvalidInputError as error:
        if given.bucket is not None:
            # It is not the variable's value that is wrong.
            error.message = _BUCKET_VARIABLE.sub("--bucket", error.message)
        raise


def with_storage(
    context: typer.Context,
    job: Callable[[BackblazeStorage, Output], Awaitable[int | None]],
    *,
    as_json: bool,
) -> None:
    """Run ``job`` with an open storage; leave the command with the exit code that it returns."""

    async def main(output: Output) -> int | None:
        async with BackblazeStorage(settings_of(context)) as storage:
            return await job(storage, output)

    run(main, as_json=as_json, given=Globals.of(context))


def run(
    main: Callable[[Output], Awaitable[int | None]],
    *,
    as_json: bool,
    given: Globals | None = None,
) -> None:
    """Run ``main`` on an event loop of its own; leave with its exit code.

    Ctrl-C, SIGTERM and a closed terminal cancel it, and what it was doing is cleaned up before
    the command ends.
    """
    output = Output(as_json=as_json, options=given.words() if given is not None else ())
    received: list[int] = []

    async def cancellable() -> int | None:
        _cancel_on_signals(received)
        return await main(output)

    with errors_for_people(output), logs_for_people(output):
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

    # asyncio itself does so for Ctrl-C. Under nohup a closed terminal is to be ignored.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, stop, number)


@contextlib.contextmanager
def errors_for_people(output: Output) -> Iterator[None]:
    """What went wrong and what to do about it, in place of a traceback; then the exit code."""
    try:
        yield
    except BrokenPipeError:
        # Who reads our output, such as `head`, has seen enough.
        _forget_stdout()
        raise typer.Exit(0) from None
    except (StorageError, OSError, aiohttp.ClientError, ValidationError) as error:
        output.failed(error)
        raise typer.Exit(exit_code(error)) from None
    except KeyboardInterrupt as stop:
        output.interrupted()
        raise typer.Exit(128 + stop.args[0] if stop.args else INTERRUPTED) from None


def exit_code(error: Exception) -> int:
    """Return the exit code that stands for this error."""
    return next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), FAILED)


def _forget_stdout() -> None:
    # Python flushes it at its end, and would complain.
    with contextlib.suppress(OSError, ValueError):
        number, nowhere = sys.stdout.fileno(), os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)
