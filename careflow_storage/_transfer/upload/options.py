"""The options of one upload, checked once and turned into the headers of its object."""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from careflow_storage._s3.headers.encryption import encryption_headers, lock_headers
from careflow_storage._s3.headers.metadata import encode_metadata, is_header_value
from careflow_storage._transfer.bodies.limits import NO_LIMITS, BodyLimits
from careflow_storage.errors import InvalidInputError
from careflow_storage.models import ChecksumAlgorithm
from careflow_storage.options import IfExists
from careflow_storage.protection import (
    CustomerKey,
    Encryption,
    Retention,
    check_encryption,
    check_lock,
)
from careflow_storage.recordings import refuse_disguise

_HINTS = {
    "content_disposition": "For other characters use the form filename*=UTF-8''... (RFC 8187)."
}


@dataclass(frozen=True, slots=True)
class UploadOptions:
    """The `ObjectOptions` of an upload, and how its bytes are sent."""

    content_type: str | None = None
    cache_control: str | None = None
    content_disposition: str | None = None
    metadata: Mapping[str, str] | None = None
    checksum: ChecksumAlgorithm | None = None
    encryption: Encryption | None = None
    retention: Retention | None = None
    legal_hold: bool = False
    size: int | None = None
    overwrite: bool = True
    if_exists: IfExists | None = None
    limits: BodyLimits = NO_LIMITS
    resume: bool = False
    default_checksum: ChecksumAlgorithm = "md5"

    @property
    def replaces(self) -> bool:
        """Whether an existing object under the key is replaced."""
        return self.overwrite if self.if_exists is None else self.if_exists == "replace"

    @property
    def return_existing(self) -> bool:
        """Whether the object under the key, if there is one, is the result."""
        return self.if_exists == "return"

    @property
    def algorithm(self) -> ChecksumAlgorithm:
        """The checksum to use: the caller's, else the default."""
        return self.checksum or self.default_checksum

    def headers(self, endpoint: str | None = None) -> dict[str, str]:
        """Return the object's headers.

        ``endpoint`` is the server's: a customer's key is sent over https only.

        Raises:
            InvalidInputError: An option cannot be sent.
        """
        self.check_if_exists()
        self.limits.check()
        if self.algorithm not in get_args(ChecksumAlgorithm):
            raise InvalidInputError(
                f"checksum must be one of {', '.join(get_args(ChecksumAlgorithm))}, "
                f"not {self.checksum!r}."
            )
        headers = encode_metadata(self.metadata or {})
        for name in ("content_type", "cache_control", "content_disposition"):
            value = getattr(self, name)
            if value is None:
                continue
            if not isinstance(value, str):
                raise InvalidInputError(f"{name} must be str, not {type(value).__name__}.")
            if not is_header_value(value):
                raise InvalidInputError(
                    f"{name} must be printable ASCII, not {value!r}.", hint=_HINTS.get(name)
                )
            if "%" in value:
                refuse_disguise(name, urllib.parse.unquote(value))
            headers[name.replace("_", "-")] = value
        return headers | self._protection_headers(endpoint)

    def check_if_exists(self) -> None:
        """Refuse a value of ``if_exists`` that does not exist, or contradicts ``overwrite``."""
        if self.if_exists not in (None, *get_args(IfExists)):
            raise InvalidInputError(
                f"if_exists must be one of {', '.join(get_args(IfExists))}, not {self.if_exists!r}."
            )
        if not self.overwrite and self.if_exists not in (None, "error"):
            raise InvalidInputError(
                f"overwrite=False and if_exists={self.if_exists!r} contradict each other.",
                hint="overwrite=False is if_exists='error'. Pass if_exists alone.",
            )

    def _protection_headers(self, endpoint: str | None) -> dict[str, str]:
        check_encryption(self.encryption, endpoint)
        check_lock(self.retention, self.legal_hold)
        if self.resume and isinstance(self.encryption, CustomerKey):
            raise InvalidInputError(
                "resume=True cannot be combined with a customer's key.",
                hint="With a customer's key the server returns no MD5 of the stored parts, so they "
                "cannot be compared with the body. Upload without resume.",
            )
        lock = lock_headers(self.retention, self.legal_hold)
        return encryption_headers(self.encryption) | lock
