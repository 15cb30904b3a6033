"""Read the body of a request, and keep none or a few bytes of it."""

from __future__ import annotations

from typing import Final

from benchmarks.null.request import BadRequestError

MOST_KEPT: Final = 16 * 1024 * 1024
_LONGEST_LINE: Final = 16 * 1024


class Chunks:
    """Reads ``Transfer-Encoding: chunked`` and finds its end.

    ``feed`` takes what arrived and gives the slice of it that is data, and how far it read:
    one stretch at a time, so that nothing is copied.
    """

    __slots__ = ("_left", "_line", "_trailer", "ended")

    def __init__(self) -> None:
        self._left = 0
        self._line = bytearray()
        self._trailer = False
        self.ended = False

    def feed(self, data: memoryview, begin: int, end: int) -> tuple[int, int]:
        """Read from ``begin``; return where the data after it begins and ends.

        The two are the same where there was framing only. The next call begins at the second.
        """
        if self._left > 0:
            stop = min(end, begin + self._left)
            self._left -= stop - begin
            return begin, stop
        while begin < end and self._left == 0 and not self.ended:
            begin = self._framing(data, begin, end)
        return begin, begin

    def _framing(self, data: memoryview, begin: int, end: int) -> int:
        found = bytes(data[begin : min(end, begin + _LONGEST_LINE)])
        at = found.find(b"\n")
        if at < 0:
            self._line += found
            if len(self._line) > _LONGEST_LINE:
                raise BadRequestError("a chunk has no size")
            return begin + len(found)
        line = bytes(self._line + found[:at]).strip()
        self._line.clear()
        self._take(line)
        return begin + at + 1

    def _take(self, line: bytes) -> None:
        if self._trailer:
            self.ended = not line
        elif line:  # an empty line is the end of the chunk before
            try:
                self._left = int(line.partition(b";")[0], 16)
            except ValueError as error:
                raise BadRequestError(f"no size of a chunk: {line[:20]!r}") from error
            self._trailer = self._left == 0


class Body:
    """The rest of a body. ``tail`` holds its last ``keep`` bytes."""

    __slots__ = ("_chunks", "_keep", "droppable", "left", "size", "tail")

    def __init__(self, length: int | None, keep: int) -> None:
        self.size = self.left = length or 0
        self.tail = bytearray()
        self._keep = keep
        self._chunks = Chunks() if length is None else None
        # A length is known, and no bytes are kept: counting is enough.
        self.droppable = not keep and length is not None

    @property
    def ended(self) -> bool:
        return self.left == 0 if self._chunks is None else self._chunks.ended

    def feed(self, data: memoryview, begin: int, end: int) -> int:
        """Take the bytes of the body; return where the rest begins."""
        while begin < end and not self.ended:
            if self._chunks is None:
                stop = min(end, begin + self.left)
                self.left -= stop - begin
            else:
                begin, stop = self._chunks.feed(data, begin, end)
                self.size += stop - begin
            if self._keep:
                self.tail += data[max(begin, stop - self._keep) : stop]
                if len(self.tail) > self._keep:
                    del self.tail[: -self._keep]
            begin = stop
        return begin
