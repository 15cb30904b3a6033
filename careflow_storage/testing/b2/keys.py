"""Application keys: their format, capabilities and restrictions.

The rules are those of docs/cloud-storage-s3-compatible-app-keys and
docs/cloud-storage-application-key-capabilities on www.backblaze.com.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from careflow_storage.errors import InvalidInputError
from careflow_storage.testing.b2.errors import RefusedError, denied

CAPABILITIES = frozenset(
    {
        *("listKeys", "writeKeys", "deleteKeys", "listBuckets", "listAllBucketNames"),
        *("readBuckets", "writeBuckets", "deleteBuckets", "readBucketEncryption"),
        *("writeBucketEncryption", "readBucketRetentions", "writeBucketRetentions"),
        *("readBucketReplications", "writeBucketReplications", "readBucketNotifications"),
        *("writeBucketNotifications", "readBucketLogging", "writeBucketLogging"),
        *("readBucketLifecycleRules", "writeBucketLifecycleRules", "listFiles"),
        *("readFiles", "shareFiles", "writeFiles", "deleteFiles", "readFileLegalHolds"),
        *("writeFileLegalHolds", "readFileRetentions", "writeFileRetentions"),
        "bypassGovernance",
    }
)
"""All capabilities, as `b2_create_key` of the native API names them."""

# A call needs the capability of its native counterpart (HeadBucket: nextcloud/server#60791).
_NEEDED = {
    "ListBuckets": "listAllBucketNames",
    "CreateBucket": "writeBuckets",
    "DeleteBucket": "deleteBuckets",
    "HeadBucket": "listBuckets",
    "GetBucketLocation": "listBuckets",
    "GetBucketVersioning": "listBuckets",
    "GetBucketAcl": "readBuckets",
    "PutBucketAcl": "writeBuckets",
    "PutBucketVersioning": "writeBuckets",
    "GetBucketCors": "readBuckets",
    "PutBucketCors": "writeBuckets",
    "DeleteBucketCors": "writeBuckets",
    "GetBucketEncryption": "readBucketEncryption",
    "PutBucketEncryption": "writeBucketEncryption",
    "DeleteBucketEncryption": "writeBucketEncryption",
    "GetBucketLifecycleConfiguration": "readBucketLifecycleRules",
    "PutBucketLifecycleConfiguration": "writeBucketLifecycleRules",
    "DeleteBucketLifecycleConfiguration": "writeBucketLifecycleRules",
    "GetObjectLockConfiguration": "readBucketRetentions",
    "PutObjectLockConfiguration": "writeBucketRetentions",
    "ListObjects": "listFiles",
    "ListObjectsV2": "listFiles",
    "ListObjectVersions": "listFiles",
    "ListMultipartUploads": "listFiles",
    "ListParts": "writeFiles",
    "GetObject": "readFiles",
    "HeadObject": "readFiles",
    "GetObjectAcl": "readFiles",
    "PutObjectAcl": "writeFiles",
    "GetObjectLegalHold": "readFileLegalHolds",
    "PutObjectLegalHold": "writeFileLegalHolds",
    "GetObjectRetention": "readFileRetentions",
    "PutObjectRetention": "writeFileRetentions",
    "PutObject": "writeFiles",
    "CopyObject": "writeFiles",
    "CreateMultipartUpload": "writeFiles",
    "UploadPart": "writeFiles",
    "UploadPartCopy": "writeFiles",
    "CompleteMultipartUpload": "writeFiles",
    "AbortMultipartUpload": "writeFiles",
}
_LISTINGS = frozenset({"ListObjects", "ListObjectsV2", "ListObjectVersions"})
_CLUSTER = "004"
_WELL_FORMED = re.compile(r"[0-9a-f]{24,25}")


@dataclass(frozen=True, slots=True)
class ApplicationKey:
    """A key pair and its limits. ``buckets`` None: all of them; ``expires_at`` is aware."""

    key_id: str
    application_key: str = field(repr=False)
    capabilities: frozenset[str]
    buckets: frozenset[str] | None = None
    name_prefix: str = ""
    expires_at: datetime | None = None
    name: str = "emulator"

    def _require(self, operation: str, bucket: str, key: str, *, version_id: str | None) -> None:
        """Refuse a request for which the key lacks a permission.

        Deleting by name only hides, so it needs writeFiles; erasing a version needs
        deleteFiles (docs/cloud-storage-s3-compatible-app-keys). The message is from
        cyberduck#14103.

        Raises:
            RefusedError: 403 AccessDenied "Not Entitled".
        """
        if operation == "DeleteObject":
            needed = "writeFiles" if version_id is None else "deleteFiles"
        else:
            needed = _NEEDED.get(operation, "")
        if needed and needed not in self.capabilities:
            raise denied()
        if bucket and self.buckets is not None and bucket not in self.buckets:
            raise denied()
        if key and not key.startswith(self.name_prefix):
            raise denied()

    def _require_listing(self, operation: str, prefix: str) -> None:
        """Refuse a listing outside of the prefix of the key (cyberduck#14103).

        Raises:
            RefusedError: 403 AccessDenied "Not Entitled".
        """
        if operation in _LISTINGS and not prefix.startswith(self.name_prefix):
            raise denied()

    @property
    def _sees_what_is_missing(self) -> bool:
        """Whether a missing object is a 404; without listBuckets it is a 403 (kopia#5329)."""
        return "listBuckets" in self.capabilities


class KeyRing:
    """The keys of one account."""

    def __init__(self) -> None:
        self.account_id: str = secrets.token_hex(6)
        self.master: ApplicationKey = ApplicationKey(self.account_id, _new_secret(), CAPABILITIES)
        self._keys: dict[str, ApplicationKey] = {}
        self._count = 0

    def create(
        self,
        capabilities: Iterable[str] | None,
        buckets: Iterable[str] | None,
        name_prefix: str,
        expires_at: datetime | None,
        name: str = "emulator",
    ) -> ApplicationKey:
        """Create a key in B2's format: 25 hexadecimal digits, and K, 3 digits, 27 characters.

        Raises:
            InvalidInputError: A capability does not exist.
        """
        wanted = CAPABILITIES if capabilities is None else frozenset(capabilities)
        if unknown := sorted(wanted - CAPABILITIES):
            raise InvalidInputError(
                f"B2 has no capability {', '.join(unknown)}.",
                hint=f"It has {', '.join(sorted(CAPABILITIES))}.",
            )
        self._count += 1
        key_id = f"{_CLUSTER}{self.account_id}{self._count:010d}"
        only = None if buckets is None else frozenset(buckets)
        made = ApplicationKey(key_id, _new_secret(), wanted, only, name_prefix, expires_at, name)
        self._keys[key_id] = made
        return made

    def delete(self, key_id: str) -> None:
        """Delete a key: requests and presigned URLs that it signed are refused from now on.

        Raises:
            InvalidInputError: There is no such key.
        """
        if self._keys.pop(key_id, None) is None:
            raise InvalidInputError("There is no such application key.")

    def living(self, now: datetime) -> list[ApplicationKey]:
        """Return all keys but the master key, by ID; "when the time expires, the key disappears".

        (docs/cloud-storage-key-create-command)
        """
        return [
            key
            for _, key in sorted(self._keys.items())
            if key.expires_at is None or key.expires_at > now
        ]

    def keep_only(self, key: ApplicationKey) -> None:
        """Delete all other keys."""
        self._keys = {key.key_id: key}

    def find(self, key_id: str, now: datetime) -> ApplicationKey:
        """Return the key; the master key is refused (docs/cloud-storage-s3-compatible-app-keys).

        Raises:
            RefusedError: 403 InvalidAccessKeyId.
        """
        if not _WELL_FORMED.fullmatch(key_id):
            raise RefusedError(403, "InvalidAccessKeyId", "Malformed Access Key Id")
        key = self._keys.get(key_id)
        if key is None or (key.expires_at is not None and key.expires_at <= now):
            raise RefusedError(403, "InvalidAccessKeyId", f"The key '{key_id}' is not valid")
        return key


def expiry(now: datetime, expires_in: timedelta | float | None) -> datetime | None:
    """Return when a key that is created now expires; ``expires_in``: a timedelta or seconds."""
    if expires_in is None:
        return None
    return now + (
        expires_in if isinstance(expires_in, timedelta) else timedelta(seconds=expires_in)
    )


def _new_secret() -> str:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return f"K{_CLUSTER}{''.join(secrets.choice(letters) for _ in range(27))}"
