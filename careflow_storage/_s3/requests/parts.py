"""The response to ListParts.

Format: "ListParts" of the *Amazon S3 API Reference*.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from careflow_storage._s3.responses.lengths import MAX_PARTS, parse_size
from careflow_storage._s3.xml.documents import (
    ERROR_FIELDS,
    NO_WAY_ON,
    field_text,
    is_truncated,
    require_root,
    timestamp,
    unquote_etag,
)
from careflow_storage._s3.xml.reader import WHITE_SPACE, Fields, read_document, refused
from careflow_storage.models import ChecksumAlgorithm

_FIELDS = ERROR_FIELDS | {"IsTruncated", "NextPartNumberMarker", "UploadId"}
_ALGORITHMS: tuple[ChecksumAlgorithm, ...] = ("sha256", "crc32")
_PART_FIELDS = frozenset(
    {"PartNumber", "Size", "ETag", "LastModified", "ChecksumSHA256", "ChecksumCRC32"}
)


class ListedPart(NamedTuple):
    """A part in a listing, with the checksum of the upload's algorithm if it has one."""

    number: int
    size: int
    etag: str
    checksum: tuple[ChecksumAlgorithm, bytes] | None
    modified: datetime | None = None


@dataclass(frozen=True, slots=True)
class PartsPage:
    """A page of parts; ``next_marker`` begins the next page, None on the last one."""

    parts: list[ListedPart]
    next_marker: str | None


def latest_parts(parts: Iterable[ListedPart]) -> list[ListedPart]:
    """Return one part for each number: of several, the one that was sent last.

    That is the longest, because a part that is flushed while it grows is sent again and again,
    and of equal ones the newest.
    """
    latest: dict[int, ListedPart] = {}
    for part in parts:
        other = latest.get(part.number)
        if other is None or _rank(part) >= _rank(other):
            latest[part.number] = part
    return list(latest.values())


def _rank(part: ListedPart) -> tuple[int, float]:
    return part.size, 0.0 if part.modified is None else part.modified.timestamp()


def parse_parts(data: bytes) -> PartsPage:
    """Read the response to ListParts.

    Raises:
        ServerResponseError: The document is no complete, well-formed list of parts.
        StorageError: It is an error document; the class is that of its code.
    """
    document = read_document(data.lstrip(WHITE_SPACE.encode()), _FIELDS, {"Part": _PART_FIELDS})
    if document.root == "Error":
        require_root(document, "ListPartsResult", "ListParts")
    # moto calls its root ListPartsResponse. The page of a proxy is worth another attempt.
    if document.root not in ("ListPartsResult", "ListPartsResponse"):
        raise refused(f"its root is {document.root[:40]}, not ListPartsResult", retryable=True)
    if "IsTruncated" not in document.fields:
        raise refused("it has no IsTruncated", retryable=True)
    try:
        parts = [_part(record) for record in document.records_of("Part")]
    except KeyError as error:
        raise refused(f"a part has no {error.args[0]}") from error
    except (ValueError, OverflowError) as error:
        raise refused("a part has a malformed value") from error
    if not is_truncated(document):
        return PartsPage(parts, None)
    marker = field_text(document.fields, "NextPartNumberMarker")
    if not marker:
        raise refused(NO_WAY_ON)
    return PartsPage(parts, marker)


def _part(record: Fields) -> ListedPart:
    number = parse_size(record["PartNumber"].strip(WHITE_SPACE))
    if not 1 <= number <= MAX_PARTS:
        raise ValueError("no part has this number")
    modified = field_text(record, "LastModified")
    return ListedPart(
        number,
        parse_size(record["Size"].strip(WHITE_SPACE)),
        unquote_etag(record["ETag"]),
        _checksum(record),
        timestamp(modified) if modified else None,
    )


def _checksum(record: Fields) -> tuple[ChecksumAlgorithm, bytes] | None:
    for algorithm in _ALGORITHMS:
        if encoded := field_text(record, f"Checksum{algorithm.upper()}"):
            return algorithm, base64.b64decode(encoded)
    return None
