"""Encryption, retention and legal hold, as headers of S3 and as parameters of botocore.

Names and values are those of Amazon's and Backblaze's "PutObject" ("S3 Put Object"). An object's
headers hold all of it: what its parts, its HEADs and its copies need is taken from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, NamedTuple

from careflow_storage.protection import CustomerKey, Encryption, Retention, RetentionMode

_ENCRYPTION: Final = "x-amz-server-side-encryption"
_CUSTOMER: Final = f"{_ENCRYPTION}-customer-"
_COPY_SOURCE: Final = "x-amz-copy-source-server-side-encryption-customer-"
_LOCK: Final = "x-amz-object-lock-"
_MODES: Final[dict[str, RetentionMode]] = {"GOVERNANCE": "governance", "COMPLIANCE": "compliance"}
_HOLDS: Final = {"ON": True, "OFF": False}

_PARAMETERS: Final = {
    _ENCRYPTION: "ServerSideEncryption",
    f"{_CUSTOMER}algorithm": "SSECustomerAlgorithm",
    f"{_CUSTOMER}key": "SSECustomerKey",
    # With it botocore leaves the key as it is, which is base64 already.
    f"{_CUSTOMER}key-md5": "SSECustomerKeyMD5",
    f"{_COPY_SOURCE}algorithm": "CopySourceSSECustomerAlgorithm",
    f"{_COPY_SOURCE}key": "CopySourceSSECustomerKey",
    f"{_COPY_SOURCE}key-md5": "CopySourceSSECustomerKeyMD5",
    f"{_LOCK}mode": "ObjectLockMode",
    f"{_LOCK}retain-until-date": "ObjectLockRetainUntilDate",
    f"{_LOCK}legal-hold": "ObjectLockLegalHoldStatus",
}


class Protection(NamedTuple):
    """What protects an object, as its server says."""

    encryption: Literal["SSE-B2", "SSE-C"] | None
    retention: Retention | None
    legal_hold: bool


# --- what is sent -----------------------------------------------------------------------


def encryption_headers(encryption: Encryption | None) -> dict[str, str]:
    """For PutObject, CreateMultipartUpload and the target of a copy."""
    if encryption == "SSE-B2":
        return {_ENCRYPTION: "AES256"}
    return key_headers(encryption)


def key_headers(encryption: Encryption | None) -> dict[str, str]:
    """For GET, HEAD and UploadPart: the customer's key, if there is one."""
    return encryption.headers() if isinstance(encryption, CustomerKey) else {}


def key_headers_of(headers: Mapping[str, str]) -> dict[str, str]:
    """The customer's key out of an object's headers, for its parts and its HEADs."""
    return {name: value for name, value in headers.items() if name.startswith(_CUSTOMER)}


def copy_source_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Of the `key_headers` of a copy's source make those that a copy sends."""
    return {
        _COPY_SOURCE + name.removeprefix(_CUSTOMER): value
        for name, value in key_headers_of(headers).items()
    }


def lock_headers(retention: Retention | None, legal_hold: bool = False) -> dict[str, str]:
    """For PutObject, CreateMultipartUpload and the target of a copy."""
    headers: dict[str, str] = {}
    if retention is not None:
        headers[f"{_LOCK}mode"] = retention.mode.upper()
        headers[f"{_LOCK}retain-until-date"] = timestamp(retention.retain_until)
    if legal_hold:
        headers[f"{_LOCK}legal-hold"] = "ON"
    return headers


def has_lock(headers: Mapping[str, str]) -> bool:
    """Whether an object's headers ask for retention or legal hold."""
    return any(name.startswith(_LOCK) for name in headers)


def asks_retention(headers: Mapping[str, str]) -> bool:
    """Whether an object's headers ask for retention."""
    return f"{_LOCK}mode" in headers


def has_customer_key(headers: Mapping[str, str]) -> bool:
    """Whether a request or a response is about an object with a customer's key."""
    return f"{_CUSTOMER}algorithm" in headers


def lasting(headers: Mapping[str, str]) -> dict[str, str]:
    """Those headers that say what an object is: no key, and no lock, which may change later."""
    return {
        name: value
        for name, value in headers.items()
        if name != f"{_CUSTOMER}key" and not name.startswith(_LOCK)
    }


def timestamp(moment: datetime) -> str:
    """The next whole second in UTC, so that nothing is kept for less than was asked."""
    moment = moment.astimezone(UTC)
    if moment.microsecond:
        moment = moment.replace(microsecond=0) + timedelta(seconds=1)
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def protection_parameters(headers: Mapping[str, str]) -> dict[str, str]:
    """What botocore calls those of these headers that protect an object."""
    return {_PARAMETERS[name]: value for name, value in headers.items() if name in _PARAMETERS}


# --- responses --------------------------------------------------------------------------


def read_protection(headers: Mapping[str, str]) -> Protection:
    """Read what the headers of a GET or HEAD say.

    Keys of a KMS, which B2 does not have, count as no encryption that is known here.

    Raises:
        ValueError: A header is malformed.
    """
    encryption: Literal["SSE-B2", "SSE-C"] | None = None
    if has_customer_key(headers):
        encryption = "SSE-C"
    elif headers.get(_ENCRYPTION) == "AES256":
        encryption = "SSE-B2"
    mode, until = headers.get(f"{_LOCK}mode"), headers.get(f"{_LOCK}retain-until-date")
    retention = read_retention(mode, until) if mode or until else None
    hold = headers.get(f"{_LOCK}legal-hold") or "OFF"
    return Protection(encryption, retention, read_hold(hold))


def read_retention(mode: str | None, until: str | datetime | None) -> Retention:
    """Make a `Retention` of what a server says; raise `ValueError` for what is none."""
    known = mode_of(mode)
    if known is None or not until:
        raise ValueError("bad retention")
    moment = until if isinstance(until, datetime) else datetime.fromisoformat(until)
    if moment.tzinfo is None:
        raise ValueError("a retention without a time zone")
    try:
        moment = moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("a retention beyond all time") from None
    return Retention(mode=known, retain_until=moment)


def mode_of(text: str | None) -> RetentionMode | None:
    """Read the mode of a retention; None for what is none."""
    return _MODES.get((text or "").upper())


def read_hold(text: str) -> bool:
    """Read the status of a legal hold; raise `ValueError` for what is none."""
    if text not in _HOLDS:
        raise ValueError("bad legal hold")
    return _HOLDS[text]
