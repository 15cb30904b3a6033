"""Checksums of uploads, and their verification."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Protocol

from careflow_storage._s3.headers.encryption import has_customer_key
from careflow_storage._s3.headers.objects import StoreResult
from careflow_storage._s3.signing.signer import UNSIGNED_PAYLOAD
from careflow_storage.errors import ChecksumMismatchError
from careflow_storage.models import Checksum, ChecksumAlgorithm

_PLAIN_MD5 = re.compile(r"[0-9a-f]{32}")


class Hasher(Protocol):
    """The interface that hashlib's objects and `Crc32` share."""

    def update(self, data: bytes | memoryview, /) -> None: ...

    def digest(self) -> bytes: ...


class Crc32:
    """CRC-32 with the interface of a hashlib object. S3 encodes it big-endian."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes | memoryview, /) -> None:
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


def new_hasher(algorithm: ChecksumAlgorithm) -> Hasher:
    """Return a new hasher. MD5 protects against damage, not against attackers."""
    if algorithm == "md5":
        return hashlib.md5(usedforsecurity=False)
    if algorithm == "sha256":
        return hashlib.sha256()
    return Crc32()


def digest_of(algorithm: ChecksumAlgorithm, data: bytes | memoryview) -> bytes:
    """Return the digest of one buffer."""
    hasher = new_hasher(algorithm)
    hasher.update(data)
    return hasher.digest()


def request_headers(algorithm: ChecksumAlgorithm, digest: bytes) -> tuple[dict[str, str], str]:
    """Return the headers with which the server verifies a body, and the payload hash.

    B2 verifies ``Content-MD5``: a mismatch is 400 BadDigest. With an MD5 or a CRC, the signature
    covers only the headers, so the body is not hashed twice.
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
    stored: StoreResult,
    sent: Mapping[str, str],
    *,
    operation: str,
    key: str,
) -> None:
    """Compare the checksum in a response with ``digest``; ``sent`` are the request headers.

    Raises:
        ChecksumMismatchError: The server stored other bytes.
    """
    if algorithm == "md5":
        known = is_md5(stored.etag, stored.headers) and is_md5(stored.etag, sent)
        intact = not known or stored.etag == digest.hex()
    else:
        echoed = stored.headers.get(f"x-amz-checksum-{algorithm}")
        intact = echoed is None or base64.b64decode(echoed) == digest
    if not intact:
        raise ChecksumMismatchError(
            f"The server stored different bytes: their {algorithm} differs.",
            operation=operation,
            key=key,
            hint=f"Upload again. {_hint_to_erase(key, stored.version_id)}",
        )


def _hint_to_erase(key: str, version_id: str | None) -> str:
    """Name the damaged version. Without its ID the call would delete the new upload."""
    if version_id is None:
        return "The damaged object has no version ID, so the new upload replaces it."
    return f"delete_file({key!r}, version_id={version_id!r}) erases the damaged version."


def is_md5(etag: str, headers: Mapping[str, str]) -> bool:
    """Whether an ETag is the MD5 of the object's bytes."""
    return _PLAIN_MD5.fullmatch(etag) is not None and has_md5_etag(headers)


def has_md5_etag(headers: Mapping[str, str]) -> bool:
    """Whether the ETag of an object is computed from MD5s, according to its headers.

    With SSE-C or KMS keys it is not (Amazon S3 API reference, "Object").
    """
    kms = headers.get("x-amz-server-side-encryption", "AES256") != "AES256"
    return not kms and not has_customer_key(headers)


def composite(algorithm: ChecksumAlgorithm, digests: Sequence[bytes]) -> Checksum:
    """Return the checksum of a multipart object: the hash of the hashes of its parts."""
    value = digest_of(algorithm, b"".join(digests)).hex()
    return Checksum(algorithm=algorithm, value=value, parts=len(digests))


def composite_etag(etags: Sequence[str]) -> str | None:
    """Return the ETag of an object of parts with these ETags; None if they are not MD5s."""
    if not all(_PLAIN_MD5.fullmatch(etag) for etag in etags):
        return None
    digests = [bytes.fromhex(etag) for etag in etags]
    return f"{composite('md5', digests).value}-{len(digests)}"
