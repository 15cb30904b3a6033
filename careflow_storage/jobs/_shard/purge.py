"""Erases the versions of a shard that a purge chooses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final

from careflow_storage._s3.error_codes import error_from_response
from careflow_storage._s3.requests.deletion import NULL_VERSION, explain_denial
from careflow_storage.errors import (
    AccessDeniedError,
    FileLockedError,
    InvalidInputError,
    NoSuchKeyError,
    NotSupportedError,
    StorageError,
)
from careflow_storage.jobs._shard.concurrently import gather_some
from careflow_storage.jobs._shard.context import ShardContext, ShardSpan
from careflow_storage.jobs._shard.versions import VersionsInRange, versions_of_keys
from careflow_storage.jobs.models import KeyRange, PurgeJob
from careflow_storage.models import DeleteResult, FileVersion

# S3 reports success if the version does not exist; some servers report these errors.
_GONE: Final = frozenset({"NoSuchKey", "NoSuchVersion"})


async def purge_shard(context: ShardContext) -> ShardSpan:
    """Erase the versions of a shard's keys. 2 requests per 1000 versions."""
    task, job = context.task, context.task.job
    assert isinstance(job, PurgeJob)  # noqa: S101 - for type checkers
    storage = context.storages["location"]
    purge = _Purge(context, job)
    if task.keys is not None:
        async for page in versions_of_keys(storage, task.keys, context.add_error):
            await purge.add(page)
        rest = None
    else:
        listed = VersionsInRange(storage, job.prefix, task.range, job.shard_keys)
        async for page in listed.pages():
            await purge.add(page)
        rest = listed.rest
    await purge.end()
    if rest is None:
        return ShardSpan(task.range, None)
    return ShardSpan(KeyRange(after=task.range.after, until=rest.after), rest)


@dataclass
class _Key:
    """What was decided about the versions of a key, which are listed the newest first.

    ``marker`` is the newest delete marker that is to be erased. ``stays`` is set if a version
    stays that is no marker, and ``chosen`` if anything is to be erased.
    """

    name: str
    marker: FileVersion | None = None
    chosen: bool = False
    erased: bool = False
    stays: bool = False


