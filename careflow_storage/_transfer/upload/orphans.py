"""Reports multipart uploads whose ID was in a lost response to CreateMultipartUpload."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

from careflow_storage._log_fields import log_fields
from careflow_storage._transfer.context import TransferContext
from careflow_storage.errors import StorageError

logger = logging.getLogger("careflow_storage")

# Some servers report times in whole seconds.
_SLACK = timedelta(seconds=2)
# The upload itself is more urgent than this report.
_TIMEOUT_SECONDS = 5.0


async def report_orphans(context: TransferContext, key: str, upload_id: str, took: float) -> None:
    """Log the uploads that earlier attempts to begin ``upload_id`` may have left behind.

    S3 does not report which client began an upload: an orphan looks like the upload of another
    process before its first part. So none is aborted here; `incomplete.abort_stale` aborts those
    that are old enough. 1 request per 1000 uploads of the key.

    Args:
        context: The storage's.
        key: The key of the upload.
        upload_id: The upload that was begun in the end.
        took: How many seconds all attempts took together.
    """
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            listed = await context.control.list_incomplete(key)
    except (StorageError, TimeoutError) as error:
        why = str(error) or type(error).__name__
        _warn(key, [], f"Listing the uploads of the key failed: {why}")
        return
    uploads = [upload for upload in listed if upload.key == key]
    ours = [upload.initiated for upload in uploads if upload.upload_id == upload_id]
    found = [
        upload.upload_id
        for upload in uploads
        if upload.upload_id not in context.living
        and all(abs(upload.initiated - begun) <= timedelta(seconds=took) + _SLACK for begun in ours)
    ]
    if found:
        _warn(key, found, f"Uploads that were begun meanwhile: {', '.join(found)}")


def _warn(key: str, upload_ids: list[str], what: str) -> None:
    logger.warning(
        "A lost response may have left an empty multipart upload of %r, unless another writer "
        "began it; abort_stale_uploads() aborts it when it is old enough. %s",
        key,
        what,
        extra=log_fields("upload_left", key=key, upload_ids=upload_ids),
    )
