"""A strict parser of HTTP/1.1 responses (RFC 9112), and the writer of request heads.

It rejects ambiguous syntax: folded lines, two lengths, a length together with chunks. If two
readers could disagree on where a response ends, its bytes could be taken for the next response.

Heads are decoded as ISO-8859-1, one character per byte. So any bytes are valid text, and no
character outside ASCII becomes an ASCII letter where case is ignored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from careflow_storage._http.errors import NotHttpError, ProtocolError

_NAME: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
# No control characters except tab.
_VALUE: Final = r"[^\x00-\x08\x0a-\x1f\x7f]*"
_status_line = re.compile(rf"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: {_VALUE})?").fullmatch
_is_fields = re.compile(rf"(?:\r\n{_NAME}:{_VALUE})*+").fullmatch
_is_length = re.compile(r"[0-9]{1,18}").fullmatch
_BODILESS: Final = frozenset({204, 304})
# Enough for all metadata of an object, and the server's own headers.
_MAX_FIELDS: Final = 1024


@dataclass(slots=True)
class ResponseHead:
    """The status and the headers of a response, and how its body ends.

    Header names are in lower case; values of repeated headers are joined with commas. ``length``
    is the body's size in bytes, None if it is ``chunked`` or ends with the connection.
    """

    status: int
    headers: dict[str, str]
    length: int | None
    chunked: bool
    keep_alive: bool


def parse_response_head(data: bytes | bytearray, *, bodiless: bool) -> ResponseHead:
    """Parse a head, passed without the empty line at its end.

    ``bodiless`` is True for a response to HEAD, which has no body whatever its headers say.

    Raises:
        ProtocolError: It is malformed, or the end of its body is ambiguous.
    """
    text = data.decode("latin-1")
    first, separator, rest = text.partition("\r\n")
    line = _status_line(first)
    if line is None:
        if not text.startswith("HTTP/1."):
            raise NotHttpError(bytes(data[:16]))
        raise ProtocolError("the status line of the response is malformed")
    if not _is_fields(separator + rest):
        raise ProtocolError("a header of the response is malformed")
    headers = _fields(rest)
    status = int(line[2])
    modern = line[1] == "1"
    keep_alive = modern and "close" not in headers.get("connection", "").lower()
    length, chunked = _framing(headers)
    if chunked and not modern:
        raise ProtocolError("HTTP/1.0 has no chunks")
    if bodiless or status in _BODILESS or status < 200:
        length, chunked = 0, False
    # Without a length or chunks the body ends with the connection.
    return ResponseHead(
        status, headers, length, chunked, keep_alive and (chunked or length is not None)
    )


def _fields(text: str) -> dict[str, str]:
    headers: dict[str, str] = {}
    if not text:
        return headers
    lines = text.split("\r\n")
    if len(lines) > _MAX_FIELDS:
        raise ProtocolError(f"the response has more than {_MAX_FIELDS} headers")
    for line in lines:
        name, _, value = line.partition(":")
        name = name.lower()
        value = value.strip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _framing(headers: Mapping[str, str]) -> tuple[int | None, bool]:
    given, coding = headers.get("content-length"), headers.get("transfer-encoding")
    if coding is not None:
        if given is not None or coding.lower() != "chunked":
            raise ProtocolError("the end of the response is ambiguous")
        return None, True
    if given is None:
        return None, False
    if not _is_length(given):
        raise ProtocolError("the response's Content-Length is invalid")
    return int(given), False


def request_head(
    method: str, target: str, fixed: str, headers: Mapping[str, str], length: int | None
) -> bytes:
    """Return the head of a request, with the empty line at its end.

    ``fixed`` holds the lines of the headers that all requests share.

    Raises:
        ValueError: A value has a line break, which would inject a header.
    """
    lines = [f"{method} {target} HTTP/1.1\r\n{fixed}"]
    lines += [f"{name}: {value}\r\n" for name, value in headers.items()]
    if length is not None:
        lines.append(f"content-length: {length}\r\n")
    text = "".join(lines)
    ends = len(lines) + fixed.count("\r\n")
    if text.count("\n") != ends or text.count("\r") != ends:
        raise ValueError("a header of the request has a line break")
    return f"{text}\r\n".encode()


_MAX_LINE: Final = 4096
_MAX_TRAILERS: Final = 16 * 1024
# For all chunks of a body together. Without a limit each byte of data could have 4 kB of them.
_MAX_EXTENSIONS: Final = 16 * 1024
_size_line = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*|;[^\x00-\x08\x0a-\x1f\x7f]*)").fullmatch
# Trailers that would change the end of the body after the fact.
_framing_name = re.compile(rb"(?i:content-length|transfer-encoding):").match
_trailer = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\x00-\x08\x0a-\x1f\x7f]*").fullmatch


class Chunks:
    """Parses the framing of chunks in place. ``done`` is True after the last one."""

    __slots__ = ("_ended", "_extensions", "_trailers", "done", "left")

    def __init__(self) -> None:
        self.done = False
        self.left = 0
        # Whether the line end after a chunk's data was read.
        self._ended = True
        self._extensions = 0
        self._trailers = -1

    def find(self, buffer: bytearray, start: int, end: int) -> tuple[int, int]:
        """Skip framing in ``buffer[start:end]``; return the position and size of the data after it.

        A size of 0 means that more bytes must arrive, unless it is ``done``. Call `took` with the
        size of the data that was read.

        Raises:
            ProtocolError: The framing is malformed, or exceeds a limit.
        """
        while not self.left and not self.done:
            line_end = buffer.find(b"\r\n", start, end)
            if line_end < 0:
                if buffer.find(b"\n", start, end) >= 0:
                    raise ProtocolError(
                        "a line between the chunks of the response ends in a bare LF"
                    )
                if not self._ended and not b"\r".startswith(buffer[start:end]):
                    raise ProtocolError("a chunk of the response is longer than it says")
                if end - start > _MAX_LINE:
                    raise ProtocolError("a line between the chunks of the response is too long")
                return start, 0
            self._read_line(bytes(buffer[start:line_end]))
            start = line_end + 2
        return start, min(self.left, end - start)

    def took(self, size: int) -> None:
        """Count the data that was read."""
        self.left -= size
        if size and not self.left:
            self._ended = False

    def _read_line(self, line: bytes) -> None:
        if self._trailers >= 0:
            self._trailers += len(line) + 2
            if self._trailers > _MAX_TRAILERS:
                raise ProtocolError("the response's trailers are too long")
            if line and (not _trailer(line) or _framing_name(line)):
                raise ProtocolError("a trailer of the response is malformed")
            self.done = not line
        elif not self._ended:
            if line:
                raise ProtocolError("a chunk of the response is longer than it says")
            self._ended = True
        else:
            found = _size_line(line)
            if found is None:
                raise ProtocolError("the size of a chunk of the response is invalid")
            self._extensions += len(line) - len(found[1])
            if self._extensions > _MAX_EXTENSIONS:
                raise ProtocolError("the extensions of the response's chunks are too long")
            self.left = int(found[1], 16)
            if not self.left:
                self._trailers = 0


# Room for a whole small response, any reasonable head, and bytes that arrive between reads.
BUFFER_BYTES: Final = 128 * 1024
_MAX_INFORMATIONAL: Final = 8
_FIRST: Final = b"HTTP/1."
_bare_line_feed = re.compile(rb"(?<!\r)\n").search


class Incoming:
    """A buffer of 128 KiB, and the framing of the response that passes through it.

    ``left`` is the number of unread bytes of a body with a length, received or not. It is 0 before
    the head is complete, None if the body ends with the connection.
    """

    __slots__ = (
        *("_bodiless", "_buffer", "_chunks", "_end", "_informational", "_searched", "_start"),
        *("_view", "left"),
    )

    def __init__(self) -> None:
        self._buffer = bytearray(BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._start = self._end = self._searched = 0
        self._chunks: Chunks | None = None
        self._bodiless = False
        self._informational = 0
        self.left: int | None = 0

    # --- the buffer ---------------------------------------------------------------------

    @property
    def empty(self) -> bool:
        """Whether the buffer has no bytes."""
        return self._start == self._end

    @property
    def size(self) -> int:
        """The number of bytes in the buffer."""
        return self._end - self._start

    @property
    def full(self) -> bool:
        """Whether there is no room at its end. `make_room` may free some at its beginning."""
        return self._end == BUFFER_BYTES

    def room(self) -> memoryview:
        """Return the free memory for the next bytes; call `came` with their number."""
        return self._view[self._end :]

    def came(self, size: int) -> None:
        """Count the bytes that were received into `room`."""
        self._end += size

    def make_room(self) -> None:
        """Move the bytes to the beginning of the buffer."""
        if self._start:
            rest = self._end - self._start
            self._buffer[:rest] = self._buffer[self._start : self._end]
            self._searched = max(0, self._searched - self._start)
            self._start, self._end = 0, rest

    # --- the response in it ---------------------------------------------------------------

    def expect_response(self, *, bodiless: bool) -> None:
        """Reset the framing for the next response."""
        self._searched = self._start
        self._chunks, self.left = None, 0
        self._bodiless, self._informational = bodiless, 0

    def find_head(self) -> ResponseHead | None:
        """Return the head of the response when it is complete; its body follows.

        Skips informational responses.

        Raises:
            ProtocolError: It is malformed or too long, or is not HTTP/1.1.
        """
        buffer = self._buffer
        while True:
            end = buffer.find(b"\r\n\r\n", max(self._start, self._searched - 3), self._end)
            if end < 0:
                break
            head = parse_response_head(buffer[self._start : end], bodiless=self._bodiless)
            self._start = self._searched = end + 4
            if head.status >= 200:
                self.left = head.length
                if head.chunked:
                    self._chunks, self.left = Chunks(), 0
                return head
            self._informational += 1
            if head.status == 101 or self._informational > _MAX_INFORMATIONAL:
                raise ProtocolError("the server sends no final response")
        self.make_room()
        self._check_begun()
        return None

    def greeting(self) -> bytes:
        """Return the first bytes in the buffer."""
        return bytes(self._view[self._start : min(self._end, self._start + 16)])

    def _check_begun(self) -> None:
        """Raise for an incomplete head that cannot become valid, instead of waiting for its end."""
        greeting = self.greeting()
        if not _FIRST.startswith(greeting[: len(_FIRST)]):
            raise NotHttpError(greeting)
        if _bare_line_feed(self._buffer, max(self._start, self._searched - 1), self._end):
            raise ProtocolError("a line of the response's head ends in a bare LF")
        self._searched = self._end
        if self.full:
            raise ProtocolError(f"the response's head is longer than {BUFFER_BYTES} bytes")

    @property
    def of_unknown_length(self) -> bool:
        """Whether the size of the body is unknown until its end."""
        return self._chunks is not None or self.left is None

    @property
    def ended(self) -> bool:
        """Whether the whole body was read, according to its framing."""
        return self._chunks.done if self._chunks is not None else self.left == 0

    def available(self) -> int:
        """Return how many bytes of the body are in the buffer and unread."""
        if self._chunks is not None:
            self._start, size = self._chunks.find(self._buffer, self._start, self._end)
            return size
        size = self._end - self._start
        return size if self.left is None else min(size, self.left)

    def take(self, size: int) -> bytes:
        """Return ``size`` of the `available` bytes."""
        data = bytes(self._view[self._start : self._start + size])
        self._took(size)
        return data

    def move_to(self, target: memoryview) -> None:
        """Fill ``target`` with `available` bytes."""
        size = len(target)
        target[:] = self._view[self._start : self._start + size]
        self._took(size)

    def _took(self, size: int) -> None:
        self._start += size
        if self._chunks is not None:
            self._chunks.took(size)
            # Reads the end of the body as soon as it is received.
            self._start, _ = self._chunks.find(self._buffer, self._start, self._end)
        elif self.left is not None:
            self.left -= size
        if self._start == self._end:
            self._start = self._end = self._searched = 0
