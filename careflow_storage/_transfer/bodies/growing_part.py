"""A part that is filled chunk by chunk: in memory at first, on the disk when it is slow."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Self

from careflow_storage._log_fields import log_fields
from careflow_storage._transfer.bodies.memory import ByteBudget
from careflow_storage._transfer.bodies.part_buffer import PartBuffer
from careflow_storage._transfer.bodies.parts import FileBody, MemoryBody, Part
from careflow_storage._transfer.bodies.spool import SharedSpool, SpoolArea
from careflow_storage._transfer.threads import Threads
from careflow_storage._uninterrupted import wait_out
from careflow_storage.content_types import HEAD_BYTES
from careflow_storage.errors import StorageError

logger = logging.getLogger("careflow_storage")

# A slow stream must not hold memory that fast ones need: a part that is not full by then moves to
# the spool. A thousand slow senders must not block the others.
_MEMORY_SECONDS = 1.0
# A chunk of a live call may be a few milliseconds of sound: too little for a write to the disk.
GATHER_BYTES = 32 * 1024
_READ_BYTES = 512 * 1024
# On a full disk, a part of up to this size is sent from memory.
_MOST_WITHOUT_DISK = 64 * 1024 * 1024


class GrowingPart:
    """A part whose bytes arrive in chunks, at any time.

    It starts in ``buffer``, if that is given. Otherwise the first 32 KiB are gathered in memory;
    when they arrive within a second and ``budget`` has ``capacity`` bytes free, the part
    continues in a buffer of that size, else in the spool. A part in a buffer that is not full
    after another second moves to the spool.

    The move runs in its own task, because the caller may wait for the next chunk for minutes.
    That wait cannot be interrupted: cancelling a generator ends it.

    Attributes:
        size: How many bytes were written.
        head: The first bytes, from which the content type is detected.
    """

    def __init__(
        self,
        threads: Threads,
        spool: SharedSpool,
        buffer: PartBuffer | None = None,
        *,
        budget: ByteBudget | None = None,
        capacity: int = 0,
    ) -> None:
        self.size = 0
        self.head = b""
        self._threads = threads
        self._area = SpoolArea(spool, threads)
        self._buffer: PartBuffer | None = None
        self._budget = budget
        self._capacity = capacity
        self._gathered = bytearray()
        self._lock = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self._started = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._move: asyncio.Task[None] | None = None
        self._closed = False
        if buffer is not None:
            self._use_buffer(buffer)

    @classmethod
    async def begin(
        cls, threads: Threads, spool: SharedSpool, budget: ByteBudget, size: int
    ) -> Self:
        """Return an empty part in a buffer of ``size`` bytes.

        If the budget has no room for it within a second, the part has no buffer.
        """
        buffer = None
        if size <= budget.total:
            with suppress(TimeoutError):
                async with asyncio.timeout(_MEMORY_SECONDS):
                    buffer = await PartBuffer.acquire(budget, size)
        return cls(threads, spool, buffer)

    async def write(self, piece: memoryview) -> None:
        """Append ``piece``; `size` includes it even if the write to the spool is cancelled."""
        async with self._lock:
            if self._closed:
                return
            if len(self.head) < HEAD_BYTES:
                self.head += piece[: HEAD_BYTES - len(self.head)]
            if self._buffer is not None:
                self._buffer.view[self.size : self.size + piece.nbytes] = piece
            else:
                self._gathered += piece
            self.size += piece.nbytes
            if len(self._gathered) >= GATHER_BYTES and not self._continue_in_memory():
                await self._spool_gathered()

    async def finish(self) -> Part:
        """Return the finished part, which then owns the bytes. May be repeated if cancelled."""
        await self._stop_moving()
        async with self._lock:
            if self._buffer is not None:
                buffer, self._buffer = self._buffer, None
                part = buffer.part(self.size)
            elif self._area.size == 0:
                part = Part(MemoryBody(bytes(self._gathered)), self.head)
            else:
                try:
                    await self._spool_gathered()
                    part = self._part_of_area()
                except StorageError:
                    # The disk is full. This part is sent next, so memory holds it only briefly.
                    if self.size > _MOST_WITHOUT_DISK:
                        raise
                    part = Part(MemoryBody(await self._read_all()), self.head, self._area.release)
            self._closed = True
            return part

    async def _read_all(self) -> bytes:
        async with aclosing(self.contents()) as contents:
            return b"".join([bytes(content) async for content in contents])

    async def contents(self) -> AsyncGenerator[memoryview]:
        """Yield all bytes; after the last `write`, before `discard`."""
        await self._stop_moving()
        if self._buffer is not None:
            yield self._buffer.view[: self.size]
            return
        for start in range(0, self._area.size, _READ_BYTES):
            yield memoryview(await self._threads.run(self._area.read_at, start, _READ_BYTES))
        if self._gathered:
            yield memoryview(bytes(self._gathered))

    async def snapshot(self) -> Part | None:
        """Return the bytes so far as a part, while this one grows on; None once it is finished."""
        async with self._lock:
            if self._closed or self._buffer is not None:
                return None
            await self._spool_gathered()
            self._area.hold()
            return self._part_of_area()

    def _part_of_area(self) -> Part:
        body = FileBody(self._area.read_at, 0, self._area.size, self._threads.run)
        return Part(body, self.head, self._area.release)

    async def discard(self) -> None:
        """Free the bytes, unless `finish` has handed them over."""
        if self._closed:
            return
        self._closed = True
        try:
            await self._stop_moving()
        finally:
            if self._buffer is not None:
                await self._buffer.release()
            await self._area.release()

    def _continue_in_memory(self) -> bool:
        """Move the gathered bytes to a buffer if they came fast and memory is free."""
        fast = self._loop.time() - self._started < _MEMORY_SECONDS
        if self._budget is None or not fast or self._area.size:
            return False
        buffer = PartBuffer.acquire_now(self._budget, self._capacity)
        if buffer is None:
            return False
        buffer.view[: self.size] = self._gathered
        self._gathered.clear()
        self._use_buffer(buffer)
        return True

    def _use_buffer(self, buffer: PartBuffer) -> None:
        self._buffer = buffer
        self._timer = self._loop.call_later(_MEMORY_SECONDS, self._start_moving)

    def _start_moving(self) -> None:
        self._move = self._loop.create_task(self._move_to_spool())

    async def _move_to_spool(self) -> None:
        async with self._lock:
            buffer = self._buffer
            if buffer is None:
                return
            try:
                await self._area.append(buffer.view[: self.size])
            except StorageError as error:
                logger.warning(
                    "a slow part stays in memory: %s",
                    error,
                    extra=log_fields("part_stays_in_memory", error),
                )
                return
            self._buffer = None
            await buffer.release()

    async def _stop_moving(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        # A running move reads the buffer, which the caller frees next.
        interrupted = await wait_out(self._move)
        if interrupted is not None:
            raise interrupted

    async def _spool_gathered(self) -> None:
        gathered, self._gathered = self._gathered, bytearray()
        if gathered:
            try:
                await self._area.append(gathered)
            except BaseException:
                self._gathered = bytearray(gathered)
                raise
