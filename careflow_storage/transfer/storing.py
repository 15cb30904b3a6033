"""One range of a download: its blocks are hashed and written while the next one arrives."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from contextlib import aclosing

from careflow_storage._transfer.download.partial_file import PartialFile
from careflow_storage._transfer.progress import Meter
from careflow_storage._transfer.tasks import wait_out
from careflow_storage._transfer.threads import Threads

BLOCK_BYTES = 1024 * 1024
RANGE_MEMORY = 2 * BLOCK_BYTES


class RangeStore:
    """Writes blocks to their place in a file, in a thread, each with one trip to it.

    It has two buffers, of the `RANGE_MEMORY` that it is given: while one is written the other is
    filled. ``crc`` and, if ``hashed``, ``digests`` are those of all that is written so far.
    """

    def __init__(
        self, file: PartialFile, threads: Threads, memory: memoryview, start: int, *, hashed: bool
    ) -> None:
        self.crc = 0
        self._file = file
        self._threads = threads
        self._buffers = [memory[:BLOCK_BYTES], memory[BLOCK_BYTES:RANGE_MEMORY]]
        self._position = start
        self._hash = hashlib.md5(usedforsecurity=False) if hashed else None
        self._job: asyncio.Task[None] | None = None

    @property
    def digests(self) -> list[bytes]:
        """The MD5, if it is wanted."""
        return [self._hash.digest()] if self._hash is not None else []

    async def free(self) -> memoryview:
        """Return the buffer that is not being written."""
        return self._buffers[0]

    async def fill_from(self, blocks: AsyncGenerator[memoryview | bytes], meter: Meter) -> None:
        """Store all blocks, which lie in buffers that `free` gave."""
        try:
            async with aclosing(blocks):
                async for block in blocks:
                    await self._stored()
                    meter.add(len(block))
                    self._buffers.reverse()
                    self._job = asyncio.create_task(self._threads.run(self._store, block))
            await self._stored()
        finally:
            # The buffers are somebody else's after this.
            interrupted = await wait_out(self._job)
            if interrupted is not None:
                raise interrupted

    async def _stored(self) -> None:
        job, self._job = self._job, None
        if job is not None:
            await job

    def _store(self, block: memoryview | bytes) -> None:
        if self._hash is not None:
            self._hash.update(block)
        self.crc = self._file.write_at(self._position, block, self.crc)
        self._position += len(block)
