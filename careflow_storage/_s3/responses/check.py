"""Decides whether a response is S3's, for the data plane, the control plane and the doctor.

Proxies, load balancers, captive portals and web servers at a wrong endpoint also respond. Their
404 does not say that a file is missing, nor their 403 that a key lacks a capability. So a refusal
means what S3 means by it only if it is an S3 error document with a code, or if it bears one of
the headers that S3 servers send. Other refusals are
a `ServerResponseError` that describes the server; those that say "not now" can be retried.

A success is judged by its shape: its status, its ETag, the root of its document.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from html import unescape
from typing import Any, Final
from urllib.parse import urlsplit

from careflow_storage._s3.error_codes import error_from_response, is_known_code
from careflow_storage._s3.redaction import printable, redact
from careflow_storage._s3.xml.documents import ErrorDocument, parse_error
from careflow_storage.errors import (
    AccessDeniedError,
    ServerResponseError,
    ServiceUnavailableError,
    StorageError,
)

# B2 and SeaweedFS, MinIO, rclone and Amazon send the first with every response.
_MARKS: Final = (
    *("x-amz-request-id", "x-amz-id-2", "x-amz-bucket-region", "x-amz-delete-marker"),
    *("x-amz-version-id", "x-amz-error-code", "x-minio-error-code", "x-minio-deployment-id"),
)
# moto sends this one alone. Amazon's API Gateway does, too, but beside one of the others.
_WEAK_MARK: Final = "x-amzn-requestid"
_NOT_S3: Final = ("x-amz-apigw-id", "apigw-requestid", "x-amzn-errortype")

_TRY_AGAIN: Final = frozenset({408, 429})
# Not implemented, HTTP version not supported, and what captive portals send (RFC 6585).
_FOR_GOOD: Final = frozenset({501, 505, 511})
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})

MISSING_OR_DENIED_HINT: Final = (
    "B2 also denies access to objects that do not exist when the application key lacks "
    "listBuckets. Give the key listBuckets (or listFiles)."
)
_READS: Final = frozenset({"GetObject", "HeadObject"})
# Only the beginning of a page is read.
_READ_BYTES: Final = 16 * 1024
_MAX_SHOWN: Final = 80
_find_title = re.compile(r"<title[^>]{0,200}>([^<]{1,400})", re.IGNORECASE).search

_CHECK: Final = (
    "Check BACKBLAZE_ENDPOINT, and whether a proxy, a load balancer or a captive portal (the "
    "login page of a network) stands in between."
)
_BUSY_BETWEEN: Final = (
    "It is not the S3 server's own response: a proxy or load balancer in between is overloaded "
    "or does not reach the server. Try again later."
)


def is_marked(headers: Mapping[str, str]) -> bool:
    """Whether a response has a header that only S3 servers send; names are in lower case."""
    if "x-amz-request-id" in headers:
        return True
    if any(name in headers for name in _MARKS):
        return True
    return _WEAK_MARK in headers and not any(name in headers for name in _NOT_S3)


def is_web_page(headers: Mapping[str, str]) -> bool:
    """Whether a response may be a web page: HTML without a header of S3."""
    return "html" in headers.get("content-type", "") and not is_marked(headers)


def is_as_good(status: int, headers: Mapping[str, str], body: bytes, expected: int) -> bool:
    """Whether a response is a success although its status is not ``expected``."""
    if expected == 206:
        # The server ignores the part number, or sends a part as rclone sends a range.
        return status == 200
    # Not all S3 servers respond to a DELETE with 204. But a web page is no deletion.
    return status == 200 and expected == 204 and not body and is_marked(headers)


def refusal(
    *,
    operation: str | None,
    bucket: str | None,
    key: str | None,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
) -> StorageError:
    """Return the exception for a response whose status is not a success."""
    where: dict[str, Any] = {"operation": operation, "bucket": bucket, "key": key}
    if status < 300:
        malformed = ServerResponseError(
            f"Malformed response: HTTP {status} is not a success.",
            status=status,
            retryable=True,
            **where,
        )
        explain_malformed(malformed, status, headers, body)
        return malformed
    document = parse_error(body)
    if not _is_of_s3(status, headers, document):
        return _foreign(status, headers, body, where)
    refused = error_from_response(
        status=status,
        code=document.code if document else None,
        message=document.message if document else None,
        headers=headers,
        **where,
    )
    if type(refused) is AccessDeniedError and operation in _READS:
        _hint_that_it_may_be_missing(refused)
    return refused


def _hint_that_it_may_be_missing(denied: AccessDeniedError) -> None:
    denied.hint = f"{MISSING_OR_DENIED_HINT} {denied.hint or ''}".rstrip()
    # B2's words for a missing file, when the key lacks listBuckets. The bucket is not at fault.
    if "cannot access bucket" in denied.message.lower():
        denied.message = (
            "The file does not exist, or the application key may not read it "
            f"({denied.message.rstrip('.')})."
        )


def _is_of_s3(status: int, headers: Mapping[str, str], document: ErrorDocument | None) -> bool:
    """Whether the refusal comes from S3."""
    if is_marked(headers):
        return True
    code = document.code if document else None
    # Other stores have error documents of the same form, and a 404 of their own.
    return code is not None and (status != 404 or is_known_code(code))


def _foreign(
    status: int, headers: Mapping[str, str], body: bytes, where: Mapping[str, Any]
) -> StorageError:
    """Return the exception for a refusal that does not come from S3."""
    who = describe_server(status, headers, body)
    if status in _TRY_AGAIN or (status >= 500 and status not in _FOR_GOOD):
        busy = error_from_response(status=status, code=None, message=None, headers=headers, **where)
        return ServiceUnavailableError(
            busy.message,
            status=status,
            retryable=True,
            retry_after=busy.retry_after,
            hint=f"{who} {_BUSY_BETWEEN}",
            **where,
        )
    return ServerResponseError(
        f"HTTP {status}, but not from an S3 server.", status=status, hint=f"{who} {_CHECK}", **where
    )


def explain_malformed(
    error: ServerResponseError, status: int, headers: Mapping[str, str], body: bytes
) -> None:
    """Describe the server in the hint of an unreadable response that is not S3's."""
    if error.hint is None and not is_marked(headers):
        error.hint = f"{describe_server(status, headers, body)} {_CHECK}"


