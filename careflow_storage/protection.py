"""What protects a stored file: encryption by the server, and object lock against erasing."""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from typing import Literal, NoReturn, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict

from careflow_storage.errors import InvalidInputError

RetentionMode = Literal["governance", "compliance"]


class CustomerKey:
    """Your own AES-256 key, with which the server encrypts and decrypts (SSE-C).

    The server forgets it after each request: without it nobody reads the file again, not even
    Backblaze. It is in no repr and cannot be pickled.

    Args:
        key: 32 bytes.
    """

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        if type(key) is not bytes or len(key) != 32:
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
        try:
            key = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError, TypeError):
            raise InvalidInputError("encryption: a customer's key must be base64.") from None
        return cls(key)

    def to_base64(self) -> str:
        """Return the key itself, in base64. Secret."""
        return base64.b64encode(self._key).decode()

    @property
    def md5(self) -> str:
        """The base64 of its MD5, by which the server tells keys apart. Not secret."""
        return base64.b64encode(hashlib.md5(self._key, usedforsecurity=False).digest()).decode()

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


Encryption = Literal["SSE-B2"] | CustomerKey
"""How a file is encrypted: with keys that Backblaze manages, or with your own (SSE-C)."""


class Retention(BaseModel):
    """Until when a version cannot be erased. ``retain_until`` is an aware datetime.

    ``governance`` can be lifted by who has the capability bypassGovernance, ``compliance`` by
    nobody.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: RetentionMode
    retain_until: AwareDatetime
