"""The byte budget that all transfers of one storage share, and the buffers that it pays for."""

from __future__ import annotations

import asyncio
import mmap
import sys
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class ByteBudget:
    """At most ``total`` bytes of parts in memory, granted in the order of asking.

    A share larger than the whole budget is granted when nothing else is out, so that one
    huge part can still be sent.

    Buffers that are given back are used again: fresh pages for every part cost more than
    reading it. They count: what is lent and what is spare together stay within the budget,
    and when nothing is lent any more, all memory goes back to the system.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._free = total
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._spare: list[mmap.mmap] = []

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
            if not granted.cancelled():
                self.release(size)
            elif entry in self._waiting:
                self._waiting.remove(entry)
                self._grant()
            raise
        return size

    def acquire_now(self, size: int) -> bool:
        """Take a share of ``size`` bytes if it is free and nobody waits for one."""
        if self._waiting or size > self._free:
            return False
        self._free -= size
        return True

    def release(self, size: int) -> None:
        """Give a share back."""
        self._free += size
        self._grant()
        self._trim()

    def take_buffer(self, size: int) -> mmap.mmap:
        """Return a buffer of at least ``size`` bytes; its share is acquired already."""
        for index, buffer in enumerate(self._spare):
            if len(buffer) >= size:
                return self._spare.pop(index)
        self._trim()
        # Unlike those of a bytearray, its pages cost nothing before they are written to.
        if sys.platform == "win32":
            return mmap.mmap(-1, size)
        return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)

    def give_buffer(self, buffer: mmap.mmap) -> None:
        """Take a buffer back, before its share is released."""
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
async def lent(budget: ByteBudget, size: int) -> AsyncIterator[memoryview]:
    """Wait for ``size`` bytes of the budget and give them, until the block is left."""
    share = await budget.acquire(size)
    try:
        buffer = budget.take_buffer(size)
        try:
            yield memoryview(buffer)[:size]
        finally:
            budget.give_buffer(buffer)
    finally:
        budget.release(share)
