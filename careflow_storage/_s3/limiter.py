"""Limits the number of requests in flight, and those per second."""

from __future__ import annotations

import asyncio
import math
import weakref
from collections import deque
from itertools import chain
from types import TracebackType
from typing import Final, Protocol

from careflow_storage.errors import PoolTimeoutError
from careflow_storage.rate_limit import RateLimit

# A reader that pauses for longer is slower than the connection.
PAUSE_SECONDS: Final = 0.5
# After this time a connection without progress is not worth keeping.
LONG_PAUSE_SECONDS: Final = 30.0


class PausedHolder(Protocol):
    """A stream that holds a slot while its reader pauses."""

    def give_back(self) -> None:
        """Release the slot now."""


HolderReference = weakref.ref[PausedHolder]

# The moment when the request fails, and the future that gets its slot.
_Waiting = deque[tuple[float, "asyncio.Future[None]"]]


class Limiter:
    """Allows ``limit`` requests at once, first come, first served.

    Transfers of bodies may take all slots but a tenth, so that other requests, such as HEAD or a
    listing, do not wait until a body has been transferred. A limit below 10 leaves them none.

    A request without a slot after ``timeout`` seconds fails with `PoolTimeoutError`. One timer
    serves all waiting requests, since they time out in the order in which they came.

    A holder reports that its reader pauses with `pause`. The limiter takes its slot back after
    0.5 s if a request waits for one, the longest pause first, and after 30 s in any case. The
    more requests wait, the sooner it takes slots back.

    With a ``rate``, a request takes its turn there before it waits for a slot.
    """

    def __init__(self, limit: int, timeout: float, rate: RateLimit | None = None) -> None:
        self.free: int = limit
        self._rate = rate
        self._limit = limit
        self._timeout = timeout
        # How many more bodies may be in transfer.
        self._free_for_bodies = limit - limit // 10
        # No request waits that could have a slot: each release hands out what it can.
        self._bodies: _Waiting = deque()
        self._others: _Waiting = deque()
        self._timer: asyncio.TimerHandle | None = None
        # Ordered by the start of the pause.
        self._paused: dict[HolderReference, float] = {}
        self._pause_timer: asyncio.TimerHandle | None = None

    async def acquire(self, *, body: bool = False, first: bool = False) -> None:
        """Wait for a slot and take it; `release` returns it.

        ``body`` is whether a body of any length is transferred meanwhile. ``first`` goes ahead
        of the requests that wait for the rate.
        """
        if self._rate is not None:
            await self._acquire_at_rate(self._rate, body, first)
        elif self.free and (self._free_for_bodies or not body):
            self._take(body)
        else:
            await self._wait(body)

    async def _acquire_at_rate(self, rate: RateLimit, body: bool, first: bool) -> None:
        await rate.acquire(first=first)
        while True:
            if self.free and (self._free_for_bodies or not body):
                self._take(body)
            else:
                await self._wait(body)
            if not rate.is_paused:
                return
            # The server asked for a pause while this request waited for its slot.
            self.release(body=body)
            await rate.resume()

    async def _wait(self, body: bool) -> None:
        loop = asyncio.get_running_loop()
        granted = loop.create_future()
        waiting = self._bodies if body else self._others
        waiting.append((loop.time() + self._timeout, granted))
        if self._timer is None:
            self._timer = loop.call_later(self._timeout, self._expire)
        self._take_back()
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled() and granted.exception() is None:
                self.release(body=body)
            raise

    def release(self, *, body: bool = False) -> None:
        """Give a slot back."""
        self.free += 1
        if body:
            self._free_for_bodies += 1
        while self.free and (waiting := self._first()):
            _, granted = waiting.popleft()
            # A cancelled request no longer waits.
            if not granted.done():
                self._take(waiting is self._bodies)
                granted.set_result(None)
        if self._timer is not None and not (self._bodies or self._others):
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

    def _take(self, body: bool) -> None:
        self.free -= 1
        if body:
            self._free_for_bodies -= 1

    def _first(self) -> _Waiting | None:
        """Return the queue whose first request may have the next slot."""
        bodies, others = self._bodies, self._others
        if not bodies or not self._free_for_bodies:
            return others or None
        return bodies if not others or bodies[0][0] < others[0][0] else others

    def _take_back(self) -> None:
        """Take slots back after long pauses; schedule the next check."""
        if self._pause_timer is not None:
            self._pause_timer.cancel()
            self._pause_timer = None
        loop = asyncio.get_running_loop()
        while self._paused:
            holder, begun = next(iter(self._paused.items()))
            due = begun + self._allowed_pause()
            if due > loop.time():
                self._pause_timer = loop.call_at(due, self._take_back)
                return
            del self._paused[holder]
            if (paused := holder()) is not None:
                paused.give_back()

    def _allowed_pause(self) -> float:
        """Return the seconds for which a reader may pause and keep its slot."""
        waiting = len(self._bodies) + len(self._others)
        if all(granted.done() for _, granted in chain(self._bodies, self._others)):
            return LONG_PAUSE_SECONDS
        return PAUSE_SECONDS * self._limit / (self._limit + waiting)

    def _expire(self) -> None:
        """Fail requests that waited too long; schedule the next check."""
        self._timer = None
        loop = asyncio.get_running_loop()
        due = math.inf
        for waiting in (self._bodies, self._others):
            while waiting:
                end, granted = waiting[0]
                if not granted.done():
                    if end > loop.time():
                        due = min(due, end)
                        break
                    granted.set_exception(self._refusal())
                waiting.popleft()
        if due < math.inf:
            self._timer = loop.call_at(due, self._expire)

    def _refusal(self) -> PoolTimeoutError:
        return PoolTimeoutError(
            f"All {self._limit} request slots were busy for {self._timeout:g} s.",
            retryable=True,
            hint="Close unread streams, or raise BACKBLAZE_MAX_CONNECTIONS.",
        )

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()
