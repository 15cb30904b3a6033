"""Reads a source part by part, within the memory budget."""

from __future__ import annotations

import asyncio

from careflow_storage._transfer.bodies.checksums import digest_of, new_hasher
from careflow_storage._transfer.bodies.growing_part import GrowingPart
from careflow_storage._transfer.bodies.part_buffer import PartBuffer
from careflow_storage._transfer.bodies.parts import FileBody, MemoryBody, Part, PartSizes
from careflow_storage._transfer.bodies.sources import FileSource, MemorySource, Source
from careflow_storage._transfer.bodies.streams import StreamSource
from careflow_storage._transfer.context import TransferContext
from careflow_storage.content_types import HEAD_BYTES
from careflow_storage.models import ChecksumAlgorithm


class PartReader:
    """Reads a source part by part; reserves the memory of a part before reading it.

    Parts of a file are hashed with ``algorithm`` while they are read, which saves a second pass
    through memory and a second thread switch.
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
        """Hash all parts of a mutable buffer before the first part is sent.

        The server verifies each part against its hash. So it stores the bytes as they were when
        they were hashed, or rejects the upload, even if parts are sent minutes later.
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
        """Return the digest of these bytes, if `hash_ahead` has computed it."""
        return self._digests.get((start, size))

    async def read(self, size: int) -> Part:
        """Return the next part of ``size`` bytes, or the rest, which may be empty."""
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
        buffer, algorithm = await PartBuffer.acquire(self._budget, size), self._algorithm
        hasher = new_hasher(algorithm) if algorithm is not None else None
        try:
            filled = await source.read_into(buffer.view, hasher)
        except asyncio.CancelledError:
            # The thread may still write to the buffer, on a stalled mount for a long time.
            buffer.abandon()
            raise
        except BaseException:
            await buffer.release()
            raise
        part = buffer.part(filled)
        if algorithm is not None and hasher is not None:
            part.digests[algorithm] = hasher.digest()
        return part

    async def _read_stream(self, source: StreamSource, size: int) -> Part:
        growing = await GrowingPart.begin(self._threads, self._spool, self._budget, size)
        try:
            while growing.size < size:
                piece = await source.next_piece(size - growing.size)
                if not piece:
                    break
                await growing.write(piece)
            return await growing.finish()
        except BaseException:
            await growing.discard()
            raise
