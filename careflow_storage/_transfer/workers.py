"""Daemon threads that run blocking jobs; a job that never ends does not delay the others."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar

from careflow_storage.errors import StorageClosedError, StorageError

T = TypeVar("T")

# A job that runs longer, such as one on a stalled mount, no longer counts against the limit.
_STUCK_SECONDS = 0.25
_IDLE_SECONDS = 10.0


class Workers:
    """A pool of threads; at most ``limit`` of them make progress at once, if it is set.

    A job that has run for 0.25 s counts as stuck: another thread takes its place. The threads are
    daemons and are not joined when the interpreter exits. So a job that never ends delays neither
    other jobs nor the exit. Idle threads end after 10 s.
    """

    def __init__(
        self, name: str, limit: int | None, prepare: Callable[[], None] | None = None
    ) -> None:
        self._name = name
        self._limit = limit
        self._prepare = prepare
        # Guards the attributes below; notified when a job is added, and by `close`.
        self._changed = threading.Condition()
        self._jobs: deque[_Job[Any]] = deque()
        self._running: dict[_Job[Any], float] = {}
        self._threads = 0
        self._starting = 0
        self._idle = 0
        self._closed = False
        self._ended: _Job[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def run(self, function: Callable[[], T]) -> T:
        """Run ``function()`` in a thread; when cancelled, do not wait for its end."""
        return (await self.submit(function)).result()

    def submit(self, function: Callable[[], T]) -> asyncio.Future[JobResult[T]]:
        """Start a job. Cancelling the future drops the job if it has not started.

        Raises:
            StorageClosedError: After `close`.
            StorageError: The system cannot start another thread.
        """
        loop = asyncio.get_running_loop()
        job = _Job(function, loop)
        with self._changed:
            if self._closed:
                raise StorageClosedError("The storage was closed while it was in use.")
            self._jobs.append(job)
            try:
                self._grow()
            except RuntimeError as error:
                # With a limit, the existing threads run the job.
                if self._limit is None or not self._threads:
                    self._jobs.remove(job)
                    raise _no_thread(error) from error
            self._changed.notify()
        self._watch(loop)
        return job.future

    def close(self) -> None:
        """Accept no more jobs; idle threads end at once, the others after their job."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._timer is not None:
            self._timer.cancel()

    async def join(self) -> None:
        """Wait, after `close`, until all threads have ended."""
        ended = _Job(lambda: None, asyncio.get_running_loop())
        with self._changed:
            if self._threads == 0:
                return
            self._ended = ended
        await ended.future

    def _grow(self) -> None:
        """Start a thread if a job waits and the limit allows it. The caller holds the lock."""
        waiting = len(self._jobs) - self._idle - self._starting
        if waiting <= 0 or not self._may_grow():
            return
        thread = threading.Thread(target=self._work, name=self._name, daemon=True)
        thread.start()
        self._threads += 1
        self._starting += 1

    def _may_grow(self) -> bool:
        return self._limit is None or self._threads - self._stuck() < self._limit

    def _stuck(self) -> int:
        before = time.monotonic() - _STUCK_SECONDS
        return sum(begun < before for begun in self._running.values())

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """While jobs wait, check regularly whether running jobs are stuck."""
        if self._limit is not None and self._jobs and self._timer is None and not self._closed:
            self._timer = loop.call_later(_STUCK_SECONDS, self._look_again, loop)

    def _look_again(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        with self._changed:
            for _ in range(self._limit or 0):
                try:
                    self._grow()
                except RuntimeError:
                    break  # The existing threads run the jobs.
        self._watch(loop)

    def _work(self) -> None:
        if self._prepare is not None:
            self._prepare()
        with self._changed:
            self._starting -= 1
        done: _Job[Any] | None = None
        while (job := self._next(done)) is not None:
            job.run()
            done = job

    def _next(self, done: _Job[Any] | None) -> _Job[Any] | None:
        """Return the next job, or None if the thread must end."""
        with self._changed:
            if done is not None:
                del self._running[done]
            surplus = self._limit is not None and self._threads - self._stuck() > self._limit
            while not self._jobs and not self._closed and not surplus:
                self._idle += 1
                woken = self._changed.wait(_IDLE_SECONDS)
                self._idle -= 1
                surplus = not woken and not self._jobs
            if self._jobs and not surplus:
                job = self._jobs.popleft()
                self._running[job] = time.monotonic()
                return job
            self._threads -= 1
            if self._threads == 0 and self._ended is not None:
                self._ended.run()
            return None


def _no_thread(error: RuntimeError) -> StorageError:
    return StorageError(
        f"No thread could be started: {error}.",
        retryable=True,
        hint="The system limits the threads of this process, or the interpreter is exiting.",
    )


class JobResult(Generic[T]):
    """The value or exception of a job. A future cannot hold a StopIteration."""

    __slots__ = ("_error", "_value")

    def __init__(self, value: T | None, error: BaseException | None) -> None:
        self._value = value
        self._error = error

    def result(self) -> T:
        """Return the value of the job, or raise its exception."""
        if self._error is not None:
            error, self._error = self._error, None
            if isinstance(error, StopIteration | StopAsyncIteration):
                # It would end an unrelated loop.
                raise RuntimeError(f"a job raised {type(error).__name__}") from error
            raise error
        return self._value  # type: ignore[return-value]  # set if there is no error


class _Job(Generic[T]):
    def __init__(self, function: Callable[[], T], loop: asyncio.AbstractEventLoop) -> None:
        self.future: asyncio.Future[JobResult[T]] = loop.create_future()
        self._function: Callable[[], T] | None = function
        self._loop = loop

    def run(self) -> None:
        """Run in this thread, unless the caller was cancelled before the start."""
        function, self._function = self._function, None
        if function is None or self.future.cancelled():
            return
        outcome: JobResult[T]
        try:
            outcome = JobResult(function(), None)
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's task
            outcome = JobResult(None, error)
        del function
        # RuntimeError: the loop is closed, so no task waits.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._settle, outcome)

    def _settle(self, outcome: JobResult[T]) -> None:
        if not self.future.done():
            self.future.set_result(outcome)
