"""Many files with a limited number at a time. If one fails, the others continue."""

from __future__ import annotations

import asyncio
import shlex
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from careflow_storage import InvalidCredentialsError, NoSuchBucketError, StorageError
from careflow_storage._transfer.tasks import task_group
from careflow_storage.cli.exit_codes import FAILED
from careflow_storage.cli.ui.output import Output, counted, described
from careflow_storage.cli.ui.progress import human_size
from careflow_storage.errors import CapExceededError

T = TypeVar("T")

# After one of these, no other file would succeed.
_FATAL = (CapExceededError, InvalidCredentialsError, NoSuchBucketError)


def warn_of_folder(output: Output, key: str) -> None:
    """Warn that a KEY with a slash at its end is one object: not the files below it."""
    if key.endswith("/"):
        output.warn(
            f"{key!r} is one key, not the files below it: for those use --prefix {shlex.quote(key)}"
        )


class Tally:
    """Counts the files that succeeded and failed, and prints both."""

    def __init__(self, output: Output, verb: str, *, timed: bool = True) -> None:
        self._output = output
        self._verb = verb
        self._timed = timed
        self._started = time.perf_counter()
        self.files: int = 0
        self.size: int = 0
        self.failed: int = 0

    def done(self, size: int) -> None:
        """Count a file that succeeded."""
        self.files += 1
        self.size += size

    def fail(self, name: str, fields: dict[str, Any], error: Exception) -> None:
        """Count a file that failed, and print why."""
        self.failed += 1
        details = described(error)
        for part in ("message", "hint"):
            if part in details:
                details[part] = self._output.advice(details[part])
        if self._output.as_json:
            self._output.item({**fields, "error": details})
        else:
            reason = f"{details['type']}: {details['message']}"
            hint = f" ({details['hint']})" if "hint" in details else ""
            self._output.warn(f"{name}: {reason}{hint}")

    def summary(self) -> int | None:
        """Print the sums; return the exit code."""
        seconds = time.perf_counter() - self._started
        text = f"{self._verb} {counted(self.files, 'file')}, {human_size(self.size)}"
        if self.size and self._timed:
            text += f" in {seconds:.1f} s ({human_size(self.size / seconds)}/s)"
        if not self.failed:
            self._output.done(text)
            return None
        self._output.note(text)
        self._output.warn(f"{self.failed:,} of {counted(self.files + self.failed, 'file')} failed.")
        return FAILED


async def each(
    items: AsyncIterator[T],
    work: Callable[[T], Awaitable[None]],
    *,
    jobs: int,
    failed: Callable[[T, Exception], None],
) -> None:
    """Do ``work`` for every item, ``jobs`` at a time; call ``failed`` with each error.

    Raises:
        StorageError: No other file would succeed: wrong key, no bucket, exceeded cap.
    """
    taking = asyncio.Lock()

    async def worker() -> None:
        while True:
            async with taking:
                item = await anext(items, None)
            if item is None:
                return
            try:
                await work(item)
            except _FATAL:
                raise
            except (StorageError, OSError) as error:
                failed(item, error)

    async with task_group() as group:
        for _ in range(jobs):
            group.create_task(worker())
