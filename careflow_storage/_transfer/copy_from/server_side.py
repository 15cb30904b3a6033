"""Copies that the server makes, between two buckets of one account."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping

from careflow_storage._log_fields import log_fields
from careflow_storage._s3.headers.encryption import key_headers
from careflow_storage._s3.headers.objects import ObjectHead
from careflow_storage._s3.requests.control_plane import CopySource
from careflow_storage._transfer.bodies.checksums import has_md5_etag
from careflow_storage._transfer.context import TransferContext
from careflow_storage._transfer.copy import Copied, copy
from careflow_storage._transfer.copy_checks import copy_marker, verify_copy
from careflow_storage._transfer.copy_from.options import CopyOptions
from careflow_storage._transfer.upload.result import upload_result
from careflow_storage.errors import (
    AccessDeniedError,
    CapExceededError,
    NoSuchKeyError,
    PreconditionFailedError,
    StorageError,
)
from careflow_storage.models import Checksum, UploadResult
from careflow_storage.protection import CustomerKey

logger = logging.getLogger("careflow_storage")

_MD5_ETAG = re.compile(r"([0-9a-f]{32})(?:-([0-9]{1,5}))?")
# Bad request, method not allowed, not implemented.
_REFUSALS = (400, 405, 501)


async def server_side_copy(
    target: TransferContext,
    to_key: str,
    source: TransferContext,
    key: str,
    options: CopyOptions,
    given: Mapping[str, str],
    *,
    version_id: str | None,
    encryption: CustomerKey | None,
) -> UploadResult | None:
    """Let the server copy; return None where it does not, and where it proves nothing.

    2 requests up to 5 GB: a HEAD and the copy; 1 HEAD more if the copy has another ETag, which
    verifies its size. Objects with a customer's key are streamed: only their bytes can be
    verified. A server that refuses is asked once for each bucket.

    Raises:
        NoSuchKeyError: The source does not exist.
        PreconditionFailedError: The target exists, or the source was replaced meanwhile.
    """
    bucket = source.requests.bucket
    if encryption is not None or isinstance(options.upload.encryption, CustomerKey):
        return None
    if bucket in target.refused_copies:
        return None
    head = await source.requests.head_object(key, version_id=version_id, headers=key_headers(None))
    found = _MD5_ETAG.fullmatch(head.file.etag)
    if found is None or not has_md5_etag(head.headers):
        return None
    headers = options.headers(head, given)
    try:
        copied = await _copy(target, to_key, head, bucket, headers, options, version_id)
    except NoSuchKeyError as error:
        # The request names the target, but the missing object is the source.
        error.key, error.bucket = key, bucket
        raise
    except (PreconditionFailedError, CapExceededError):
        raise
    except StorageError as error:
        if not (isinstance(error, AccessDeniedError) or error.status in _REFUSALS):
            raise
        logger.info(
            "the server refuses to copy from %r, so objects are streamed: %s",
            bucket,
            error,
            extra=log_fields("copy_streamed", error),
        )
        target.refused_copies.add(bucket)
        return None
    await verify_copy(target, head, to_key, copied, options.upload.encryption)
    parts = int(found[2]) if found[2] else None
    return upload_result(
        target,
        to_key,
        copied.stored,
        size=head.file.size,
        parts=copied.parts,
        content_type=headers.get("content-type", head.file.content_type),
        checksum=Checksum(algorithm="md5", value=found[1], parts=parts),
        partial=head.file.partial,
    )


async def _copy(
    target: TransferContext,
    to_key: str,
    head: ObjectHead,
    bucket: str,
    headers: Mapping[str, str],
    options: CopyOptions,
    version_id: str | None,
) -> Copied:
    file = head.file
    source = CopySource(
        file.key, version_id or file.version_id, file.size, file.etag, bucket=bucket
    )
    return await copy(
        *(target, source, to_key, headers),
        marker=copy_marker(head, headers),
        # B2 implements no conditional writes.
        unless_exists=not options.upload.replaces and not target.settings.is_b2,
    )
