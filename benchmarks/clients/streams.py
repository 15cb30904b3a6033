"""Async iterators of bytes as the file-like objects that some clients want for a stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator


class AsyncReader:
    """``await read(n)`` gives the next ``n`` bytes: fewer at the end, and none after it."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._buffer = bytearray()
        self._ended = False

    async def read(self, size: int = -1) -> bytes:
        while not self._ended and (size < 0 or len(self._buffer) < size):
            try:
                self._buffer += await anext(self._chunks)
            except StopAsyncIteration:
                self._ended = True
        end = len(self._buffer) if size < 0 else size
        data = bytes(memoryview(self._buffer)[:end])
        del self._buffer[:end]
        return data


class BlockingReader:
    """The same for a client that reads in a thread, while the iterator stays on its loop."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._reader = AsyncReader(chunks)
        self._loop = asyncio.get_running_loop()

    def read(self, size: int = -1) -> bytes:
        return asyncio.run_coroutine_threadsafe(self._reader.read(size), self._loop).result()
