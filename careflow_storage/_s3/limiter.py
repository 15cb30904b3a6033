"""Limits the number of requests in flight."""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from types import TracebackType
from typing import Final, Protocol

from careflow_storage.errors import PoolTimeoutError

# A reader that pauses for longer is slower than the connection.
PAUSE_SECONDS: Final = 0.5
# After this time a connection without progress is not worth keeping.
LONG_PAUSE_SECONDS: Final = 30.0


class PausedHolder(Protocol):
    """A stream that holds a slot while its reader pauses."""

    def give_back(self) -> None:
        """Release the slot now."""


HolderReference = weakref.ref[PausedHolder]


class Limiter:
    """Allows ``limit`` requests at once, first come, first served.

    A request without a slot after ``timeout`` seconds fails with `PoolTimeoutError`. One timer
    serves all waiting requests, since they time out in the order in which they came.

    A holder reports that its reader pauses with `pause`. The limiter takes its slot back after
    0.5 s if a request waits for one, the longest pause first, and after 30 s in any case.
    """

    def __init__(self, limit: int, timeout: float) -> None:
        self.free: int = limit
        self._limit = limit
        self._timeout = timeout
        self._waiting: deque[tuple[float, asyncio.Future[None]]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        # Ordered by the start of the pause.
        self._paused: dict[HolderReference, float] = {}
        self._pause_timer: asyncio.TimerHandle | None = None

    async def acquire(self) -> None:
        """Wait for a slot and take it; `release` returns it."""
        if self.free and not self._waiting:
            self.free -= 1
            return
        loop = asyncio.get_running_loop()
        granted = loop.create_future()
        self._waiting.append((loop.time() + self._timeout, granted))
        if self._timer is None:
            self._timer = loop.call_later(self._timeout, self._expire)
        self._take_back()
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled() and granted.exception() is None:
                self.release()
            raise

    def release(self) -> None:
        """Give a slot back."""
        self.free += 1
        while self._waiting and self.free:
            _, granted = self._waiting.popleft()
            # A cancelled request no longer waits.
            if not granted.done():
                self.free -= 1
                granted.set_result(None)
        if not self._waiting and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def pause(self, holder: HolderReference, now: float) -> None:
        """Record that ``holder`` does not use its slot from ``now`` until `unpause`."""
        self._paused[holder] = now
        if self._pause_timer is None:
            self._take_back()

    def unpause(self, holder: HolderReference) -> None:
        """Record that the holder continues or is closed."""
        self._paused.pop(holder, None)

    def _take_back(self) -> None:
        """Take slots back after long pauses; schedule the next check."""
        if self._pause_timer is not None:
            self._pause_timer.cancel()
            self._pause_timer = None
        loop = asyncio.get_running_loop()
        while self._paused:
            holder, begun = next(iter(self._paused.items()))
            due = begun + (PAUSE_SECONDS if self._is_wanted() else LONG_PAUSE_SECONDS)
            if due > loop.time():
                self._pause_timer = loop.call_at(due, self._take_back)
                return
            del self._paused[holder]
            if (paused := holder()) is not None:
                paused.give_back()

    def _is_wanted(self) -> bool:
        return any(not granted.done() for _, granted in self._waiting)

    def _expire(self) -> None:
        """Fail requests that waited too long; schedule the next check."""
        self._timer = None
        loop = asyncio.get_running_loop()
        while self._waiting:
            end, granted = self._waiting[0]
            if not granted.done():
                if end > loop.time():
                    self._timer = loop.call_at(end, self._expire)
                    return
                granted.set_exception(self._refusal())
            self._waiting.popleft()

    def _refusal(self) -> PoolTimeoutError:
        return PoolTimeoutError(
            f"All {self._limit} request slots were busy for {self._timeout:g} s.",
            retryable=True,
            hint="Close unread streams, or raise BACKBLAZE_MAX_CONNECTIONS.",
        )

    __aenter__ = acquire

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()
