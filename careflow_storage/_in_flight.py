"""Calls and recordings in flight on a storage or outbox, and how closing ends them.

Closing has two phases. In the first no new call is accepted, running calls are cancelled, open
recordings are ended, and their clean-up may send requests until the deadline. In the second the
remaining calls are cancelled again, and their clean-up stops. Then the owner closes its
connections.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, Protocol

from careflow_storage._log_fields import log_fields
from careflow_storage.errors import InvalidInputError, StorageClosedError

logger = logging.getLogger("careflow_storage")

DEFAULT_GRACE = 5.0
# The canceller of a close waits for it: some supervisors kill a worker after one second.
_GRACE_WHEN_CANCELLED = 0.8
# After the deadline a clean-up sends no requests. It only needs turns of the event loop.
_UNWIND_SECONDS = 0.5
_HINT = "Await the calls before close(), or send again what was cut off."

# The innermost running call of this task, or of the task that made this task.
_current: ContextVar[Running | _Helper | None] = ContextVar(
    "careflow_storage_running", default=None
)


class OpenRecording(Protocol):
    """A recording that stays open between calls, until it or its storage is closed."""

    async def _end_with(self, error: StorageClosedError) -> None: ...


class InFlight:
    """The calls and recordings in flight of one owner, ``what`` in messages.

    Attributes:
        deadline: Until when clean-up may send requests, by the loop's clock; None until `end`.
    """

    def __init__(self, what: str = "storage") -> None:
        self.deadline: float | None = None
        self._what = what
        self._running: set[Running] = set()
        self._recordings: set[OpenRecording] = set()
        self._changed: asyncio.Event | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is in flight."""
        return not self._running and not self._recordings

    def enter(self, *, ending: bool = False) -> Running | None:
        """Register the current task's call; None inside a call that is registered already.

        A task that the caller's code made within a call may outlive it: what it calls is a call
        of its own. ``ending`` is for clean-up: it is cancelled only at the deadline.
        """
        outer = _current.get()
        if outer is not None:
            if self._includes(outer):
                return None
            outer = _not_over(outer)
        return Running(self, outer, ending=ending)

    def is_inside(self) -> bool:
        """Whether the current task belongs to a call in flight, which cannot wait for its end."""
        outer = _current.get()
        return outer is not None and self._encloses(outer)

    def _encloses(self, running: Running | _Helper | None) -> bool:
        while running is not None:
            if running in self._running:
                return True
            running = running.outer
        return False

    def _includes(self, running: Running | _Helper | None) -> bool:
        """Whether the current task does the work of a call in flight: its task, or a helper."""
        task = asyncio.current_task()
        while running is not None:
            if running in self._running:
                return running.task is task
            if isinstance(running, _Helper) and running.helper is task:
                task = running.outer.task
            running = running.outer
        return False

    @property
    def refuses(self) -> bool:
        """Whether a new call of the current task is refused: the owner closes, or is closed."""
        return self.deadline is not None and not self._includes(_current.get())

    def add(self, recording: OpenRecording) -> None:
        """Register an open recording, until `discard`."""
        self._recordings.add(recording)

    def discard(self, recording: OpenRecording) -> None:
        """Remove a recording that has ended."""
        self._recordings.discard(recording)
        self._notify()

    def remove(self, running: Running) -> None:
        """Remove a call that has ended."""
        self._running.discard(running)
        if self._changed is not None:
            self._changed.set()

    def _notify(self) -> None:
        if self._changed is not None:
            self._changed.set()

    def closed_error(self, **where: Any) -> StorageClosedError:
        """Return the error for a call that the closing has cancelled."""
        return StorageClosedError(
            f"The {self._what} was closed while it was in use.", hint=_HINT, **where
        )

    def clean_up_until(self, end: float) -> float:
        """Return when a clean-up must end: at the deadline while closing, otherwise at ``end``."""
        return end if self.deadline is None else self.deadline

    def hurry(self, grace: float) -> None:
        """Set the deadline ``grace`` seconds from now, unless it is earlier."""
        end = asyncio.get_running_loop().time() + grace
        self.deadline = end if self.deadline is None else min(end, self.deadline)
        self._notify()

    async def end(self, interruptions: _Interruptions) -> None:
        """End everything in flight until the deadline; `hurry` has set it."""
        self._changed = asyncio.Event()
        for running in list(self._running):
            running.cancel_for_closing()
        endings = {
            asyncio.create_task(recording._end_with(self.closed_error()))
            for recording in self._recordings
        }
        for ending in endings:
            ending.add_done_callback(lambda _: self._notify())
        # Each call is cancelled once before it is cancelled for good, even with a grace of 0.
        await interruptions.survive(asyncio.sleep(0))
        await self._wait(endings, interruptions, lambda: self.deadline)
        for running in list(self._running):
            running.cancel_for_good()
        for ending in endings:
            ending.cancel()
        last = asyncio.get_running_loop().time() + _UNWIND_SECONDS
        await self._wait(endings, interruptions, lambda: last)
        self._log_unended(endings)

    async def _wait(
        self,
        endings: set[asyncio.Task[None]],
        interruptions: _Interruptions,
        until: Callable[[], float | None],
    ) -> None:
        loop, changed = asyncio.get_running_loop(), self._changed
        while changed is not None and (self._running or any(not each.done() for each in endings)):
            left = (until() or 0.0) - loop.time()
            if left <= 0:
                return
            changed.clear()
            await interruptions.survive(_wait_for(changed, left))

    def _log_unended(self, endings: set[asyncio.Task[None]]) -> None:
        left = len(self._running) + sum(not each.done() for each in endings)
        if left:
            logger.warning(
                "The %s closes while %d calls have not ended.",
                self._what,
                left,
                extra=log_fields("calls_not_ended", count=left),
            )
        for each in endings:
            if each.done() and not each.cancelled() and (error := each.exception()) is not None:
                logger.warning(
                    "A recording could not be ended: %s",
                    error,
                    exc_info=error,
                    extra=log_fields("recording_not_ended", error),
                )


