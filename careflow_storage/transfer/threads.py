"""Where hashing and file I/O happen: a few threads, so that the event loop never does it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import IO, ParamSpec, TypeVar

from careflow_storage.errors import StorageClosedError

P = ParamSpec("P")
T = TypeVar("T")
C = TypeVar("C", bound=IO[bytes])

# Hashing this much takes about 0.1 ms, as long as the way to a thread and back.
INLINE_BYTES = 64 * 1024


class Threads:
    """The storage's own threads; started when first needed, joined by `close`.

    They run only our short jobs. What may block for long (a caller's file or iterator) goes
    to asyncio's default executor instead, where it cannot hold up the hashing of others.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(
            max_workers=max(2, os.cpu_count() or 1),
            thread_name_prefix="careflow-storage",
            initializer=_give_way,
        )
        self._closed = False

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Await ``function(...)`` in a thread; when cancelled, wait for its end all the same.

        The job works on a buffer or a file that its owner frees next: it must be over by then.
        """
        job = self._start(lambda: function(*args, **kwargs))
        try:
            return await asyncio.shield(job)
        except asyncio.CancelledError:
            await asyncio.wait({job})
            if not job.cancelled():
                job.exception()
            raise

    async def open(self, function: Callable[P, C], *args: P.args, **kwargs: P.kwargs) -> C:
        """As `run`, for what must be closed: when cancelled, what it opens is closed."""
        job = self._start(lambda: function(*args, **kwargs))
        try:
            return await asyncio.shield(job)
        except asyncio.CancelledError:
            job.add_done_callback(_close_result)
            await asyncio.wait({job})
            raise

    async def clean_up(self, function: Callable[[], None]) -> None:
        """As `run`, for a short last job that must happen even when the threads have ended."""
        if self._closed:
            function()
        else:
            await self.run(function)

    def _start(self, function: Callable[[], T]) -> asyncio.Future[T]:
        if self._closed:
            raise StorageClosedError("The storage was closed while it was in use.")
        return asyncio.get_running_loop().run_in_executor(self._pool, function)

    async def close(self) -> None:
        """Wait for the running jobs and end the threads."""
        self._closed = True
        await asyncio.to_thread(self._pool.shutdown)


def _close_result(job: asyncio.Future[C]) -> None:
    if not job.cancelled() and job.exception() is None:
        job.result().close()


def _give_way() -> None:
    # Where cores are few, hashing must not keep the event loop waiting for one. On Linux this
    # is the priority of the calling thread alone.
    if sys.platform == "linux":
        os.nice(10)
