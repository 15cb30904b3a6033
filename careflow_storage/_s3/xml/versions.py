"""The XML document of ListObjectVersions: versions and delete markers, in one order.

As `careflow_storage._s3.xml.documents` reads the other documents, and as careful.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import repeat
from typing import Final

from careflow_storage._s3.xml.documents import (
    ERROR_FIELDS,
    MAX_LISTING_BYTES,
    NO_WAY_ON,
    field_text,
    is_truncated,
    number_of_bytes,
    require_root,
    timestamp,
    timestamps,
    unquote_etag,
    url_decoded,
    url_decoded_all,
)
from careflow_storage._s3.xml.fast_path import (
    DELETE_MARKER,
    VERSION,
    Columns,
    VersionSplit,
    make_models,
    split_versions,
)
from careflow_storage._s3.xml.reader import WHITE_SPACE, Document, read_document, refused
from careflow_storage.models import FileVersion

# A key, and a version of it unless all of them are meant: what comes next is behind both.
Position = tuple[str, str | None]

_FIELDS: Final = ERROR_FIELDS | {
    "EncodingType",
    "IsTruncated",
    "NextKeyMarker",
    "NextVersionIdMarker",
}
_RECORDS: Final = {
    VERSION.element: frozenset(VERSION.fields),
    DELETE_MARKER.element: frozenset(DELETE_MARKER.fields),
}
_BOOLEANS: Final = {"true": True, "false": False}
# What a `FileVersion` is made of, in the order of its fields.
_Row = tuple[str, str | None, bool, bool, int, datetime, str]


@dataclass(frozen=True, slots=True)
class VersionPage:
    """One page of a listing of versions; ``next_position`` is None for the last one."""

    versions: list[FileVersion]
    next_position: Position | None


def parse_versions(data: bytes) -> VersionPage:
    """Read the response to ListObjectVersions; 1000 versions take about 3 ms.

    Versions and delete markers come in the order of the document. Servers that write all of one
    kind before all of the other lose the order between them: then it is made anew. The example of
    B2's "S3 List Object Versions" has the delete markers first.

    Raises:
        ServerResponseError: The document is no complete, well-formed listing.
        StorageError: It is an error document; the class is that of its code.
    """
    if len(data) > MAX_LISTING_BYTES:
        raise refused(f"the listing is larger than {MAX_LISTING_BYTES} bytes")
    try:
        document, split = _read(data)
        url_encoded = field_text(document.fields, "EncodingType").lower() == "url"
        rows = (
            _parsed_rows(document, url_encoded)
            if split is None
            else _quick_rows(split, url_encoded)
        )
        versions = _versions(rows)
        position = _next_position(document, url_encoded)
    except KeyError as error:
        raise refused(f"an entry has no {error.args[0]}") from error
    except (ValueError, OverflowError) as error:
        raise refused("an entry has a malformed value") from error
    return VersionPage(_in_order(versions), position)


def _read(data: bytes) -> tuple[Document, VersionSplit | None]:
    """Read what is around the entries, and the entries on the quick way or in the document."""
    split = split_versions(data)
    if split is not None:
        document = read_document(split.envelope, _FIELDS, _RECORDS)
        if document.root == "ListVersionsResult" and document.records == [(VERSION.element, {})]:
            return document, split
    document = read_document(data, _FIELDS, _RECORDS)
    require_root(document, "ListVersionsResult", "ListObjectVersions")
    return document, None


def _quick_rows(split: VersionSplit, url_encoded: bool) -> Iterable[_Row]:
    versions = _rows_of_kind(split.versions, url_encoded)
    if all(split.order):
        return versions
    markers = _rows_of_kind(split.markers, url_encoded)
    return (next(versions if is_version else markers) for is_version in split.order)


def _rows_of_kind(columns: Columns, url_encoded: bool) -> Iterator[_Row]:
    keys, version_ids, latest, modified, *stored = columns
    etags, sizes = stored or (repeat(""), repeat("0"))
    return zip(
        url_decoded_all(keys) if url_encoded else keys,
        map(_version_id, version_ids),
        map(_BOOLEANS.__getitem__, latest),
        repeat(not stored),
        map(int, sizes),
        timestamps(modified),
        etags,
    )


def _parsed_rows(document: Document, url_encoded: bool) -> Iterable[_Row]:
    for name, fields in document.records:
        marker = name == DELETE_MARKER.element
        yield (
            url_decoded(fields["Key"]) if url_encoded else fields["Key"],
            _version_id(fields["VersionId"]),
            _boolean(fields["IsLatest"]),
            marker,
            0 if marker else number_of_bytes(fields["Size"]),
            timestamp(fields["LastModified"]),
            "" if marker else unquote_etag(fields.get("ETag", "")),
        )


def _versions(rows: Iterable[_Row]) -> list[FileVersion]:
    return make_models(
        FileVersion,
        [
            {
                "key": key,
                "version_id": version_id,
                "is_latest": is_latest,
                "delete_marker": delete_marker,
                "size": size,
                "last_modified": modified,
                "etag": etag,
            }
            for key, version_id, is_latest, delete_marker, size, modified, etag in rows
        ],
    )


def _version_id(text: str) -> str | None:
    if not text:
        # To delete "the version ''" would be to hide the file.
        raise ValueError("an empty version ID")
    return None if text == "null" else text


def _boolean(text: str) -> bool:
    text = text.strip(WHITE_SPACE).lower()
    if text not in _BOOLEANS:
        raise ValueError("not a boolean")
    return _BOOLEANS[text]


def _next_position(document: Document, url_encoded: bool) -> Position | None:
    if not is_truncated(document):
        return None
    key = document.fields.get("NextKeyMarker")
    if not key:
        # Going on as if it were the last page would silently lose versions.
        raise refused(NO_WAY_ON)
    return (
        url_decoded(key) if url_encoded else key,
        document.fields.get("NextVersionIdMarker") or None,
    )


def _in_order(versions: list[FileVersion]) -> list[FileVersion]:
    """Merge versions and delete markers, if all of one kind come before all of the other."""
    kinds = [each.delete_marker for each in versions]
    if all(kinds) or not any(kinds):
        return versions
    first = kinds.index(not kinds[0])
    if kinds[0] in kinds[first:]:
        return versions
    if _place(versions[first - 1]) <= _place(versions[first]):
        return versions
    return sorted(versions, key=_place)


def _place(version: FileVersion) -> tuple[bytes, bool, float]:
    newest_first = -version.last_modified.timestamp()
    return version.key.encode(), not version.is_latest, newest_first
