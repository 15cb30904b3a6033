"""What the headers of a response say about an object."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from careflow_storage._dates import parse_date
from careflow_storage._s3.headers.encryption import read_protection
from careflow_storage._s3.headers.metadata import PARTIAL_MARKER, UPLOAD_MARKER, decode_metadata
from careflow_storage._s3.redaction import printable
from careflow_storage._s3.responses.lengths import reported_size
from careflow_storage._s3.responses.malformed import malformed
from careflow_storage._s3.xml.documents import unquote_etag
from careflow_storage.models import FileMetadata

_MONTHS = {
    name: number
    for number, name in enumerate(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), 1
    )
}
_IMF_DATE = re.compile(
    rf"[A-Z][a-z]{{2}}, (\d\d) ({'|'.join(_MONTHS)}) (\d{{4}}) (\d\d):(\d\d):(\d\d) GMT"
)


@dataclass(frozen=True, slots=True)
class StoreResult:
    """The response to a PUT, or to the completion of an upload."""

    etag: str
    version_id: str | None
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ObjectHead:
    """An object's metadata, its upload marker if it has one, and all headers."""

    file: FileMetadata
    upload_marker: str | None
    headers: Mapping[str, str]


def read_object_head(key: str, headers: Mapping[str, str], bucket: str) -> ObjectHead:
    """Read an object's metadata from the headers of a GET or HEAD response."""
    try:
        size, live = reported_size(headers)
        # Of an upload that goes on (B2's Live Read) neither end nor ETag are known.
        etag = unquote_etag(headers.get("etag", '""') if live else headers["etag"])
        date = headers.get("last-modified") if live else headers["last-modified"]
        modified = _http_date(date or headers["date"])
        protection = read_protection(headers)
    except (KeyError, ValueError) as error:
        why = printable(f"bad headers ({error})", 200)
        raise malformed(why, operation="HeadObject", bucket=bucket, key=key) from error
    metadata = decode_metadata(headers)
    marker = metadata.pop(UPLOAD_MARKER, None)
    partial = metadata.pop(PARTIAL_MARKER, None) == "true"
    file = FileMetadata(
        key=key,
        size=size,
        content_type=headers.get("content-type", "application/octet-stream"),
        last_modified=modified,
        etag=etag,
        version_id=version_id_of(headers),
        metadata=metadata,
        cache_control=headers.get("cache-control"),
        content_disposition=headers.get("content-disposition"),
        content_encoding=headers.get("content-encoding"),
        content_language=headers.get("content-language"),
        partial=partial,
        encryption=protection.encryption,
        retention=protection.retention,
        legal_hold=protection.legal_hold,
    )
    return ObjectHead(file, marker, headers)


def version_id_of(headers: Mapping[str, str]) -> str | None:
    """Return the version ID in a response; None in a bucket without versions."""
    # "null" is the ID of the object stored without a version, which the next upload replaces.
    version_id = headers.get("x-amz-version-id")
    return None if version_id == "null" else version_id


def _http_date(text: str) -> datetime:
    """Parse a date such as "Mon, 23 Nov 2026 06:48:48 GMT" (RFC 9110); older forms are slower."""
    fixed = _IMF_DATE.fullmatch(text)
    if fixed is None:
        moment = parse_date(text)
        if moment is None:
            raise ValueError(f"{text:.80} is no date")
        return moment
    day, month, year, hour, minute, second = fixed.groups()
    return datetime(
        int(year), _MONTHS[month], int(day), int(hour), int(minute), int(second), tzinfo=UTC
    )