class _Interruptions:
    """Counts cancellations of the closing: the first shortens the grace, the second ends it."""

    def __init__(self, in_flight: InFlight) -> None:
        self._in_flight = in_flight
        self._last: asyncio.CancelledError | None = None

    async def survive(self, pause: Coroutine[Any, Any, Any]) -> None:
        try:
            await pause
        except asyncio.CancelledError as error:
            self._in_flight.hurry(_GRACE_WHEN_CANCELLED if self._last is None else 0.0)
            self._last = error

    def raise_last(self) -> None:
        if self._last is not None:
            raise self._last


class Closing:
    """The task that closes an owner.

    Args:
        release: Closes the connections and other resources after all calls have ended.
    """

    def __init__(
        self, in_flight: InFlight, release: Callable[[], Coroutine[Any, Any, None]], grace: float
    ) -> None:
        self._in_flight = in_flight
        self._release = release
        in_flight.hurry(grace)
        self._task = asyncio.create_task(self._run())

    async def wait(self, grace: float) -> None:
        """Wait until it is closed; shorten the grace if this one is shorter; raise its error.

        If the caller is cancelled, the closing still ends, with a grace of at most 0.8 s.
        """
        if self._task.done():
            return
        self._in_flight.hurry(grace)
        if self._in_flight.is_inside():
            return
        interruptions = _Interruptions(self._in_flight)
        while not self._task.done():
            await interruptions.survive(asyncio.wait({self._task}))
        interruptions.raise_last()
        self._task.result()

    async def _run(self) -> None:
        interruptions = _Interruptions(self._in_flight)
        await self._in_flight.end(interruptions)
        releasing = asyncio.create_task(self._release())
        while not releasing.done():
            await interruptions.survive(asyncio.wait({releasing}))
        interruptions.raise_last()
        releasing.result()


class Running:
    """A call of one task, from `InFlight.enter` to its `leave`.

    As `asyncio.Timeout` does, it cancels the task and uncancels it when the call ends: the call
    then raises `StorageClosedError`. Other cancellations of the task remain.
    """

    __slots__ = ("_cancellations", "_ending", "_in_flight", "_token", "_was", "outer", "task")

    def __init__(
        self, in_flight: InFlight, outer: Running | _Helper | None, *, ending: bool
    ) -> None:
        self.outer = outer
        self._in_flight = in_flight
        self._ending = ending
        self._cancellations = 0
        self.task = task = asyncio.current_task()
        self._was = task.cancelling() if task is not None else 0
        self._token: Token[Running | _Helper | None] | None = _current.set(self)
        in_flight._running.add(self)

    def cancel_for_closing(self) -> None:
        """Cancel the task, unless it is already being cancelled or cleans up."""
        task = self.task
        if task is not None and not self._ending and task.cancelling() <= self._was:
            self.cancel_for_good()

    def cancel_for_good(self) -> None:
        """Cancel the task, whatever it does."""
        if self.task is not None and self.task.cancel("the storage closes"):
            self._cancellations += 1

    def leave(self, error: BaseException | None) -> StorageClosedError | None:
        """End the call; return the error to raise instead of ``error`` if closing cancelled it."""
        task, self.task = self.task, None
        if self.outer is not None:
            # Tasks made in this call are still inside those around it.
            self.outer = _not_over(self.outer)
        token, self._token = self._token, None
        self._in_flight.remove(self)
        if token is not None:
            try:  # noqa: SIM105 - suppress() would cost every call
                _current.reset(token)
            except ValueError:
                pass  # A coroutine that the garbage collector ends is in another context by then.
        if task is None or not self._cancellations:
            return None
        left = 0
        for _ in range(self._cancellations):
            left = task.uncancel()
        if left > self._was or not isinstance(error, asyncio.CancelledError):
            return None
        closed = self._in_flight.closed_error()
        closed.unfinished_upload_id = getattr(error, "unfinished_upload_id", None)
        # The notes say what could not be cleaned up.
        for note in getattr(error, "__notes__", ()):
            closed.add_note(note)
        return closed

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        closed = self.leave(exc)
        if closed is not None:
            raise closed from exc


class _Helper:
    """A task of this package that does a part of the work of the call ``outer``."""

    __slots__ = ("helper", "outer")

    def __init__(self, outer: Running | _Helper) -> None:
        self.helper: asyncio.Task[Any] | None = asyncio.current_task()
        self.outer: Running | _Helper = outer

    @property
    def task(self) -> asyncio.Task[Any] | None:
        """The task, None when the call is over."""
        return self.helper if self.outer.task is not None else None


def help_call() -> None:
    """Register the current task as a part of the running call, which waits for it.

    For tasks of this package that read from the storage, or call a callback that may do so.
    """
    outer = _current.get()
    if outer is not None:
        _current.set(_Helper(outer))


def _not_over(running: Running | _Helper | None) -> Running | _Helper | None:
    while running is not None and running.task is None:
        running = running.outer
    return running


async def _wait_for(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def checked_grace(grace: object) -> float:
    """Return the seconds; raise `InvalidInputError` unless they are finite and not negative."""
    if isinstance(grace, int | float) and not isinstance(grace, bool):
        with suppress(OverflowError):
            seconds = float(grace)
            # False for NaN.
            if 0.0 <= seconds < math.inf:
                return seconds
    raise InvalidInputError(
        "grace must be a finite number of seconds, 0 or more.",
        hint="0 cancels and closes at once.",
    )