class _Purge:
    """Erases the versions that a job chooses, 1000 per request, and counts them.

    The newest delete marker of a key is erased last, and only if nothing else of the key stays:
    otherwise a version that is locked, or could not be erased, would become visible again.
    """

    def __init__(self, context: ShardContext, job: PurgeJob) -> None:
        self._storage = context.storages["location"]
        self._job = job
        self._context = context
        self._outcome = context.outcome
        self._dry_run = context.task.dry_run
        self._open: _Key | None = None
        self._versions_erased = 0
        self._can_lock: bool | None = None

    async def add(self, versions: Sequence[FileVersion]) -> None:
        """Erase what is chosen of these versions, which follow those of the call before."""
        keys = {} if self._open is None else {self._open.name: self._open}
        batch: list[FileVersion] = []
        for version in versions:
            key = keys.setdefault(version.key, _Key(version.key))
            if not self._is_chosen(version):
                key.stays = key.stays or not version.delete_marker
                continue
            key.chosen = True
            if version.delete_marker and key.marker is None:
                key.marker = version
            else:
                batch.append(version)
        await self._erase(batch, keys)
        if keys:
            *complete, self._open = keys.values()
            await self._complete(complete)

    async def end(self) -> None:
        """Complete the last key, too."""
        last, self._open = self._open, None
        await self._complete([] if last is None else [last])

    def _is_chosen(self, version: FileVersion) -> bool:
        match self._job.versions:
            case "current":
                # To erase the delete marker on top would show the file again.
                if not version.is_latest or version.delete_marker:
                    return False
            case "noncurrent":
                if version.is_latest:
                    return False
            case "all":
                pass
        before = self._job.before
        return before is None or version.last_modified <= before

    async def _complete(self, keys: Sequence[_Key]) -> None:
        """Erase the delete markers that hide nothing any more, and count the keys."""
        markers = {key.name: key for key in keys if key.marker is not None and not key.stays}
        await self._erase([key.marker for key in markers.values() if key.marker], markers)
        for key in keys:
            if key.marker is not None and key.stays:
                self._outcome.count("delete_markers_kept")
            if key.erased:
                self._outcome.objects += 1
            elif not key.chosen:
                self._outcome.skipped += 1

    async def _erase(self, batch: Sequence[FileVersion], keys: Mapping[str, _Key]) -> None:
        if not batch:
            return
        if self._dry_run:
            erased = await self._without_locked(batch)
        else:
            erased = await self._without_refused(batch)
        for version in batch:
            key = keys[version.key]
            if id(version) in erased:
                key.erased = True
                self._count(version)
            elif not version.delete_marker:
                key.stays = True

    def _count(self, version: FileVersion) -> None:
        if version.delete_marker:
            self._outcome.count("delete_markers")
            return
        self._outcome.count("versions")
        self._outcome.bytes += version.size
        self._outcome.note_time(version.last_modified)

    async def _without_refused(self, batch: Sequence[FileVersion]) -> set[int]:
        """Erase versions; report those that the server refuses to erase, and leave them out."""
        results = await self._storage.admin.delete_file_versions(batch)
        erased, refused = set[int](), list[tuple[FileVersion, DeleteResult]]()
        for version, result in zip(batch, results, strict=True):
            if result.deleted or result.error_code in _GONE:
                erased.add(id(version))
            else:
                refused.append((version, result))
        self._versions_erased += len(erased)
        errors = await gather_some(
            partial(self._why, version, result) for version, result in refused
        )
        unexplained = [error for error in errors if type(error) is AccessDeniedError]
        if unexplained and not self._versions_erased and not await self._bucket_can_lock():
            # Not a single version could be erased, and no lock is the reason.
            raise unexplained[0]
        for (version, _), error in zip(refused, errors, strict=True):
            self._report(version, error)
        return erased

    async def _why(self, version: FileVersion, result: DeleteResult) -> StorageError:
        """Return the error for a version that was not erased. 1 request for a refusal."""
        requests = self._storage._context().requests
        error = error_from_response(
            operation="DeleteObjects",
            bucket=requests.bucket,
            key=version.key,
            status=200,
            code=result.error_code,
            message=result.error_message,
            headers={},
        )
        if not isinstance(error, AccessDeniedError):
            return error
        version_id = version.version_id or NULL_VERSION
        async with self._storage._call("run_job", version.key):
            return await explain_denial(requests, version.key, version_id, error)

    def _report(self, version: FileVersion, error: StorageError) -> None:
        if isinstance(error, FileLockedError):
            self._outcome.count("locked_versions")
        error.message = f"Version {version.version_id or NULL_VERSION}: {error.message}"
        self._context.add_error(version.key, error)

    async def _without_locked(self, batch: Sequence[FileVersion]) -> set[int]:
        """Find out which versions are locked, and leave those out. 1 HEAD each.

        Delete markers cannot be locked. Nothing is asked in a bucket that cannot lock.
        """
        found = {id(version) for version in batch}
        if not await self._bucket_can_lock():
            return found
        versions = [version for version in batch if not version.delete_marker]
        states = await gather_some(partial(self._is_locked, version) for version in versions)
        for version, locked in zip(versions, states, strict=True):
            if locked is None:
                self._outcome.count("lock_unknown")
            elif locked:
                self._outcome.count("locked_versions")
                found.discard(id(version))
        return found

    async def _is_locked(self, version: FileVersion) -> bool | None:
        """Whether a version is locked; None if the server does not say."""
        try:
            file = await self._storage.get_file_metadata(version.key, version_id=version.version_id)
        except NoSuchKeyError:
            return False  # Erased meanwhile.
        except (AccessDeniedError, InvalidInputError):
            return None  # Encrypted with a customer's key, or the key may not be read.
        retention = file.retention
        if retention is None or file.legal_hold:
            return file.legal_hold
        return retention.retain_until > datetime.now(UTC)

    async def _bucket_can_lock(self) -> bool:
        """Whether versions of the bucket may be locked. 1 request at most."""
        if self._can_lock is None:
            try:
                self._can_lock = (await self._storage.admin.get_object_lock()).enabled
            except NotSupportedError:
                self._can_lock = False
            except AccessDeniedError:
                self._can_lock = True
        return self._can_lock
