"""The proof that a download is what was uploaded: its bytes hashed and held to the ETag."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from typing import Literal, TypeAlias

from careflow_storage._s3.responses.lengths import part_count
from careflow_storage._transfer.bodies.checksums import has_md5_etag, is_md5
from careflow_storage._transfer.threads import INLINE_BYTES, Threads
from careflow_storage._transfer.upload.marker import UploadMarker
from careflow_storage.errors import ChecksumMismatchError

Verified: TypeAlias = Literal["md5", "composite-md5", "length"]

_BATCH_BYTES = 1024 * 1024


def part_ends(size: int, etag: str, headers: Mapping[str, str], marker: str | None) -> list[int]:
    """Return where each separately hashed part ends; empty when the ETag proves nothing.

    One end means that the ETag is the MD5 of the whole. Several mean that it is the MD5 of
    that many MD5s, whose part size our mark tells; the mark is believed only where the number
    of parts that follows from it is that in the ETag.
    """
    if is_md5(etag, headers):
        return [size]
    count = part_count(etag)
    upload = UploadMarker.parse(marker)
    if count is None or upload is None or not has_md5_etag(headers):
        return []
    ends: list[int] = []
    position = 0
    # Bounded by the number of parts that an object can have, whatever size and mark say.
    while position < size and len(ends) <= count:
        position = min(size, position + upload.sizes.size_of(len(ends) + 1))
        ends.append(position)
    return ends if len(ends) == count else []


class EtagHasher:
    """Hashes an object's bytes in the order they come, off the event loop.

    Bytes are gathered to 1 MiB and hashed in a thread while the next ones arrive.
    """

    def __init__(self, ends: list[int], threads: Threads) -> None:
        self._ends = ends
        self._threads = threads
        self._digests: list[bytes] = []
        self._hash = hashlib.md5(usedforsecurity=False)
        self._position = 0
        self._batch: list[bytes | memoryview] = []
        self._batched = 0
        self._job: asyncio.Task[None] | None = None

    async def update(self, chunk: bytes | memoryview, *, at_once: bool = False) -> None:
        """Take the next bytes, which must stay as they are until they are hashed.

        ``at_once`` gathers no more before they are.
        """
        if not self._ends:
            return
        self._batch.append(chunk)
        self._batched += len(chunk)
        if at_once or self._batched >= _BATCH_BYTES:
            await self._drain()
            batch, self._batch, self._batched = self._batch, [], 0
            self._job = asyncio.create_task(self._threads.run(self._consume, batch))

    async def digests(self) -> list[bytes]:
        """Return the MD5 of each part, after the last byte."""
        await self._drain()
        if self._batched <= INLINE_BYTES:
            self._consume(self._batch)
        else:
            await self._threads.run(self._consume, self._batch)
        self._batch, self._batched = [], 0
        if len(self._digests) < len(self._ends):
            self._digests.append(self._hash.digest())
        return self._digests

    async def aclose(self) -> None:
        """Wait for the running job; its result no longer matters."""
        if self._job is not None:
            await asyncio.wait({self._job})

    async def _drain(self) -> None:
        if self._job is not None:
            await self._job
            self._job = None

    def _consume(self, batch: list[bytes | memoryview]) -> None:
        for chunk in batch:
            view = memoryview(chunk)
            while view:
                left = self._ends[len(self._digests)] - self._position
                piece, view = view[:left], view[left:]
                self._hash.update(piece)
                self._position += piece.nbytes
                if piece.nbytes == left:
                    self._digests.append(self._hash.digest())
                    self._hash = hashlib.md5(usedforsecurity=False)


def check_digests(etag: str, digests: list[bytes], *, key: str) -> Verified:
    """Hold the MD5s of an object's parts to its ETag; raise `ChecksumMismatchError`."""
    if not digests:
        return "length"
    if "-" in etag:
        found = hashlib.md5(b"".join(digests), usedforsecurity=False).hexdigest()
        found += f"-{len(digests)}"
    else:
        found = digests[0].hex()
    if found != etag:
        raise ChecksumMismatchError(
            "The bytes that arrived are not those that were uploaded: their MD5 differs.",
            operation="GetObject",
            key=key,
            hint="Download again; if it stays so, the object itself is damaged.",
        )
    return "composite-md5" if "-" in etag else "md5"
