"""The methods of `StorageAdmin` for object lock: retention and legal hold of existing files.

Backblaze, "Object Lock": object lock cannot be switched off again, and the default retention is
at most 3000 days.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from careflow_storage._lazy import LazyModule
from careflow_storage._s3.boto.pages import nothing
from careflow_storage._s3.headers.encryption import mode_of
from careflow_storage._s3.headers.errors import bucket_cannot_lock
from careflow_storage._s3.requests import object_lock
from careflow_storage._transfer.context import TransferContext
from careflow_storage.admin.base import AdminMethods
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
from careflow_storage.protection import Retention, RetentionMode, check_lock
from careflow_storage.recordings import existing_key

if TYPE_CHECKING:
    from careflow_storage.admin import models
    from careflow_storage.admin.models import DefaultRetention, ObjectLock
else:
    models = LazyModule("careflow_storage.admin.models")

_NEEDS = (models,)
MAX_DEFAULT_DAYS = 3000
_DAYS_PER_YEAR = 365


class ObjectLockMethods(AdminMethods):
    """Object lock: the bucket's default, and retention and legal hold of files."""

    async def get_object_lock(self, *, timeout: float | None = None) -> ObjectLock:
        """Return whether the bucket can lock files, and the default retention.

        Needs readBucketRetentions. 1 request.
        """
        async with self._call("get_object_lock", _NEEDS, timeout=timeout):
            return await _read(self._context())

    async def set_object_lock(
        self, default: DefaultRetention | None = None, *, timeout: float | None = None
    ) -> None:
        """Enable object lock, and set or remove the default retention.

        B2 cannot disable object lock again. Needs writeBucketRetentions. 1 request.
        """
        async with self._call("set_object_lock", _NEEDS, timeout=timeout):
            await _write(self._context(), default)

    async def get_retention(
        self, key: str, *, version_id: str | None = None, timeout: float | None = None
    ) -> Retention | None:
        """Return the retention of a version, even an expired one, or None. 1 request.

        Needs readFileRetentions.
        """
        async with self._call("get_retention", _NEEDS, key, timeout):
            return await object_lock.get_retention(
                self._context().control, existing_key(key), version_id
            )

    async def set_retention(
        self,
        key: str,
        retention: Retention | None,
        *,
        version_id: str | None = None,
        bypass_governance: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Lock a version until a time. Needs writeFileRetentions. 2 requests, 3 if refused.

        A ``compliance`` retention can only be extended. A ``governance`` retention can be
        shortened or removed (None) with ``bypass_governance`` and a key that has it.

        Raises:
            InvalidInputError: The time is in the past, or the bucket cannot lock files.
        """
        async with self._call("set_retention", _NEEDS, key, timeout):
            context, key = self._context(), existing_key(key)
            check_lock(retention, False)
            await _require_lock(context, "retention")
            try:
                await object_lock.put_retention(
                    context.control,
                    key,
                    retention,
                    version_id,
                    bypass_governance=bypass_governance,
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
                        "This server may be unable to remove a retention: set one that ends "
                        "soon instead."
                    )
                raise

    async def get_legal_hold(
        self, key: str, *, version_id: str | None = None, timeout: float | None = None
    ) -> bool:
        """Return whether a version is under legal hold. Needs readFileLegalHolds. 1 request."""
        async with self._call("get_legal_hold", _NEEDS, key, timeout):
            return await object_lock.get_legal_hold(
                self._context().control, existing_key(key), version_id
            )

    async def set_legal_hold(
        self,
        key: str,
        on: bool,
        *,
        version_id: str | None = None,
        timeout: float | None = None,
    ) -> None:
        """Put a version under legal hold, or release it. Needs writeFileLegalHolds. 2 requests.

        A version under legal hold cannot be erased.

        Raises:
            InvalidInputError: The bucket cannot lock files.
        """
        async with self._call("set_legal_hold", _NEEDS, key, timeout):
            context, key = self._context(), existing_key(key)
            if type(on) is not bool:
                raise InvalidInputError(f"on must be True or False, not {on!r}.")
            await _require_lock(context, "legal_hold")
            try:
                await object_lock.put_legal_hold(context.control, key, on, version_id)
            except AccessDeniedError as error:
                if not isinstance(error, CapExceededError):
                    error.hint = "The application key needs writeFileLegalHolds."
                raise


async def _read(context: TransferContext) -> ObjectLock:
    try:
        return await context.control.call("get_object_lock_configuration", None, {}, _object_lock)
    except NoSuchConfigurationError:
        return models.ObjectLock(enabled=False)


async def _write(context: TransferContext, default: DefaultRetention | None) -> None:
    configuration: dict[str, Any] = {"ObjectLockEnabled": "Enabled"}
    if default is not None:
        _check_default(default)
        configuration["Rule"] = {
            "DefaultRetention": {"Mode": default.mode.upper(), "Days": default.days}
        }
    parameters = {
        "ObjectLockConfiguration": configuration,
        # B2 requires it to enable object lock in an existing bucket
        # (backblaze-labs/b2-mcp, CHANGELOG 1.5.1: 400 "cannot be enabled on existing buckets").
        "Token": "1",
    }
    try:
        await context.control.call("put_object_lock_configuration", None, parameters, nothing)
    except AccessDeniedError as error:
        if not isinstance(error, CapExceededError):
            error.hint = "The application key needs writeBucketRetentions."
        raise


async def _require_lock(context: TransferContext, field: str) -> None:
    """Check first: some servers accept a lock in a bucket that cannot enforce it."""
    try:
        found = await _read(context)
    except (AccessDeniedError, NotSupportedError):
        return  # Not readable: the request itself will show it.
    if not found.enabled:
        raise bucket_cannot_lock(field)


def _check_default(default: DefaultRetention) -> None:
    if not isinstance(default, models.DefaultRetention):
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
    """Find out whether a lock or a missing capability is the reason. 1 request."""
    try:
        kept = await object_lock.get_retention(context.control, key, version_id)
    except StorageError:
        kept = None
    if kept is None or (kept.mode == "governance" and bypassed):
        needed = "bypassGovernance" if bypassed else "writeFileRetentions"
        denied.hint = f"The application key needs {needed}, or the version is locked for longer."
        return denied
    hint = "It can only be extended."
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
        return models.ObjectLock(enabled=enabled)
    mode = mode_of(found.get("Mode"))
    days = found.get("Days") or _DAYS_PER_YEAR * (found.get("Years") or 0)
    if mode is None or not isinstance(days, int) or days < 1:
        raise KeyError("valid default retention")
    return models.ObjectLock(enabled=enabled, default=models.DefaultRetention(mode=mode, days=days))
