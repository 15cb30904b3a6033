"""Lets the event loop run other tasks during loops whose awaits may never suspend."""

from __future__ import annotations

import asyncio
import time

_HOLD_SECONDS = 0.005


class Turns:
    """Lets other tasks run every 5 milliseconds.

    An ``await`` suspends only if it has to wait. A body that has its chunks ready, or a caller
    that writes in a tight loop, would block the event loop; deadlines and cancellations would
    have no effect.
    """

    def __init__(self) -> None:
        self._last = time.monotonic()

    async def yield_if_due(self) -> None:
        """Let other tasks run, if the last time was at least 5 milliseconds ago."""
        if time.monotonic() - self._last >= _HOLD_SECONDS:
            await asyncio.sleep(0)
            self._last = time.monotonic()
