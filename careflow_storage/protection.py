"""Encryption by the server, and object lock: the types, and the checks of their values."""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError, field_validator

from careflow_storage._endpoint import host_of, is_loopback
from careflow_storage.errors import InvalidInputError

RetentionMode = Literal["governance", "compliance"]
"""A key with bypassGovernance can shorten a retention in governance mode, none in compliance."""


class CustomerKey:
    """An AES-256 key of your own, with which the server encrypts and decrypts (SSE-C).

    The server does not keep the key: without it the file cannot be read again, not even by
    Backblaze. The key is in no repr and cannot be pickled.

    Args:
        key: 32 bytes.
    """

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        good = type(key) is bytes and len(key) == 32
        if not good:
            # Error trackers record local variables, and a key that lacks a byte is still a secret.
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
            InvalidInputError: The text is not the base64 of 32 bytes. The message does not show
                it.
        """
        key = _decoded(text)
        if key is None or len(key) != 32:
            del text, key
            raise InvalidInputError(
                "encryption: a customer's key must be the base64 of 32 bytes.",
                hint="CustomerKey.generate().to_base64() returns one.",
            )
        return cls(key)

    def to_base64(self) -> str:
        """Return the key itself, in base64. Secret."""
        return base64.b64encode(self._key).decode()

    @property
    def md5(self) -> str:
        """The MD5 of the key in base64, which identifies the key to the server. Not secret."""
        return base64.b64encode(hashlib.md5(self._key, usedforsecurity=False).digest()).decode()

    def headers(self) -> dict[str, str]:
        """Return the three request headers that hold the key. Secret.

        A client that uses a presigned URL of an encrypted file must send them. The ``repr`` of
        the key's value is redacted, since dicts are often printed.
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
        # A task queue or a cache would store it unencrypted.
        raise TypeError("A CustomerKey cannot be pickled; load it in each process.")


class _Secret(str):
    """A str whose ``repr`` does not show it."""

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
    """A lock that keeps a version from being erased until ``retain_until``, an aware datetime.

    An application key with the capability bypassGovernance can lift ``governance``. No key can
    lift ``compliance``.

    Raises:
        InvalidInputError: There is no such mode, or ``retain_until`` has no time zone, or cannot
            be rounded up to a second in UTC.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    mode: RetentionMode
    retain_until: AwareDatetime

    @field_validator("retain_until")
    @classmethod
    def _check_time(cls, moment: datetime) -> datetime:
        try:
            moment.astimezone(UTC) + timedelta(seconds=1)
        except OverflowError:
            raise ValueError("must be a time that UTC has, before the end of 9999") from None
        return moment

    if TYPE_CHECKING:

        def __init__(self, *, mode: RetentionMode, retain_until: datetime) -> None: ...

    else:

        def __init__(self, **values: Any) -> None:
            try:
                super().__init__(**values)
            except ValidationError as error:
                first = error.errors(include_url=False)[0]
                raise InvalidInputError(
                    f"retention.{first['loc'][0]}: {first['msg']}.",
                    hint="For example Retention(mode='governance', "
                    "retain_until=datetime.now(UTC) + timedelta(days=365)).",
                ) from None


def check_encryption(encryption: Encryption | None, endpoint: str | None) -> None:
    """Check that ``encryption`` is valid, and that a customer's key is sent over https only.

    Raises:
        InvalidInputError: It is not. Servers refuse a key over http, too, but only after it was
            sent.
    """
    if encryption is None or encryption == "SSE-B2":
        return
    if not isinstance(encryption, CustomerKey):
        kind = type(encryption).__name__
        # The value may be the key itself, as bytes or text.
        del encryption
        raise InvalidInputError(
            f"encryption must be 'SSE-B2' or a CustomerKey, not {kind}.",
            hint="Use CustomerKey(32 bytes) or CustomerKey.from_base64(text).",
        )
    check_customer_key(encryption, endpoint)


def check_customer_key(key: CustomerKey | None, endpoint: str | None) -> None:
    """Check the ``encryption`` of a method that reads: a `CustomerKey`, sent over https only."""
    if key is None:
        return
    if not isinstance(key, CustomerKey):
        kind = type(key).__name__
        # The value may be the key itself, as bytes or text.
        del key
        raise InvalidInputError(
            f"encryption must be a CustomerKey, not {kind}.",
            hint="Use CustomerKey(32 bytes) or CustomerKey.from_base64(text). Files that B2 "
            "encrypts with its own keys (SSE-B2) are read without a key.",
        )
    host = host_of(endpoint or "")
    if endpoint is not None and endpoint.startswith("http:") and not is_loopback(host):
        raise InvalidInputError(
            "encryption: a customer's key is not sent over http://, where every machine on the "
            "network path can read it.",
            hint="Use an https:// endpoint.",
        )


def check_lock(retention: Retention | None, legal_hold: bool) -> None:
    """Check the arguments that lock a file.

    Raises:
        InvalidInputError: ``retention`` is not a `Retention`, its time is not in the future, or
            ``legal_hold`` is not a bool.
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
