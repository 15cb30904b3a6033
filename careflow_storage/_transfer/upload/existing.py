"""What an upload does about an object that is stored under its key already."""

from __future__ import annotations

import re
from collections.abc import Mapping

from careflow_storage._s3.headers.encryption import key_headers_of
from careflow_storage._s3.headers.objects import ObjectHead, StoreResult
from careflow_storage._s3.responses.lengths import part_count
from careflow_storage._transfer.bodies.checksums import has_md5_etag, is_md5
from careflow_storage._transfer.bodies.parts import Part
from careflow_storage._transfer.context import TransferContext
from careflow_storage._transfer.threads import Threads
from careflow_storage._transfer.upload.marker import UploadMarker
from careflow_storage._transfer.upload.result import upload_result
from careflow_storage.errors import AccessDeniedError, NoSuchKeyError, PreconditionFailedError
from careflow_storage.models import Checksum, UploadResult

_MD5_ETAG = re.compile(r"([0-9a-f]{32})(-[0-9]+)?")


async def refuse_existing(context: TransferContext, key: str, headers: Mapping[str, str]) -> None:
    """Raise `PreconditionFailedError` if the key exists. 1 HEAD."""
    if await context.requests.object_exists(key, key_headers_of(headers)):
        raise PreconditionFailedError(
            "The key exists already.", operation="HeadObject", key=key, status=412
        )


async def find_existing(
    context: TransferContext, key: str, headers: Mapping[str, str]
) -> ObjectHead | None:
    """Return the metadata of the object under ``key``; None if there is none. 1 HEAD."""
    key_headers = key_headers_of(headers)
    try:
        return await context.requests.head_object(key, headers=key_headers)
    except NoSuchKeyError:
        return None
    except AccessDeniedError:
        # B2 denies access to missing keys, too, if the application key lacks listBuckets.
        if await context.requests.object_exists(key, key_headers):
            raise
        return None


async def existing_result(
    context: TransferContext, key: str, headers: Mapping[str, str]
) -> UploadResult | None:
    """Return the result of the upload that stored the object under ``key``; None without one.

    Raises:
        PreconditionFailedError: The object's checksum is unknown.
    """
    head = await find_existing(context, key, headers)
    return None if head is None else result_or_refuse(context, head)


def result_or_refuse(context: TransferContext, head: ObjectHead) -> UploadResult:
    """Return the result of the upload that stored this object.

    Raises:
        PreconditionFailedError: The object's checksum is unknown.
    """
    result = result_of(context, head)
    if result is None:
        raise PreconditionFailedError(
            "The key exists already, and the server does not report its checksum.",
            operation="HeadObject",
            key=head.file.key,
            status=412,
            hint='Objects with a customer\'s key are such: use if_exists="error".',
        )
    return result


def may_be_cut_off(head: ObjectHead) -> bool:
    """Whether an object is smaller than the body of the PUT that stored it, by its marker.

    Some servers, such as SeaweedFS, store what has arrived of a PUT whose connection broke. B2
    does not. A changed copy of an object may have its marker, so `is_cut_off` decides.
    """
    marker = UploadMarker.parse(head.upload_marker)
    in_parts = part_count(head.file.etag) is not None
    return marker is not None and not in_parts and head.file.size < marker.sizes.base


async def is_cut_off(head: ObjectHead, part: Part, threads: Threads) -> bool:
    """Whether an object is only the beginning of ``part``, which is the whole body."""
    size, etag = head.file.size, head.file.etag
    if size >= part.size or not is_md5(etag, head.headers):
        return False
    return etag == (await part.first(size).digest("md5", threads)).hex()


def result_of(
    context: TransferContext, head: ObjectHead, checksum: Checksum | None = None
) -> UploadResult | None:
    """Return the result of the upload that stored this object, which took no bytes now.

    None if the server does not report its checksum, and ``checksum`` is not known either.
    """
    file = head.file
    parts = part_count(file.etag)
    found = _MD5_ETAG.fullmatch(file.etag) if has_md5_etag(head.headers) else None
    if checksum is None:
        if found is None:
            return None
        checksum = Checksum(algorithm="md5", value=found[1], parts=parts)
    return upload_result(
        context,
        file.key,
        StoreResult(file.etag, file.version_id, head.headers),
        size=file.size,
        parts=parts or 1,
        content_type=file.content_type,
        checksum=checksum,
        reused=file.size,
        partial=file.partial,
    )
