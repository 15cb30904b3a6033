"""What the query of a presigned URL tells about when it ends: S3's, CloudFront's and Azure's."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

# Signature version 4 and 2, CloudFront, Google, Azure.
_SIGNATURES: Final = ("x-amz-signature", "x-goog-signature", "signature", "sig")


def is_presigned(query: Mapping[str, str]) -> bool:
    """Whether a URL carries its permission itself."""
    names = {name.lower() for name in query}
    return any(name in names for name in _SIGNATURES)


def end_of(query: Mapping[str, str]) -> datetime | None:
    """The moment from which on a presigned URL is refused; None if it does not tell."""
    fields = {name.lower(): value for name, value in query.items()}
    try:
        for vendor in ("x-amz", "x-goog"):
            if f"{vendor}-date" in fields and f"{vendor}-expires" in fields:
                begin = datetime.strptime(fields[f"{vendor}-date"], "%Y%m%dT%H%M%S%z")
                return begin + timedelta(seconds=int(fields[f"{vendor}-expires"]))
        if "expires" in fields:
            return datetime.fromtimestamp(int(fields["expires"]), UTC)
        if "se" in fields:
            end = datetime.fromisoformat(fields["se"])
            return end if end.tzinfo else end.replace(tzinfo=UTC)
    except (ValueError, OverflowError, OSError):
        pass  # it is somebody else's parameter
    return None


def why_refused(query: Mapping[str, str], now: datetime) -> tuple[str, str] | None:
    """What a refused presigned URL may have, and what to do; None for another URL."""
    if not is_presigned(query):
        return None
    end = end_of(query)
    if end is not None and end <= now:
        told = f"the presigned URL has expired, at {end.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
        return told, "Ask its owner for a new URL, and fetch it before it ends."
    return (
        "the server refuses the presigned URL",
        "It may have expired or been changed on its way, or the server's key that signed it was "
        "deleted: ask its owner for a new URL. It needs no auth=.",
    )
