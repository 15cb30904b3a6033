"""What has come on a connection and nobody has taken, and where the answer in it ends."""

from __future__ import annotations

import re
from typing import Final

from careflow_storage._http.errors import NotHttpError, ProtocolError
from careflow_storage._http.parser import AnswerHead, parse_answer_head
from careflow_storage.http.chunks import Chunks

# Holds a small answer at once, any decent head, and what comes while nobody reads.
BUFFER_BYTES: Final = 128 * 1024
_MAX_INFORMATIONAL: Final = 8
_FIRST: Final = b"HTTP/1."
_bare_line_feed = re.compile(rb"(?<!\r)\n").search


class Incoming:
    """A buffer of 128 KiB, and the framing of the answer whose bytes pass through it.

    ``left`` is what is not yet taken of a body with a length, wherever it is; 0 while that is not
    known, None where the body goes on until the connection ends.
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
        """Whether nothing is there."""
        return self._start == self._end

    @property
    def size(self) -> int:
        """How many bytes are there."""
        return self._end - self._start

    @property
    def full(self) -> bool:
        """Whether there is no room at its end; `make_room` may find some at its beginning."""
        return self._end == BUFFER_BYTES

    def room(self) -> memoryview:
        """Return where to put what comes next; tell `came` how much it was."""
        return self._view[self._end :]

    def came(self, size: int) -> None:
        """Count what was put there."""
        self._end += size

    def make_room(self) -> None:
        """Move what is there to the beginning."""
        if self._start:
            rest = self._end - self._start
            self._buffer[:rest] = self._buffer[self._start : self._end]
            self._searched = max(0, self._searched - self._start)
            self._start, self._end = 0, rest

    # --- the answer in it ---------------------------------------------------------------

    def expect_answer(self, *, bodiless: bool) -> None:
        """Forget the framing of the one before."""
        self._searched = self._start
        self._chunks, self.left = None, 0
        self._bodiless, self._informational = bodiless, 0

    def find_head(self) -> AnswerHead | None:
        """Return the head of the answer once it is all there; what follows is its body.

        Informational heads before it are passed over.

        Raises:
            ProtocolError: It is malformed or endless, or no head of HTTP/1.1 can come of it.
        """
        buffer = self._buffer
        while True:
            end = buffer.find(b"\r\n\r\n", max(self._start, self._searched - 3), self._end)
            if end < 0:
                break
            head = parse_answer_head(buffer[self._start : end], bodiless=self._bodiless)
            self._start = self._searched = end + 4
            if head.status >= 200:
                self.left = head.length
                if head.chunked:
                    self._chunks, self.left = Chunks(), 0
                return head
            self._informational += 1
            if head.status == 101 or self._informational > _MAX_INFORMATIONAL:
                raise ProtocolError("the server does not come to an answer")
        self.make_room()
        self._check_begun()
        return None

    def greeting(self) -> bytes:
        """Return the first bytes of what is there."""
        return bytes(self._view[self._start : min(self._end, self._start + 16)])

    def _check_begun(self) -> None:
        """Refuse a head of which no valid one can come, rather than wait for its end."""
        greeting = self.greeting()
        if not _FIRST.startswith(greeting[: len(_FIRST)]):
            raise NotHttpError(greeting)
        if _bare_line_feed(self._buffer, max(self._start, self._searched - 1), self._end):
            raise ProtocolError("a line of the answer's head ends in a bare LF")
        self._searched = self._end
        if self.full:
            raise ProtocolError(f"the answer's head is longer than {BUFFER_BYTES} bytes")

    @property
    def of_unknown_length(self) -> bool:
        """Whether only its end tells how long the body is."""
        return self._chunks is not None or self.left is None

    @property
    def ended(self) -> bool:
        """Whether all of the body was taken, as far as its framing tells."""
        return self._chunks.done if self._chunks is not None else self.left == 0

    def available(self) -> int:
        """Return how many of the body's next bytes are there."""
        if self._chunks is not None:
            self._start, size = self._chunks.find(self._buffer, self._start, self._end)
            return size
        size = self._end - self._start
        return size if self.left is None else min(size, self.left)

    def take(self, size: int) -> bytes:
        """Return so many of the bytes that are `available`."""
        data = bytes(self._view[self._start : self._start + size])
        self._took(size)
        return data

    def move_to(self, target: memoryview) -> None:
        """Fill ``target`` with bytes that are `available`."""
        size = len(target)
        target[:] = self._view[self._start : self._start + size]
        self._took(size)

    def _took(self, size: int) -> None:
        self._start += size
        if self._chunks is not None:
            self._chunks.took(size)
            # So that a last chunk is known to be the last as soon as that is there.
            self._start, _ = self._chunks.find(self._buffer, self._start, self._end)
        elif self.left is not None:
            self.left -= size
        if self._start == self._end:
            self._start = self._end = self._searched = 0
