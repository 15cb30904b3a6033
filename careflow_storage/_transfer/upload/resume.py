"""Uploads that continue where an earlier run, perhaps a killed one, stopped.

No state file is needed. ListMultipartUploads returns the unfinished uploads of the key, ListParts
their parts, and the ETag of a part is its MD5 (Amazon S3 API reference, "Object"; B2 does the
same). A part is used again only if the local bytes at its position have the same MD5 now. Where
ETags are not MD5s (KMS), no part matches, and a new upload is begun.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence

from careflow_storage._log_fields import log_fields
from careflow_storage._s3.headers.encryption import has_lock
from careflow_storage._s3.headers.objects import ObjectHead, StoreResult
from careflow_storage._s3.requests.object_lock import lock_at_least
from careflow_storage._s3.requests.parts import ListedPart
from careflow_storage._s3.responses.lengths import MAX_PARTS
from careflow_storage._transfer.bodies.checksums import composite, composite_etag
from careflow_storage._transfer.bodies.parts import PartSizes, check_size
from careflow_storage._transfer.bodies.sources import Source
from careflow_storage._transfer.context import TransferContext
from careflow_storage._transfer.part_reader import PartReader
from careflow_storage._transfer.progress import Meter
from careflow_storage._transfer.upload.marker import UploadMarker, fingerprint_of
from careflow_storage._transfer.upload.multipart import MultipartUpload, SentPart
from careflow_storage._transfer.upload.result import upload_result
from careflow_storage._transfer.upload.scheduler import part_sender
from careflow_storage.errors import (
    AccessDeniedError,
    BodyChangedError,
    InvalidInputError,
    NoSuchKeyError,
    NoSuchUploadError,
    PreconditionFailedError,
    StorageError,
    TransferError,
)
from careflow_storage.models import Checksum, ChecksumAlgorithm, IncompleteUpload, UploadResult

logger = logging.getLogger("careflow_storage")

# Each costs a request, and reading the source if its parts have fitting sizes.
_UPLOADS_CHECKED = 20
# Another process that resumes the same upload may complete or abort it at any moment.
_ROUNDS = 4


class ResumableUpload:
    """One upload of a body of known size that can be read again from its start.

    Requests, beside those for the missing parts: a HEAD, a ListMultipartUploads, a ListParts per
    1000 parts of each unfinished upload of the key, a Create (or, if an upload is continued,
    another HEAD), and a Complete. The bytes of parts that the server has are read and hashed.
    """

    def __init__(
        self,
        context: TransferContext,
        key: str,
        headers: Mapping[str, str],
        source: Source,
        meter: Meter,
        *,
        size: int,
        algorithm: ChecksumAlgorithm,
        overwrite: bool,
    ) -> None:
        self._context = context
        self._key = key
        self._headers = headers
        self._source = source
        self._meter = meter
        self._size = size
        self._algorithm = algorithm
        self._overwrite = overwrite
        # B2 responds with 501 to If-None-Match: there only a HEAD before the upload is possible.
        self._conditional = not overwrite and not context.settings.is_b2
        self._fingerprint = fingerprint_of(headers, algorithm)
        self._anew = False
        self.upload: MultipartUpload | None = None
        # Whether `run` is, or has failed, at the check of what is stored under the key.
        self.checking_key = False

    async def run(self) -> UploadResult:
        """Upload the missing parts and complete the upload; repeat it if the headers differ."""
        for left in reversed(range(_ROUNDS)):
            self.checking_key = True
            if done := await self._stored_before():
                return done
            self.checking_key = False
            adopted = None if self._anew else await self._unfinished()
            upload = self.upload = adopted or self._new(self._own_sizes())
            reused = upload.size
            try:
                stored, checksum = await self._finish(upload, begun=adopted is not None)
            except (NoSuchUploadError, TransferError) as error:
                if not left or not await self._may_start_again(error, adopted is not None):
                    raise
                continue
            if adopted is None or await self._has_our_headers(stored, upload.sizes):
                return self._result(stored, checksum, len(upload.sent), reused)
            logger.info(
                "starting a new upload: the earlier run set other headers",
                extra=log_fields("upload_restarted", key=self._key),
            )
            self._start_anew()
            # The object that exists now is the one that this upload has stored.
            self._overwrite, self._conditional = True, False
        raise AssertionError("the last round returns or raises")

    async def _may_start_again(self, error: StorageError, adopted: bool) -> bool:
        """Whether another process may have caused the failure, so that a new round may succeed."""
        if isinstance(error, NoSuchUploadError):
            logger.info(
                "another process completed or aborted the upload",
                extra=log_fields("upload_gone", key=self._key),
            )
        elif adopted:
            # For example InvalidPart: another process has replaced a part.
            logger.info(
                "starting a new upload: resuming failed: %s",
                error,
                extra=log_fields("upload_restarted", error, key=self._key),
            )
            self._anew = True
        else:
            return False
        self._meter.restart()
        return await self._source.rewind()

    async def _rewind(self) -> None:
        if not await self._source.rewind():
            raise InvalidInputError(
                "The body cannot be read again from its start.",
                hint="resume=True needs a Path, a file on a disk, or bytes.",
            )

    def _start_anew(self) -> None:
        self._anew = True
        self._meter.restart()

    def _own_sizes(self) -> PartSizes:
        return PartSizes(self._context.settings.part_size, self._size)

    def _new(self, sizes: PartSizes) -> MultipartUpload:
        return MultipartUpload(
            self._context,
            self._key,
            self._headers,
            sizes,
            algorithm=self._algorithm,
            conditional=self._conditional,
        )

    # --- what the server has ------------------------------------------------------------

    async def _stored_before(self) -> UploadResult | None:
        """Return the result if an earlier run, or another process, has completed this upload."""
        try:
            head = await self._context.requests.head_object(self._key)
        except NoSuchKeyError:
            return None
        except AccessDeniedError:
            # B2 denies access to missing keys, too, if the application key lacks listBuckets.
            if not self._overwrite and await self._context.requests.object_exists(self._key):
                raise
            return None
        marker = UploadMarker.parse(head.upload_marker)
        if not self._anew and marker is not None and marker.has(self._fingerprint):
            done = await self._same_object(head, marker.sizes)
            if done is not None:
                try:
                    await lock_at_least(self._context.control, head.file, self._headers)
                except NoSuchKeyError:
                    return None  # erased since
                self._meter.add(self._size)
                return done
        if not self._overwrite:
            raise PreconditionFailedError(
                "The key exists already.", operation="HeadObject", key=self._key, status=412
            )
        return None

    async def _same_object(self, head: ObjectHead, sizes: PartSizes) -> UploadResult | None:
        if head.file.size != self._size or head.file.partial or "-" not in head.file.etag:
            return None
        ends = _plan(sizes, self._size)
        if not head.file.etag.endswith(f"-{len(ends)}"):
            return None
        md5s, digests = [], []
        await self._rewind()
        for size in ends:
            md5, digest = await self._digests(size)
            md5s.append(md5.hex())
            digests.append(digest)
        if composite_etag(md5s) != head.file.etag:
            return None
        stored = StoreResult(head.file.etag, head.file.version_id, head.headers)
        checksum = composite(self._algorithm, digests)
        return self._result(stored, checksum, len(ends), reused=self._size)

    def _result(
        self, stored: StoreResult, checksum: Checksum, parts: int, reused: int
    ) -> UploadResult:
        return upload_result(
            self._context,
            self._key,
            stored,
            size=self._size,
            parts=parts,
            content_type=self._headers["content-type"],
            checksum=checksum,
            reused=reused,
        )

    async def _unfinished(self) -> MultipartUpload | None:
        """Return an unfinished upload to continue: the newest whose parts all match the source.

        Uploads without parts are left alone, since another writer may be sending the first part.
        Running uploads of this storage are left alone, too.
        """
        for candidate in await self._candidates():
            try:
                parts = await self._context.multipart.list_parts(self._key, candidate.upload_id)
            except NoSuchUploadError:
                continue
            sizes = _sizes_of(parts, self._size, self._own_sizes())
            found = None if sizes is None else await self._matching(parts, sizes)
            if sizes is None or found is None:
                logger.info(
                    "not resuming the upload %s, whose bytes differ",
                    candidate.upload_id,
                    extra=log_fields("upload_not_resumed", key=self._key),
                )
                continue
            if found:
                upload = self._new(sizes)
                upload.adopt(candidate.upload_id, found)
                return upload
        return None

    async def _candidates(self) -> list[IncompleteUpload]:
        try:
            listed = await self._context.control.list_incomplete(self._key)
        except AccessDeniedError as error:
            error.hint = "resume=True lists unfinished uploads: on B2 that needs listFiles."
            raise
        living = self._context.living
        uploads = [
            upload
            for upload in listed
            if upload.key == self._key and upload.upload_id not in living
        ]
        newest_first = sorted(uploads, key=lambda upload: upload.initiated, reverse=True)
        return newest_first[:_UPLOADS_CHECKED]

    async def _matching(
        self, parts: Sequence[ListedPart], sizes: PartSizes
    ) -> dict[int, SentPart] | None:
        """Return the parts if the MD5 of each is that of the local bytes; None if one differs."""
        listed = {part.number: part for part in parts}
        found: dict[int, SentPart] = {}
        await self._rewind()
        for number in range(1, max(listed, default=0) + 1):
            if number not in listed:
                await self._source.skip(sizes.size_of(number))
                continue
            part = listed[number]
            md5, digest = await self._digests(part.size)
            if md5.hex() != part.etag:
                return None
            found[number] = SentPart(part.size, part.etag, digest)
        return found

    async def _digests(self, size: int) -> tuple[bytes, bytes]:
        """Return the hashes of the next bytes: the MD5, and that of the upload's algorithm."""
        part = await self._reader("md5").read(size)
        try:
            md5 = await part.digest("md5", self._context.threads)
            if self._algorithm == "md5":
                return md5, md5
            return md5, await part.digest(self._algorithm, self._context.threads)
        finally:
            await part.release()

    def _reader(self, algorithm: ChecksumAlgorithm) -> PartReader:
        return PartReader(self._source, self._context, algorithm)

    async def _has_our_headers(self, stored: StoreResult, sizes: PartSizes) -> bool:
        try:
            return await self._verify_headers(stored, sizes)
        except NoSuchKeyError:
            return True  # stored, and erased since
        except StorageError as error:
            if has_lock(self._headers):
                error.add_note("The upload is complete, but whether it is locked is unknown.")
                raise
            # The upload is complete: a failure of this check does not make it fail.
            logger.warning(
                "The upload is complete, but whether it has the requested headers is unknown: %s",
                error,
                extra=log_fields("headers_not_checked", error, key=self._key),
            )
            return True

    async def _verify_headers(self, stored: StoreResult, sizes: PartSizes) -> bool:
        head = await self._context.requests.head_object(self._key, version_id=stored.version_id)
        if head.file.etag != stored.etag:
            # In a bucket without versions: another writer has replaced the object since.
            return True
        marker = UploadMarker.parse(head.upload_marker)
        ours = (
            marker is not None
            and marker.has(self._fingerprint)
            and _plan(marker.sizes, self._size) == _plan(sizes, self._size)
        )
        if ours:
            # The lock is the one that the earlier run asked for, perhaps days ago.
            await lock_at_least(self._context.control, head.file, self._headers)
        return ours

    # --- what is missing ----------------------------------------------------------------

    async def _finish(
        self, upload: MultipartUpload, *, begun: bool
    ) -> tuple[StoreResult, Checksum]:
        try:
            if not begun:
                await upload.begin()
            self._meter.add(upload.size)
            await self._send_missing(upload)
            return await upload.complete()
        except PreconditionFailedError as error:
            # Another writer has stored the key: no later run can complete the upload.
            await upload.abandon(error)
            raise
        except BaseException as error:
            await upload.leave(error)
            raise

    async def _send_missing(self, upload: MultipartUpload) -> None:
        await self._rewind()
        reader, read = self._reader(self._algorithm), 0
        await reader.hash_ahead(upload.sizes)
        concurrency = self._context.settings.transfer_concurrency
        reused = set(upload.sent)
        async with part_sender(upload, self._meter, concurrency) as sender:
            for number, size in enumerate(_plan(upload.sizes, self._size), start=1):
                read += size
                if number in reused:
                    self._check_reused(reader.digest_at(read - size, size), upload.sent[number])
                    await self._source.skip(size)
                    continue
                await sender.ready()
                part = await reader.read(size)
                sender.hold(part)
                check_size(self._size, read - size + part.size, ended=part.size < size)
                sender.send(number, part)
            # One byte more than declared reveals a body that is too long.
            excess = await reader.read(1)
            sender.hold(excess)
            check_size(self._size, read + excess.size, ended=True)
        await self._source.check_unchanged()

    def _check_reused(self, digest: bytes | None, sent: SentPart) -> None:
        if digest is not None and digest != sent.digest:
            raise BodyChangedError(
                "The body was changed while it was compared with what the server has.",
                key=self._key,
                retryable=True,
            )


def _plan(sizes: PartSizes, total: int) -> list[int]:
    """Return the size of each part of an object of ``total`` bytes."""
    plan: list[int] = []
    left = total
    while left > 0 and len(plan) < MAX_PARTS:
        plan.append(min(left, sizes.size_of(len(plan) + 1)))
        left -= plan[-1]
    return plan


def _sizes_of(parts: Sequence[ListedPart], total: int, wanted: PartSizes) -> PartSizes | None:
    """Return the part sizes of an upload of ``total`` bytes; None if its parts fit none.

    If the earlier run had another ``part_size``, that one is kept.
    """
    largest = max((part.size for part in parts), default=wanted.base)
    for base in (wanted.base, largest):
        if base < 1 or math.ceil(total / base) > MAX_PARTS:
            continue
        plan = _plan(PartSizes(base, total), total)
        if all(part.number <= len(plan) and part.size == plan[part.number - 1] for part in parts):
            return PartSizes(base, total)
    return None
