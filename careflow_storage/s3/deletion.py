"""Many deletions at once, and erasing a key for good."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from careflow_storage.errors import NoSuchUploadError, error_from_response
from careflow_storage.models import DeleteResult, PurgeResult
from careflow_storage.s3.control import ControlPlane
from careflow_storage.s3.requests import S3Requests

_BATCH_KEYS = 1000


async def delete_keys(requests: S3Requests, keys: Sequence[str]) -> list[DeleteResult]:
    """Hide keys, 1000 per request, and return one result for each, in their order."""
    results: list[DeleteResult] = []
    for first in range(0, len(keys), _BATCH_KEYS):
        batch = keys[first : first + _BATCH_KEYS]
        answer = await requests.delete_objects((key, None) for key in batch)
        by_key = {result.key: result for result in (*answer.deleted, *answer.failed)}
        results += [by_key.get(key) or _unanswered(key) for key in batch]
    return results


def _unanswered(key: str) -> DeleteResult:
    return DeleteResult(
        key=key, deleted=False, error_message="The server's answer does not mention this key."
    )


async def purge_key(requests: S3Requests, control: ControlPlane, key: str) -> PurgeResult:
    """Erase all versions and delete markers of one key, and abort its unfinished uploads."""
    found = [version async for version in control.list_versions(key)]
    for first in range(0, len(found), _BATCH_KEYS):
        batch = found[first : first + _BATCH_KEYS]
        answer = await requests.delete_objects((key, version) for version, _, _ in batch)
        for failure in answer.failed:
            raise error_from_response(
                operation="purge_file",
                bucket=None,
                key=key,
                status=200,
                code=failure.error_code,
                message=f"Version {failure.version_id} was not erased: {failure.error_message}",
                headers={},
            )
    uploads = await abort_uploads(control, key)
    markers = sum(version.is_marker for version in found)
    return PurgeResult(
        key=key, versions=len(found) - markers, delete_markers=markers, uploads=uploads
    )


async def abort_uploads(control: ControlPlane, key: str) -> int:
    """Abort every unfinished upload of exactly this key; return how many there were."""
    uploads = [upload_id async for upload_id in control.list_uploads(key)]
    for upload_id in uploads:
        # Gone already: our own abort, whose answer was lost, or its owner was faster.
        with contextlib.suppress(NoSuchUploadError):
            await control.abort_multipart_upload(key, upload_id)
    return len(uploads)
