"""Deletes many keys or versions: keys are hidden, versions erased."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from careflow_storage._s3.headers.encryption import read_protection
from careflow_storage._s3.requests.objects import S3Requests
from careflow_storage._s3.xml.documents import is_safe_in_xml
from careflow_storage.errors import (
    AccessDeniedError,
    CapExceededError,
    FileLockedError,
    StorageError,
)
from careflow_storage.models import DeleteResult

BATCH_KEYS = 1000
# S3's name for the version of what was stored while the bucket kept no versions.
NULL_VERSION = "null"

KeyAndVersion = tuple[str, str | None]


async def delete_keys(requests: S3Requests, keys: Sequence[str]) -> list[DeleteResult]:
    """Hide keys, 1000 per request, and return one result for each, in their order."""
    return await delete_targets(requests, [(key, None) for key in keys])


async def delete_targets(
    requests: S3Requests, targets: Sequence[KeyAndVersion], *, bypass_governance: bool = False
) -> list[DeleteResult]:
    """Hide keys (without a version ID) or erase versions, 1000 per request.

    Returns one result for each, in their order. What a response leaves out counts as not deleted:
    silence is no proof. If a request fails after others have deleted something, the error's
    ``results`` have the outcome for each target.
    """
    results: list[DeleteResult] = []
    try:
        for first in range(0, len(targets), BATCH_KEYS):
            batch = targets[first : first + BATCH_KEYS]
            results += await _delete_batch(requests, batch, bypass_governance)
    except StorageError as error:
        if results:
            failed = (_failed(*target, error) for target in targets[len(results) :])
            error.results = [*results, *failed]
            error.add_note(f"{len(results)} of {len(targets)} were done before: see results.")
        raise
    return results


async def _delete_batch(
    requests: S3Requests, batch: Sequence[KeyAndVersion], bypass_governance: bool
) -> list[DeleteResult]:
    """Delete up to 1000 targets; return one result for each, in order.

    A key that XML cannot represent is deleted with its own request.
    """
    named = [target for target in batch if is_safe_in_xml(target[0])]
    found = await _delete_named(requests, named, bypass_governance) if named else []
    if len(named) == len(batch):
        return found
    done = iter(found)
    return [
        next(done)
        if is_safe_in_xml(key)
        else await _delete_alone(requests, key, version_id, bypass_governance)
        for key, version_id in batch
    ]


async def _delete_named(
    requests: S3Requests, batch: Sequence[KeyAndVersion], bypass_governance: bool
) -> list[DeleteResult]:
    response = await requests.delete_objects(batch, bypass_governance=bypass_governance)
    reported = (*response.deleted, *response.failed)
    # Hiding creates a new version ID, so the key alone identifies the target.
    by_key = {result.key: result for result in reported}
    by_version = {(result.key, result.version_id): result for result in reported}
    results: list[DeleteResult] = []
    for key, version_id in batch:
        found = by_key.get(key) if version_id is None else by_version.get((key, version_id))
        if found is None and version_id is not None:
            # Some servers name only the key in a refusal.
            found = _with_version(by_version.get((key, None)), version_id)
        results.append(found or _not_mentioned(key, version_id))
    return results


async def _delete_alone(
    requests: S3Requests, key: str, version_id: str | None, bypass_governance: bool
) -> DeleteResult:
    # Others of the batch are deleted by now: a failure must not lose their results.
    try:
        found, marker = await requests.delete_object(
            key, version_id=version_id, bypass_governance=bypass_governance
        )
    except StorageError as error:
        return _failed(key, version_id, error)
    return DeleteResult(key=key, deleted=True, version_id=version_id or found, delete_marker=marker)


def _failed(key: str, version_id: str | None, error: StorageError) -> DeleteResult:
    return DeleteResult(
        key=key,
        deleted=False,
        version_id=version_id,
        error_code=error.code,
        error_message=error.message,
    )


def _with_version(refused: DeleteResult | None, version_id: str) -> DeleteResult | None:
    if refused is None or refused.deleted:
        return None
    return refused.model_copy(update={"version_id": version_id})


def _not_mentioned(key: str, version_id: str | None) -> DeleteResult:
    what = "key" if version_id is None else "version"
    return DeleteResult(
        key=key,
        deleted=False,
        version_id=version_id,
        error_message=f"The server's response does not mention this {what}.",
    )


async def explain_denial(
    requests: S3Requests, key: str, version_id: str, denied: AccessDeniedError
) -> AccessDeniedError:
    """Find out whether object lock is why a version could not be erased. 1 request.

    B2 and Amazon respond in the same way to a locked version and to a key without deleteFiles. A
    HEAD of the version shows its lock to keys with readFileRetentions and readFileLegalHolds.
    """
    if isinstance(denied, CapExceededError):
        return denied
    try:
        head = await requests.head_object(key, version_id=version_id)
    except StorageError:
        lock = None
    else:
        lock = _lock_of(head.headers)
    if lock is None:
        denied.hint = (
            "It may be locked (look with get_retention() and get_legal_hold()), or the "
            "application key lacks deleteFiles."
        )
        return denied
    why, hint = lock
    locked = FileLockedError(
        f"The version is locked: {why}.",
        operation=denied.operation,
        bucket=denied.bucket,
        key=key,
        code=denied.code,
        status=denied.status,
        request_id=denied.request_id,
        hint=hint,
    )
    locked.__cause__ = denied
    return locked


def _lock_of(headers: Mapping[str, str]) -> tuple[str, str] | None:
    """What keeps a version, and what a person can do; None if the headers show no lock."""
    try:
        protection = read_protection(headers)
    except ValueError:
        return None
    if protection.legal_hold:
        return "it is under legal hold", (
            "It stays until the hold is taken off this version (set_legal_hold with its "
            "version_id), by a key that has writeFileLegalHolds."
        )
    retention = protection.retention
    if retention is None:
        return None
    until = f"{retention.mode} retention until {retention.retain_until:%Y-%m-%d %H:%M:%S} UTC"
    if retention.mode == "compliance":
        return until, "It cannot be erased before."
    return until, (
        "delete_file_version() with bypass_governance=True erases it before, by an application "
        "key that has the capability bypassGovernance."
    )
