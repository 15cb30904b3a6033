"""The XML documents of S3: listings, errors, batch deletions.

Formats: "ListObjectsV2", "DeleteObjects" and "REST Error Responses" of the *Amazon S3 API
Reference*. What comes from the network is not trusted: a document type declaration is refused
(so no entity of its own is ever defined or expanded), encodings other than UTF-8 too, sizes
are bounded, and whatever cannot be read completely is a `ServerResponseError`. Elements that
are not known are skipped, whatever their order, white space or namespace prefix.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import Final
from urllib.parse import unquote_plus

from careflow_storage._dates import in_utc, parse_date
from careflow_storage._s3.error_codes import error_from_response
from careflow_storage._s3.redaction import MAX_CODE, printable
from careflow_storage._s3.xml.fast_path import Split, make_models, split_entries
from careflow_storage._s3.xml.reader import WHITE_SPACE, Document, Fields, read_document, refused
from careflow_storage.errors import InvalidInputError, ServerResponseError
from careflow_storage.models import DeleteResult, FileInfo

# Enough for 1000 keys of 1024 bytes with each byte written as "&quot;".
MAX_LISTING_BYTES: Final = 8 * 1024 * 1024
MAX_ERROR_BYTES: Final = 1024 * 1024
MAX_DELETE_KEYS: Final = 1000
NO_WAY_ON: Final = "the listing is truncated but has no marker to continue"

_LISTING_FIELDS: Final = frozenset({"EncodingType", "IsTruncated", "NextContinuationToken"})
_LISTING_RECORDS: Final = {
    "Contents": frozenset({"Key", "LastModified", "ETag", "Size"}),
    "CommonPrefixes": frozenset({"Prefix"}),
}
ERROR_FIELDS: Final = frozenset({"Code", "Message", "RequestId", "Region", "Endpoint"})
_DELETE_RECORDS: Final = {
    "Deleted": frozenset({"Key", "VersionId", "DeleteMarker", "DeleteMarkerVersionId"}),
    "Error": frozenset({"Key", "VersionId", "Code", "Message"}),
}

_is_etag = re.compile(r"[!-~]{0,1024}").fullmatch
_is_size = re.compile(r"[0-9]{1,19}").fullmatch
# Characters that XML 1.0 cannot carry, not even as a reference.
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
# Line ends as well, which many a server's parser or writer changes.
_not_safe_in_xml = re.compile("[\x00-\x1f\ud800-\udfff\ufffe\uffff]").search


# Key, size in bytes, time in UTC and ETag: what a `FileInfo` is made of.
_Row = tuple[str, int, datetime, str]


@dataclass(frozen=True, slots=True)
class ListPage:
    """One page of a listing, in the server's order.

    ``next_token`` is set exactly when ``is_truncated`` is.
    """

    files: list[FileInfo]
    common_prefixes: list[str]
    next_token: str | None
    is_truncated: bool


@dataclass(frozen=True, slots=True)
class ErrorDocument:
    """What the server says about a refused request; every part may be missing."""

    code: str | None
    message: str | None
    request_id: str | None
    region: str | None
    endpoint: str | None


@dataclass(frozen=True, slots=True)
class DeleteDocument:
    """What became of each key or version of a batch deletion."""

    deleted: list[DeleteResult]
    failed: list[DeleteResult]


def unquote_etag(etag: str) -> str:
    """Take an ETag out of its quotes; the one place where this is done.

    A weak ETag (``W/"..."``, made by a proxy that compresses) loses its mark as well.

    Raises:
        ServerResponseError: It holds more than visible ASCII (RFC 9110, section 8.8.3): it
            is sent back to the server in headers and documents.
    """
    etag = etag.strip(WHITE_SPACE).removeprefix("W/")
    if len(etag) >= 2 and etag[0] == '"' == etag[-1]:
        etag = etag[1:-1]
    if not ((etag.isalnum() and etag.isascii()) or _is_etag(etag)):
        raise ServerResponseError("Malformed response: its ETag is invalid.")
    return etag


def parse_listing(data: bytes) -> ListPage:
    """Read the response to ListObjectsV2; 1000 keys take under 2 ms.

    Keys and prefixes are URL-decoded exactly when the response says that they are encoded.

    Raises:
        ServerResponseError: The document is no complete, well-formed listing.
        StorageError: It is an error document; the class is that of its code.
    """
    if len(data) > MAX_LISTING_BYTES:
        raise refused(f"the listing is larger than {MAX_LISTING_BYTES} bytes")
    try:
        document, split = _read_listing(data)
        encoded = field_text(document.fields, "EncodingType").lower() == "url"
        prefixes = [record["Prefix"] for record in document.records_of("CommonPrefixes")]
        if encoded:
            prefixes = [url_decoded(prefix) for prefix in prefixes]
        rows = _parsed_rows(document, encoded) if split is None else _quick_rows(split, encoded)
        files = _files(rows)
    except KeyError as error:
        raise refused(f"an entry has no {error.args[0]}") from error
    except (ValueError, OverflowError) as error:
        raise refused("an entry has a malformed value") from error
    truncated = is_truncated(document)
    token = document.fields.get("NextContinuationToken") if truncated else None
    if truncated and not token:
        # Going on as if it were the last page would silently lose files.
        raise refused(NO_WAY_ON)
    return ListPage(files, prefixes, token, truncated)


def parse_error(data: bytes) -> ErrorDocument | None:
    """Read an error document, or return None when it is none.

    It never raises: proxies response with HTML or nothing, and then the status must decide.
    """
    if len(data) > MAX_ERROR_BYTES:
        return None
    try:
        document = read_document(data, ERROR_FIELDS, {})
    except ServerResponseError:
        return None
    return _error(document) if document.root == "Error" else None


def parse_delete_result(data: bytes) -> DeleteDocument:
    """Read the response to DeleteObjects, which is 200 even when every key failed.

    Raises:
        ServerResponseError: The document is no complete, well-formed result.
        StorageError: It is an error document; the class is that of its code.
    """
    if len(data) > MAX_LISTING_BYTES:
        raise refused(f"the result is larger than {MAX_LISTING_BYTES} bytes")
    document = read_document(data, ERROR_FIELDS, _DELETE_RECORDS)
    require_root(document, "DeleteResult", "DeleteObjects")
    try:
        return DeleteDocument(
            deleted=[_deleted(record) for record in document.records_of("Deleted")],
            failed=[_failed(record) for record in document.records_of("Error")],
        )
    except KeyError as error:
        raise refused(f"an entry has no {error.args[0]}") from error


def is_safe_in_xml(text: str) -> bool:
    """Whether a key comes out of XML as it went in, in a request and in the response to it."""
    return (text.isascii() and text.isprintable()) or _not_safe_in_xml(text) is None


def build_delete_request(targets: Iterable[tuple[str, str | None]]) -> bytes:
    """Write the body of DeleteObjects for pairs of key and version ID (or None).

    Raises:
        InvalidInputError: There are no targets, more than 1000, or one that XML cannot carry.
    """
    objects = [
        f"<Object><Key>{_escaped(key)}</Key></Object>"
        if version_id is None
        else f"<Object><Key>{_escaped(key)}</Key>"
        f"<VersionId>{_escaped(version_id)}</VersionId></Object>"
        for key, version_id in targets
    ]
    if not 1 <= len(objects) <= MAX_DELETE_KEYS:
        raise InvalidInputError(
            f"One request deletes 1 to {MAX_DELETE_KEYS} keys, not {len(objects)}."
        )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"{''.join(objects)}</Delete>"
    ).encode()


def _read_listing(data: bytes) -> tuple[Document, Split | None]:
    """Read what is around the entries, and the entries on the quick way or in the document."""
    fields = _LISTING_FIELDS | ERROR_FIELDS
    split = split_entries(data)
    if split is not None:
        document = read_document(split.envelope, fields, _LISTING_RECORDS)
        if document.root == "ListBucketResult" and document.records_of("Contents") == [{}]:
            return document, split
    document = read_document(data, fields, _LISTING_RECORDS)
    require_root(document, "ListBucketResult", "ListObjectsV2")
    return document, None


def _quick_rows(split: Split, url_encoded: bool) -> Iterable[_Row]:
    keys, modified, etags, sizes = split.columns
    return zip(
        url_decoded_all(keys) if url_encoded else keys,
        map(int, sizes),
        timestamps(modified),
        etags,
        strict=True,
    )


def _parsed_rows(document: Document, url_encoded: bool) -> Iterable[_Row]:
    for record in document.records_of("Contents"):
        yield (
            url_decoded(record["Key"]) if url_encoded else record["Key"],
            number_of_bytes(record["Size"]),
            timestamp(record["LastModified"]),
            unquote_etag(record.get("ETag", "")),
        )


def _files(rows: Iterable[_Row]) -> list[FileInfo]:
    return make_models(
        FileInfo,
        [
            {"key": key, "size": size, "last_modified": modified, "etag": etag}
            for key, size, modified, etag in rows
        ],
    )


def is_truncated(document: Document) -> bool:
    """Whether a listing goes on after this page; a document that does not say so ends it."""
    truncated = field_text(document.fields, "IsTruncated").lower() or "false"
    if truncated not in {"true", "false"}:
        raise refused("IsTruncated is neither true nor false")
    return truncated == "true"


def url_decoded(text: str) -> str:
    """Undo ``encoding-type=url``; raise `ValueError` for what is no UTF-8 then."""
    return unquote_plus(text, errors="strict") if "%" in text or "+" in text else text


def url_decoded_all(texts: Sequence[str]) -> Sequence[str]:
    """`url_decoded` for a page: one look at all keys, as most have nothing to decode."""
    joined = "".join(texts)
    return list(map(url_decoded, texts)) if "%" in joined or "+" in joined else texts


def timestamp(text: str) -> datetime:
    """Read a time of ISO 8601 or RFC 5322, in UTC; raise `ValueError`."""
    text = text.strip(WHITE_SPACE)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        found = parse_date(text)
        if found is None:
            raise
        return found
    return moment if moment.tzinfo is UTC else in_utc(moment)


def timestamps(texts: Sequence[str]) -> list[datetime]:
    """`timestamp` for a page, where hardly ever one is of another form than ISO 8601."""
    try:
        moments = list(map(datetime.fromisoformat, texts))
    except ValueError:
        return list(map(timestamp, texts))
    return [moment if moment.tzinfo is UTC else in_utc(moment) for moment in moments]


def number_of_bytes(text: str) -> int:
    """Read a size; raise `ValueError`."""
    text = text.strip(WHITE_SPACE)
    # int() alone would also take "1_000", "+1" and digits of other scripts.
    if not _is_size(text):
        raise ValueError("not a size")
    return int(text)


def require_root(document: Document, root: str, operation: str) -> None:
    """Raise `ServerResponseError`, or the error in the document, if it is another one."""
    if document.root == root:
        return
    if document.root != "Error":
        raise refused(f"its root is {document.root[:40]}, not {root}")
    # Servers may notice that they fail only after they have sent the status 200.
    error = _error(document)
    raise error_from_response(
        operation=operation,
        bucket=None,
        key=None,
        status=200,
        code=error.code,
        message=error.message,
        headers={} if error.request_id is None else {"x-amz-request-id": error.request_id},
    )


def field_text(fields: Fields, name: str) -> str:
    """Return a field without the white space around it; "" if it is missing."""
    return fields.get(name, "").strip(WHITE_SPACE)


def _error(document: Document) -> ErrorDocument:
    fields = document.fields
    return ErrorDocument(
        code=printable(field_text(fields, "Code"), MAX_CODE) or None,
        message=printable(field_text(fields, "Message")) or None,
        request_id=printable(field_text(fields, "RequestId"), MAX_CODE) or None,
        region=printable(field_text(fields, "Region"), MAX_CODE) or None,
        endpoint=printable(field_text(fields, "Endpoint"), MAX_CODE) or None,
    )


def _deleted(record: Fields) -> DeleteResult:
    marker = field_text(record, "DeleteMarker").lower() == "true"
    # Deleting by key makes a marker, whose ID is not that of the version that was asked for.
    version_id = record.get("DeleteMarkerVersionId") if marker else None
    return DeleteResult(
        key=record["Key"],
        deleted=True,
        version_id=version_id or record.get("VersionId") or None,
        delete_marker=marker,
    )


def _failed(record: Fields) -> DeleteResult:
    return DeleteResult(
        key=record["Key"],
        deleted=False,
        version_id=record.get("VersionId") or None,
        error_code=printable(field_text(record, "Code"), MAX_CODE) or None,
        error_message=printable(field_text(record, "Message")) or None,
    )


def _escaped(text: str) -> str:
    if _NOT_XML.search(text):
        raise InvalidInputError("A key or version ID has a character that XML cannot carry.")
    # Bare line ends would arrive as "\n", whichever they were.
    return escape(text, quote=False).replace("\r", "&#13;").replace("\n", "&#10;")
