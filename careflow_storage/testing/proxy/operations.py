"""Find the S3 operation of a request, with its name in Amazon's API reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote, unquote_plus

_BUCKET = {
    "acl": "BucketAcl",
    "cors": "BucketCors",
    "encryption": "BucketEncryption",
    "lifecycle": "BucketLifecycleConfiguration",
    "location": "BucketLocation",
    "logging": "BucketLogging",
    "notification": "BucketNotificationConfiguration",
    "object-lock": "ObjectLockConfiguration",
    "policy": "BucketPolicy",
    "replication": "BucketReplication",
    "tagging": "BucketTagging",
    "versioning": "BucketVersioning",
    "website": "BucketWebsite",
}
_OBJECT = {
    "acl": "ObjectAcl",
    "attributes": "ObjectAttributes",
    "legal-hold": "ObjectLegalHold",
    "retention": "ObjectRetention",
    "tagging": "ObjectTagging",
}
_VERBS = {"GET": "Get", "PUT": "Put", "DELETE": "Delete"}
_PLAIN_BUCKET = {
    "GET": "ListObjects",
    "PUT": "CreateBucket",
    "DELETE": "DeleteBucket",
    "HEAD": "HeadBucket",
    "POST": "PostObject",
}
_PLAIN_OBJECT = {
    "GET": "GetObject",
    "PUT": "PutObject",
    "DELETE": "DeleteObject",
    "HEAD": "HeadObject",
}
_LISTINGS = {"versions": "ListObjectVersions", "uploads": "ListMultipartUploads"}

NATIVE_PATH = "/b2api/"
"""The path of B2's native API; bucket names are longer."""


class Target(NamedTuple):
    """The operation, bucket and key of a request; ``""`` for those that it does not have.

    A call of the native API is an operation by its own name, such as ``b2_create_key``.
    """

    operation: str
    bucket: str
    key: str
    query: dict[str, str]


def read_target(method: str, target: str, headers: Mapping[str, str]) -> Target:
    """Read a request's line and headers (names in lower case); the bucket is in the path."""
    path, _, text = target.partition("?")
    if path.startswith(NATIVE_PATH):
        return Target(path.rpartition("/")[2], "", "", {})
    bucket, _, key = path.removeprefix("/").partition("/")
    query = {
        unquote_plus(name): unquote_plus(value)
        for name, _, value in (pair.partition("=") for pair in text.split("&") if pair)
    }
    # What is no UTF-8 stays recognisable; U+FFFD in a key is a character like any other.
    bucket, key = unquote(bucket), unquote(key, errors="surrogateescape")
    if method == "OPTIONS":
        operation = "Preflight"
    elif not bucket:
        operation = "ListBuckets" if method == "GET" else ""
    elif not key:
        operation = _of_a_bucket(method, query)
    else:
        operation = _of_an_object(method, query, headers)
    return Target(operation, bucket, key, query)


def _of_a_bucket(method: str, query: Mapping[str, str]) -> str:
    if method == "POST" and "delete" in query:
        return "DeleteObjects"
    if method == "GET":
        if query.get("list-type") == "2":
            return "ListObjectsV2"
        for name, operation in _LISTINGS.items():
            if name in query:
                return operation
    return _of_a_part(method, query, _BUCKET) or _PLAIN_BUCKET.get(method, "")


def _of_an_object(method: str, query: Mapping[str, str], headers: Mapping[str, str]) -> str:
    copies = "x-amz-copy-source" in headers
    if "uploadId" in query:
        return {
            "PUT": "UploadPartCopy" if copies else "UploadPart",
            "POST": "CompleteMultipartUpload",
            "GET": "ListParts",
            "DELETE": "AbortMultipartUpload",
        }.get(method, "")
    if method == "POST":
        return "CreateMultipartUpload" if "uploads" in query else "PostObject"
    if method == "PUT" and copies:
        return "CopyObject"
    return _of_a_part(method, query, _OBJECT) or _PLAIN_OBJECT.get(method, "")


def _of_a_part(method: str, query: Mapping[str, str], names: Mapping[str, str]) -> str:
    verb = _VERBS.get(method)
    return next((f"{verb}{names[name]}" for name in names if verb and name in query), "")
