"""Detects presigned URLs and their expiry: S3, Google, CloudFront and Azure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from careflow_storage._dates import in_utc

# Signature version 4 and 2, CloudFront, Google, Azure.
_SIGNATURES: Final = ("x-amz-signature", "x-goog-signature", "signature", "sig")


def is_presigned(query: Mapping[str, str]) -> bool:
    """Whether the query of a URL contains a signature."""
    names = {name.lower() for name in query}
    return any(name in names for name in _SIGNATURES)


def expiry_of(query: Mapping[str, str]) -> datetime | None:
    """Return when a presigned URL expires; None if its query does not say."""
    fields = {name.lower(): value for name, value in query.items()}
    try:
        for vendor in ("x-amz", "x-goog"):
            if f"{vendor}-date" in fields and f"{vendor}-expires" in fields:
                begin = datetime.strptime(fields[f"{vendor}-date"], "%Y%m%dT%H%M%S%z")
                return in_utc(begin + timedelta(seconds=int(fields[f"{vendor}-expires"])))
        if "expires" in fields:
            return datetime.fromtimestamp(int(fields["expires"]), UTC)
        if "se" in fields:
            return in_utc(datetime.fromisoformat(fields["se"]))
    except (ValueError, OverflowError, OSError):
        pass  # A parameter of the same name, with another meaning.
    return None


def refusal_of(query: Mapping[str, str], now: datetime) -> tuple[str, str] | None:
    """Return the likely cause of a 4xx response and a hint; None for a URL without signature."""
    if not is_presigned(query):
        return None
    end = expiry_of(query)
    if end is not None and end <= now:
        problem = f"the presigned URL expired at {end:%Y-%m-%d %H:%M:%S} UTC"
        return problem, "Ask its owner for a new URL, and fetch it before it expires."
    return (
        "the server refuses the presigned URL",
        "It may have expired or been altered, or the key that signed it was deleted: ask its owner "
        "for a new URL. It needs no auth=.",
    )
