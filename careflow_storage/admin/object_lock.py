"""Object lock: retention and legal hold, of files that are there already.

Backblaze, "Object Lock": a bucket that can lock files can do so for ever, and the default
retention is 3000 days at the most.
"""

from __future__ import annotations

from typing import Any, get_args

from careflow_storage._s3 import object_lock
from careflow_storage._s3.boto.pages import nothing
from careflow_storage._s3.headers.encryption import mode_of
from careflow_storage._s3.headers.errors import bucket_cannot_lock
from careflow_storage._transfer.context import TransferContext
from careflow_storage.errors import (
    AccessDeniedError,
    CapExceededError,
    FileLockedError,
    InvalidInputError,
    NoSuchConfigurationError,
    NotSupportedError,
    StorageError,
    TransferError,
)
from careflow_storage.models import Model
from careflow_storage.protection import Retention, RetentionMode, check_lock

MAX_DEFAULT_DAYS = 3000
_DAYS_PER_YEAR = 365


class DefaultRetention(Model):
    """How long new files of a bucket are kept, unless they say otherwise. 1 to 3000 days."""

    mode: RetentionMode
    days: int


class ObjectLock(Model):
    """Whether files of the bucket can be locked, and what new ones get."""

    enabled: bool
    default: DefaultRetention | None = None


async def get_object_lock(context: TransferContext) -> ObjectLock:
    """Return the bucket's object lock. 1 request."""
    try:
        return await context.control.call("get_object_lock_configuration", None, {}, _object_lock)
    except NoSuchConfigurationError:
        return ObjectLock(enabled=False)


async def set_object_lock(context: TransferContext, default: DefaultRetention | None) -> None:
    """Enable object lock, and set or take away the default retention. 1 request."""
    configuration: dict[str, Any] = {"ObjectLockEnabled": "Enabled"}
    if default is not None:
        _check_default(default)
        configuration["Rule"] = {
            "DefaultRetention": {"Mode": default.mode.upper(), "Days": default.days}
        }
    parameters = {
        "ObjectLockConfiguration": configuration,
        # Without it B2 refuses to enable the lock of a bucket that was made without
        # (backblaze-labs/b2-mcp, CHANGELOG 1.5.1: 400 "cannot be enabled on existing buckets").
        "Token": "1",
    }
    try:
        await context.control.call("put_object_lock_configuration", None, parameters, nothing)
    except AccessDeniedError as error:
        if not isinstance(error, CapExceededError):
            error.hint = "The application key needs writeBucketRetentions."
        raise


async def get_retention(
    context: TransferContext, key: str, version_id: str | None
) -> Retention | None:
    """Return the retention of a version, also one that is over. 1 request."""
    return await object_lock.get_retention(context.control, key, version_id)


async def set_retention(
    context: TransferContext,
    key: str,
    retention: Retention | None,
    version_id: str | None,
    *,
    bypass_governance: bool,
) -> None:
    """Set or take away the retention of a version. 2 requests; 3 when it is refused."""
    check_lock(retention, False)
    await _require_lock(context, "retention")
    try:
        await object_lock.put_retention(
            context.control, key, retention, version_id, bypass_governance=bypass_governance
        )
    except AccessDeniedError as error:
        if isinstance(error, CapExceededError):
            raise
        raise await _why_denied(
            context, key, version_id, error, bypassed=bypass_governance
        ) from error
    except TransferError as error:
        if retention is None and error.status == 400:
            error.hint = (
                "This server may not take a retention away: give one that ends soon instead."
            )
        raise


async def get_legal_hold(context: TransferContext, key: str, version_id: str | None) -> bool:
    """Return whether a version is under legal hold. 1 request."""
    return await object_lock.get_legal_hold(context.control, key, version_id)


async def set_legal_hold(
    context: TransferContext, key: str, on: bool, version_id: str | None
) -> None:
    """Put a version under legal hold, or take it off. 2 requests."""
    if type(on) is not bool:
        raise InvalidInputError(f"on must be True or False, not {on!r}.")
    await _require_lock(context, "legal_hold")
    try:
        await object_lock.put_legal_hold(context.control, key, on, version_id)
    except AccessDeniedError as error:
        if not isinstance(error, CapExceededError):
            error.hint = "The application key needs writeFileLegalHolds."
        raise


async def _require_lock(context: TransferContext, field: str) -> None:
    """Look first: some servers promise a lock in a bucket that cannot keep it."""
    try:
        found = await get_object_lock(context)
    except (AccessDeniedError, NotSupportedError):
        return  # Who may not read it is told by the server's refusal.
    if not found.enabled:
        raise bucket_cannot_lock(field)


def _check_default(default: DefaultRetention) -> None:
    if not isinstance(default, DefaultRetention):
        raise InvalidInputError(
            f"default must be a DefaultRetention, not {type(default).__name__}."
        )
    if default.mode not in get_args(RetentionMode):
        raise InvalidInputError(f"default.mode must be governance or compliance: {default.mode!r}.")
    if type(default.days) is not int or not 1 <= default.days <= MAX_DEFAULT_DAYS:
        raise InvalidInputError(
            f"default.days must be from 1 to {MAX_DEFAULT_DAYS}, not {default.days!r}."
        )


async def _why_denied(
    context: TransferContext,
    key: str,
    version_id: str | None,
    denied: AccessDeniedError,
    *,
    bypassed: bool,
) -> AccessDeniedError:
    """Tell the lock that cannot be shortened from a capability that is missing. 1 request."""
    try:
        kept = await object_lock.get_retention(context.control, key, version_id)
    except StorageError:
        kept = None
    if kept is None or (kept.mode == "governance" and bypassed):
        needed = "bypassGovernance" if bypassed else "writeFileRetentions"
        denied.hint = f"The application key needs {needed}, or the version is locked for longer."
        return denied
    hint = "It can be made longer only."
    if kept.mode == "governance":
        hint = "bypass_governance=True shortens it, with a key that has bypassGovernance."
    return FileLockedError(
        f"The version is locked: {kept.mode} retention until {kept.retain_until.isoformat()}.",
        operation=denied.operation,
        bucket=denied.bucket,
        key=key,
        code=denied.code,
        status=denied.status,
        request_id=denied.request_id,
        hint=hint,
    )


def _object_lock(response: dict[str, Any]) -> ObjectLock:
    configuration = response["ObjectLockConfiguration"]
    enabled = configuration.get("ObjectLockEnabled") == "Enabled"
    found = (configuration.get("Rule") or {}).get("DefaultRetention")
    if not found:
        return ObjectLock(enabled=enabled)
    mode = mode_of(found.get("Mode"))
    days = found.get("Days") or _DAYS_PER_YEAR * (found.get("Years") or 0)
    if mode is None or not isinstance(days, int) or days < 1:
        raise KeyError("default retention that makes sense")
    return ObjectLock(enabled=enabled, default=DefaultRetention(mode=mode, days=days))
