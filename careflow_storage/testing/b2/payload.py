"""Verification of bodies: lengths, hashes and checksums, as B2 verifies them.

A wrong Content-MD5 is a BadDigest on B2 (seen in 2026). The codes for the other checksums, which
B2 verifies since July 2025, are AWS's.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import zlib
from collections.abc import Callable, Mapping

from careflow_storage.testing.b2.errors import RefusedError

_HEX = re.compile(r"[0-9a-f]{64}")
_CHECKSUMS: dict[str, Callable[[bytes], bytes]] = {
    "crc32": lambda body: zlib.crc32(body).to_bytes(4, "big"),
    "sha1": lambda body: hashlib.sha1(body, usedforsecurity=False).digest(),
    "sha256": lambda body: hashlib.sha256(body).digest(),
}
"""Those that Python can compute; crc32c and crc64nvme are not verified."""


def verified_body(body: bytes, headers: Mapping[str, str]) -> tuple[bytes, dict[str, str]]:
    """Return the decoded bytes, and the checksum headers of the trailer.

    Raises:
        RefusedError: The bytes do not match the headers or the trailer.
    """
    claimed = headers.get("x-amz-content-sha256", "")
    trailer: dict[str, str] = {}
    if claimed.startswith("STREAMING-"):
        body, trailer = _unchunked(body)
        if headers.get("x-amz-decoded-content-length") != str(len(body)):
            raise RefusedError(400, "InvalidRequest", "The request body was too small")
    elif _HEX.fullmatch(claimed) and not hmac.compare_digest(
        claimed, hashlib.sha256(body).hexdigest()
    ):
        raise RefusedError(
            400,
            "XAmzContentSHA256Mismatch",
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
        )
    _check(headers.get("content-md5"), "Content-MD5", _md5, body, "InvalidDigest")
    for name, compute in _CHECKSUMS.items():
        header = f"x-amz-checksum-{name}"
        _check(trailer.get(header) or headers.get(header), header, compute, body, "InvalidRequest")
    return body, trailer


def _md5(body: bytes) -> bytes:
    return hashlib.md5(body, usedforsecurity=False).digest()


def _check(
    given: str | None, name: str, compute: Callable[[bytes], bytes], body: bytes, malformed: str
) -> None:
    if given is None:
        return
    actual = compute(body)
    try:
        expected = base64.b64decode(given, validate=True)
    except binascii.Error:
        expected = b""
    if len(expected) != len(actual):
        raise RefusedError(400, malformed, f"The {name} you specified was invalid.")
    if expected != actual:
        raise RefusedError(
            400, "BadDigest", f"The {name} you specified did not match what we received."
        )


def _unchunked(body: bytes) -> tuple[bytes, dict[str, str]]:
    """Remove the framing of ``aws-chunked``. The signatures of single chunks are ignored."""
    parts: list[bytes] = []
    position = 0
    try:
        while True:
            end = body.index(b"\r\n", position)
            size = int(body[position:end].split(b";")[0], 16)
            position = end + 2
            if size == 0:
                break
            parts.append(body[position : position + size])
            position += size + 2
        lines = body[position:].decode("ascii").split("\r\n")
    except ValueError:
        raise RefusedError(400, "InvalidRequest", "The request body was too small") from None
    pairs = (line.partition(":") for line in lines if line)
    return b"".join(parts), {name.lower(): value.strip() for name, _, value in pairs}
