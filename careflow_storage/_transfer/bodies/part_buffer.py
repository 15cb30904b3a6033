"""A buffer for one part, and its share of the memory budget."""

from __future__ import annotations

import mmap
from typing import Self

from careflow_storage._transfer.bodies.memory import ByteBudget
from careflow_storage._transfer.bodies.parts import MemoryBody, Part
from careflow_storage.content_types import HEAD_BYTES


class PartBuffer:
    """A buffer of ``size`` bytes, and its share of the budget."""

    def __init__(self, budget: ByteBudget, share: int, buffer: mmap.mmap, size: int) -> None:
        self._budget = budget
        self._share = share
        self._buffer = buffer
        self.view = memoryview(buffer)[:size]

    @classmethod
    async def acquire(cls, budget: ByteBudget, size: int) -> Self:
        """Wait until the budget has ``size`` bytes free."""
        share = await budget.acquire(size)
        return cls(budget, share, budget.take_buffer(size), size)

    @classmethod
    def acquire_now(cls, budget: ByteBudget, size: int) -> Self | None:
        """Return a buffer, or None if the budget has too little free."""
        if size > budget.total or not budget.acquire_now(size):
            return None
        return cls(budget, size, budget.take_buffer(size), size)

    def part(self, filled: int) -> Part:
        """Return the first ``filled`` bytes as a part, whose release frees the buffer."""
        head = bytes(self.view[: min(filled, HEAD_BYTES)])
        return Part(MemoryBody(self.view[:filled]), head, self.release)

    def abandon(self) -> None:
        """Return the share, but not the buffer, to which a thread may still write."""
        share, self._share = self._share, 0
        self._budget.release(share)

    async def release(self) -> None:
        """Return the buffer and the share. Safe to call twice."""
        share, self._share = self._share, 0
        if share:
            self._budget.give_buffer(self._buffer)
            self._budget.release(share)
