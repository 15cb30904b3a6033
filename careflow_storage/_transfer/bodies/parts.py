"""The sizes of parts, and their bytes in memory or in a file."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from typing import ParamSpec, Protocol, TypeVar

from careflow_storage._http.bodies import Body
from careflow_storage._s3.headers.encryption import has_lock
from careflow_storage._s3.responses.lengths import MAX_PARTS
from careflow_storage._transfer.bodies.checksums import digest_of, new_hasher, request_headers
from careflow_storage._transfer.threads import INLINE_BYTES, Threads
from careflow_storage.errors import InvalidInputError, SizeMismatchError
from careflow_storage.models import ChecksumAlgorithm

P = ParamSpec("P")
T = TypeVar("T")

MIB = 1024 * 1024
MAX_PART_BYTES = 5_000_000_000
MAX_OBJECT_BYTES = 10_000_000_000_000
# The upload markers of stored objects depend on it: never change it.
_GROWTH_STEP = 900
_FILE_BLOCK_BYTES = 512 * 1024
# Of a larger slice, asyncio copies the bytes that the socket does not accept at once.
SLICE_BYTES = 256 * 1024


class PartSizes:
    """The part sizes of an upload, chosen so that 10,000 parts hold the whole object.

    An object of known size gets equal parts, which Live Read and resume need: the smallest whole
    number of MiB that suffices. The size of a stream is unknown, so its parts double every 900
    parts; this reaches B2's limit of 10 TB with parts below 5 GB.
    """

    def __init__(self, smallest: int, total: int | None) -> None:
        self.growing = total is None
        self.base = smallest
        if total is not None:
            if total > MAX_OBJECT_BYTES:
                raise InvalidInputError(
                    f"An object can have at most {MAX_OBJECT_BYTES} bytes, not {total}."
                )
            needed = math.ceil(total / MAX_PARTS)
            if needed > smallest:
                self.base = math.ceil(needed / MIB) * MIB

    def size_of(self, number: int) -> int:
        """Return the size of part ``number`` (from 1), in bytes; the last may be shorter."""
        if not self.growing:
            return self.base
        return int(min(self.base * 2 ** ((number - 1) // _GROWTH_STEP), MAX_PART_BYTES))


def even_ends(size: int, step: int) -> Iterator[int]:
    """Yield the end of each piece when ``size`` bytes are cut into pieces of ``step``."""
    yield from range(step, size, step)
    if size:
        yield size


def check_size(declared: int | None, read: int, *, ended: bool) -> None:
    """Raise `SizeMismatchError` if the size of a body differs from the declared size."""
    if declared is None or read == declared or (read < declared and not ended):
        return
    more = "more than" if read > declared else f"only {read} of"
    raise SizeMismatchError(
        f"The body has {more} the {declared} bytes that were declared; nothing was stored.",
        hint="The body may have changed while it was read.",
    )


class MemoryBody:
    """Bytes in memory, sent in slices."""

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self.view = memoryview(data)
        self.size = self.view.nbytes

    def first(self, size: int) -> MemoryBody:
        """Return a body of the first ``size`` bytes."""
        return MemoryBody(self.view[:size])

    async def slices(self) -> AsyncGenerator[memoryview]:
        for start in range(0, self.size, SLICE_BYTES):
            yield self.view[start : start + SLICE_BYTES]


class ThreadRunner(Protocol):
    """`Threads.run` or `Threads.run_apart`."""

    async def __call__(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T: ...


class FileBody:
    """Bytes in a file, read with ``run`` in a thread, and again for each attempt."""

    def __init__(
        self, read_at: Callable[[int, int], bytes], start: int, size: int, run: ThreadRunner
    ) -> None:
        self.size = size
        self.run = run
        self._read_at = read_at
        self._start = start

    def first(self, size: int) -> FileBody:
        """Return a body of the first ``size`` bytes."""
        return FileBody(self._read_at, self._start, size, self.run)

    async def slices(self) -> AsyncGenerator[memoryview]:
        for start, length in self._blocks():
            block = memoryview(await self.run(self._read_at, start, length))
            for first in range(0, block.nbytes, SLICE_BYTES):
                yield block[first : first + SLICE_BYTES]

    def digest(self, algorithm: ChecksumAlgorithm) -> bytes:
        """Return the digest of the bytes. Call it in a thread."""
        hasher = new_hasher(algorithm)
        for start, length in self._blocks():
            hasher.update(self._read_at(start, length))
        return hasher.digest()

    def _blocks(self) -> Iterator[tuple[int, int]]:
        end = self._start + self.size
        for start in range(self._start, end, _FILE_BLOCK_BYTES):
            yield start, min(_FILE_BLOCK_BYTES, end - start)


class Part:
    """The bytes of one part, available until `release`.

    Attributes:
        body: The bytes.
        head: The first bytes, from which the content type is detected.
        digests: The digests that were computed while the bytes were read.
    """

    def __init__(
        self,
        body: MemoryBody | FileBody,
        head: bytes,
        release: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.body = body
        self.head = head
        self.size = body.size
        self.digests: dict[ChecksumAlgorithm, bytes] = {}
        self._release = release

    def payload(self) -> Body | bytes:
        """Return the request body. A small one is ``bytes``, sent together with the headers."""
        if isinstance(self.body, MemoryBody) and self.size <= SLICE_BYTES:
            whole = self.body.view.obj
            # Usually the bytes object that the caller passed.
            return (
                whole if type(whole) is bytes and len(whole) == self.size else bytes(self.body.view)
            )
        return self.body

    async def digest(self, algorithm: ChecksumAlgorithm, threads: Threads) -> bytes:
        """Return the digest of the bytes; hash more than 64 KiB in a thread."""
        if (known := self.digests.get(algorithm)) is not None:
            return known
        if isinstance(self.body, FileBody):
            return await self.body.run(self.body.digest, algorithm)
        if self.size <= INLINE_BYTES:
            return digest_of(algorithm, self.body.view)
        return await threads.run(digest_of, algorithm, self.body.view)

    async def request_checksum(
        self, algorithm: ChecksumAlgorithm, threads: Threads, about: Mapping[str, str]
    ) -> tuple[bytes, dict[str, str], str]:
        """Return the digest, the headers with which the server verifies it, and the payload hash.

        ``about`` are the headers of the object. B2 requires Content-MD5 for an object with a
        lock, even if it has another checksum; so does Amazon's "UploadPart".
        """
        digest = await self.digest(algorithm, threads)
        headers, payload_hash = request_headers(algorithm, digest)
        if algorithm != "md5" and has_lock(about):
            headers |= request_headers("md5", await self.digest("md5", threads))[0]
        return digest, headers, payload_hash

    def borrowed(self) -> Part:
        """Return a part with the same bytes, whose `release` frees nothing."""
        part = Part(self.body, self.head)
        part.digests = self.digests
        return part

    def first(self, size: int) -> Part:
        """Return a part of the first ``size`` bytes, whose `release` frees nothing."""
        return Part(self.body.first(size), self.head[:size])

    async def release(self) -> None:
        """Free the memory or the disk space. Safe to call twice."""
        if isinstance(self.body, MemoryBody):
            # A reference to the part must not keep its buffer alive.
            self.body = MemoryBody(b"")
        release, self._release = self._release, None
        if release is not None:
            await release()
