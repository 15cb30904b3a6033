"""Copies within the bucket, made by the server: no byte of them comes here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import NamedTuple

from careflow_storage._s3.control_plane import CopySource
from careflow_storage._s3.headers.encryption import key_headers_of
from careflow_storage._s3.headers.metadata import META_PREFIX, PARTIAL_MARK
from careflow_storage._s3.objects import Stored
from careflow_storage._transfer.bodies.parts import PartSizes
from careflow_storage._transfer.context import TransferContext
from careflow_storage._transfer.tasks import task_group
from careflow_storage._transfer.upload.marker import MARK_HEADER, UploadMarker
from careflow_storage._transfer.upload.multipart import MultipartUpload
from careflow_storage.errors import NotSupportedError, PreconditionFailedError, StorageError
from careflow_storage.protection import Encryption

logger = logging.getLogger("careflow_storage")

# AWS "CopyObject" and B2 "S3 Copy Object": larger objects are copied part by part.
MAX_COPY_BYTES = 5_000_000_000
_COPIED_PART_BYTES = 1024 * 1024 * 1024
PARTIAL_HEADER = f"{META_PREFIX}{PARTIAL_MARK}"


class Copied(NamedTuple):
    """What the server made, and of how many parts."""

    stored: Stored
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
    """Copy an object of any size; ``headers`` (all of them) take the place of its own.

    Up to 5 GB 1 request, whose ETag is then that of a single PUT on most servers; beyond, 1 per
    GiB and 2 more. A failure leaves no multipart upload behind; but a copy whose every response
    was lost may be there.

    Args:
        mark: Left in the copy's metadata, to find it by after a lost response. Without it a
            repeated request may leave one more version of the copy.
        unless_exists: Let the server refuse where the key exists, if it can.
    """
    await context.control.prepare()
    if source.size > MAX_COPY_BYTES:
        return await _copy_in_parts(context, source, key, headers, unless_exists)
    if marker is None:
        return Copied(await context.control.copy_object(source, key, headers), 1)
    one = _OneRequest(context, source, key, {**headers, MARK_HEADER: str(marker)}, str(marker))
    return Copied(await one.copy(unless_exists=unless_exists), 1)


class _OneRequest:
    """A CopyObject whose response may be lost."""

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

    async def copy(self, *, unless_exists: bool) -> Stored:
        try:
            return await self._context.control.copy_object(
                self._source,
                self._key,
                self._headers,
                unless_exists=unless_exists,
                settle=self._made,
            )
        except NotSupportedError:
            if not unless_exists:
                raise
            return await self.copy(unless_exists=False)
        except StorageError as error:
            if not (error.retryable or isinstance(error, PreconditionFailedError)):
                raise
            made = await self._made()
            if made is None:
                raise
            return made

    async def _made(self) -> Stored | None:
        """The copy, if it is what the key shows."""
        try:
            head = await self._context.requests.head_object(
                self._key, headers=key_headers_of(self._headers)
            )
        except StorageError as error:
            logger.debug("whether the copy was made is unknown: %s", error)
            return None
        if head.upload_mark != self._marker:
            return None
        return Stored(head.file.etag, head.file.version_id, head.headers)


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
    stored: Stored,
    size: int,
    headers: Mapping[str, str],
    *,
    encryption: Encryption | None = None,
) -> Stored:
    """Give a stored object the mark of a recording that was cut off.

    Metadata can be changed by a copy alone: of this very version onto its own key. `erase_unmarked`
    is for the version without the mark. 1 request (see `copy` for more than 5 GB), and one more
    where its response was lost.

    Raises:
        StorageError: It is stored without the mark; ``stored_unmarked`` is set.
    """
    try:
        marked, _ = await copy(
            context,
            CopySource(key, stored.version_id, size, encryption=encryption),
            key,
            {**headers, PARTIAL_HEADER: "true"},
        )
    except StorageError as error:
        made = await _marked_anyway(context, key, size, headers) if error.retryable else None
        if made is None:
            set_unmarked(error, stored)
            raise
        return made
    return marked


async def _marked_anyway(
    context: TransferContext, key: str, size: int, headers: Mapping[str, str]
) -> Stored | None:
    """The marked copy, where only the response to it was lost."""
    try:
        head = await context.requests.head_object(key, headers=key_headers_of(headers))
    except StorageError as error:
        logger.debug("whether the copy was made is unknown: %s", error)
        return None
    ours = head.upload_mark is not None and head.upload_mark == headers.get(MARK_HEADER)
    if not (ours and head.file.partial and head.file.size == size):
        return None
    return Stored(head.file.etag, head.file.version_id, head.headers)


def set_unmarked(error: StorageError, stored: Stored) -> None:
    """Tell in ``error`` that an object is stored without its partial mark."""
    version = "" if stored.version_id is None else f", version {stored.version_id}"
    error.message = f"The recording is stored, but not marked as partial{version}: {error.message}"
    error.stored_unmarked = True
    # The same call again would store it again, or find no upload any more.
    advice = "Treat it as a recording that was cut off; do not send it again."
    error.hint = f"{error.hint} {advice}" if error.hint and not error.retryable else advice
    error.retryable = False


async def erase_unmarked(
    context: TransferContext, key: str, stored: Stored, marked: Stored
) -> None:
    """Erase the version without the mark. 1 request.

    If the application key may not erase, it stays behind the marked one, which is logged.
    """
    if stored.version_id is not None and stored.version_id != marked.version_id:
        try:
            await context.requests.delete_object(key, version_id=stored.version_id)
        except StorageError as error:
            logger.warning(
                "The version without the partial mark could not be erased: %s",
                error,
                extra={"key": key, "version_id": stored.version_id, "code": error.code},
            )
