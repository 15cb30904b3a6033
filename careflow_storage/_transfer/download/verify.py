"""Verifies a download: its bytes are hashed and compared with the ETag."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from typing import Literal, TypeAlias

from careflow_storage._s3.headers.objects import ObjectHead
from careflow_storage._s3.requests.objects import S3Requests
from careflow_storage._s3.responses.lengths import part_count
from careflow_storage._transfer.bodies.checksums import has_md5_etag, is_md5
from careflow_storage._transfer.threads import INLINE_BYTES, Threads
from careflow_storage._transfer.upload.marker import UploadMarker
from careflow_storage._uninterrupted import ignore_outcome
from careflow_storage.errors import ChecksumMismatchError

Verified: TypeAlias = Literal["md5", "composite-md5", "length"]

_BATCH_BYTES = 1024 * 1024


def part_ends(size: int, etag: str, headers: Mapping[str, str], marker: str | None) -> list[int]:
    """Return the ends of the parts that the ETag covers; empty if it cannot be verified.

    One end: the ETag is the MD5 of the whole object. Several ends: the ETag is the MD5 of the
    MD5s of the parts, whose size is in the upload marker. The marker is used only if it yields
    the number of parts in the ETag.
    """
    if is_md5(etag, headers):
        return [size]
    count = part_count(etag)
    upload = UploadMarker.parse(marker)
    if count is None or upload is None or not has_md5_etag(headers):
        return []
    ends: list[int] = []
    position = 0
    # Bounded by the number of parts, whatever the size and the marker say.
    while position < size and len(ends) <= count:
        position = min(size, position + upload.sizes.size_of(len(ends) + 1))
        ends.append(position)
    return ends if len(ends) == count else []


class EtagHasher:
    """Hashes the bytes of an object in order, in a thread.

    Hashes 1 MiB at a time while the next bytes arrive.
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
        """Add the next bytes, which must not change until they are hashed.

        With ``at_once`` they are hashed without waiting for 1 MiB.
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
        """Return the MD5 of each part. Call it after the last byte."""
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
        """Wait for the running job, whose outcome is not used: the digests are not needed."""
        if self._job is not None:
            self._job.add_done_callback(ignore_outcome)
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


async def verify_digests(requests: S3Requests, head: ObjectHead, digests: list[bytes]) -> Verified:
    """Compare the MD5s of the parts with the object's ETag; return how it was verified.

    Other programs copy an object with its metadata, but cut it into parts of other sizes: then the
    upload marker describes another object, and only the length can be verified. Costs a HEAD for
    an object in parts whose MD5s do not match.

    Raises:
        ChecksumMismatchError: They do not match.
    """
    try:
        return _check_digests(head.file.etag, digests, key=head.file.key)
    except ChecksumMismatchError:
        if await has_other_parts(requests, head):
            return "length"
        raise


async def has_other_parts(requests: S3Requests, head: ObjectHead) -> bool:
    """Whether the parts of an object are known to be others than its upload marker says. 1 HEAD."""
    file = head.file
    ends = part_ends(file.size, file.etag, head.headers, head.upload_marker)
    if len(ends) < 2:
        return False
    first = await requests.first_part_size(file.key, file.version_id, file.etag)
    return first is not None and first != ends[0]


def _check_digests(etag: str, digests: list[bytes], *, key: str) -> Verified:
    """Compare the MD5s of the parts with the ETag; return how the object was verified.

    Raises:
        ChecksumMismatchError: They do not match.
    """
    if not digests:
        return "length"
    if "-" in etag:
        found = hashlib.md5(b"".join(digests), usedforsecurity=False).hexdigest()
        found += f"-{len(digests)}"
    else:
        found = digests[0].hex()
    if found != etag:
        raise ChecksumMismatchError(
            "The downloaded bytes differ from the uploaded ones: their MD5 does not match.",
            operation="GetObject",
            key=key,
            hint="Download again. If the error persists, the object is damaged"
            + (
                ", or another tool has copied it in other parts: verify=False reads it."
                if len(digests) > 1
                else "."
            ),
        )
    return "composite-md5" if "-" in etag else "md5"
