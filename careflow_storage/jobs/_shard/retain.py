"""Locks the current versions of a shard's objects as a retain job asks for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from careflow_storage._s3.requests.object_lock import put_legal_hold, put_retention
from careflow_storage.errors import (
    AccessDeniedError,
    CapExceededError,
    FileLockedError,
    StorageError,
)
from careflow_storage.jobs._shard.concurrently import gather_some
from careflow_storage.jobs._shard.context import ShardContext, ShardSpan
from careflow_storage.jobs._shard.failures import ends_job
from careflow_storage.jobs._shard.files import FilesOfShard
from careflow_storage.jobs.models import RetainJob
from careflow_storage.models import FileInfo
from careflow_storage.protection import Retention

# Servers keep seconds.
_SAME: Final = timedelta(seconds=1)


@dataclass(frozen=True)
class _Locks:
    """What a version has, and when it was uploaded."""

    version_id: str | None
    uploaded: datetime
    retention: Retention | None
    legal_hold: bool


@dataclass(frozen=True)
class Change:
    """What to set on a version; None leaves it."""

    retention: Retention | None = None
    bypass: bool = False
    legal_hold: bool | None = None

    def __bool__(self) -> bool:
        return self.retention is not None or self.legal_hold is not None


def change_for(job: RetainJob, found: _Locks, now: datetime) -> Change:
    """Decide what to set, so that the version is locked at least as the job asks for.

    Raises:
        FileLockedError: The job asks for a governance retention, and the version has one of mode
            compliance that ends earlier.
    """
    hold = None if job.legal_hold in (None, found.legal_hold) else job.legal_hold
    until = job.until
    if job.days is not None:
        until = found.uploaded + timedelta(days=job.days)
    if until is None or until <= now:
        return Change(legal_hold=hold)
    wanted = Retention(mode=job.mode, retain_until=until)
    has = found.retention
    if has is None or has.retain_until <= now:
        return Change(wanted, legal_hold=hold)
    is_as_long = has.retain_until > until - _SAME
    if has.mode == "compliance":
        if is_as_long:
            return Change(legal_hold=hold)
        if job.mode == "governance":
            raise FileLockedError(
                f"It has a compliance retention until {_text(has.retain_until)}, which cannot "
                "become one of mode governance.",
                hint='A job with mode="compliance" extends it.',
            )
        return Change(wanted, legal_hold=hold)
    if has.mode == job.mode and abs(has.retain_until - until) < _SAME:
        return Change(legal_hold=hold)
    if job.bypass_governance:
        return Change(wanted, bypass=True, legal_hold=hold)
    if is_as_long and job.mode == "governance":
        return Change(legal_hold=hold)
    # A longer governance retention becomes a compliance retention with the same end.
    end = max(until, has.retain_until)
    return Change(Retention(mode=job.mode, retain_until=end), legal_hold=hold)


def _text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


async def retain_shard(context: ShardContext) -> ShardSpan:
    """Lock the current versions of a shard's objects."""
    job = context.task.job
    assert isinstance(job, RetainJob)  # noqa: S101 - for type checkers
    files = FilesOfShard(context)
    retaining = _Retaining(context, job)
    async for page in files.pages():
        await gather_some(partial(retaining.lock, file) for file in page)
    return files.span


class _Retaining:
    """Sets retention and legal hold, and counts. 1 HEAD per object, 1 request per change."""

    def __init__(self, context: ShardContext, job: RetainJob) -> None:
        self._storage = context.storages["location"]
        self._job = job
        self._context = context
        self._outcome = context.outcome
        self._dry_run = context.task.dry_run
        self._any_done = False

    async def lock(self, file: FileInfo) -> None:
        """Lock the current version of a file as the job asks for."""
        try:
            change = await self._change(file)
        except StorageError as error:
            if ends_job(error, any_done=self._any_done):
                raise  # It is the same for all objects.
            self._context.add_error(file.key, error)
            return
        self._any_done = True
        if not change:
            self._outcome.skipped += 1
            return
        self._outcome.objects += 1
        self._outcome.bytes += file.size
        self._outcome.note_time(file.last_modified)
        if change.retention is not None:
            self._outcome.count("retentions_set")
        if change.legal_hold is not None:
            done = "legal_holds_set" if change.legal_hold else "legal_holds_removed"
            self._outcome.count(done)

    async def _change(self, file: FileInfo) -> Change:
        """Set what is to be set on the current version, and return it."""
        found = await self._locks(file)
        change = change_for(self._job, found, datetime.now(UTC))
        if self._dry_run:
            return change
        control = self._storage._context().control
        try:
            if change.retention is not None:
                await put_retention(
                    *(control, file.key, change.retention, found.version_id),
                    bypass_governance=change.bypass,
                )
            if change.legal_hold is not None:
                await put_legal_hold(control, file.key, change.legal_hold, found.version_id)
        except CapExceededError:
            raise
        except AccessDeniedError as denied:
            raise _why_denied(denied, found, change) from denied
        return change

    async def _locks(self, file: FileInfo) -> _Locks:
        """Return what the current version has. 1 request, 3 if it has a customer's key."""
        try:
            head = await self._storage.get_file_metadata(file.key)
        except CapExceededError:
            raise
        except AccessDeniedError:
            admin = self._storage.admin
            retention = await admin.get_retention(file.key)
            legal_hold = await admin.get_legal_hold(file.key)
            return _Locks(None, file.last_modified, retention, legal_hold)
        # The time of the listing: on SeaweedFS that of a HEAD is when the lock was last changed.
        return _Locks(head.version_id, file.last_modified, head.retention, head.legal_hold)


def _why_denied(denied: AccessDeniedError, found: _Locks, change: Change) -> AccessDeniedError:
    """Distinguish a lock that cannot be shortened from a key that lacks a capability."""
    has = found.retention
    if change.retention is None or has is None or has.retain_until <= datetime.now(UTC):
        needed = "writeFileRetentions" if change.retention else "writeFileLegalHolds"
        if change.retention is not None and change.legal_hold is not None:
            needed = "writeFileRetentions and writeFileLegalHolds"
        denied.hint = (
            f"The application key needs {needed}; and readFileRetentions, without which no job "
            "sees what locks a version already."
        )
        return denied
    hint = "The application key needs bypassGovernance." if change.bypass else None
    return FileLockedError(
        f"The version is locked: {has.mode} retention until {_text(has.retain_until)}.",
        operation=denied.operation,
        bucket=denied.bucket,
        key=denied.key,
        code=denied.code,
        status=denied.status,
        request_id=denied.request_id,
        hint=hint,
    )
