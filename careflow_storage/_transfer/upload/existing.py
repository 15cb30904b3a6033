"""What an upload does about an object that is stored under its key already."""

from __future__ import annotations

import re
from collections.abc import Mapping

from careflow_storage._s3.headers.encryption import key_headers_of
from careflow_storage._s3.headers.objects import ObjectHead, StoreResult
from careflow_storage._s3.responses.lengths import part_count
from careflow_storage._transfer.bodies.checksums import has_md5_etag
from careflow_storage._transfer.context import TransferContext
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
    if head is None:
        return None
    result = result_of(context, head)
    if result is None:
        raise PreconditionFailedError(
            "The key exists already, and the server does not report its checksum.",
            operation="HeadObject",
            key=key,
            status=412,
            hint='Objects with a customer\'s key are such: use if_exists="error".',
        )
    return result


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
