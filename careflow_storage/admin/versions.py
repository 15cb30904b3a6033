"""Versions: list them, erase them, bring a file back."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import aclosing
from typing import Literal, NamedTuple

from careflow_storage._s3.deletion import NULL_VERSION, delete_targets, explain_denial
from careflow_storage._s3.listing import checked_prefix
from careflow_storage._s3.objects import S3Requests
from careflow_storage._s3.versions import checked_version_id, versions_of_key
from careflow_storage._transfer.context import TransferContext
from careflow_storage._transfer.purge import purge_key, purge_prefix
from careflow_storage.admin import copy
from careflow_storage.errors import (
    AccessDeniedError,
    InvalidInputError,
    NoSuchKeyError,
    TransferError,
    error_from_response,
)
from careflow_storage.models import DeleteResult, FileVersion, Model, PurgeResult
from careflow_storage.protection import Encryption
from careflow_storage.recordings import existing_key

# Somebody may hide the file again while it is being restored; not for ever.
_RESTORE_ROUNDS = 5


class RestoreResult(Model):
    """How a file came back: ``unhidden``, ``copied`` to the top, or it ``was_there`` already.

    ``version_id`` is the version that can be seen now.
    """

    key: str
    how: Literal["unhidden", "copied", "was_there"]
    version_id: str | None


async def delete_version(
    context: TransferContext, key: str, version_id: str, *, bypass_governance: bool
) -> DeleteResult:
    version_id = checked_version_id(version_id)
    requests = context.requests
    found = (await _look(requests, key, version_id)).wanted
    if found is None:
        raise _no_such_version(requests, key, version_id)
    try:
        await requests.delete_object(
            key, version_id=version_id, bypass_governance=bypass_governance
        )
    except NoSuchKeyError:
        pass  # It was there: an attempt of ours whose response was lost, or somebody was faster.
    except AccessDeniedError as denied:
        raise await explain_denial(requests, key, version_id, denied) from denied
    return DeleteResult(
        key=key, deleted=True, version_id=found.version_id, delete_marker=found.delete_marker
    )


async def delete_versions(
    context: TransferContext,
    targets: Iterable[FileVersion | tuple[str, str]],
    *,
    bypass_governance: bool,
) -> list[DeleteResult]:
    checked = _checked_targets(targets)
    return await delete_targets(context.requests, checked, bypass_governance=bypass_governance)


async def restore(
    context: TransferContext,
    key: str,
    version_id: str | None,
    *,
    encryption: Encryption | None = None,
) -> RestoreResult:
    if version_id is not None:
        version_id = checked_version_id(version_id)
    how: Literal["unhidden", "was_there"] = "was_there"
    for _ in range(_RESTORE_ROUNDS):
        # Read anew after each change: others hide and store, too.
        history = await _look(context.requests, key, version_id)
        wanted = history.wanted if version_id is not None else history.newest
        if wanted is None or wanted.delete_marker:
            raise _nothing_to_restore(context.requests, key, version_id, wanted)
        if wanted != history.newest:
            return await _copy_to_top(context, key, wanted, encryption)
        if not history.markers:
            return RestoreResult(key=key, how=how, version_id=wanted.version_id)
        await _unhide(context.requests, key, history.markers)
        how = "unhidden"
    raise TransferError(
        "The file is hidden again and again while it is being restored.",
        bucket=context.requests.bucket,
        key=key,
        retryable=True,
    )


async def purge(context: TransferContext, key: str, *, confirm: str) -> PurgeResult:
    if confirm != key:
        raise InvalidInputError("confirm must be the key that is to be purged.")
    return await purge_key(context, key)


async def purge_all(
    context: TransferContext, prefix: str, *, confirm: str | None, dry_run: bool
) -> PurgeResult:
    prefix = checked_prefix(prefix)
    if not dry_run and confirm != (prefix or context.requests.bucket):
        what = "the prefix that is" if prefix else "the name of the bucket, as all of it is"
        raise InvalidInputError(
            f"confirm must be {what} to be purged.", hint="dry_run=True counts what it would erase."
        )
    return await purge_prefix(context, prefix, dry_run=dry_run)


def _checked_targets(targets: object) -> list[tuple[str, str]]:
    # A model iterates over pairs of a name and a value, which look like keys and version IDs.
    if isinstance(targets, str | FileVersion) or not isinstance(targets, Iterable):
        raise InvalidInputError(
            f"targets must be several versions, not one {type(targets).__name__}."
        )
    return [_checked_target(target, at) for at, target in enumerate(targets)]


def _checked_target(target: object, at: int) -> tuple[str, str]:
    if isinstance(target, FileVersion):
        return target.key, target.version_id or NULL_VERSION
    if not isinstance(target, tuple) or len(target) != 2:
        raise InvalidInputError(f"targets[{at}] must be a FileVersion, or a key and a version ID.")
    key, version_id = target
    try:
        return existing_key(key), checked_version_id(version_id)
    except InvalidInputError as error:
        error.message = f"targets[{at}]: {error.message}"
        raise


class _History(NamedTuple):
    """What a key holds, as far as it was read.

    ``markers`` are the delete markers above its ``newest`` real version; ``wanted`` is the
    version, or delete marker, that was asked for.
    """

    markers: list[FileVersion]
    newest: FileVersion | None
    wanted: FileVersion | None


async def _look(requests: S3Requests, key: str, version_id: str | None) -> _History:
    """Read the versions of a key until all is known. 1 request per 1000."""
    markers: list[FileVersion] = []
    newest: FileVersion | None = None
    wanted: FileVersion | None = None
    async with aclosing(versions_of_key(requests, key)) as pages:
        async for page in pages:
            for version in page:
                if newest is None:
                    if version.delete_marker:
                        markers.append(version)
                    else:
                        newest = version
                if (version.version_id or NULL_VERSION) == version_id:
                    wanted = version
            # Not sooner: within a page everything is known already.
            if newest is not None and (version_id is None or wanted is not None):
                break
    return _History(markers, newest, wanted)


async def _unhide(requests: S3Requests, key: str, markers: list[FileVersion]) -> None:
    targets = [(key, marker.version_id or NULL_VERSION) for marker in markers]
    for result in await delete_targets(requests, targets):
        if not result.deleted and result.error_code not in {"NoSuchKey", "NoSuchVersion"}:
            raise error_from_response(
                operation="DeleteObjects",
                bucket=requests.bucket,
                key=key,
                status=200,
                code=result.error_code,
                message=f"A delete marker could not be taken away: {result.error_message}",
                headers={},
            )


async def _copy_to_top(
    context: TransferContext, key: str, version: FileVersion, encryption: Encryption | None
) -> RestoreResult:
    copied = await copy.copy_file(
        context,
        key,
        key,
        version_id=version.version_id or NULL_VERSION,
        source_encryption=encryption,
        encryption=encryption,
    )
    return RestoreResult(key=key, how="copied", version_id=copied.version_id)


def _no_such_version(requests: S3Requests, key: str, version_id: str) -> NoSuchKeyError:
    return NoSuchKeyError(
        f"The file has no version {version_id!r}.",
        bucket=requests.bucket,
        key=key,
        code="NoSuchVersion",
        hint="list_file_versions() tells which it has.",
    )


def _nothing_to_restore(
    requests: S3Requests, key: str, version_id: str | None, found: FileVersion | None
) -> NoSuchKeyError:
    if version_id is None:
        return NoSuchKeyError(
            "The file has no version to go back to.",
            bucket=requests.bucket,
            key=key,
            code="NoSuchKey",
            hint="What was erased, by a purge or a lifecycle rule, is gone for ever.",
        )
    error = _no_such_version(requests, key, version_id)
    if found is not None:
        error.message = f"{version_id!r} is a delete marker: it holds no file."
        error.hint = "restore_file() without version_id takes the delete markers on top away."
    return error
