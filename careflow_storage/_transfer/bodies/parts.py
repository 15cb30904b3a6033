"""Parts: how large they are, and their bytes, in memory or in a file."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from typing import ParamSpec, Protocol, TypeVar

from careflow_storage._http.bodies import Body
from careflow_storage._s3.headers.encryption import has_lock
from careflow_storage._transfer.bodies.checksums import digest_of, new_hasher, request_headers
from careflow_storage._transfer.threads import INLINE_BYTES, Threads
from careflow_storage.errors import InvalidInputError, SizeMismatchError
from careflow_storage.models import ChecksumAlgorithm

P = ParamSpec("P")
T = TypeVar("T")

MIB = 1024 * 1024
MAX_PARTS = 10_000
MAX_PART_BYTES = 5_000_000_000
MAX_OBJECT_BYTES = 10_000_000_000_000
# Known to readers of the mark of older objects: never change it.
_GROWTH_STEP = 900
_FILE_BLOCK_BYTES = 512 * 1024
# A larger one makes asyncio copy what the socket did not take at once.
SLICE_BYTES = 256 * 1024


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


def even_ends(size: int, step: int) -> list[int]:
    """Return where each piece ends when ``size`` bytes are cut into pieces of ``step``."""
    return [*range(step, size, step), size] if size else []


def check_size(declared: int | None, read: int, *, ended: bool, key: str) -> None:
    """Raise `SizeMismatchError` when a body has other than its declared number of bytes."""
    if declared is None or read == declared or (read < declared and not ended):
        return
    more = "more than" if read > declared else f"only {read} of"
    raise SizeMismatchError(
        f"The body has {more} the {declared} bytes that were declared; nothing was stored.",
        key=key,
        hint="It may have changed while it was read.",
    )


class MemoryBody:
    """Bytes in memory, given to the connection in slices."""

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self.view = memoryview(data)
        self.size = self.view.nbytes

    async def slices(self) -> AsyncGenerator[memoryview]:
        for start in range(0, self.size, SLICE_BYTES):
            yield self.view[start : start + SLICE_BYTES]


class Run(Protocol):
    """How a job gets to a thread: `Threads.run` or `Threads.run_apart`."""

    async def __call__(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T: ...


class FileBody:
    """Bytes in a file, read again for every attempt, in the threads that ``run`` stands for."""

    def __init__(
        self, read_at: Callable[[int, int], bytes], start: int, size: int, run: Run
    ) -> None:
        self.size = size
        self.run = run
        self._read_at = read_at
        self._start = start

    async def slices(self) -> AsyncGenerator[memoryview]:
        for start, length in self._blocks():
            block = memoryview(await self.run(self._read_at, start, length))
            for first in range(0, block.nbytes, SLICE_BYTES):
                yield block[first : first + SLICE_BYTES]

    def digest(self, algorithm: ChecksumAlgorithm) -> bytes:
        """Hash the bytes; to be called in a thread."""
        hasher = new_hasher(algorithm)
        for start, length in self._blocks():
            hasher.update(self._read_at(start, length))
        return hasher.digest()

    def _blocks(self) -> Iterator[tuple[int, int]]:
        end = self._start + self.size
        for start in range(self._start, end, _FILE_BLOCK_BYTES):
            yield start, min(_FILE_BLOCK_BYTES, end - start)


class Part:
    """One part's bytes, kept until they are stored; `release` frees what they occupy.

    ``digests`` are those that whoever read the bytes has made on the way.
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
        """Return what to send: small bodies go out in one piece with the headers."""
        if isinstance(self.body, MemoryBody) and self.size <= SLICE_BYTES:
            whole = self.body.view.obj
            # Mostly the very bytes that were given.
            return (
                whole if type(whole) is bytes and len(whole) == self.size else bytes(self.body.view)
            )
        return self.body

    async def digest(self, algorithm: ChecksumAlgorithm, threads: Threads) -> bytes:
        """Hash the bytes, in a thread unless they are few."""
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
        """Return the digest, the headers that make the server verify it, and the payload hash.

        ``about`` are the object's headers. B2 refuses what shall be locked without Content-MD5,
        whatever other checksum it has; Amazon's "UploadPart" asks for it, too.
        """
        digest = await self.digest(algorithm, threads)
        headers, payload_hash = request_headers(algorithm, digest)
        if algorithm != "md5" and has_lock(about):
            headers |= request_headers("md5", await self.digest("md5", threads))[0]
        return digest, headers, payload_hash

    def borrowed(self) -> Part:
        """Return a part of the same bytes, whose release frees nothing."""
        part = Part(self.body, self.head)
        part.digests = self.digests
        return part

    async def release(self) -> None:
        """Free the memory or the temporary file; safe to call twice."""
        if isinstance(self.body, MemoryBody):
            # Whoever still knows the part must not keep its buffer alive.
            self.body = MemoryBody(b"")
        release, self._release = self._release, None
        if release is not None:
            await release()
