"""The causes of refusals that are due to encryption or object lock.

Servers report them in different words and with unspecific codes: a HEAD of a file with a customer
key is a bare 400 without the key, and a 403 with a wrong one. So the request is considered, too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from careflow_storage._s3.headers.encryption import asks_retention, has_customer_key, has_lock
from careflow_storage.errors import (
    AccessDeniedError,
    CapExceededError,
    FileLockedError,
    InvalidInputError,
    StorageError,
)

_VAGUE_CODES = ("InvalidRequest", "InvalidArgument", "BadRequest")
_about_encryption = re.compile(r"encrypt|customer.?(provided.)?key|sse-?c", re.IGNORECASE).search
_about_bucket_lock = re.compile(r"(object|file).?lock", re.IGNORECASE).search
_about_md5 = re.compile(r"content-?md5", re.IGNORECASE).search
_not_encrypted = re.compile(r"not applicable", re.IGNORECASE).search


def explain_refused_write(error: StorageError, headers: Mapping[str, str]) -> None:
    """Raise an error that names the cause, if object lock is why the server refused to store."""
    explained = _of_lock(error, headers)
    if explained is not error:
        raise explained from error


def explain_refused_read(error: StorageError, headers: Mapping[str, str] | None) -> None:
    """Raise an error that names the cause, if encryption is why the server refused to read."""
    explained = _of_key(error, headers or {})
    if explained is not error:
        raise explained from error


def needs_customer_key(error: StorageError) -> bool:
    """Whether a GET or HEAD was refused because it lacks a customer key. Then the file exists."""
    vague = error.status == 400 and error.code in _VAGUE_CODES
    return vague and _about_encryption(error.message) is not None


def needs_content_md5(error: StorageError, headers: Mapping[str, str]) -> bool:
    """Whether an upload was refused for lack of Content-MD5, which some locked buckets require."""
    return (
        error.status == 400
        and "content-md5" not in headers
        and _about_md5(error.message) is not None
    )


def bucket_cannot_lock(field: str, error: StorageError | None = None) -> InvalidInputError:
    """Return the error for a retention or legal hold in a bucket without object lock."""
    return InvalidInputError(
        f"{field}: the bucket cannot lock files.",
        hint="Enable object lock with storage.admin.set_object_lock(). This is permanent.",
        **({} if error is None else _where(error)),
    )


def is_bucket_without_lock(error: StorageError) -> bool:
    """Whether the error says that object lock is not enabled."""
    return error.status in (400, 404, 409) and _about_bucket_lock(error.message) is not None


def _of_lock(error: StorageError, headers: Mapping[str, str]) -> StorageError:
    field = "retention" if asks_retention(headers) else "legal_hold"
    if not has_lock(headers) or needs_content_md5(error, headers):
        return error
    if error.status == 400 and is_bucket_without_lock(error):
        return bucket_cannot_lock(field, error)
    if error.status == 400 and error.code in _VAGUE_CODES:
        return InvalidInputError(
            f"{field}: the server refuses it ({error.message.rstrip('.')}).",
            hint="The bucket must have object lock: storage.admin.get_object_lock() shows it, "
            "and set_object_lock() enables it.",
            **_where(error),
        )
    if _is_plain_denial(error):
        error.hint = (
            "To lock a file the application key needs writeFileRetentions, or "
            f"writeFileLegalHolds for a legal hold. {error.hint or ''}".rstrip()
        )
    return error


def _of_key(error: StorageError, headers: Mapping[str, str]) -> StorageError:
    if not has_customer_key(headers):
        if not needs_customer_key(error):
            return error
        return AccessDeniedError(
            "The file is encrypted with a customer's key (SSE-C), which was not given.",
            hint="Pass encryption=CustomerKey(...) with the key that it was stored with.",
            **_where(error),
        )
    if error.status == 400 and _not_encrypted(error.message):
        return InvalidInputError(
            "encryption: the file is not encrypted with a customer's key.", **_where(error)
        )
    refused = error.status == 400 and error.code in _VAGUE_CODES
    if refused or _is_plain_denial(error):
        return AccessDeniedError(
            f"The customer's key may be the wrong one ({error.message.rstrip('.')}).",
            hint="It must be the key that the file was stored with. Else check the key's "
            "capabilities: with encryption B2 and S3 respond the same to both.",
            **_where(error),
        )
    return error


def _is_plain_denial(error: StorageError) -> bool:
    return isinstance(error, AccessDeniedError) and not isinstance(
        error, CapExceededError | FileLockedError
    )


def _where(error: StorageError) -> dict[str, Any]:
    names = ("operation", "bucket", "key", "code", "status", "request_id")
    return {name: getattr(error, name) for name in names}
