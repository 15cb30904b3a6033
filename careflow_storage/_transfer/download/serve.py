"""`ServedFile`: the HTTP response with which a web app passes an object on to its client."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Self

from careflow_storage._dates import parse_date
from careflow_storage._s3.headers.metadata import is_header_value
from careflow_storage._s3.headers.objects import ObjectHead
from careflow_storage._s3.requests.presign import attachment
from careflow_storage._s3.responses.lengths import is_range
from careflow_storage._s3.transport import ResponseStream
from careflow_storage._s3.xml.documents import unquote_etag
from careflow_storage._transfer.context import TransferContext
from careflow_storage._transfer.download.conditions import (
    ByteSpan,
    Preconditions,
    http_date,
    if_range_matches,
    parse_range,
    strong_etag,
)
from careflow_storage._transfer.download.pinned import PinnedObject
from careflow_storage._transfer.download.stream import FileStream
from careflow_storage.errors import (
    InvalidInputError,
    InvalidRangeError,
    PreconditionFailedError,
    StorageClosedError,
)
from careflow_storage.protection import CustomerKey

# Types that a browser shows without running code of theirs. All others are saved, not opened.
_SHOWN_KINDS: Final = ("audio/", "video/", "image/")
_SHOWN_TYPES: Final = frozenset(
    {"text/plain", "text/vtt", "application/pdf", "application/json", "application/ogg"}
)
_OF_UNMODIFIED: Final = ("ETag", "Last-Modified", "Cache-Control", "Expires")
_OF_REFUSAL: Final = ("ETag", "Last-Modified", "Accept-Ranges")
_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)


class ServedBody:
    """The body of a `ServedFile`: an async iterator of chunks of at most 256 KiB.

    It holds a request slot and a connection while bytes are in transit. A client that reads
    slowly, or has not begun, loses them to other requests, as with `FileStream`, and the rest is
    requested later. Close the body where it is not iterated to its end: when the client leaves.

    The last chunk is returned only after the whole was verified: a client whose download was
    damaged gets fewer bytes than ``Content-Length``, and so sees that it failed.

    Raises:
        StorageError: The bytes could not be read or verified, see `FileStream`.
        StorageClosedError: The body, or the storage, was closed before the end.
    """

    def __init__(self, stream: FileStream | None = None, length: int = 0) -> None:
        self._stream = stream
        self._left = length
        self._chunks: AsyncGenerator[bytes] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._stream is None or not self._left:
            raise StopAsyncIteration
        if self._chunks is None:
            self._chunks = aiter(self._stream)
        chunk = await anext(self._chunks, b"")
        if not chunk:
            raise StorageClosedError("The body was closed before its end.", method="serve_file")
        if len(chunk) >= self._left:
            # Ends the stream, which verifies the bytes now.
            await anext(self._chunks, b"")
        self._left -= len(chunk)
        return chunk

    async def aclose(self) -> None:
        """Release the slot and the connection. Safe to call twice."""
        if self._stream is not None:
            await self._stream.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()


@dataclass(frozen=True, slots=True)
class ServedFile:
    """A response to pass on to a client of yours.

    Attributes:
        status: 200, 206, 304, 412 or 416.
        headers: All headers to send; none is the store's own (``x-amz-*``).
        body: The bytes, ``Content-Length`` of them; none for HEAD, 304, 412 and 416. Close it
            where it is not iterated to its end.
    """

    status: int
    headers: dict[str, str]
    body: ServedBody


class FileServer:
    """Serves one request of a client for one object."""

    def __init__(
        self,
        context: TransferContext,
        key: str,
        *,
        method: str,
        headers: Mapping[str, str],
        download_as: str | None = None,
        version_id: str | None = None,
        encryption: CustomerKey | None = None,
    ) -> None:
        if method not in ("GET", "HEAD"):
            raise InvalidInputError(
                f"method must be GET or HEAD, not {method!r}.",
                hint="Respond to other methods with 405 and the header Allow: GET, HEAD.",
            )
        self._save_as = attachment(download_as) if download_as is not None else None
        given = _lower_case(headers)
        self._preconditions = Preconditions.of(given)
        self._span = parse_range(given.get("range")) if method == "GET" else None
        self._if_range = given.get("if-range")
        self._method = method
        self._context = context
        self._key = key
        self._version_id = version_id
        self._encryption = encryption

    async def response(self) -> ServedFile:
        """Return the response: 1 request, or 2 for a 416 and for an If-Range that does not match.

        Raises:
            NoSuchKeyError: The object does not exist.
            StorageError: See `careflow_storage.errors`.
        """
        span = self._span
        if self._method == "HEAD":
            return self._without_body(200, await self._request_head())
        if span is None:
            return await self._get(None)
        if not span.possible:
            return await self._settled(span, await self._request_head())
        tag: str | None = None
        if self._if_range is not None and '"' in self._if_range:
            tag = strong_etag(self._if_range)
            if tag is None:
                # A weak ETag fits no range.
                return await self._get(None)
        try:
            return await self._get(span, tag)
        except PreconditionFailedError:
            if tag is None:
                raise
            return await self._get(None)
        except InvalidRangeError:
            return await self._settled(span, await self._request_head())

    def _object(self, head: ObjectHead | None = None) -> PinnedObject:
        return PinnedObject(
            self._context,
            self._key,
            version_id=self._version_id,
            head=head,
            encryption=self._encryption,
        )

    async def _request_head(self) -> ObjectHead:
        return await self._object().request_head()

    async def _get(
        self, span: ByteSpan | None, tag: str | None = None, *, forward: bool = True
    ) -> ServedFile:
        """Serve what a GET returns. ``tag`` is the ETag that a range needs."""
        pinned = self._object()
        unless = self._preconditions.to_forward() if forward else {}
        response = await pinned.open_first(span or ByteSpan(), if_match=tag, unless=unless)
        head = pinned.head
        if head is None:
            response.close()
            return self._unmodified(response) or await self._get(span, tag, forward=False)
        try:
            return await self._opened(pinned, head, response, span)
        except BaseException:
            response.close()
            raise

    async def _opened(
        self,
        pinned: PinnedObject,
        head: ObjectHead,
        response: ResponseStream,
        span: ByteSpan | None,
    ) -> ServedFile:
        size = head.file.size
        if (status := self._failed(head)) is not None:
            response.close()
            return self._without_body(status, head)
        if span is None:
            return self._served(200, pinned, head, response, 0, size)
        if not self._fits(head):
            response.close()
            return await self._get(None)
        found = span.within(size)
        if found is None:
            response.close()
            return await self._settled(span, head)
        start, end = found
        if not is_range(response.status, response.headers) and (start, end) != (0, size):
            # A server that knows no suffix ranges sends the whole object.
            response.close()
            response = await pinned.open(start, end)
        return self._served(206, pinned, head, response, start, end)

    async def _settled(self, span: ByteSpan, head: ObjectHead) -> ServedFile:
        """Serve a range that the server refused, or cannot have, by the metadata."""
        if (status := self._failed(head)) is not None:
            return self._without_body(status, head)
        if not self._fits(head):
            return await self._get(None)
        found = span.within(head.file.size)
        if found is not None:
            # The object was replaced by a longer one since.
            pinned = self._object(head)
            return self._served(206, pinned, head, await pinned.open(*found), *found)
        if span.suffix and not head.file.size:
            # Satisfiable by RFC 9110, but a Content-Range cannot say it.
            return self._without_body(200, head)
        return self._without_body(416, head)

    def _failed(self, head: ObjectHead) -> int | None:
        return self._preconditions.status(head.file.etag, head.file.last_modified)

    def _fits(self, head: ObjectHead) -> bool:
        """Whether the range may be served of this version."""
        if self._if_range is None:
            return True
        return if_range_matches(self._if_range, head.file.etag, head.file.last_modified)

    def _served(
        self,
        status: int,
        pinned: PinnedObject,
        head: ObjectHead,
        response: ResponseStream,
        start: int,
        end: int,
    ) -> ServedFile:
        size = head.file.size
        headers = self._headers(head)
        headers["Content-Length"] = str(end - start)
        if status == 206:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        if start == end:
            response.close()
            return ServedFile(status, headers, ServedBody())
        stream = FileStream(
            self._context,
            self._key,
            start=start,
            end=None if end == size else end,
            method="serve_file",
            opened=(pinned, response),
        )
        return ServedFile(status, headers, ServedBody(stream, end - start))

    def _without_body(self, status: int, head: ObjectHead) -> ServedFile:
        """Return the response to a HEAD request, or one whose status says it all."""
        size = head.file.size
        if status == 200:
            status = self._failed(head) or 200
        headers = self._headers(head)
        if status == 200:
            headers["Content-Length"] = str(size)
            return ServedFile(status, headers, ServedBody())
        kept = _OF_UNMODIFIED if status == 304 else _OF_REFUSAL
        headers = {name: value for name, value in headers.items() if name in kept}
        if status == 416:
            headers["Content-Range"] = f"bytes */{size}"
        if status != 304:
            headers["Content-Length"] = "0"
        return ServedFile(status, headers, ServedBody())

    def _unmodified(self, response: ResponseStream) -> ServedFile | None:
        """Return the 304 of the server; None where it contradicts itself."""
        stored = response.headers
        headers: dict[str, str] = {}
        tag = stored.get("etag") or self._preconditions.to_forward().get("if-none-match")
        modified = parse_date(stored.get("last-modified"))
        if tag is not None:
            headers["ETag"] = f'"{unquote_etag(tag)}"'
        if modified is not None:
            headers["Last-Modified"] = http_date(modified)
        if self._preconditions.status(unquote_etag(tag or ""), modified or _LONG_AGO) != 304:
            return None
        for name in ("Cache-Control", "Expires"):
            if is_header_value(stored.get(name.lower())):
                headers[name] = stored[name.lower()]
        return ServedFile(304, headers, ServedBody())

    def _headers(self, head: ObjectHead) -> dict[str, str]:
        """Return the headers of the object, without those of a length or range."""
        file, stored = head.file, head.headers
        kind = file.content_type
        if not is_header_value(kind):
            kind = "application/octet-stream"
        headers = {
            "Content-Type": kind,
            # The type is what the uploader said: a browser must not guess another.
            "X-Content-Type-Options": "nosniff",
            "Accept-Ranges": "bytes",
            "Last-Modified": http_date(file.last_modified),
            # Recordings are private: without a rule of their own no shared cache keeps them.
            "Cache-Control": "private",
        }
        if file.etag:
            headers["ETag"] = f'"{file.etag}"'
        for name in ("Cache-Control", "Expires"):
            if is_header_value(stored.get(name.lower())):
                headers[name] = stored[name.lower()]
        if encoding := _encoding(stored.get("content-encoding", "")):
            headers["Content-Encoding"] = encoding
        disposition = self._save_as or _disposition(stored.get("content-disposition"), kind)
        if disposition is not None:
            headers["Content-Disposition"] = disposition
        return headers


def _lower_case(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers with names in lower case, and those that occur twice joined."""
    # The headers of Werkzeug and Quart are no Mapping.
    if not callable(getattr(headers, "items", None)):
        raise InvalidInputError(f"headers must be a mapping, not {type(headers).__name__}.")
    lower: dict[str, str] = {}
    # An item may occur twice, as in the headers of Starlette and aiohttp.
    pairs: Iterable[tuple[object, object]] = headers.items()
    for name, value in pairs:
        if not isinstance(name, str) or not isinstance(value, str):
            raise InvalidInputError("headers must map str to str.")
        before = lower.get(name.lower())
        lower[name.lower()] = value if before is None else f"{before}, {value}"
    return lower


def _encoding(stored: str) -> str:
    # Some servers return the "aws-chunked" of a signed upload in chunks.
    names = [name.strip() for name in stored.split(",")]
    kept = ", ".join(name for name in names if name.lower() not in ("", "identity", "aws-chunked"))
    return kept if is_header_value(kept) else ""


def _disposition(stored: str | None, kind: str) -> str | None:
    """Return the Content-Disposition: what a browser could run is saved, never opened."""
    plain = kind.partition(";")[0].strip().lower()
    # Of several types, separated by commas, browsers take the last one.
    shown = "," not in kind and (
        plain in _SHOWN_TYPES or (plain.startswith(_SHOWN_KINDS) and not plain.endswith("xml"))
    )
    how, semicolon, parameters = (stored or "").partition(";")
    saved = how.strip().lower() == "attachment" or not shown
    if stored is None or not is_header_value(stored):
        return "attachment" if saved else None
    return f"attachment{semicolon}{parameters}" if saved else stored
