"""From a source to parts: memory is reserved before a part is read, never after."""

from __future__ import annotations

import asyncio
import mmap
import tempfile
import threading
from contextlib import suppress
from typing import IO

from careflow_storage.recordings import HEAD_BYTES
from careflow_storage.transfer.memory import ByteBudget
from careflow_storage.transfer.parts import FileBody, MemoryBody, Part
from careflow_storage.transfer.sources import FileSource, MemorySource, Source, StreamSource
from careflow_storage.transfer.threads import Threads

# Nobody knows when a stream goes on. A part that finds no memory, or is not full, within this
# time goes to a temporary file: a thousand slow senders must not hold up the fast ones.
_PATIENCE_SECONDS = 1.0
# A chunk of a live call may be some milliseconds of sound: too little for a trip to the disk.
_WRITE_BYTES = 64 * 1024


class PartReader:
    """Reads a source part by part."""

    def __init__(self, source: Source, budget: ByteBudget, threads: Threads) -> None:
        self._source = source
        self._budget = budget
        self._threads = threads

    async def read(self, size: int) -> Part:
        """Return the next part of ``size`` bytes, or what is left, which may be nothing."""
        source = self._source
        if isinstance(source, MemorySource):
            view = source.take(size)
            return Part(MemoryBody(view), bytes(view[:HEAD_BYTES]))
        if isinstance(source, StreamSource):
            return await self._read_stream(source, size)
        if size > self._budget.total:
            return await self._region(source, size)
        return await self._read_file(source, size)

    async def _region(self, source: FileSource, size: int) -> Part:
        start, length = await self._threads.run(source.take_region, size)
        head = await self._threads.run(source.read_at, start, HEAD_BYTES)
        return Part(FileBody(source.read_at, start, length, self._threads), head)

    async def _read_file(self, source: FileSource, size: int) -> Part:
        memory = await _Memory.acquire(self._budget, size)
        try:
            filled = await self._threads.run(source.read_into, memory.view)
        except BaseException:
            await memory.release()
            raise
        return memory.part(filled)

    async def _read_stream(self, source: StreamSource, size: int) -> Part:
        memory = None
        if size <= self._budget.total:
            with suppress(TimeoutError):
                async with asyncio.timeout(_PATIENCE_SECONDS):
                    memory = await _Memory.acquire(self._budget, size)
        filling = _Filling(memory, self._threads)
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

    def part(self, filled: int) -> Part:
        head = bytes(self.view[: min(filled, HEAD_BYTES)])
        return Part(MemoryBody(self.view[:filled]), head, self.release)

    async def release(self) -> None:
        """Give both back; safe to call twice."""
        share, self._share = self._share, 0
        if share:
            self._budget.give_buffer(self._buffer)
            self._budget.release(share)


class _Filling:
    """A part that a stream is filling: in memory, and in a temporary file if it takes long.

    The move to the file happens beside the reading, which may be waiting for the next chunk
    for minutes and cannot be interrupted: a cancelled generator is a finished one.
    """

    def __init__(self, memory: _Memory | None, threads: Threads) -> None:
        self.filled = 0
        self._memory = memory
        self._threads = threads
        self._file: IO[bytes] | None = None
        self._head = b""
        self._unwritten = bytearray()
        self._lock = asyncio.Lock()
        self._move: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(_PATIENCE_SECONDS, self._lose_patience)

    async def write(self, piece: memoryview) -> None:
        async with self._lock:
            if len(self._head) < HEAD_BYTES:
                self._head += piece[: HEAD_BYTES - len(self._head)]
            if self._memory is not None:
                self._memory.view[self.filled : self.filled + piece.nbytes] = piece
            else:
                self._unwritten += piece
                if len(self._unwritten) >= _WRITE_BYTES:
                    await self._flush()
            self.filled += piece.nbytes

    async def finish(self) -> Part:
        self._timer.cancel()
        if self._move is not None:
            await self._move
        if self._memory is not None:
            return self._memory.part(self.filled)
        await self._flush()
        file = await self._opened()
        lock = threading.Lock()

        def read_at(start: int, size: int) -> bytes:
            # A cancelled attempt may still be reading while the next one begins.
            with lock:
                file.seek(start)
                return file.read(size)

        body = FileBody(read_at, 0, self.filled, self._threads)
        return Part(body, self._head, self._close)

    async def discard(self) -> None:
        self._timer.cancel()
        try:
            if self._move is not None:
                await asyncio.wait({self._move})
        finally:
            if self._memory is not None:
                await self._memory.release()
            await self._close()

    def _lose_patience(self) -> None:
        if self._memory is not None:
            self._move = asyncio.get_running_loop().create_task(self._move_to_file())

    async def _move_to_file(self) -> None:
        async with self._lock:
            memory = self._memory
            if memory is None:
                return
            await self._append(memory.view[: self.filled])
            self._memory = None
            await memory.release()

    async def _flush(self) -> None:
        data, self._unwritten = self._unwritten, bytearray()
        await self._append(memoryview(data))

    async def _append(self, data: memoryview) -> None:
        file = await self._opened()
        while data:
            data = data[await self._threads.run(file.write, data) :]

    async def _opened(self) -> IO[bytes]:
        file = self._file
        if file is None:
            file = self._file = await self._threads.open(_unbuffered_file)
        return file

    async def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            await self._threads.clean_up(file.close)


def _unbuffered_file() -> IO[bytes]:
    return tempfile.TemporaryFile(buffering=0)
