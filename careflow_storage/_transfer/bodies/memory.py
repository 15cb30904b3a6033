"""The memory budget that all transfers of one storage share, and its buffers."""

from __future__ import annotations

import asyncio
import mmap
import sys
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class ByteBudget:
    """Grants at most ``total`` bytes of memory at a time, in the order of the requests.

    A request for more than the whole budget is granted when all memory is free, so that one huge
    part can still be sent.

    Returned buffers are reused, because fresh pages for each part cost more than reading it.
    Buffers in use and spare buffers together stay within the budget. When no buffer is in use,
    all memory goes back to the system.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._free = total
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._spare: list[mmap.mmap] = []

    async def acquire(self, size: int) -> int:
        """Wait for a share of ``size`` bytes; return the size to pass to `release`."""
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
            if not granted.cancelled():
                self.release(size)
            elif entry in self._waiting:
                self._waiting.remove(entry)
                self._grant()
            raise
        return size

    def acquire_now(self, size: int) -> bool:
        """Take a share of ``size`` bytes if it is free and no other task waits; return whether."""
        if self._waiting or size > self._free:
            return False
        self._free -= size
        return True

    def release(self, size: int) -> None:
        """Return a share."""
        self._free += size
        self._grant()
        self._trim()

    def take_buffer(self, size: int) -> mmap.mmap:
        """Return a buffer of at least ``size`` bytes, after `acquire`."""
        for index, buffer in enumerate(self._spare):
            if len(buffer) >= size:
                return self._spare.pop(index)
        self._trim()
        # Unlike the pages of a bytearray, these take no memory before the first write.
        if sys.platform == "win32":
            return mmap.mmap(-1, size)
        return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)

    def give_buffer(self, buffer: mmap.mmap) -> None:
        """Return a buffer, before `release`."""
        self._spare.append(buffer)

    def _grant(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free:
            size, granted = self._waiting.popleft()
            if not granted.done():
                self._free -= size
                granted.set_result(None)

    def _trim(self) -> None:
        if self._free == self.total:
            self._spare.clear()
        while sum(len(buffer) for buffer in self._spare) > self._free:
            del self._spare[0]


@asynccontextmanager
async def reserved_memory(budget: ByteBudget, size: int) -> AsyncIterator[memoryview]:
    """Wait for ``size`` bytes of the budget; yield a buffer that is valid within the block."""
    share = await budget.acquire(size)
    try:
        buffer = budget.take_buffer(size)
        try:
            yield memoryview(buffer)[:size]
        finally:
            budget.give_buffer(buffer)
    finally:
        budget.release(share)
