"""Customer keys (SSE-C) and object lock, which moto accepts and ignores.

Backblaze's "Use Server-Side Encryption with Customer-Managed Keys (SSE-C)" and "Object Lock".
The refusals of a missing and a wrong key, and that an ETag is then not an MD5, are Amazon's
(S3 user guide, "Using server-side encryption with customer-provided keys"): B2 documents none.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from careflow_storage.testing.b2.errors import B2Response, RefusedError, denied, invalid
from careflow_storage.testing.b2.keys import ApplicationKey
from careflow_storage.testing.b2.xml import document
from careflow_storage.testing.proxy.operations import Target

if TYPE_CHECKING:
    from careflow_storage.testing.b2.store import MotoStore

_XML = {"Content-Type": "application/xml"}
_CUSTOMER = "x-amz-server-side-encryption-customer-"
_COPY_SOURCE = "x-amz-copy-source-server-side-encryption-customer-"
_LOCK = "x-amz-object-lock-"
_MODE, _UNTIL, _HOLD = f"{_LOCK}mode", f"{_LOCK}retain-until-date", f"{_LOCK}legal-hold"
_BYPASS = "x-amz-bypass-governance-retention"
_READING = ("GetObject", "HeadObject")
_STORING = ("PutObject", "CopyObject")
_COPYING = ("CopyObject", "UploadPartCopy")
_BEGINNING = (*_STORING, "CreateMultipartUpload")
_MAX_DAYS = 3000
_DEFAULT = "careflow_default_retention"


class ObjectProtection:
    """Stores keys and locks, by the ID of a version, which is also that of its upload."""

    def __init__(self, store: MotoStore) -> None:
        self._store = store
        self._keys: dict[str, str] = {}
        self._asked: dict[str, dict[str, str]] = {}

    # --- before the request -------------------------------------------------------------

    def check(self, key: ApplicationKey, target: Target, headers: Mapping[str, str]) -> None:
        """Refuse a request that the keys, the locks or the bucket do not allow."""
        if headers.get(_BYPASS, "").lower() == "true" and _lacks(key, "bypassGovernance"):
            raise denied()
        given = _key_md5(headers, _CUSTOMER)
        if target.operation in _READING and self._is_there(target):
            _open(self._keys.get(self._version_of(target)), given)
        if "uploadId" in target.query and target.operation.startswith("UploadPart"):
            _open(self._keys.get(target.query["uploadId"]), given)
        if target.operation in _COPYING:
            _open(self._keys.get(self._source_of(headers)), _key_md5(headers, _COPY_SOURCE))
        if target.operation in _BEGINNING:
            self._check_lock(key, target, headers)
        if target.operation == "UploadPart" and self._default(target.bucket) is not None:
            _require_md5(headers)

    def _check_lock(self, key: ApplicationKey, target: Target, headers: Mapping[str, str]) -> None:
        if _MODE in headers or _UNTIL in headers:
            if _lacks(key, "writeFileRetentions"):
                raise denied()
            _check_retention(headers.get(_MODE, ""), headers.get(_UNTIL, ""))
        if _HOLD in headers and _lacks(key, "writeFileLegalHolds"):
            raise denied()
        asked = any(name.startswith(_LOCK) for name in headers)
        if asked:
            self._require_lock(target.bucket)
        by_default = self._default(target.bucket) is not None
        if target.operation == "PutObject" and (asked or by_default):
            _require_md5(headers)

    def _require_lock(self, bucket: str) -> None:
        if not self._locks(bucket):
            raise RefusedError(400, "InvalidRequest", "Bucket is missing Object Lock Configuration")

    @staticmethod
    def without(headers: Mapping[str, str]) -> dict[str, str]:
        """Return the headers for moto, which has its own rules for the others."""
        hidden = (_CUSTOMER, _COPY_SOURCE, _LOCK)
        return {name: value for name, value in headers.items() if not name.startswith(hidden)}

    def response(
        self, key: ApplicationKey, target: Target, headers: Mapping[str, str], body: bytes
    ) -> B2Response | None:
        """Return the response to a request about locks; None for all others."""
        bucket, name = target.bucket, target.operation
        if name == "GetObjectLockConfiguration":
            return self._configuration(bucket)
        if name == "PutObjectLockConfiguration":
            return self._configure(bucket, headers, body.decode())
        if not name.endswith(("ObjectRetention", "ObjectLegalHold")):
            return None
        version = self._locked(target)
        if name == "GetObjectRetention":
            return _retention(version)
        if name == "GetObjectLegalHold":
            return _legal_hold(version)
        self._require_lock(bucket)
        if name == "PutObjectRetention":
            bypass = headers.get(_BYPASS, "").lower() == "true"
            _retain(version, _field(body, "Mode"), _field(body, "RetainUntilDate"), bypass)
        else:
            version.lock_legal_status = _field(body, "Status")
        return B2Response(200)

    def _configuration(self, bucket: str) -> B2Response:
        if not self._locks(bucket):
            raise RefusedError(
                404,
                "ObjectLockConfigurationNotFoundError",
                "Object Lock configuration does not exist for this bucket",
            )
        content, default = "<ObjectLockEnabled>Enabled</ObjectLockEnabled>", self._default(bucket)
        if default is not None:
            mode, days = default
            retention = f"<Mode>{mode}</Mode><Days>{days}</Days>"
            content += f"<Rule><DefaultRetention>{retention}</DefaultRetention></Rule>"
        return B2Response(200, _XML, document("ObjectLockConfiguration", content))

    def _configure(self, bucket: str, headers: Mapping[str, str], body: str) -> B2Response:
        """Configure a lock; an existing bucket needs a token (backblaze-labs/b2-mcp, 1.5.1)."""
        if not self._locks(bucket) and headers.get("x-amz-bucket-object-lock-token") != "1":
            raise RefusedError(
                400,
                "InvalidRequest",
                "Object Lock configuration cannot be enabled on existing buckets",
            )
        mode, days = _field(body, "Mode"), _field(body, "Days")
        if mode and not 1 <= int(days or 0) <= _MAX_DAYS:
            raise invalid(f"The default retention must be from 1 to {_MAX_DAYS} days")
        found = self._store.backend.get_bucket(bucket)
        found.object_lock_enabled = True
        # Not in moto's own attribute, since moto would require headers that it does not get.
        vars(found)[_DEFAULT] = (mode, int(days)) if mode else None
        return B2Response(200)

    def _locks(self, bucket: str) -> bool:
        return bool(self._store.backend.get_bucket(bucket).object_lock_enabled)

    def _default(self, bucket: str) -> tuple[str, int] | None:
        default: tuple[str, int] | None = vars(self._store.backend.get_bucket(bucket)).get(_DEFAULT)
        return default

    # --- after the request --------------------------------------------------------------

    def done(
        self, key: ApplicationKey, target: Target, headers: Mapping[str, str], response: B2Response
    ) -> B2Response:
        """Store keys and locks of a new version, and add their headers to the response."""
        if response.status >= 300:
            return response
        name = target.operation
        wants_lock = headers.get("x-amz-bucket-object-lock-enabled", "").lower() == "true"
        if name == "CreateBucket" and wants_lock:
            self._store.backend.get_bucket(target.bucket).object_lock_enabled = True
        added = {}
        given = _key_md5(headers, _CUSTOMER)
        if given is not None and name in (*_READING, *_BEGINNING, "UploadPart"):
            added = {f"{_CUSTOMER}algorithm": "AES256", f"{_CUSTOMER}key-md5": given}
        if name in _STORING:
            version = self._stored(target, response)
            self._lock(version, target.bucket, headers)
            if given is not None:
                self._keys[version.version_id] = given
                version._etag = secrets.token_hex(16)
                added["ETag"] = version.etag
        elif name == "UploadPart" and given is not None:
            upload = self._store.upload(target.bucket, target.key, target.query["uploadId"])
            part: Any = upload.parts[int(target.query["partNumber"])] if upload else None
            part._etag = secrets.token_hex(16)
            added["ETag"] = part.etag
        elif name == "CreateMultipartUpload":
            upload_id = _field(response.body, "UploadId")
            self._asked[upload_id] = dict(headers)
            if given is not None:
                self._keys[upload_id] = given
        elif name == "CompleteMultipartUpload":
            version = self._stored(target, response)
            self._lock(version, target.bucket, self._asked.pop(version.version_id, {}))
        shown = {
            header: value
            for header, value in response.headers.items()
            if not _hidden(header.lower(), key)
            and not (added and header.lower() == "x-amz-server-side-encryption")
        }
        return B2Response(response.status, {**shown, **added}, response.body)

    def _stored(self, target: Target, response: B2Response) -> Any:
        return self._store.find(target.bucket, target.key, response.headers["x-amz-version-id"])

    def _lock(self, version: Any, bucket: str, asked: Mapping[str, str]) -> None:
        version.lock_mode, version.lock_until = asked.get(_MODE), asked.get(_UNTIL)
        version.lock_legal_status = asked.get(_HOLD)
        default = self._default(bucket)
        if default is not None and version.lock_mode is None:
            until = datetime.now(UTC) + timedelta(days=default[1])
            version.lock_mode, version.lock_until = default[0], f"{until:%Y-%m-%dT%H:%M:%SZ}"

    # --- which version ------------------------------------------------------------------

    def _version_of(self, target: Target) -> str:
        version_id = target.query.get("versionId")
        if version_id is not None:
            return version_id
        newest = self._store.newest(target.bucket, target.key)
        return "" if newest is None else str(newest.version_id)

    def _is_there(self, target: Target) -> bool:
        version_id = self._version_of(target)
        found = self._store.find(target.bucket, target.key, version_id)
        return found is not None and not self._store.is_marker(found)

    def _source_of(self, headers: Mapping[str, str]) -> str:
        source, _, query = headers.get("x-amz-copy-source", "").partition("?")
        bucket, _, key = unquote(source).removeprefix("/").partition("/")
        version = {"versionId": unquote(query.removeprefix("versionId="))} if query else {}
        return self._version_of(Target("", bucket, key, version))

    def _locked(self, target: Target) -> Any:
        version_id = self._version_of(target)
        found = self._store.find(target.bucket, target.key, version_id)
        if found is None or self._store.is_marker(found):
            raise RefusedError(404, "NoSuchKey", "The specified key does not exist.")
        return found


def _lacks(key: ApplicationKey, capability: str) -> bool:
    return capability not in key.capabilities


def _hidden(header: str, key: ApplicationKey) -> bool:
    """Whether a header of a lock is hidden from this key (apidocs/b2-get-file-info)."""
    if header == _HOLD:
        return _lacks(key, "readFileLegalHolds")
    return header in (_MODE, _UNTIL) and _lacks(key, "readFileRetentions")


def _key_md5(headers: Mapping[str, str], prefix: str) -> str | None:
    """The MD5 of the key in the headers, which all must fit together."""
    if not any(name.startswith(prefix) for name in headers):
        return None
    if headers.get(f"{prefix}algorithm") != "AES256":
        raise invalid("The encryption algorithm must be AES256")
    try:
        key = base64.b64decode(headers.get(f"{prefix}key", ""), validate=True)
    except binascii.Error:
        key = b""
    md5 = base64.b64encode(hashlib.md5(key, usedforsecurity=False).digest()).decode()
    if len(key) != 32 or headers.get(f"{prefix}key-md5") != md5:
        raise invalid("The calculated MD5 hash of the key did not match the hash provided.")
    return md5


def _open(needed: str | None, given: str | None) -> None:
    if needed is None and given is not None:
        raise RefusedError(
            400,
            "InvalidRequest",
            "The encryption parameters are not applicable to this object.",
        )
    if needed is not None and given is None:
        raise RefusedError(
            400,
            "InvalidRequest",
            "The object was stored using a form of Server Side Encryption. The correct "
            "parameters must be provided to retrieve the object.",
        )
    if needed != given:
        raise denied("Access Denied")


def _require_md5(headers: Mapping[str, str]) -> None:
    """Refuse a request without Content-MD5 (drakkan/sftpgo#1336)."""
    if "content-md5" not in headers:
        raise RefusedError(
            400, "InvalidRequest", "Missing required header for this request: Content-MD5"
        )


def _check_retention(mode: str, until: str) -> datetime:
    try:
        moment = datetime.fromisoformat(until)
    except ValueError:
        raise invalid("The retain until date is not a date") from None
    if mode not in ("GOVERNANCE", "COMPLIANCE"):
        raise invalid("Unknown wormMode directive.")
    if moment <= datetime.now(UTC):
        raise invalid("The retain until date must be in the future!")
    return moment


def _retain(version: Any, mode: str, until: str, bypass: bool) -> None:
    """Set a retention: a longer one always, a shorter one only with bypassed governance."""
    moment = _check_retention(mode, until) if mode or until else None
    if version.lock_mode and (kept := datetime.fromisoformat(version.lock_until)) > datetime.now(
        UTC
    ):
        stronger = mode == version.lock_mode or mode == "COMPLIANCE"
        less = moment is None or moment < kept or not stronger
        if less and not (bypass and version.lock_mode == "GOVERNANCE"):
            raise denied("Access Denied because object protected by object lock.")
    version.lock_mode, version.lock_until = mode or None, until or None


def _retention(version: Any) -> B2Response:
    if not version.lock_mode:
        raise RefusedError(
            404,
            "NoSuchObjectLockConfiguration",
            "The specified object does not have a ObjectLock configuration",
        )
    until = f"<RetainUntilDate>{version.lock_until}</RetainUntilDate>"
    content = f"<Mode>{version.lock_mode}</Mode>{until}"
    return B2Response(200, _XML, document("Retention", content))


def _legal_hold(version: Any) -> B2Response:
    status = version.lock_legal_status or "OFF"
    return B2Response(200, _XML, document("LegalHold", f"<Status>{status}</Status>"))


def _field(body: bytes | str, name: str) -> str:
    text = body if isinstance(body, str) else body.decode()
    found = re.search(f"<{name}>([^<]*)</{name}>", text)
    return found[1].strip() if found else ""
