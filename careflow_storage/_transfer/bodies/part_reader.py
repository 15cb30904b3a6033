"""From a source to parts: memory is reserved before a part is read, never after."""

from __future__ import annotations

import asyncio
import logging
import mmap
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

from careflow_storage._transfer.bodies.checksums import digest_of, new_hasher
from careflow_storage._transfer.bodies.memory import ByteBudget
from careflow_storage._transfer.bodies.parts import FileBody, MemoryBody, Part, PartSizes
from careflow_storage._transfer.bodies.sources import FileSource, MemorySource, Source
from careflow_storage._transfer.bodies.spool import Area, Spool
from careflow_storage._transfer.bodies.streams import StreamSource
from careflow_storage._transfer.context import TransferContext
from careflow_storage._transfer.tasks import wait_out
from careflow_storage._transfer.threads import Threads
from careflow_storage.errors import StorageError
from careflow_storage.models import ChecksumAlgorithm
from careflow_storage.recordings import HEAD_BYTES

logger = logging.getLogger("careflow_storage")

# Nobody knows when a stream goes on. A part that finds no memory, or is not full, within this
# time goes to the spool: a thousand slow senders must not hold up the fast ones.
_PATIENCE_SECONDS = 1.0
# A chunk of a live call may be some milliseconds of sound: too little for a trip to the disk.
GATHER_BYTES = 32 * 1024
_READ_BYTES = 512 * 1024
_MOST_WITHOUT_DISK = 64 * 1024 * 1024


class PartReader:
    """Reads a source part by part.

    The parts of a file are hashed by ``algorithm`` on the way, which spares a second trip to a
    thread and through the memory.
    """

    def __init__(
        self, source: Source, context: TransferContext, algorithm: ChecksumAlgorithm | None = None
    ) -> None:
        self._source = source
        self._algorithm = algorithm
        self._budget = context.budget
        self._threads = context.threads
        self._spool = context.spool
        self._digests: dict[tuple[int, int], bytes] = {}

    async def hash_ahead(self, sizes: PartSizes) -> None:
        """Hash all parts of memory that the caller could change, before the first part is sent.

        The server holds what it gets to these hashes. So it stores what was there when the last
        of them was made, or nothing, though parts are sent minutes later.
        """
        source, algorithm = self._source, self._algorithm
        if not isinstance(source, MemorySource) or source.immutable or algorithm is None:
            return
        start, number = 0, 1
        while piece := source.view[start : start + sizes.size_of(number)]:
            digest = await self._threads.run(digest_of, algorithm, piece)
            self._digests[start, piece.nbytes] = digest
            start, number = start + piece.nbytes, number + 1

    def digest_at(self, start: int, size: int) -> bytes | None:
        """Return what `hash_ahead` made of these bytes, if it did."""
        return self._digests.get((start, size))

    async def read(self, size: int) -> Part:
        """Return the next part of ``size`` bytes, or what is left, which may be nothing."""
        source = self._source
        if isinstance(source, MemorySource):
            position, view = source.position, source.take(size)
            part = Part(MemoryBody(view), bytes(view[:HEAD_BYTES]))
            if self._algorithm is not None and (position, view.nbytes) in self._digests:
                part.digests[self._algorithm] = self._digests[position, view.nbytes]
            return part
        if isinstance(source, StreamSource):
            return await self._read_stream(source, size)
        if size > self._budget.total:
            return await self._region(source, size)
        return await self._read_file(source, size)

    async def _region(self, source: FileSource, size: int) -> Part:
        start, length = source.take_region(size)
        read_at = source.file.read_at
        head = await self._threads.run_apart(read_at, start, min(length, HEAD_BYTES))
        return Part(FileBody(read_at, start, length, self._threads.run_apart), head)

    async def _read_file(self, source: FileSource, size: int) -> Part:
        memory, algorithm = await _Memory.acquire(self._budget, size), self._algorithm
        hasher = new_hasher(algorithm) if algorithm is not None else None
        try:
            filled = await source.read_into(memory.view, hasher)
        except asyncio.CancelledError:
            # The read may go on, for ever on a mount that stalls: no other part gets its buffer.
            memory.abandon()
            raise
        except BaseException:
            await memory.release()
            raise
        part = memory.part(filled)
        if algorithm is not None and hasher is not None:
            part.digests[algorithm] = hasher.digest()
        return part

    async def _read_stream(self, source: StreamSource, size: int) -> Part:
        memory = None
        if size <= self._budget.total:
            with suppress(TimeoutError):
                async with asyncio.timeout(_PATIENCE_SECONDS):
                    memory = await _Memory.acquire(self._budget, size)
        filling = Filling(self._threads, self._spool, memory)
        try:
            while filling.filled < size:
                piece = await source.next_piece(size - filling.filled)
                if not piece:
                    break
                await filling.write(piece)
            return await filling.finish()
        except BaseException:
            await filling.discard()
            raise


