"""Incomplete multipart uploads: list them, abort them, or keep their parts as an object."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import aclosing
from datetime import datetime, timedelta

from careflow_storage._log_fields import log_fields
from careflow_storage._s3.headers.encryption import encryption_headers, lock_headers
from careflow_storage._s3.headers.metadata import META_PREFIX
from careflow_storage._s3.headers.objects import StoreResult
from careflow_storage._s3.requests.listing import checked_prefix
from careflow_storage._s3.requests.parts import ListedPart, latest_parts
from careflow_storage._transfer.bodies.checksums import composite_etag
from careflow_storage._transfer.bodies.parts import PartSizes
from careflow_storage._transfer.context import TransferContext
from careflow_storage._transfer.copy import erase_unmarked, mark_partial, set_unmarked
from careflow_storage._transfer.tasks import task_group
from careflow_storage._transfer.upload.multipart import MultipartUpload, SentPart
from careflow_storage._transfer.upload.result import upload_result
from careflow_storage.errors import (
    InvalidInputError,
    NoSuchUploadError,
    ServerResponseError,
    StorageError,
)
from careflow_storage.models import FileMetadata, IncompleteUpload, UploadResult
from careflow_storage.protection import CustomerKey

logger = logging.getLogger("careflow_storage")

# B2's minimum for every part but the last (Backblaze, "Create Large Files with the Native API").
# Amazon's minimum is 5 MiB; its response says so.
_SMALLEST_PART_BYTES = 5_000_000
_OWN_HEADERS = ("content-type", "cache-control", "content-disposition")


async def list_incomplete(context: TransferContext, prefix: str) -> list[IncompleteUpload]:
    """List the multipart uploads under ``prefix`` that are neither completed nor aborted.

    1 request per 1000, in the server's order: by key (SeaweedFS: by upload ID).
    """
    await context.control.prepare()
    return await context.control.list_incomplete(checked_prefix(prefix))


async def abort_upload(context: TransferContext, key: str, upload_id: str) -> None:
    """Abort a multipart upload and delete its parts. 1 request.

    Succeeds if the upload does not exist, like every deletion in S3.
    """
    upload_id = _checked_id(upload_id)
    try:
        await context.multipart.abort(key, upload_id)
    except NoSuchUploadError:
        logger.debug(
            "the upload %s no longer exists",
            upload_id,
            extra=log_fields("upload_gone", key=key, upload_id=upload_id),
        )


async def abort_stale(
    context: TransferContext, older_than: timedelta, prefix: str
) -> list[IncompleteUpload]:
    """Abort uploads without progress for ``older_than``; return the aborted uploads.

    An upload is stale if it began before that time and no part was stored since. So a live
    recording of many hours is not stale. Uploads that this storage is working on are never
    stale. All times are the server's.

    Requests: 1 per 1000 uploads; for each old upload 1 per 1000 parts, and 1 to abort it,
    ``transfer_concurrency`` at once. An upload that is completed meanwhile is not in the result.
    After a failure the other uploads are still aborted; then the first error is raised.
    """
    older_than = checked_age(older_than)
    prefix = checked_prefix(prefix)
    await context.control.prepare()
    old: list[tuple[IncompleteUpload, datetime]] = []
    async with aclosing(context.control.incomplete_pages(prefix)) as pages:
        async for page in pages:
            now = page.server_time
            if now is None:
                raise ServerResponseError(
                    "The server sent no time, so the age of the uploads is unknown.",
                    operation="ListMultipartUploads",
                )
            before = now - older_than
            old += [
                (each, before)
                for each in page.uploads
                if each.initiated < before and each.upload_id not in context.living
            ]
    return await _abort_idle(context, old)


async def _abort_idle(
    context: TransferContext, uploads: Sequence[tuple[IncompleteUpload, datetime]]
) -> list[IncompleteUpload]:
    """Abort each upload of which no part was stored since its given time."""
    window = asyncio.Semaphore(context.settings.transfer_concurrency)
    aborted: set[str] = set()
    failures: list[StorageError] = []

    async def abort(upload: IncompleteUpload, before: datetime) -> None:
        async with window:
            try:
                parts = await context.multipart.list_parts(upload.key, upload.upload_id)
                if any(part.modified is not None and part.modified >= before for part in parts):
                    return
                await context.multipart.abort(upload.key, upload.upload_id)
                aborted.add(upload.upload_id)
            except NoSuchUploadError:
                logger.debug(
                    "the upload %s has ended",
                    upload.upload_id,
                    extra=log_fields("upload_gone", key=upload.key, upload_id=upload.upload_id),
                )
            except StorageError as error:
                failures.append(error)

    async with task_group() as group:
        for upload, before in uploads:
            group.create_task(abort(upload, before))
    if failures:
        first, *others = failures
        first.add_note(f"{len(aborted)} stale uploads were aborted, {1 + len(others)} were not.")
        raise first
    return [upload for upload, _ in uploads if upload.upload_id in aborted]


async def keep_incomplete(
    context: TransferContext, key: str, upload_id: str, encryption: CustomerKey | None = None
) -> UploadResult:
    """Complete an upload with the parts that the server has; mark the object as partial.

    Uses the parts up to the first gap, or up to the first part that is smaller than the minimum.
    Requests: ListParts (1 per 1000 parts), CompleteMultipartUpload, a HEAD, the copy that marks
    the object (see `copy.mark_partial`), and a deletion.

    Raises:
        InvalidInputError: This storage is working on the upload.
        NoSuchUploadError: The upload was completed or aborted, or has no first part.
        StorageError: If ``stored_unmarked`` is set, the object is stored, but not marked.
    """
    upload_id = _checked_id(upload_id)
    if upload_id in context.living:
        raise InvalidInputError(
            f"The upload {upload_id} is in progress in this storage.",
            key=key,
            hint="Keep only uploads of processes that have ended.",
        )
    await context.control.prepare()
    parts = _usable(await context.multipart.list_parts(key, upload_id))
    if not parts:
        raise NoSuchUploadError(
            "The upload has no first part, so there is nothing to keep.",
            hint="abort_upload() removes it.",
            key=key,
        )
    algorithm = parts[0].checksum[0] if parts[0].checksum is not None else "md5"
    sizes, key_headers = PartSizes(parts[0].size, None), encryption_headers(encryption)
    upload = MultipartUpload(context, key, key_headers, sizes, algorithm=algorithm)
    upload.adopt(upload_id, {part.number: _sent(part) for part in parts})
    try:
        stored, checksum = await upload.complete()
    finally:
        context.living.discard(upload_id)
    try:
        file, marked = await _mark_with_own_headers(context, key, stored, upload.size, encryption)
    except StorageError as error:
        if not error.stored_unmarked:
            set_unmarked(error, stored)
        error.add_note(f"The recording {key!r} is stored, but not marked as partial.")
        raise
    await erase_unmarked(context, key, stored, marked)
    return upload_result(
        context,
        key,
        marked,
        size=upload.size,
        parts=len(parts),
        content_type=file.content_type,
        checksum=checksum,
        partial=True,
    )


async def _mark_with_own_headers(
    context: TransferContext,
    key: str,
    stored: StoreResult,
    size: int,
    encryption: CustomerKey | None,
) -> tuple[FileMetadata, StoreResult]:
    """Mark an object as partial, and keep its headers."""
    head = await context.requests.head_object(
        key, version_id=stored.version_id, headers=encryption_headers(encryption)
    )
    headers = {
        name.lower(): value
        for name, value in head.headers.items()
        if name.lower() in _OWN_HEADERS or name.lower().startswith(META_PREFIX)
    }
    file = head.file
    headers |= encryption_headers(encryption or ("SSE-B2" if file.encryption == "SSE-B2" else None))
    headers |= lock_headers(file.retention, file.legal_hold)
    marked = await mark_partial(context, key, stored, size, headers, encryption=encryption)
    return file, marked


def _usable(parts: Sequence[ListedPart]) -> list[ListedPart]:
    usable: list[ListedPart] = []
    for number, part in enumerate(latest_parts(parts), start=1):
        if part.number != number:
            break
        usable.append(part)
        if part.size < _SMALLEST_PART_BYTES:
            break
    return usable


def _sent(part: ListedPart) -> SentPart:
    if part.checksum is not None:
        return SentPart(part.size, part.etag, part.checksum[1])
    # An ETag that is not an MD5 (SSE-C, KMS) says nothing about the bytes.
    is_md5 = composite_etag([part.etag]) is not None
    return SentPart(part.size, part.etag, bytes.fromhex(part.etag) if is_md5 else b"")


def checked_age(age: object) -> timedelta:
    """Return ``age``; raise `InvalidInputError` unless it is a positive `timedelta`."""
    if not isinstance(age, timedelta) or age <= timedelta():
        raise InvalidInputError(
            f"older_than must be a positive timedelta, not {age!r}.",
            hint="Choose more than the longest upload takes, for example timedelta(days=1).",
        )
    return age


def _checked_id(upload_id: object) -> str:
    if not isinstance(upload_id, str) or not upload_id:
        raise InvalidInputError(f"upload_id must be a non-empty str, not {upload_id!r}.")
    return upload_id
