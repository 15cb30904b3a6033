"""Listings as XML, in the style of AWS and B2, rendered once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final
from urllib.parse import parse_qsl, quote_from_bytes

from benchmarks.null.listing import Page, Recordings, iso_time

DECLARATION: Final = b'<?xml version="1.0" encoding="UTF-8"?>\n'
NAMESPACE: Final = b'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
_PAGE: Final = 1000
# Holds a million keys, which take a quarter of a GiB.
_CACHED_BYTES: Final = 512 * 1024 * 1024


def escaped(text: bytes) -> bytes:
    """Escape text for XML."""
    return (
        text.replace(b"&", b"&amp;")
        .replace(b"<", b"&lt;")
        .replace(b">", b"&gt;")
        .replace(b'"', b"&quot;")
    )


def parameters(query: bytes) -> dict[str, bytes]:
    """Return the decoded parameters of a query."""
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, encoding="latin-1")
    return {name: value.encode("latin-1") for name, value in pairs}


class Cache:
    """The documents that were requested last, up to a number of bytes."""

    def __init__(self) -> None:
        self._documents: OrderedDict[bytes, bytes] = OrderedDict()
        self._size = 0

    def get(self, name: bytes, render: Callable[[], bytes]) -> bytes:
        """Return the document of this name; render it if it is not cached."""
        if (cached := self._documents.get(name)) is not None:
            self._documents.move_to_end(name)
            return cached
        document = self._documents[name] = render()
        self._size += len(document)
        while self._size > _CACHED_BYTES:
            self._size -= len(self._documents.popitem(last=False)[1])
        return document


class Pages:
    """Renders listings."""

    def __init__(self, recordings: Recordings, size: int, etag: bytes) -> None:
        self._recordings = recordings
        self._cache = Cache()
        # The same for all keys, as in the responses to GET and HEAD.
        self._tail = (
            b"<ETag>%b</ETag><Size>%d</Size><StorageClass>STANDARD</StorageClass></Contents>"
        ) % (escaped(etag), size)

    def listing(self, bucket: bytes, target: bytes, query: bytes) -> bytes:
        """Return the document for a target, which holds all parameters."""
        return self._cache.get(target, lambda: self._render(bucket, parameters(query)))

    def _render(self, bucket: bytes, given: dict[str, bytes]) -> bytes:
        second = given.get("list-type") == b"2"
        return self._second(bucket, given) if second else self._first(bucket, given)

    def _second(self, bucket: bytes, given: dict[str, bytes]) -> bytes:
        """Return a page of ListObjectsV2."""
        token, after = given.get("continuation-token"), given.get("start-after", b"")
        if token:
            begin = int(token) if token.isdigit() else self._recordings.number_after(token)
        else:
            begin = self._recordings.number_after(after) if after else 0
        page, most = self._page(given, begin)
        shown = len(page.entries) + len(page.prefixes)
        fields = b"<KeyCount>%d</KeyCount>" % shown
        if token:
            fields += b"<ContinuationToken>%b</ContinuationToken>" % escaped(token)
        if page.following is not None:
            fields += b"<NextContinuationToken>%d</NextContinuationToken>" % page.following
        return self._document(bucket, given, page, most, fields)

    def _first(self, bucket: bytes, given: dict[str, bytes]) -> bytes:
        """Return a page of ListObjects, which begins after the last name of the page before."""
        marker = given.get("marker", b"")
        delimiter = given.get("delimiter", b"")
        # A common prefix as marker: the keys below it are in the page before.
        behind = marker + b"\xff" if delimiter and marker.endswith(delimiter) else marker
        begin = self._recordings.number_after(behind) if behind else 0
        page, most = self._page(given, begin)
        fields = b"<Marker>%b</Marker>" % _written(marker, given)
        if page.following is not None:
            last = max([*page.prefixes[-1:], *(entry.key for entry in page.entries[-1:])])
            fields += b"<NextMarker>%b</NextMarker>" % _written(last, given)
        return self._document(bucket, given, page, most, fields)

    def _page(self, given: dict[str, bytes], begin: int) -> tuple[Page, int]:
        wanted = given.get("max-keys", b"")
        most = min(int(wanted), _PAGE) if wanted.isdigit() else _PAGE
        prefix, delimiter = given.get("prefix", b""), given.get("delimiter", b"")
        return self._recordings.page(prefix, delimiter, begin, most), most

    def _document(
        self, bucket: bytes, given: dict[str, bytes], page: Page, most: int, fields: bytes
    ) -> bytes:
        head = b"<Name>%b</Name><Prefix>%b</Prefix>" % (
            escaped(bucket),
            _written(given.get("prefix", b""), given),
        )
        if given.get("delimiter"):
            head += b"<Delimiter>%b</Delimiter>" % _written(given["delimiter"], given)
        if given.get("encoding-type") == b"url":
            head += b"<EncodingType>url</EncodingType>"
        truncated = b"false" if page.following is None else b"true"
        contents = [
            b"<Contents><Key>%b</Key><LastModified>%b</LastModified>%b"
            % (key, iso_time(modified_ms), self._tail)
            for key, modified_ms in page.entries
        ]
        prefixes = [
            b"<CommonPrefixes><Prefix>%b</Prefix></CommonPrefixes>" % prefix
            for prefix in page.prefixes
        ]
        return b"".join(
            [
                DECLARATION,
                b"<ListBucketResult %b>" % NAMESPACE,
                head,
                fields,
                b"<MaxKeys>%d</MaxKeys><IsTruncated>%b</IsTruncated>" % (most, truncated),
                *contents,
                *prefixes,
                b"</ListBucketResult>",
            ]
        )


def _written(text: bytes, given: dict[str, bytes]) -> bytes:
    """Return a name in the requested encoding. Our own keys are the same in both."""
    if given.get("encoding-type") == b"url":
        return quote_from_bytes(text, safe="/").encode()
    return escaped(text)
