"""Requests that B2 refuses, with or unlike Amazon's S3; one function per rule.

Each cites the page of Backblaze's documentation that it follows (``docs/...`` and
``apidocs/...`` are on www.backblaze.com), or else Backblaze's code, or a user's report.
`REQUEST_RULES` check the head of a request before it is executed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from careflow_storage._s3.headers.metadata import META_PREFIX
from careflow_storage.testing.b2.errors import RefusedError, invalid, unsupported

MIN_PART_SIZE = 5_000_000
MAX_PUT_SIZE = 5_000_000_000
MAX_METADATA = 2048
_MAX_META_NAME = 50
_MAX_KEY = 1024
_NO_UTF8 = re.compile(r"[\ud800-\udfff]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_BUCKET_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{4,61})[A-Za-z0-9]")
_LIVE_ENABLED = "x-backblaze-live-read-enabled"
_LIVE_PART_SIZE = "x-backblaze-live-read-part-size"
_MAX_LIVE_PART = 5_368_709_120
_ABSENT = frozenset(
    {
        *("PostObject", "PutBucketVersioning", "GetObjectAttributes"),
        *(f"{verb}Object{name}" for verb in ("Put", "Delete") for name in ("Tagging",)),
        *(
            f"{verb}Bucket{name}"
            for verb in ("Get", "Put", "Delete")
            for name in (
                *("NotificationConfiguration", "Policy", "Replication", "Tagging", "Website"),
            )
        ),
    }
)


@dataclass(frozen=True, slots=True)
class B2Request:
    """An authenticated request. Header names are in lower case."""

    method: str
    operation: str
    bucket: str
    key: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    size: int


def operation_exists(request: B2Request) -> None:
    """Refuse POST policies, bucket policies, tags, websites and PutBucketVersioning.

    docs/cloud-storage-call-the-s3-compatible-api lists the existing calls.
    """
    if request.operation in _ABSENT:
        raise unsupported()
    if not request.operation:
        raise RefusedError(
            405, "MethodNotAllowed", "The specified method is not allowed against this resource."
        )


def no_conditional_writes(request: B2Request) -> None:
    """Refuse If-Match and If-None-Match of writes (obsidian-s3-sync#78)."""
    writes = request.key and request.method in ("PUT", "POST", "DELETE")
    if writes and ("if-none-match" in request.headers or "if-match" in request.headers):
        raise unsupported()


def no_tags(request: B2Request) -> None:
    """Refuse tags of objects (the message is from Intrinsec/s3proxy#34)."""
    for name in ("x-amz-tagging", "x-amz-tagging-directive"):
        if name in request.headers:
            raise invalid(f"Unsupported header '{name}' received for this API call.")


def two_acls(request: B2Request) -> None:
    """Accept two ACLs, those of the bucket (docs/cloud-storage-s3-compatible-api)."""
    acl = request.headers.get("x-amz-acl")
    grants = [name for name in request.headers if name.startswith("x-amz-grant-")]
    if grants or acl not in (None, "private", "public-read"):
        raise invalid("Unsupported value for canned acl")


def no_kms(request: B2Request) -> None:
    """Accept SSE-B2 and SSE-C, refuse SSE-KMS (backblaze-labs/b2-mcp, src/s3/multipart.ts)."""
    if "aws:kms" in request.headers.get("x-amz-server-side-encryption", ""):
        raise invalid("Unsupported server side encryption algorithm: aws:kms")


def key_is_good(request: B2Request) -> None:
    """1 to 1024 bytes of UTF-8, no control characters (b2sdk, raw_api.check_b2_filename)."""
    if len(request.key.encode(errors="surrogateescape")) > _MAX_KEY:
        raise RefusedError(400, "KeyTooLongError", "Your key is too long")
    if _CONTROL.search(request.key) or _NO_UTF8.search(request.key):
        raise invalid("File names must be UTF-8 without control characters")


def metadata_fits(request: B2Request) -> None:
    """Names of at most 50 bytes, "b2-" is reserved, 2,048 bytes together.

    apidocs/b2-upload-file; 2,048 is the limit of buckets that encrypt, as all new ones do.
    """
    total = 0
    for name, value in request.headers.items():
        if name.startswith(META_PREFIX):
            short = name.removeprefix(META_PREFIX)
            total += len(short) + len(value)
            if len(short) > _MAX_META_NAME or short.startswith("b2-"):
                raise invalid(f"Bad metadata name: {short[:_MAX_META_NAME]}")
    if total > MAX_METADATA:
        raise RefusedError(
            400, "MetadataTooLarge", "Your metadata headers exceed the maximum allowed size"
        )


def part_number_is_good(request: B2Request) -> None:
    """1 to 10,000 (docs/cloud-storage-create-large-files-with-the-native-api)."""
    number = request.query.get("partNumber")
    if number is not None and not (number.isdecimal() and 1 <= int(number) <= 10_000):
        raise invalid("Part number must be an integer between 1 and 10000, inclusive")


def size_is_good(request: B2Request) -> None:
    """At most 5 GB at once (docs/cloud-storage-create-large-files-with-the-native-api)."""
    if request.size > MAX_PUT_SIZE:
        raise RefusedError(
            400, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed size"
        )


def live_read_is_good(request: B2Request) -> None:
    """At most 5,368,709,120 bytes a part (apidocs/s3-create-multipart-upload, Live Read)."""
    if request.operation != "CreateMultipartUpload":
        return
    size = request.headers.get(_LIVE_PART_SIZE)
    if size is not None and not (size.isdigit() and 1 <= int(size) <= _MAX_LIVE_PART):
        raise invalid(f"Bad value of {_LIVE_PART_SIZE}")


def bucket_name_is_good(request: B2Request) -> None:
    """6 to 63 letters, digits, hyphens and dots, not "b2-..." (b2sdk, BUCKET_NAME_CHARS)."""
    if request.operation == "CreateBucket":
        check_bucket_name(request.bucket)


def check_bucket_name(name: str) -> None:
    """As `bucket_name_is_good`.

    Raises:
        RefusedError: 400 InvalidBucketName.
    """
    if not _BUCKET_NAME.fullmatch(name) or ".." in name or name.lower().startswith("b2-"):
        raise RefusedError(400, "InvalidBucketName", "The specified bucket is not valid.")


REQUEST_RULES: tuple[Callable[[B2Request], None], ...] = (
    operation_exists,
    no_conditional_writes,
    no_tags,
    two_acls,
    no_kms,
    key_is_good,
    metadata_fits,
    part_number_is_good,
    size_is_good,
    live_read_is_good,
    bucket_name_is_good,
)


# The first message is from alangrainger/share-note#63, the others follow it. The code was not
# seen: AccessDenied is what fits the status.
_CAPS = {
    "download": (
        "Cannot download file, download bandwidth or transaction (Class B) cap exceeded. "
        "See the Caps & Alerts page to increase your cap."
    ),
    "storage": (
        "Cannot upload file, storage cap exceeded. See the Caps & Alerts page to increase your cap."
    ),
    "transaction": ("Transaction cap exceeded. See the Caps & Alerts page to increase your cap."),
}
CAPS = frozenset(_CAPS)
_STORING = frozenset({"PutObject", "CopyObject", "UploadPart", "UploadPartCopy"})
_STORING |= {"CreateMultipartUpload", "CompleteMultipartUpload"}
_CLASS_A = _STORING - {"CopyObject", "UploadPartCopy"} | {
    *("AbortMultipartUpload", "DeleteObject", "DeleteObjects", "DeleteBucket"),
    *("PutObjectLegalHold", "PutObjectLockConfiguration", "PutObjectRetention"),
}


def within_caps(operation: str, capped: frozenset[str]) -> None:
    """Refuse requests of a used-up cap; class A is free and never capped.

    The classes are those of backblaze.com/cloud-storage/transaction-pricing.
    """
    wanted = {
        "download": operation in ("GetObject", "HeadObject"),
        "storage": operation in _STORING,
        "transaction": operation not in _CLASS_A,
    }
    for cap in sorted(capped):
        if wanted[cap]:
            raise RefusedError(403, "AccessDenied", _CAPS[cap])
