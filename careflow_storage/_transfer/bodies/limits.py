"""The limits of a body: how many bytes it may have, and how long it may let the upload wait."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from careflow_storage._s3.deadline import is_duration
from careflow_storage.errors import BodyTimeoutError, InvalidInputError, too_large

RATE_WINDOW = 30.0
"""The seconds of waiting over which ``min_rate`` is an average."""


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """What the caller allows a body. None: no limit."""

    max_size: int | None = None
    read_timeout: float | None = None
    min_rate: float | None = None

    def check(self) -> None:
        """Refuse limits that are none.

        Raises:
            InvalidInputError: It names the limit.
        """
        if self.max_size is not None and (type(self.max_size) is not int or self.max_size < 0):
            raise InvalidInputError(f"max_size must be an int of 0 or more, not {self.max_size!r}.")
        for name, unit in (("read_timeout", "seconds"), ("min_rate", "bytes per second")):
            value = getattr(self, name)
            if value is not None and not is_duration(value):
                raise InvalidInputError(
                    f"{name} must be a number of {unit} above 0, not {value!r}.",
                    hint="None sets no limit.",
                )

    def check_size(self, size: int | None, *, ended: bool = True) -> None:
        """Refuse a body that has more than ``max_size`` bytes.

        Args:
            size: Its bytes, or, unless it has ``ended``, those that have arrived. None: unknown.

        Raises:
            FileTooLargeError: It has more bytes.
        """
        if self.max_size is not None and self.are_exceeded_by(size):
            raise too_large(self.max_size, size if ended else None)

    def are_exceeded_by(self, size: int | None) -> bool:
        """Whether a body of ``size`` bytes has more than ``max_size``."""
        return size is not None and self.max_size is not None and size > self.max_size

    def pace(self) -> Pace | None:
        """Return what watches the reads of one body; None if they may take any time."""
        if self.read_timeout is None and self.min_rate is None:
            return None
        return Pace(self.read_timeout, self.min_rate)


NO_LIMITS = BodyLimits()


class Pace:
    """Ends a read of the body when it takes too long.

    Only the time that the upload waits for the body counts, not the time for sending. The rate
    is the average of each `RATE_WINDOW` seconds of waiting.
    """

    def __init__(self, read_timeout: float | None, min_rate: float | None) -> None:
        self._read_timeout = math.inf if read_timeout is None else read_timeout
        self._min_rate = min_rate
        self._waited = 0.0
        self._received = 0

    async def wait_for(self, read: Callable[[], Awaitable[Any]]) -> Any:
        """Return what the body's next read returns.

        Raises:
            BodyTimeoutError: It takes longer than allowed. The read is cancelled.
        """
        loop = asyncio.get_running_loop()
        begun, too_slow = loop.time(), self._seconds_until_too_slow()
        scope = asyncio.timeout(min(self._read_timeout, too_slow))
        chunk: Any = None
        try:
            async with scope:
                chunk = await read()
        except TimeoutError:
            if not scope.expired():
                raise
        # A body that catches the cancellation may return, or seem to end.
        if scope.expired():
            raise self._error(too_slow)
        self._waited += loop.time() - begun
        return chunk

    def received(self, size: int) -> None:
        """Count the bytes of the chunk that was read last."""
        self._received += size
        while self._waited >= RATE_WINDOW:
            # A window with too few bytes does not end: its last read times out.
            self._waited -= RATE_WINDOW
            self._received = size

    def _seconds_until_too_slow(self) -> float:
        """Return after how many seconds without a byte the body is slower than ``min_rate``."""
        if self._min_rate is None:
            return math.inf
        # With enough bytes in this window, the next one begins without any.
        windows = 2 if self._received >= self._min_rate * RATE_WINDOW else 1
        return windows * RATE_WINDOW - self._waited

    def _error(self, too_slow: float) -> BodyTimeoutError:
        if self._read_timeout <= too_slow:
            what = f"no bytes for {self._read_timeout:g} s"
        else:
            what = f"fewer than {self._min_rate:g} bytes per second over {RATE_WINDOW:g} s"
        return BodyTimeoutError(
            f"The body sent {what}; nothing was stored.",
            hint="The client that sends it may be gone. Repeat the call with a new body.",
        )
