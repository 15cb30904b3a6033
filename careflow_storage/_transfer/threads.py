"""Where hashing and blocking I/O happen, so that the event loop never does it."""

from __future__ import annotations

import asyncio
import contextvars
import os
import sys
import threading
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any, Generic, ParamSpec, Protocol, TypeVar

from careflow_storage._lazy import is_loaded
from careflow_storage._transfer.workers import JobResult, Workers
from careflow_storage._uninterrupted import wait_out

P = ParamSpec("P")
T = TypeVar("T")

# Hashing this much takes about 0.1 ms, as long as the way to a thread and back.
INLINE_BYTES = 64 * 1024


class Closable(Protocol):
    """What `Threads.open` opens."""

    def close(self) -> None: ...


C = TypeVar("C", bound=Closable | None)


class Threads:
    """The storage's own threads; started when first needed, ended by `close`.

    Three kinds, so that none waits for another:

    - for our own short jobs: hashing, temporary files (`run`, `clean_up`);
    - for the caller's files, whose disk or mount may stall (`run_apart`, `open`);
    - for the caller's code, a file object or an iterator that may block for as long as it likes:
      one thread for each that blocks at the moment (`run_of_caller`).

    asyncio's default executor is left to the application.
    """

    def __init__(self) -> None:
        cores = max(2, os.cpu_count() or 1)
        self._own = Workers("careflow-storage", cores, _give_way)
        self._files = Workers("careflow-storage-files", cores, _give_way)
        self._callers = Workers("careflow-storage-body", None)
        self._closed = False

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Await ``function(...)`` in a thread; when cancelled, wait for its end all the same.

        The job works on a buffer or a file that its owner frees next: it must be over by then.
        """
        job = self._own.submit(partial(function, *args, **kwargs))
        try:
            outcome = await asyncio.shield(job)
        except asyncio.CancelledError:
            await wait_out(job)
            raise
        return outcome.result()

    async def load(self, module: str) -> Any:
        """Return a module; a thread imports it if it is not loaded yet."""
        return sys.modules[module] if is_loaded(module) else await self.run(import_module, module)

    async def run_apart(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Await ``function(...)``; when cancelled, leave it behind: it may never end.

        For jobs on a file of the caller that own all the memory that they touch.
        """
        return await self._files.run(partial(function, *args, **kwargs))

    async def run_of_caller(self, context: contextvars.Context, function: Callable[[], T]) -> T:
        """As `run_apart`, for the caller's own code, which runs in ``context``."""
        return (await self.start_of_caller(context, function)).result()

    def start_of_caller(
        self, context: contextvars.Context, function: Callable[[], T]
    ) -> asyncio.Future[JobResult[T]]:
        """Start the caller's own code, for those who do not only wait for its end."""
        return self._callers.submit(partial(context.run, function))

    async def open(self, function: Callable[P, C], *args: P.args, **kwargs: P.kwargs) -> C:
        """As `run_apart`, for what must be closed: when cancelled, what it opens is closed."""
        opening = _Opening(partial(function, *args, **kwargs))
        try:
            return await self._files.run(opening)
        except asyncio.CancelledError:
            opening.abandon()
            raise

    async def clean_up(self, function: Callable[[], None]) -> None:
        """As `run`, for a short last job that must happen even when the threads have ended."""
        if self._closed:
            function()
        else:
            await self.run(function)

    async def close(self) -> None:
        """Wait for our own running jobs and end the threads.

        A job on the caller's file, or in the caller's code, is not waited for.
        """
        self._closed = True
        for workers in (self._own, self._files, self._callers):
            workers.close()
        await self._own.join()


class _Opening(Generic[C]):
    """Opens something in a thread, for a caller who may stop waiting at any moment."""

    def __init__(self, function: Callable[[], C]) -> None:
        self._function = function
        self._lock = threading.Lock()
        self._abandoned = False
        self._opened: C | None = None

    def __call__(self) -> C:
        opened = self._function()
        with self._lock:
            self._opened = opened
            if self._abandoned and opened is not None:
                opened.close()
        return opened

    def abandon(self) -> None:
        """Close what was opened, now or as soon as it is."""
        with self._lock:
            self._abandoned = True
            if self._opened is not None:
                self._opened.close()


def _give_way() -> None:
    # Where cores are few, hashing must not keep the event loop waiting for one. On Linux this
    # is the priority of the calling thread alone.
    if sys.platform == "linux":
        os.nice(10)