class _Memory:
    """A buffer and its share of the budget."""

    def __init__(self, budget: ByteBudget, share: int, buffer: mmap.mmap, size: int) -> None:
        self._budget = budget
        self._share = share
        self._buffer = buffer
        self.view = memoryview(buffer)[:size]

    @classmethod
    async def acquire(cls, budget: ByteBudget, size: int) -> _Memory:
        share = await budget.acquire(size)
        return cls(budget, share, budget.take_buffer(size), size)

    @classmethod
    def acquire_now(cls, budget: ByteBudget, size: int) -> _Memory | None:
        """Return one if it need not be waited for."""
        if size > budget.total or not budget.acquire_now(size):
            return None
        return cls(budget, size, budget.take_buffer(size), size)

    def part(self, filled: int) -> Part:
        head = bytes(self.view[: min(filled, HEAD_BYTES)])
        return Part(MemoryBody(self.view[:filled]), head, self.release)

    def abandon(self) -> None:
        """Give the share back, but leave the buffer to whoever still writes to it."""
        share, self._share = self._share, 0
        self._budget.release(share)

    async def release(self) -> None:
        """Give both back; safe to call twice."""
        share, self._share = self._share, 0
        if share:
            self._budget.give_buffer(self._buffer)
            self._budget.release(share)


class Filling:
    """A part that grows by chunks, of which nobody knows when the next one comes.

    It is gathered in memory to 32 KiB, then goes to the spool. With ``memory``, or with a
    ``budget`` to take it from when the first 32 KiB come within a second and it is free, it
    stays in memory, and goes to the spool only if it is not full after another second. That
    move happens beside the filling, which may be waiting for the next chunk for minutes and
    cannot be interrupted: a cancelled generator is a finished one.
    """

    def __init__(
        self,
        threads: Threads,
        spool: Spool,
        memory: _Memory | None = None,
        *,
        budget: ByteBudget | None = None,
        size: int = 0,
    ) -> None:
        self.filled = 0
        self.head = b""
        self._threads = threads
        self._area = Area(spool, threads)
        self._memory: _Memory | None = None
        self._budget = budget
        self._size = size
        self._gathered = bytearray()
        self._lock = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self._begun = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._move: asyncio.Task[None] | None = None
        self._closed = False
        if memory is not None:
            self._keep_in(memory)

    async def write(self, piece: memoryview) -> None:
        """Take ``piece``: it counts as filled even if the way to the spool is cancelled."""
        async with self._lock:
            if self._closed:
                return
            if len(self.head) < HEAD_BYTES:
                self.head += piece[: HEAD_BYTES - len(self.head)]
            if self._memory is not None:
                self._memory.view[self.filled : self.filled + piece.nbytes] = piece
            else:
                self._gathered += piece
            self.filled += piece.nbytes
            if len(self._gathered) >= GATHER_BYTES and not self._fits_in_memory():
                await self._spool_gathered()

    async def finish(self) -> Part:
        """Return the part, whose bytes are its own from now on; cancelled, it can be repeated."""
        await self._end_moving()
        async with self._lock:
            if self._memory is not None:
                memory, self._memory = self._memory, None
                part = memory.part(self.filled)
            elif self._area.size == 0:
                part = Part(MemoryBody(bytes(self._gathered)), self.head)
            else:
                try:
                    await self._spool_gathered()
                    part = self._part_of_area()
                except StorageError:
                    # The disk is full. What is to be sent next is worth the memory.
                    if self.filled > _MOST_WITHOUT_DISK:
                        raise
                    part = Part(MemoryBody(await self._read_all()), self.head, self._area.release)
            self._closed = True
            return part

    async def _read_all(self) -> bytes:
        async with aclosing(self.contents()) as contents:
            return b"".join([bytes(content) async for content in contents])

    async def contents(self) -> AsyncGenerator[memoryview]:
        """Yield all that is there, wherever it is; after the last `write`, before `discard`."""
        await self._end_moving()
        if self._memory is not None:
            yield self._memory.view[: self.filled]
            return
        for start in range(0, self._area.size, _READ_BYTES):
            yield memoryview(await self._threads.run(self._area.read_at, start, _READ_BYTES))
        if self._gathered:
            yield memoryview(bytes(self._gathered))

    async def snapshot(self) -> Part | None:
        """Return what is there so far as a part, while more comes; None when it is finished."""
        async with self._lock:
            if self._closed or self._memory is not None:
                return None
            await self._spool_gathered()
            self._area.hold()
            return self._part_of_area()

    def _part_of_area(self) -> Part:
        body = FileBody(self._area.read_at, 0, self._area.size, self._threads.run)
        return Part(body, self.head, self._area.release)

    async def discard(self) -> None:
        """Free what the bytes occupy, unless `finish` has returned them."""
        if self._closed:
            return
        self._closed = True
        try:
            await self._end_moving()
        finally:
            if self._memory is not None:
                await self._memory.release()
            await self._area.release()

    def _fits_in_memory(self) -> bool:
        """Whether the part goes on in memory: it comes fast, and nobody else needs it."""
        fast = self._loop.time() - self._begun < _PATIENCE_SECONDS
        if self._budget is None or not fast or self._area.size:
            return False
        memory = _Memory.acquire_now(self._budget, self._size)
        if memory is None:
            return False
        memory.view[: self.filled] = self._gathered
        self._gathered.clear()
        self._keep_in(memory)
        return True

    def _keep_in(self, memory: _Memory) -> None:
        self._memory = memory
        self._timer = self._loop.call_later(_PATIENCE_SECONDS, self._lose_patience)

    def _lose_patience(self) -> None:
        self._move = self._loop.create_task(self._move_to_spool())

    async def _move_to_spool(self) -> None:
        async with self._lock:
            memory = self._memory
            if memory is None:
                return
            try:
                await self._area.append(memory.view[: self.filled])
            except StorageError as error:
                logger.warning("a slow part stays in memory: %s", error)
                return
            self._memory = None
            await memory.release()

    async def _end_moving(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        # It reads the memory that is given back next.
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
