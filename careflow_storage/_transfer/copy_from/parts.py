"""Copies of large objects: parts from ranges of one version of the source, several at once."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import defaultdict
from collections.abc import Mapping

from careflow_storage._in_flight import help_call
from careflow_storage._log_fields import log_fields
from careflow_storage._s3.headers.objects import ObjectHead, StoreResult
from careflow_storage._transfer.bodies.checksums import composite_etag
from careflow_storage._transfer.bodies.part_buffer import PartBuffer
from careflow_storage._transfer.context import TransferContext
from careflow_storage._transfer.copy_from.plan import PartSpan, identity_of, planned
from careflow_storage._transfer.copy_from.source import read_range
from careflow_storage._transfer.copy_from.unfinished import find_unfinished, stored_before
from careflow_storage._transfer.download.verify import has_other_parts
from careflow_storage._transfer.progress import Meter
from careflow_storage._transfer.tasks import task_group
from careflow_storage._transfer.threads import Threads
from careflow_storage._transfer.upload.marker import UploadMarker, fingerprint_of
from careflow_storage._transfer.upload.multipart import MultipartUpload
from careflow_storage._transfer.upload.options import UploadOptions
from careflow_storage._transfer.upload.result import upload_result
from careflow_storage.errors import (
    ChecksumMismatchError,
    NoSuchKeyError,
    NoSuchUploadError,
    PreconditionFailedError,
    ServiceUnavailableError,
    StorageError,
    TransferError,
)
from careflow_storage.models import Checksum, UploadResult
from careflow_storage.protection import CustomerKey

logger = logging.getLogger("careflow_storage")

# After these no later call can use the parts: the source is not what it was.
_SOURCE_IS_GONE = (NoSuchKeyError, PreconditionFailedError, ChecksumMismatchError)


class PartsCopy:
    """One copy in parts.

    Requests: 1 GET and 1 PUT for each part, and 2 more. Memory: ``transfer_concurrency`` parts,
    within the budget of the target, each reserved before it is read. With ``resume`` also a HEAD,
    a ListMultipartUploads, and a ListParts for each unfinished upload of the key.

    Verification: the target verifies each part. The parts are verified by the ETag of the source
    before the object is put together, if its parts or the whole have MD5s.
    """

    def __init__(
        self,
        target: TransferContext,
        key: str,
        source: TransferContext,
        head: ObjectHead,
        headers: Mapping[str, str],
        options: UploadOptions,
        meter: Meter,
        *,
        encryption: CustomerKey | None,
    ) -> None:
        self._target = target
        self._key = key
        self._source = source
        self._head = head
        self._headers = headers
        self._options = options
        self._meter = meter
        self._encryption = encryption
        self._replaces = options.replaces
        fingerprint = fingerprint_of(headers, options.algorithm)
        identity = identity_of(source.requests.bucket, head, fingerprint)
        self._plan = planned(target, head, identity if options.resume else None)
        self._reuses = options.resume
        self._upload: MultipartUpload | None = None

    async def run(self) -> UploadResult:
        """Copy; once more from the beginning where a new upload may succeed."""
        if self._options.resume:
            done = await stored_before(
                *(self._target, self._key, self._headers, self._options), size=self._plan.total
            )
            if done is not None:
                self._meter.add(self._plan.total)
                return done
        try:
            result = await self._attempt()
        except StorageError as error:
            if not self._may_restart(error):
                raise
            logger.info(
                "restarting the copy: %s",
                error,
                extra=log_fields("copy_restarted", error, key=self._key),
            )
            result = None
        if result is not None:
            return result
        self._reuses = False
        self._meter.restart()
        result = await self._attempt()
        if result is None:
            raise AssertionError("an upload that was begun here has its own headers")
        return result

    async def _attempt(self) -> UploadResult | None:
        """Copy into a new upload or an unfinished one; None if that one had other headers."""
        sent = None
        if self._reuses:
            sent = await find_unfinished(self._target, self._key, self._plan, self._options)
        upload = self._upload = MultipartUpload(
            *(self._target, self._key, self._headers, self._plan.sizes),
            algorithm=self._options.algorithm,
            # B2 responds with 501 to If-None-Match: there only the HEAD before is possible.
            conditional=not self._replaces and not self._target.settings.is_b2,
        )
        if sent is not None:
            upload.adopt(*sent)
        reused = upload.size
        try:
            if sent is None:
                await upload.begin()
            self._meter.add(reused)
            whole = await self._send_missing(upload)
            await self._verify(upload, whole)
            stored, checksum = await upload.complete()
        except BaseException as error:
            await self._end(upload, error)
            raise
        if sent is not None and not await self._has_our_headers(upload, stored):
            logger.info(
                "copying again: the earlier run set other headers",
                extra=log_fields("copy_restarted", key=self._key),
            )
            # The object that exists now is the one that this copy has stored.
            self._replaces = True
            return None
        return self._result(upload, stored, checksum, reused)

    async def _end(self, upload: MultipartUpload, error: BaseException) -> None:
        resumable = self._options.resume and not isinstance(error, _SOURCE_IS_GONE)
        if resumable and not self._may_restart(error):
            await upload.leave(error)
        else:
            await upload.abandon(error)

    def _may_restart(self, error: BaseException) -> bool:
        upload = self._upload
        if upload is None:
            return False
        if isinstance(error, NoSuchUploadError):
            # With a cause it may have been completed: a restart could store a second version.
            return error.__cause__ is None
        if isinstance(error, ServiceUnavailableError):
            # B2 stores all parts of an upload in one vault. When that stays busy, only a new
            # upload gets another vault.
            busy = upload.part_refused and error.status == 503
            return busy and self._target.retry.pause_after(error, 1) is not None
        # For example InvalidPart: another process has replaced a part of the unfinished upload.
        return self._reuses and isinstance(error, TransferError | ChecksumMismatchError)

    async def _send_missing(self, upload: MultipartUpload) -> bytes | None:
        """Copy the missing parts; return the MD5 of all bytes, if it is needed and known."""
        concurrency = self._target.settings.transfer_concurrency
        window = asyncio.Semaphore(concurrency)
        hasher = None
        if self._plan.proof == "whole" and not upload.sent:
            hasher = _OrderedMd5(self._target.threads)
        async with task_group() as group:
            for span in self._plan.spans():
                if span.number not in upload.sent:
                    await window.acquire()
                    group.create_task(self._copy_part(upload, span, window, hasher))
        return hasher.digest() if hasher is not None else None

    async def _copy_part(
        self,
        upload: MultipartUpload,
        span: PartSpan,
        window: asyncio.Semaphore,
        hasher: _OrderedMd5 | None,
    ) -> None:
        help_call()
        size = span.end - span.start
        try:
            # Memory before the request: a response that waits for memory holds a slot.
            buffer = await PartBuffer.acquire(self._target.budget, size)
            try:
                await read_range(
                    *(self._source, self._head, buffer.view, span.start),
                    encryption=self._encryption,
                )
                await upload.send(span.number, buffer.part(size), self._meter)
                if hasher is not None:
                    await hasher.add(span.number, buffer.view)
            finally:
                await buffer.release()
        finally:
            window.release()

    async def _verify(self, upload: MultipartUpload, whole: bytes | None) -> None:
        """Compare the parts with the ETag of the source, before they become an object."""
        expected = self._head.file.etag
        found = whole.hex() if whole is not None else None
        if self._plan.proof == "parts":
            parts = [upload.sent[number] for number in sorted(upload.sent)]
            if self._options.algorithm == "md5":
                found = composite_etag([part.digest.hex() for part in parts])
            else:
                found = composite_etag([part.etag for part in parts])
        if found is None or found == expected:
            return
        if not await has_other_parts(self._source.requests, self._head):
            raise ChecksumMismatchError(
                "The bytes differ from those of the source: their MD5 does not match its ETag.",
                operation="GetObject",
                bucket=self._source.requests.bucket,
                key=self._head.file.key,
                hint="Copy again. If the error persists, the source itself is damaged.",
            )

    async def _has_our_headers(self, upload: MultipartUpload, stored: StoreResult) -> bool:
        head = await self._target.requests.head_object(self._key, version_id=stored.version_id)
        if head.file.etag != stored.etag:
            # In a bucket without versions: another writer has replaced the object since.
            return True
        marker = UploadMarker.parse(head.upload_marker)
        return marker is not None and marker.has(upload.fingerprint)

    def _result(
        self, upload: MultipartUpload, stored: StoreResult, checksum: Checksum, reused: int
    ) -> UploadResult:
        return upload_result(
            *(self._target, self._key, stored),
            size=self._plan.total,
            parts=len(upload.sent),
            content_type=self._headers.get("content-type", self._head.file.content_type),
            checksum=checksum,
            reused=reused,
            partial=self._head.file.partial,
        )


class _OrderedMd5:
    """The MD5 of an object whose parts come in any order: each waits for those before it."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._hash = hashlib.md5(usedforsecurity=False)
        self._turns: defaultdict[int, asyncio.Event] = defaultdict(asyncio.Event)
        self._turns[1].set()

    async def add(self, number: int, view: memoryview) -> None:
        """Add the bytes of part ``number``, which must not change until this returns."""
        await self._turns[number].wait()
        del self._turns[number]
        await self._threads.run(self._hash.update, view)
        self._turns[number + 1].set()

    def digest(self) -> bytes:
        """Return the MD5, after the last part."""
        return self._hash.digest()
