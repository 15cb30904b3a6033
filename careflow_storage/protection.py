"""What protects a stored file: encryption by the server, and object lock against erasing."""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from datetime import UTC, datetime
from typing import ClassVar, Literal, NoReturn, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict

from careflow_storage._endpoint import host_of, is_loopback
from careflow_storage.errors import InvalidInputError

RetentionMode = Literal["governance", "compliance"]


class CustomerKey:
    """Your own AES-256 key, with which the server encrypts and decrypts (SSE-C).

    The server does not keep it: without it the file cannot be read again, not even by
    Backblaze. It is in no repr and cannot be pickled.

    Args:
        key: 32 bytes.
    """

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        good = type(key) is bytes and len(key) == 32
        if not good:
            # Error trackers print local variables; what is one byte too short is a secret, too.
            del key
            raise InvalidInputError("encryption: a customer's key must be 32 bytes.")
        self._key = key

    @classmethod
    def generate(cls) -> Self:
        """Make a new random key. Store it safely, apart from the bucket."""
        return cls(secrets.token_bytes(32))

    @classmethod
    def from_base64(cls, text: str) -> Self:
        """Read a key from its base64 form.

        Raises:
            InvalidInputError: It is not the base64 of 32 bytes. The message does not repeat it.
        """
        key = _decoded(text)
        if key is None or len(key) != 32:
            del text, key
            raise InvalidInputError(
                "encryption: a customer's key must be the base64 of 32 bytes.",
                hint="CustomerKey.generate().to_base64() makes such a text.",
            )
        return cls(key)

    def to_base64(self) -> str:
        """Return the key itself, in base64. Secret."""
        return base64.b64encode(self._key).decode()

    @property
    def md5(self) -> str:
        """The base64 of its MD5, by which the server distinguishes keys. Not secret."""
        return base64.b64encode(hashlib.md5(self._key, usedforsecurity=False).digest()).decode()

    def headers(self) -> dict[str, str]:
        """Return the three headers that carry it in a request. Secret.

        For who uses a presigned URL of an encrypted file: they must be sent with it. The key's
        value is a text whose ``repr`` is redacted, since dicts are printed so easily.
        """
        return {
            "x-amz-server-side-encryption-customer-algorithm": "AES256",
            "x-amz-server-side-encryption-customer-key": _Secret(self.to_base64()),
            "x-amz-server-side-encryption-customer-key-md5": self.md5,
        }

    def __repr__(self) -> str:
        return f"CustomerKey(md5={self.md5!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CustomerKey):
            return NotImplemented
        return secrets.compare_digest(self._key, other._key)

    def __hash__(self) -> int:
        return hash(self.md5)

    def __reduce__(self) -> NoReturn:
        # A task queue or a cache would store it in the open.
        raise TypeError("A CustomerKey cannot be pickled; load it in each process.")


class _Secret(str):
    """A text that is not shown where local variables are."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'[redacted]'"


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError):
        return None


Encryption = Literal["SSE-B2"] | CustomerKey
"""How a file is encrypted: with keys that Backblaze manages, or with your own (SSE-C)."""


class Retention(BaseModel):
    """Until when a version cannot be erased. ``retain_until`` is an aware datetime.

    A key with the capability bypassGovernance can lift ``governance``; ``compliance`` cannot be
    lifted.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    mode: RetentionMode
    retain_until: AwareDatetime


def check_encryption(encryption: Encryption | None, endpoint: str | None) -> None:
    """Refuse an invalid encryption, and a key over plain HTTP.

    Raises:
        InvalidInputError: It is not an encryption, or the key would be readable on the network:
            servers refuse a key over HTTP too, but only after it was sent.
    """
    if encryption is None or encryption == "SSE-B2":
        return
    check_customer_key(encryption, endpoint)


def check_customer_key(key: CustomerKey | None, endpoint: str | None) -> None:
    """As `check_encryption`, for what reads: there only a customer's key means anything."""
    if key is None:
        return
    if not isinstance(key, CustomerKey):
        kind = type(key).__name__
        # It may be the key itself, given as bytes or text.
        del key
        raise InvalidInputError(
            f"encryption must be a CustomerKey, not {kind}.",
            hint="CustomerKey(32 bytes) or CustomerKey.from_base64(text). What B2 encrypts with "
            "its own keys (SSE-B2, for uploads) is read without any.",
        )
    host = host_of(endpoint or "")
    if endpoint is not None and endpoint.startswith("http:") and not is_loopback(host):
        raise InvalidInputError(
            "encryption: a customer's key is not sent over http://, where everyone on the way "
            "reads it.",
            hint="Use an https:// endpoint.",
        )


def check_lock(retention: Retention | None, legal_hold: bool) -> None:
    """Refuse what locks nothing.

    Raises:
        InvalidInputError: It is no `Retention`, its time is not ahead, or ``legal_hold`` is no
            bool.
    """
    if type(legal_hold) is not bool:
        raise InvalidInputError(f"legal_hold must be True or False, not {legal_hold!r}.")
    if retention is None:
        return
    if not isinstance(retention, Retention):
        raise InvalidInputError(f"retention must be a Retention, not {type(retention).__name__}.")
    until = retention.retain_until
    if until.tzinfo is None:
        raise InvalidInputError("retention.retain_until must have a time zone.")
    if until <= datetime.now(UTC):
        raise InvalidInputError(
            f"retention.retain_until: {until:%Y-%m-%d %H:%M:%S %Z} is not in the future."
        )
