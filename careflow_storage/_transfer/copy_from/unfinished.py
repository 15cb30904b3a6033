"""What an earlier copy of the same source has left on the target."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping

from careflow_storage._log_fields import log_fields
from careflow_storage._s3.requests.object_lock import lock_at_least
from careflow_storage._s3.requests.parts import ListedPart, latest_parts
from careflow_storage._transfer.context import TransferContext
from careflow_storage._transfer.copy_from.plan import Plan
from careflow_storage._transfer.upload.existing import find_existing, result_of
from careflow_storage._transfer.upload.marker import UploadMarker, fingerprint_of
from careflow_storage._transfer.upload.multipart import SentPart
from careflow_storage._transfer.upload.options import UploadOptions
from careflow_storage.errors import (
    AccessDeniedError,
    NoSuchKeyError,
    NoSuchUploadError,
    PreconditionFailedError,
)
from careflow_storage.models import ChecksumAlgorithm, UploadResult

logger = logging.getLogger("careflow_storage")

_MD5 = re.compile(r"[0-9a-f]{32}")
_UPLOADS_CHECKED = 20

Unfinished = tuple[str, dict[int, SentPart]]
"""The ID of an upload, and its parts."""


async def stored_before(
    target: TransferContext,
    key: str,
    headers: Mapping[str, str],
    options: UploadOptions,
    *,
    size: int,
) -> UploadResult | None:
    """Return the result of an earlier run that has completed this copy. 1 HEAD.

    Raises:
        PreconditionFailedError: The key has another object, which must not be replaced.
    """
    head = await find_existing(target, key, headers)
    if head is None:
        return None
    marker = UploadMarker.parse(head.upload_marker)
    ours = marker is not None and marker.has(fingerprint_of(headers, options.algorithm))
    done = result_of(target, head) if ours and head.file.size == size else None
    if done is not None:
        try:
            await lock_at_least(target.control, head.file, headers)
        except NoSuchKeyError:
            return None  # erased since
        return done
    if not options.replaces:
        raise PreconditionFailedError(
            "The key exists already.", operation="HeadObject", key=key, status=412
        )
    return None


async def find_unfinished(
    target: TransferContext, key: str, plan: Plan, options: UploadOptions
) -> Unfinished | None:
    """Return the newest unfinished upload whose parts all have the sizes of this plan.

    Running uploads of this storage are left alone, and those without parts: another writer may
    be sending the first one.
    """
    try:
        listed = await target.control.list_incomplete(key)
    except AccessDeniedError as error:
        error.hint = "resume=True lists unfinished uploads: on B2 that needs listFiles."
        raise
    uploads = [each for each in listed if each.key == key and each.upload_id not in target.living]
    newest_first = sorted(uploads, key=lambda upload: upload.initiated, reverse=True)
    for upload in newest_first[:_UPLOADS_CHECKED]:
        try:
            parts = await target.multipart.list_parts(key, upload.upload_id)
        except NoSuchUploadError:
            continue
        sent = _fitting(latest_parts(parts), plan, options.algorithm)
        if sent:
            return upload.upload_id, sent
        logger.info(
            "not resuming the upload %s, which is not of this source",
            upload.upload_id,
            extra=log_fields("upload_not_resumed", key=key, upload_id=upload.upload_id),
        )
    return None


def _fitting(
    parts: list[ListedPart], plan: Plan, algorithm: ChecksumAlgorithm
) -> dict[int, SentPart] | None:
    """Return the parts by number; None if one is of another size than planned."""
    spans = {span.number: span.end - span.start for span in plan.spans()}
    found: dict[int, SentPart] = {}
    for part in parts:
        digest = _digest_of(part, algorithm)
        if spans.get(part.number) != part.size or digest is None:
            return None
        found[part.number] = SentPart(part.size, part.etag, digest)
    return found


def _digest_of(part: ListedPart, algorithm: ChecksumAlgorithm) -> bytes | None:
    if algorithm == "md5":
        return bytes.fromhex(part.etag) if _MD5.fullmatch(part.etag) else None
    listed, digest = part.checksum or (None, None)
    return digest if listed == algorithm else None
