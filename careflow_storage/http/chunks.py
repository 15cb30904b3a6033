"""Bodies in chunks (RFC 9112, section 7.1): where their data lies."""

from __future__ import annotations

import re
from typing import Final

from careflow_storage._http.errors import ProtocolError

_MAX_LINE: Final = 4096
_MAX_TRAILERS: Final = 16 * 1024
# Of all chunks of a body together. Nobody needs them; a byte of data each could have 4 kB.
_MAX_EXTENSIONS: Final = 16 * 1024
_size_line = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*|;[^\x00-\x08\x0a-\x1f\x7f]*)").fullmatch
# What would say, too late, where the body ends.
_framing_name = re.compile(rb"(?i:content-length|transfer-encoding):").match
_trailer = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\x00-\x08\x0a-\x1f\x7f]*").fullmatch


class Chunks:
    """Reads the framing, and leaves the data where it is. ``done`` says that all is read."""

    __slots__ = ("_ended", "_extensions", "_left", "_trailers", "done")

    def __init__(self) -> None:
        self.done = False
        self._left = 0
        # Whether the line end that follows a chunk's data is still to come.
        self._ended = True
        self._extensions = 0
        self._trailers = -1

    def find(self, buffer: bytearray, start: int, end: int) -> tuple[int, int]:
        """Skip framing in ``buffer[start:end]``; return where data begins and how much there is.

        None of it means that more must come, unless it is ``done``. Tell `took` what was taken.

        Raises:
            ProtocolError: The framing is malformed, or goes on for ever.
        """
        while not self._left and not self.done:
            line_end = buffer.find(b"\r\n", start, end)
            if line_end < 0:
                if buffer.find(b"\n", start, end) >= 0:
                    raise ProtocolError("a line between the chunks of the answer ends in a bare LF")
                if not self._ended and not b"\r".startswith(buffer[start:end]):
                    raise ProtocolError("a chunk of the answer is longer than it says")
                if end - start > _MAX_LINE:
                    raise ProtocolError("a line between the chunks of the answer is too long")
                return start, 0
            self._read_line(bytes(buffer[start:line_end]))
            start = line_end + 2
        return start, min(self._left, end - start)

    def took(self, size: int) -> None:
        """Count what was taken of the data found."""
        self._left -= size
        if size and not self._left:
            self._ended = False

    def _read_line(self, line: bytes) -> None:
        if self._trailers >= 0:
            self._trailers += len(line) + 2
            if self._trailers > _MAX_TRAILERS:
                raise ProtocolError("the answer's trailers are too long")
            if line and (not _trailer(line) or _framing_name(line)):
                raise ProtocolError("a trailer of the answer is malformed")
            self.done = not line
        elif not self._ended:
            if line:
                raise ProtocolError("a chunk of the answer is longer than it says")
            self._ended = True
        else:
            found = _size_line(line)
            if found is None:
                raise ProtocolError("the size of a chunk of the answer is none")
            self._extensions += len(line) - len(found[1])
            if self._extensions > _MAX_EXTENSIONS:
                raise ProtocolError("the extensions of the answer's chunks are too long")
            self._left = int(found[1], 16)
            if not self._left:
                self._trailers = 0
