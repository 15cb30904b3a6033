"""Parts: how large they are, where their bytes wait, and when they may be read."""

from __future__ import annotations

import asyncio
import math
import mmap
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import IO

from careflow_storage.errors import InvalidInputError, SizeMismatchError
from careflow_storage.models import ChecksumAlgorithm
from careflow_storage.recordings import HEAD_BYTES
from careflow_storage.s3.exchange import SLICE_BYTES, Body
from careflow_storage.transfer.checksums import digest_of, new_hasher
from careflow_storage.transfer.memory import ByteBudget
from careflow_storage.transfer.sources import MemorySource, Source
from careflow_storage.transfer.threads import INLINE_BYTES, Threads

MIB = 1024 * 1024
MAX_PARTS = 10_000
MAX_PART_BYTES = 5_000_000_000
MAX_OBJECT_BYTES = 10_000_000_000_000
# Known to readers of the mark of older objects: never change it.
_GROWTH_STEP = 900
# A part that finds no memory within this time goes to a temporary file: a slow sender that
# holds its share must not stop the others.
_PATIENCE_SECONDS = 1.0
_FILE_SLICE_BYTES = MIB


class PartSizes:
    """The sizes of an upload's parts, so that 10,000 of them hold the whole object.

    An object of known size gets equal parts (Live Read and resume want them): the smallest
    number of MiB that is enough. Of a stream nobody knows the length: its parts double every
    900 parts, which reaches B2's 10 TB with parts below 5 GB.
    """

    def __init__(self, smallest: int, total: int | None) -> None:
        self.growing = total is None
        self.base = smallest
        if total is not None:
            if total > MAX_OBJECT_BYTES:
                raise InvalidInputError(
                    f"An object can have {MAX_OBJECT_BYTES} bytes at the most, not {total}."
                )
            needed = math.ceil(total / MAX_PARTS)
            if needed > smallest:
                self.base = math.ceil(needed / MIB) * MIB

    def size_of(self, number: int) -> int:
        """Return the size of part ``number`` (from 1), in bytes; the last may be shorter."""
        if not self.growing:
            return self.base
        return int(min(self.base * 2 ** ((number - 1) // _GROWTH_STEP), MAX_PART_BYTES))


def check_size(declared: int | None, read: int, *, ended: bool, key: str) -> None:
    """Raise `SizeMismatchError` when a body has other than its declared number of bytes."""
    if declared is None or read == declared or (read < declared and not ended):
        return
    more = "more than" if read > declared else f"only {read} of"
    raise SizeMismatchError(
        f"The body has {more} the {declared} bytes that were declared; nothing was stored.",
        operation="upload_file",
        key=key,
        hint="It may have changed while it was read.",
    )


class MemoryBody:
    """Bytes in memory, given to the connection in slices."""

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self.view = memoryview(data)
        self.size = self.view.nbytes

    async def slices(self) -> AsyncIterator[memoryview]:
        for start in range(0, self.size, SLICE_BYTES):
            yield self.view[start : start + SLICE_BYTES]


class FileBody:
    """Bytes in a temporary file, read again for every attempt."""

    def __init__(self, file: IO[bytes], size: int, threads: Threads) -> None:
        self.size = size
        self._file = file
        self._threads = threads
        self._lock = threading.Lock()

    async def slices(self) -> AsyncIterator[bytes]:
        for start in range(0, self.size, _FILE_SLICE_BYTES):
            length = min(_FILE_SLICE_BYTES, self.size - start)
            yield await self._threads.run(self._read_at, start, length)

    def _read_at(self, start: int, length: int) -> bytes:
        # A cancelled attempt may still be reading while the next one begins.
        with self._lock:
            self._file.seek(start)
            return self._file.read(length)

    def digest(self, algorithm: ChecksumAlgorithm) -> bytes:
        """Hash the file; to be called in a thread."""
        hasher = new_hasher(algorithm)
        for start in range(0, self.size, _FILE_SLICE_BYTES):
            hasher.update(self._read_at(start, min(_FILE_SLICE_BYTES, self.size - start)))
        return hasher.digest()


class Part:
    """One part's bytes, kept until they are stored; `release` frees what they occupy."""

    def __init__(
        self,
        body: MemoryBody | FileBody,
        head: bytes,
        release: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.body = body
        self.head = head
        self.size = body.size
        self._release = release

    def payload(self) -> Body | bytes:
        """Return what to send: small bodies go out in one piece with the headers."""
        if isinstance(self.body, MemoryBody) and self.size <= SLICE_BYTES:
            return bytes(self.body.view)
        return self.body

    async def digest(self, algorithm: ChecksumAlgorithm, threads: Threads) -> bytes:
        """Hash the bytes, in a thread unless they are few."""
        if isinstance(self.body, FileBody):
            return await threads.run(self.body.digest, algorithm)
        if self.size <= INLINE_BYTES:
            return digest_of(algorithm, self.body.view)
        return await threads.run(digest_of, algorithm, self.body.view)

    async def release(self) -> None:
        """Free the memory or the temporary file; safe to call twice."""
        release, self._release = self._release, None
        if release is not None:
            await release()


class PartReader:
    """Reads a source part by part; memory is reserved before a part is read, never after.

    Buffers are used again for the next parts: fresh pages for each would cost more than the
    reading, and memory that is freed here and there does not go back to the system.
    """

    def __init__(self, source: Source, budget: ByteBudget, threads: Threads) -> None:
        self._source = source
        self._budget = budget
        self._threads = threads
        self._spare: list[mmap.mmap] = []

    async def read(self, size: int) -> Part:
        """Return the next part of ``size`` bytes, or what is left, which may be nothing."""
        if isinstance(self._source, MemorySource):
            view = self._source.take(size)
            return Part(MemoryBody(view), bytes(view[:HEAD_BYTES]))
        share = await self._reserve(size)
        if share is None:
            return await self._spool(size)
        return await self._buffer(size, share)

    async def _reserve(self, size: int) -> int | None:
        if size > self._budget.total:
            return None
        if not self._source.waits_for_others:
            return await self._budget.acquire(size)
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_SECONDS):
                return await self._budget.acquire(size)
        return None

    async def _buffer(self, size: int, share: int) -> Part:
        if self._spare and len(self._spare[-1]) >= size:
            buffer = self._spare.pop()
        else:
            buffer = _new_buffer(size)

        async def release() -> None:
            self._spare.append(buffer)
            self._budget.release(share)

        try:
            view = memoryview(buffer)
            filled = await self._source.read_into(view[:size])
        except BaseException:
            await release()
            raise
        return Part(MemoryBody(view[:filled]), bytes(view[: min(filled, HEAD_BYTES)]), release)

    async def _spool(self, size: int) -> Part:
        file = await self._threads.run(tempfile.TemporaryFile)

        async def release() -> None:
            await self._threads.run(file.close)

        try:
            scratch = memoryview(bytearray(min(_FILE_SLICE_BYTES, size)))
            filled, head = 0, b""
            while filled < size:
                wanted = min(scratch.nbytes, size - filled)
                count = await self._source.read_into(scratch[:wanted])
                head = head or bytes(scratch[: min(count, HEAD_BYTES)])
                await self._threads.run(file.write, scratch[:count])
                filled += count
                if count < wanted:
                    break
            await self._threads.run(file.flush)
        except BaseException:
            await release()
            raise
        return Part(FileBody(file, filled, self._threads), head, release)


def _new_buffer(size: int) -> mmap.mmap:
    # Unlike those of a bytearray, its pages cost nothing before they are written to.
    if sys.platform == "win32":
        return mmap.mmap(-1, size)
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
