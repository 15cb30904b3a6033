"""Retention and legal hold of versions that are stored already."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from careflow_storage._s3.boto.pages import nothing
from careflow_storage._s3.headers.encryption import (
    read_hold,
    read_protection,
    read_retention,
    timestamp,
)
from careflow_storage._s3.headers.errors import bucket_cannot_lock, is_bucket_without_lock
from careflow_storage._s3.requests.control_plane import ControlPlane
from careflow_storage.errors import (
    InvalidInputError,
    NoSuchConfigurationError,
    StorageError,
)
from careflow_storage.models import FileMetadata
from careflow_storage.protection import Retention


async def get_retention(
    control: ControlPlane, key: str, version_id: str | None
) -> Retention | None:
    """Ask for the retention of a version; None if it has none. 1 request."""
    try:
        return await control.call("get_object_retention", key, _version(version_id), _retention)
    except NoSuchConfigurationError:
        return None


async def get_legal_hold(control: ControlPlane, key: str, version_id: str | None) -> bool:
    """Ask whether a version is under legal hold. 1 request."""
    try:
        return await control.call("get_object_legal_hold", key, _version(version_id), _hold)
    except NoSuchConfigurationError:
        return False


async def put_retention(
    control: ControlPlane,
    key: str,
    retention: Retention | None,
    version_id: str | None,
    *,
    bypass_governance: bool = False,
) -> None:
    """Set the retention of a version, or take it away. 1 request."""
    wanted: dict[str, str] = {}
    if retention is not None:
        wanted["Mode"] = retention.mode.upper()
        wanted["RetainUntilDate"] = timestamp(retention.retain_until)
    parameters = {**_version(version_id), "Retention": wanted}
    if bypass_governance:
        parameters["BypassGovernanceRetention"] = True
    await _put(control, "put_object_retention", key, parameters, "retention")


async def put_legal_hold(control: ControlPlane, key: str, on: bool, version_id: str | None) -> None:
    """Put a version under legal hold, or take it off. 1 request."""
    parameters = {**_version(version_id), "LegalHold": {"Status": "ON" if on else "OFF"}}
    await _put(control, "put_object_legal_hold", key, parameters, "legal_hold")


async def lock_at_least(
    control: ControlPlane, file: FileMetadata, headers: Mapping[str, str]
) -> None:
    """See to it that a stored version is locked as these headers of an upload ask for.

    What locks it longer stays. Up to 2 requests, none if it is so already.
    """
    _, retention, legal_hold = read_protection(headers)
    has = file.retention
    if retention is not None and (has is None or has.retain_until < retention.retain_until):
        await put_retention(control, file.key, retention, file.version_id)
    if legal_hold and not file.legal_hold:
        await put_legal_hold(control, file.key, True, file.version_id)


async def _put(
    control: ControlPlane, method: str, key: str, parameters: Mapping[str, Any], field: str
) -> None:
    try:
        await control.call(method, key, parameters, nothing)
    except InvalidInputError:
        raise
    except StorageError as error:
        if is_bucket_without_lock(error):
            raise bucket_cannot_lock(field, error) from error
        raise


def _version(version_id: str | None) -> dict[str, Any]:
    return {} if version_id is None else {"VersionId": version_id}


def _retention(response: dict[str, Any]) -> Retention | None:
    found = response.get("Retention") or {}
    mode, until = found.get("Mode"), found.get("RetainUntilDate")
    if not mode and not until:
        return None
    try:
        return read_retention(mode, until)
    except ValueError:
        raise KeyError("retention that makes sense") from None


def _hold(response: dict[str, Any]) -> bool:
    status = (response.get("LegalHold") or {}).get("Status")
    try:
        return read_hold(status or "OFF")
    except ValueError:
        raise KeyError("legal hold that makes sense") from None
