"""Copies within the bucket, made by the server without transferring bytes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import NamedTuple

from careflow_storage._log_fields import log_fields
from careflow_storage._s3.headers.encryption import key_headers_of
from careflow_storage._s3.headers.metadata import META_PREFIX, PARTIAL_MARKER
from careflow_storage._s3.headers.objects import StoreResult
from careflow_storage._s3.requests.control_plane import CopySource
from careflow_storage._transfer.bodies.parts import PartSizes
from careflow_storage._transfer.context import TransferContext
from careflow_storage._transfer.tasks import task_group
from careflow_storage._transfer.upload.marker import MARKER_HEADER, UploadMarker
from careflow_storage._transfer.upload.multipart import MultipartUpload
from careflow_storage.errors import NotSupportedError, PreconditionFailedError, StorageError
from careflow_storage.protection import Encryption

logger = logging.getLogger("careflow_storage")

# AWS "CopyObject" and B2 "S3 Copy Object": larger objects must be copied in parts.
MAX_COPY_BYTES = 5_000_000_000
_COPIED_PART_BYTES = 1024 * 1024 * 1024
PARTIAL_HEADER = f"{META_PREFIX}{PARTIAL_MARKER}"


class Copied(NamedTuple):
    """The copy, and the number of its parts."""

    stored: StoreResult
    parts: int


async def copy(
    context: TransferContext,
    source: CopySource,
    key: str,
    headers: Mapping[str, str],
    *,
    marker: UploadMarker | None = None,
    unless_exists: bool = False,
) -> Copied:
    """Copy an object of any size; ``headers`` replace all headers of the object.

    Requests: 1 for up to 5 GB, and the ETag is then that of a single PUT on most servers; for
    more, 1 per GiB and 2 more. A failure leaves no multipart upload. If all responses were lost,
    the copy may exist.

    Args:
        marker: Stored in the metadata of the copy, to recognise it after a lost response. Without
            it, a repeated request may create another version of the copy.
        unless_exists: Refuse to overwrite an existing key, if the server supports that.
    """
    await context.control.prepare()
    if source.size > MAX_COPY_BYTES:
        return await _copy_in_parts(context, source, key, headers, unless_exists)
    if marker is None:
        return Copied(await context.control.copy_object(source, key, headers), 1)
    single = _SingleCopy(context, source, key, {**headers, MARKER_HEADER: str(marker)}, str(marker))
    return Copied(await single.copy(unless_exists=unless_exists), 1)


class _SingleCopy:
    """A CopyObject request that recognises its copy after a lost response."""

    def __init__(
        self,
        context: TransferContext,
        source: CopySource,
        key: str,
        headers: Mapping[str, str],
        marker: str,
    ) -> None:
        self._context = context
        self._source = source
        self._key = key
        self._headers = headers
        self._marker = marker

    async def copy(self, *, unless_exists: bool) -> StoreResult:
        try:
            return await self._context.control.copy_object(
                self._source,
                self._key,
                self._headers,
                unless_exists=unless_exists,
                settle=self._find_copy,
            )
        except NotSupportedError:
            if not unless_exists:
                raise
            return await self.copy(unless_exists=False)
        except StorageError as error:
            if not (error.retryable or isinstance(error, PreconditionFailedError)):
                raise
            made = await self._find_copy()
            if made is None:
                raise
            return made

    async def _find_copy(self) -> StoreResult | None:
        """Return the copy, if it is the current version of the key."""
        try:
            head = await self._context.requests.head_object(
                self._key, headers=key_headers_of(self._headers)
            )
        except StorageError as error:
            logger.debug(
                "could not check whether the copy exists: %s",
                error,
                extra=log_fields("copy_not_checked", error, key=self._key),
            )
            return None
        if head.upload_marker != self._marker:
            return None
        return StoreResult(head.file.etag, head.file.version_id, head.headers)


async def _copy_in_parts(
    context: TransferContext,
    source: CopySource,
    key: str,
    headers: Mapping[str, str],
    unless_exists: bool,
) -> Copied:
    sizes = PartSizes(_COPIED_PART_BYTES, source.size)
    upload = MultipartUpload(
        context, key, headers, sizes, algorithm="md5", conditional=unless_exists, copied=True
    )
    window = asyncio.Semaphore(context.settings.transfer_concurrency)

    async def copy_part(number: int, start: int) -> None:
        async with window:
            end = min(start + sizes.base, source.size)
            await upload.copy(number, source, start=start, end=end)

    try:
        await upload.begin()
        async with task_group() as group:
            for number, start in enumerate(range(0, source.size, sizes.base), start=1):
                group.create_task(copy_part(number, start))
        stored, _ = await upload.complete()
    except BaseException as error:
        await upload.abandon(error)
        raise
    return Copied(stored, len(upload.sent))


async def mark_partial(
    context: TransferContext,
    key: str,
    stored: StoreResult,
    size: int,
    headers: Mapping[str, str],
    *,
    encryption: Encryption | None = None,
) -> StoreResult:
    """Mark a stored recording as partial.

    Only a copy can change metadata, so this copies the version onto its own key. `erase_unmarked`
    then erases the version that is not marked. 1 request (see `copy` for more than 5 GB), and one
    more after a lost response.

    Raises:
        StorageError: The recording is stored, but not marked; ``stored_unmarked`` is set.
    """
    try:
        marked, _ = await copy(
            context,
            CopySource(key, stored.version_id, size, encryption=encryption),
            key,
            {**headers, PARTIAL_HEADER: "true"},
        )
    except StorageError as error:
        made = await _find_marked(context, key, size, headers) if error.retryable else None
        if made is None:
            set_unmarked(error, stored)
            raise
        return made
    return marked


async def _find_marked(
    context: TransferContext, key: str, size: int, headers: Mapping[str, str]
) -> StoreResult | None:
    """Return the marked copy, if it exists although its response was lost."""
    try:
        head = await context.requests.head_object(key, headers=key_headers_of(headers))
    except StorageError as error:
        logger.debug(
            "could not check whether the copy exists: %s",
            error,
            extra=log_fields("copy_not_checked", error, key=key),
        )
        return None
    ours = head.upload_marker is not None and head.upload_marker == headers.get(MARKER_HEADER)
    if not (ours and head.file.partial and head.file.size == size):
        return None
    return StoreResult(head.file.etag, head.file.version_id, head.headers)


def set_unmarked(error: StorageError, stored: StoreResult) -> None:
    """Add to ``error`` that the recording is stored, but not marked as partial."""
    version = "" if stored.version_id is None else f", version {stored.version_id}"
    error.message = f"The recording is stored, but not marked as partial{version}: {error.message}"
    error.stored_unmarked = True
    # Repeating the call would store the recording again, or fail without an upload.
    advice = "Treat it as a partial recording; do not send it again."
    error.hint = f"{error.hint} {advice}" if error.hint and not error.retryable else advice
    error.retryable = False


async def erase_unmarked(
    context: TransferContext, key: str, stored: StoreResult, marked: StoreResult
) -> None:
    """Erase the version that is not marked as partial. 1 request.

    If this fails, for example because the application key may not erase versions, log a warning.
    """
    if stored.version_id is not None and stored.version_id != marked.version_id:
        try:
            await context.requests.delete_object(key, version_id=stored.version_id)
        except StorageError as error:
            logger.warning(
                "The version that is not marked as partial could not be erased: %s",
                error,
                extra=log_fields(
                    "unmarked_version_left", error, key=key, version_id=stored.version_id
                ),
            )
