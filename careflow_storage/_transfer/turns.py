"""Turns of the event loop, for loops whose awaits may never suspend."""

from __future__ import annotations

import asyncio
import time

_HOLD_SECONDS = 0.005


class Turns:
    """Gives other tasks a turn every few milliseconds.

    An ``await`` suspends only if what it waits for is not there yet: a body that has its chunks
    at hand, or a caller that writes in a tight loop, would hold the event loop, and neither a
    deadline nor a cancellation could act.
    """

    def __init__(self) -> None:
        self._last = time.monotonic()

    async def yield_if_due(self) -> None:
        """Let the event loop go round, if the last time was some milliseconds ago."""
        if time.monotonic() - self._last >= _HOLD_SECONDS:
            await asyncio.sleep(0)
            self._last = time.monotonic()
