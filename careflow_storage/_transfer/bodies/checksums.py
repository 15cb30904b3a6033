"""Checksums of what is sent, and the proof that it arrived."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Protocol

from careflow_storage._s3.headers.encryption import has_customer_key
from careflow_storage._s3.objects import Stored
from careflow_storage._s3.signing import UNSIGNED_PAYLOAD
from careflow_storage.errors import ChecksumMismatchError
from careflow_storage.models import Checksum, ChecksumAlgorithm

_PLAIN_MD5 = re.compile(r"[0-9a-f]{32}")


class Hasher(Protocol):
    """What hashlib's objects have in common with our `Crc32`."""

    def update(self, data: bytes | memoryview, /) -> None: ...

    def digest(self) -> bytes: ...


class Crc32:
    """zlib's CRC-32 with the face of a hashlib object; S3 sends it big-endian."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes | memoryview, /) -> None:
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


def new_hasher(algorithm: ChecksumAlgorithm) -> Hasher:
    """Start a hash; MD5 is here against damage, not against attackers."""
    if algorithm == "md5":
        return hashlib.md5(usedforsecurity=False)
    if algorithm == "sha256":
        return hashlib.sha256()
    return Crc32()


def digest_of(algorithm: ChecksumAlgorithm, data: bytes | memoryview) -> bytes:
    """Hash one buffer."""
    hasher = new_hasher(algorithm)
    hasher.update(data)
    return hasher.digest()


def request_headers(algorithm: ChecksumAlgorithm, digest: bytes) -> tuple[dict[str, str], str]:
    """Return the headers that let the server verify a body, and its payload hash.

    B2 verifies ``Content-MD5`` (a mismatch is 400 BadDigest). With it, or a CRC, the signature
    covers the headers only, so that the body is not hashed twice.
    """
    encoded = binascii.b2a_base64(digest, newline=False).decode("ascii")
    if algorithm == "md5":
        return {"content-md5": encoded}, UNSIGNED_PAYLOAD
    if algorithm == "crc32":
        return {"x-amz-checksum-crc32": encoded}, UNSIGNED_PAYLOAD
    return {"x-amz-checksum-sha256": encoded}, digest.hex()


def verify_stored(
    algorithm: ChecksumAlgorithm,
    digest: bytes,
    stored: Stored,
    sent: Mapping[str, str],
    *,
    operation: str,
    key: str,
) -> None:
    """Compare what the server says it stored with what was sent, with the headers ``sent``."""
    if algorithm == "md5":
        known = is_md5(stored.etag, stored.headers) and is_md5(stored.etag, sent)
        intact = not known or stored.etag == digest.hex()
    else:
        echoed = stored.headers.get(f"x-amz-checksum-{algorithm}")
        intact = echoed is None or base64.b64decode(echoed) == digest
    if not intact:
        raise ChecksumMismatchError(
            f"The server stored other bytes than were sent ({algorithm} differs).",
            operation=operation,
            key=key,
            hint=f"Upload again. {_what_erases(key, stored.version_id)}",
        )


def _what_erases(key: str, version_id: str | None) -> str:
    """Name the one version: without its ID the new upload would be deleted."""
    if version_id is None:
        return "The server gave the damaged object no version ID: the upload replaces it."
    return f"delete_file({key!r}, version_id={version_id!r}) erases the damaged version."


def is_md5(etag: str, headers: Mapping[str, str]) -> bool:
    """Whether an ETag is the MD5 of the object's bytes."""
    return _PLAIN_MD5.fullmatch(etag) is not None and tells_md5s(headers)


def tells_md5s(headers: Mapping[str, str]) -> bool:
    """Whether an object's ETag is made of MD5s of its bytes, as far as its headers tell.

    With keys of a customer or of a KMS it is not (Amazon S3 API reference, "Object").
    """
    kms = headers.get("x-amz-server-side-encryption", "AES256") != "AES256"
    return not kms and not has_customer_key(headers)


def composite(algorithm: ChecksumAlgorithm, digests: Sequence[bytes]) -> Checksum:
    """Return the checksum of a multipart object: the hash of its parts' hashes."""
    value = digest_of(algorithm, b"".join(digests)).hex()
    return Checksum(algorithm=algorithm, value=value, parts=len(digests))


def composite_etag(etags: Sequence[str]) -> str | None:
    """Return the ETag of the object made of parts with these ETags; None if they are no MD5s."""
    if not all(_PLAIN_MD5.fullmatch(etag) for etag in etags):
        return None
    digests = [bytes.fromhex(etag) for etag in etags]
    return f"{composite('md5', digests).value}-{len(digests)}"
