"""Threads for hashing and blocking I/O, which must not run on the event loop."""

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

# Hashing this much takes about 0.1 ms, as long as switching to a thread and back.
INLINE_BYTES = 64 * 1024


class Closable(Protocol):
    """An object that `Threads.open` opens."""

    def close(self) -> None: ...


C = TypeVar("C", bound=Closable | None)


class Threads:
    """The threads of one storage; started on first use, ended by `close`.

    There are three kinds, which never wait for each other:

    - for short jobs of the library: hashing, temporary files (`run`, `clean_up`);
    - for files of the caller, whose disk or mount may stall (`run_apart`, `open`);
    - for code of the caller: a file object or iterator may block for any time, so each one that
      blocks has its own thread (`run_of_caller`).

    asyncio's default executor stays free for the application.
    """

    def __init__(self) -> None:
        cores = max(2, os.cpu_count() or 1)
        self._own = Workers("careflow-storage", cores, _lower_priority)
        self._files = Workers("careflow-storage-files", cores, _lower_priority)
        self._callers = Workers("careflow-storage-body", None)
        self._closed = False

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``function(...)`` in a thread; wait for its end even when cancelled.

        The function uses a buffer or file that its owner frees afterwards.
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
        """Run ``function(...)`` in a thread; when cancelled, do not wait for it: it may never end.

        For jobs on a file of the caller that own all memory that they use.
        """
        return await self._files.run(partial(function, *args, **kwargs))

    async def run_of_caller(self, context: contextvars.Context, function: Callable[[], T]) -> T:
        """Like `run_apart`, for code of the caller, which runs in ``context``."""
        return (await self.start_of_caller(context, function)).result()

    def start_of_caller(
        self, context: contextvars.Context, function: Callable[[], T]
    ) -> asyncio.Future[JobResult[T]]:
        """Start code of the caller in ``context``, without waiting for it."""
        return self._callers.submit(partial(context.run, function))

    async def open(self, function: Callable[P, C], *args: P.args, **kwargs: P.kwargs) -> C:
        """Like `run_apart`, for a function that opens a file; when cancelled, close that file."""
        opening = _Opening(partial(function, *args, **kwargs))
        try:
            return await self._files.run(opening)
        except asyncio.CancelledError:
            opening.abandon()
            raise

    async def clean_up(self, function: Callable[[], None]) -> None:
        """Like `run`, for short jobs that must run even after `close`."""
        if self._closed:
            function()
        else:
            await self.run(function)

    async def close(self) -> None:
        """Wait for the running jobs of the library and end the threads.

        Does not wait for jobs on files of the caller or in code of the caller.
        """
        self._closed = True
        for workers in (self._own, self._files, self._callers):
            workers.close()
        await self._own.join()


class _Opening(Generic[C]):
    """Opens an object in a thread for a task that may be cancelled meanwhile."""

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
        """Close the object, now or as soon as it is open."""
        with self._lock:
            self._abandoned = True
            if self._opened is not None:
                self._opened.close()


def _lower_priority() -> None:
    # With few cores, hashing must not delay the event loop. On Linux this changes the priority
    # of the calling thread only.
    if sys.platform == "linux":
        os.nice(10)
