"""Signed PUTs for other clients: the signature binds the headers that the client must send."""

from __future__ import annotations

import base64
import binascii
import re

from careflow_storage._s3.headers.encryption import has_lock
from careflow_storage._s3.requests.presign import Grant, check_expires_in, presign_one
from careflow_storage._transfer.bodies.parts import MAX_PART_BYTES
from careflow_storage._transfer.context import TransferContext
from careflow_storage._transfer.upload.options import UploadOptions
from careflow_storage.errors import InvalidInputError
from careflow_storage.models import SignedRequest
from careflow_storage.protection import CustomerKey

_MEDIA_TYPE = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+(\s*;.*)?")
_HEX_MD5 = re.compile(r"[0-9A-Fa-f]{32}")
_MD5_BYTES = 16


async def sign_upload(
    context: TransferContext,
    key: str,
    options: UploadOptions,
    *,
    md5: str | bytes | None,
    expires_in: int,
) -> SignedRequest:
    """Sign one PUT of ``key`` with ``options``. Sends no request."""
    check_expires_in(expires_in)
    headers = _headers(context, options, md5)
    signed = dict(headers)
    if options.size is not None:
        # Not a header to send: each HTTP client sets it, and browsers refuse it from a script.
        signed["content-length"] = str(_checked_size(options.size))
    grant = Grant("PUT", expires_in, {}, signed)
    url, expires_at = await presign_one(context.session, key, grant)
    return SignedRequest(method="PUT", url=url, headers=headers, expires_at=expires_at)


def _headers(
    context: TransferContext, options: UploadOptions, md5: str | bytes | None
) -> dict[str, str]:
    content_type = options.content_type
    if not isinstance(content_type, str) or not _MEDIA_TYPE.fullmatch(content_type):
        raise InvalidInputError(
            f"content_type must be a content type such as audio/webm, not {content_type!r}.",
            hint="The signature always binds it: otherwise the client could store a web page.",
        )
    if isinstance(options.encryption, CustomerKey):
        raise InvalidInputError(
            "encryption: a customer's key is never given to the client that uploads.",
            hint="Use SSE-B2, or upload with upload_file().",
        )
    headers = options.headers(context.settings.endpoint)
    if md5 is not None:
        headers["content-md5"] = _content_md5(md5)
    elif has_lock(headers):
        raise InvalidInputError(
            "retention and legal_hold need md5: B2 locks no upload without Content-MD5."
        )
    return headers


def _checked_size(size: int) -> int:
    if type(size) is not int or not 0 <= size <= MAX_PART_BYTES:
        raise InvalidInputError(
            f"size must be a whole number of bytes from 0 to {MAX_PART_BYTES}, not {size!r}.",
            hint="A single PUT is limited to that; larger files are uploaded in parts.",
        )
    return size


def _content_md5(md5: str | bytes) -> str:
    digest = _digest(md5)
    if digest is None:
        raise InvalidInputError(
            "md5 must be an MD5: 32 hex digits, the base64 of 16 bytes, or the 16 bytes.",
            hint="hashlib.md5(data).hexdigest() is one.",
        )
    return base64.b64encode(digest).decode()


def _digest(md5: object) -> bytes | None:
    if isinstance(md5, bytes):
        return md5 if len(md5) == _MD5_BYTES else None
    if not isinstance(md5, str):
        return None
    if _HEX_MD5.fullmatch(md5):
        return bytes.fromhex(md5)
    try:
        digest = base64.b64decode(md5, validate=True)
    except (binascii.Error, ValueError):
        return None
    return digest if len(digest) == _MD5_BYTES else None
