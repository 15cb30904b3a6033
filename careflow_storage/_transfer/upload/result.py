"""Makes the public result of an upload from the server's confirmation."""

from __future__ import annotations

from careflow_storage._s3.headers.objects import StoreResult
from careflow_storage._s3.signing.signer import encode_key
from careflow_storage._transfer.context import TransferContext
from careflow_storage.models import Checksum, UploadResult


def upload_result(
    context: TransferContext,
    key: str,
    stored: StoreResult,
    *,
    size: int,
    parts: int,
    content_type: str,
    checksum: Checksum,
    reused: int = 0,
    partial: bool = False,
) -> UploadResult:
    """Return the `UploadResult` of an object that the server has confirmed."""
    bucket = str(context.settings.bucket_name)
    return UploadResult(
        key=key,
        url=f"{context.settings.endpoint}/{bucket}/{encode_key(key)}",
        bucket=bucket,
        size=size,
        etag=stored.etag,
        version_id=stored.version_id,
        content_type=content_type,
        parts=parts,
        checksum=checksum,
        reused=reused,
        partial=partial,
    )
