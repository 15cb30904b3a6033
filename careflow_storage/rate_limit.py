"""`RateLimit`: how many requests per second a storage sends."""

from __future__ import annotations

import asyncio
import math
import sys
import time
from collections import deque
from typing import Final

from careflow_storage._token_bucket import TokenBucket
from careflow_storage.errors import InvalidInputError, WrongLoopError

# Event loops do not take timers of any length.
_LONGEST_TIMER: Final = 3600.0


class RateLimit:
    """The most requests per second of one storage, or of several that share it.

    ::

        storage = BackblazeStorage(rate_limit=RateLimit(per_second=400))

    Every request takes its turn, retries and those of the aioboto3 client included, in the order
    in which they are made. The time that a request waits here does not count against
    ``pool_timeout``; a call's ``timeout`` includes it.

    When the server says that requests come too fast (a 429, or a 503 ``SlowDown``), the rate
    halves, at most once a second, and grows back to ``per_second`` within a minute. When it asks
    for a longer pause than ``retry_max_delay`` (``Retry-After``, up to an hour), no request is
    sent until then, and the refused one is then sent again.

    Give the same object to storages of one account to limit them together. It belongs to one
    event loop at a time.

    Args:
        per_second: The most requests per second. B2 allows new accounts 500.
        burst: How many requests may be sent at once after a quiet time. Default: those of a
            tenth of a second, at least 1.

    Raises:
        InvalidInputError: ``per_second`` is no finite number above 0, or ``burst`` no integer of 1
            or more.
    """

    def __init__(self, per_second: float, *, burst: int | None = None) -> None:
        rate = _checked_rate(per_second)
        self._burst = _checked_burst(burst)
        self._bucket = TokenBucket(rate, self._burst or _default_burst(rate), time.monotonic())
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._paused_until = -math.inf

    def __repr__(self) -> str:
        return f"RateLimit(per_second={self.per_second:g}, burst={self.burst})"

    @property
    def per_second(self) -> float:
        """The most requests per second. A new value also applies to the requests that wait."""
        return self._bucket.per_second

    @per_second.setter
    def per_second(self, value: float) -> None:
        rate = _checked_rate(value)
        self._bucket.change(rate, self._burst or _default_burst(rate), time.monotonic())
        self._reschedule()

    @property
    def burst(self) -> int:
        """How many requests may be sent at once after a quiet time."""
        return int(self._bucket.burst)

    @property
    def current_per_second(self) -> float:
        """The requests per second of this moment: fewer after the server asked to slow down."""
        return self._bucket.rate(time.monotonic())

    @property
    def is_paused(self) -> bool:
        """Whether the server asked to send nothing now."""
        return time.monotonic() < self._paused_until

    async def acquire(self, *, first: bool = False) -> None:
        """Wait until one more request may be sent.

        Storages do this themselves; call it before requests that you send in another way.
        ``first`` goes ahead of all that wait, as the clean-up of a cancelled call does.

        Raises:
            WrongLoopError: Requests of another event loop wait for their turn.
        """
        self._use_loop(asyncio.get_running_loop())
        if (first or not self._waiting) and self._delay() <= 0.0:
            return
        await self._wait(first)

    async def resume(self) -> None:
        """Wait until a pause that the server asked for is over, without taking a turn."""
        while (left := self._paused_until - time.monotonic()) > 0.0:  # noqa: ASYNC110 - a clock
            await asyncio.sleep(min(left, _LONGEST_TIMER))

    def slow_down(self) -> None:
        """Halve the rate, which then grows back within a minute; at most once a second."""
        self._bucket.halve(time.monotonic())

    def pause(self, seconds: float) -> None:
        """Let no request begin for this many seconds. A shorter pause does not end a longer one."""
        self._paused_until = max(self._paused_until, time.monotonic() + seconds)

    async def _wait(self, first: bool) -> None:
        granted = asyncio.get_running_loop().create_future()
        if first:
            self._waiting.appendleft(granted)
        else:
            self._waiting.append(granted)
        if self._timer is None or first:
            self._reschedule()
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self._bucket.give_back()
                self._reschedule()
            raise

    def _delay(self) -> float:
        """Take a token and return 0, or return the seconds after which to try again."""
        now = time.monotonic()
        left = self._paused_until - now
        return left if left > 0.0 else self._bucket.take(now)

    def _reschedule(self) -> None:
        """Let those go on whose turn it is, and set the timer for the next."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            granted = self._waiting[0]
            # A cancelled request no longer waits.
            if not granted.done():
                delay = self._delay()
                if delay > 0.0:
                    loop = granted.get_loop()
                    self._timer = loop.call_later(min(delay, _LONGEST_TIMER), self._reschedule)
                    return
                granted.set_result(None)
            self._waiting.popleft()

    def _use_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is loop:
            return
        if self._loop is not None and not self._loop.is_closed():
            if any(not granted.done() for granted in self._waiting):
                raise WrongLoopError(
                    "Requests of another event loop wait for this rate limit.",
                    hint="Make a RateLimit for each event loop.",
                )
            if self._timer is not None:
                self._timer.cancel()
        self._waiting.clear()
        self._timer = None
        self._loop = loop


def _default_burst(per_second: float) -> int:
    return max(1, round(per_second / 10))


def _checked_rate(value: object) -> float:
    # An int may be too large for a float.
    if (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and 0 < value <= sys.float_info.max
    ):
        return float(value)
    raise InvalidInputError(
        "per_second must be a finite number of requests above 0.",
        hint="Without a RateLimit, requests are sent as fast as the server responds.",
    )


def _checked_burst(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= sys.float_info.max:
        return value
    raise InvalidInputError("burst must be a number of requests, 1 or more.")