def describe_server(status: int, headers: Mapping[str, str], body: bytes) -> str:
    """Describe the server in one sentence: its name, the type and the title of its page.

    Show no more of the page: it may contain the request.
    """
    name = _shown(headers.get("server", "")) or "A server without a name"
    kind = _shown(headers.get("content-type", "").partition(";")[0]).strip()
    what = f"HTTP {status}"
    if kind:
        what += f" and {kind}"
    title = _title(body[:_READ_BYTES], kind)
    if title:
        what += f" ({title!r})"
    target = headers.get("location")
    if status in _REDIRECTS and target:
        what += f", a redirect to {_origin(target)}"
    return f"{name} responded with {what}."


def _title(body: bytes, kind: str) -> str:
    text = body.decode("utf-8", "replace")
    if found := _find_title(text):
        return _shown(" ".join(unescape(found[1]).split()))
    if "json" in kind:
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            return ""
        if isinstance(document, dict):
            text = next((document[name] for name in ("message", "error") if name in document), "")
            return _shown(text) if isinstance(text, str) else ""
    return ""


def _origin(location: str) -> str:
    # Only the origin: queries contain tokens.
    try:
        parts = urlsplit(location)
        host = parts.hostname
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "a URL that cannot be used"
    if not host:
        return "another page of it"
    return _shown(f"{parts.scheme or 'https'}://{host}{port}")


def _shown(text: str) -> str:
    return printable(redact(text[: 4 * _MAX_SHOWN]), _MAX_SHOWN).strip()
