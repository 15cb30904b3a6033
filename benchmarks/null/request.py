"""The head of a request, parsed as far as its fields are read."""

from __future__ import annotations

import re
from typing import Final

# The needles by which fields are found in the head in lower case. A dictionary of all fields
# would take longer to make than the rest of the response.
CONTENT_LENGTH: Final = b"\r\ncontent-length:"
CONTENT_MD5: Final = b"\r\ncontent-md5:"
TRANSFER_ENCODING: Final = b"\r\ntransfer-encoding:"
DECODED_LENGTH: Final = b"\r\nx-amz-decoded-content-length:"
COPY_SOURCE: Final = b"\r\nx-amz-copy-source:"
CHECKSUM: Final = b"\r\nx-amz-checksum-"
CONNECTION: Final = b"\r\nconnection:"
EXPECT: Final = b"\r\nexpect:"
RANGE: Final = b"\r\nrange:"
HOST: Final = b"\r\nhost:"
CONTENT_TYPE: Final = b"\r\ncontent-type:"
FILE_NAME: Final = b"\r\nx-bz-file-name:"
CONTENT_SHA1: Final = b"\r\nx-bz-content-sha1:"
PART_NUMBER: Final = b"\r\nx-bz-part-number:"

_CHECKSUM_FIELD = re.compile(
    rb"(?i)\r\n(x-amz-checksum-(?:crc32c?|crc64nvme|sha1|sha256):[^\r]*)(?=\r)"
)


class BadRequestError(Exception):
    """The request is malformed."""


class Request:
    """Method, target and the raw fields. ``path`` is as it was sent, percent-encoded."""

    __slots__ = ("head", "lower", "method", "path", "query", "target")

    def __init__(self, head: bytes) -> None:
        """Parse the request line; ``head`` ends before its empty line."""
        line_end = head.find(b"\r\n")
        words = (head if line_end < 0 else head[:line_end]).split(b" ")
        if len(words) != 3 or not words[1].startswith(b"/"):
            raise BadRequestError(f"no request line: {head[:100]!r}")
        self.method, self.target, _ = words
        self.path, _, self.query = self.target.partition(b"?")
        self.head = head
        self.lower = head.lower()

    def field(self, name: bytes) -> bytes | None:
        """Return the value of a field, by one of the names above."""
        at = self.lower.find(name)
        if at < 0:
            return None
        at += len(name)
        end = self.head.find(b"\r\n", at)
        return (self.head[at:] if end < 0 else self.head[at:end]).strip()

    def checksums(self) -> bytes:
        """Return the checksum fields, as lines to send back."""
        if CHECKSUM not in self.lower:
            return b""
        found: list[bytes] = _CHECKSUM_FIELD.findall(self.head + b"\r\n")
        return b"".join(line + b"\r\n" for line in found)

    def expects_continue(self) -> bool:
        return EXPECT in self.lower

    def closes(self) -> bool:
        """Return whether the client closes the connection after this response."""
        return (self.field(CONNECTION) or b"").lower() == b"close"

    def length(self) -> int | None:
        """Return the length of the body, or None where it comes in chunks."""
        length = self.field(CONTENT_LENGTH)
        if length is not None:
            if not length.isdigit():
                raise BadRequestError(f"no length: {length!r}")
            return int(length)
        return None if TRANSFER_ENCODING in self.lower else 0
