"""The byte budget that all transfers of one storage share."""

from __future__ import annotations

import asyncio
from collections import deque


class ByteBudget:
    """At most ``total`` bytes of parts in memory, granted in the order of asking.

    A share larger than the whole budget is granted when nothing else is out, so that one
    huge part can still be sent.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._free = total
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def acquire(self, size: int) -> int:
        """Wait for a share of ``size`` bytes; return what to give back to `release`."""
        size = min(size, self.total)
        if not self._waiting and size <= self._free:
            self._free -= size
            return size
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (size, granted)
        self._waiting.append(entry)
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self.release(size)
            else:
                self._waiting.remove(entry)
                self._grant()
            raise
        return size

    def release(self, size: int) -> None:
        """Give a share back."""
        self._free += size
        self._grant()

    def _grant(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free:
            size, granted = self._waiting.popleft()
            if not granted.done():
                self._free -= size
                granted.set_result(None)
