"""The heads of requests and answers: RFC 9112, read strictly.

What only some servers send and others understand differently (folded lines, two lengths, a
length beside chunks) is refused: a head that two readers could read in two ways would let an
answer's bytes be taken for the answer to the next request.

Heads are decoded as ISO-8859-1, one character per byte: any bytes are text then that every model
takes, and no letter beyond ASCII turns into one of ASCII where case is ignored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from careflow_storage._http.errors import NotHttpError, ProtocolError

_NAME: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
# No control characters but the tabulator.
_VALUE: Final = r"[^\x00-\x08\x0a-\x1f\x7f]*"
_status_line = re.compile(rf"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: {_VALUE})?").fullmatch
_is_fields = re.compile(rf"(?:\r\n{_NAME}:{_VALUE})*+").fullmatch
_is_length = re.compile(r"[0-9]{1,18}").fullmatch
_BODILESS: Final = frozenset({204, 304})
# As many as the metadata that a file may have, and what a server adds.
_MAX_FIELDS: Final = 1024


@dataclass(slots=True)
class AnswerHead:
    """The status and the headers of an answer, and how its body ends.

    Names of headers are in lower case; those given twice are joined with commas. Each byte is one
    character. ``length`` is that of the body in bytes: None where it is ``chunked`` or goes on
    until the connection ends.
    """

    status: int
    headers: dict[str, str]
    length: int | None
    chunked: bool
    keep_alive: bool


def parse_answer_head(data: bytes | bytearray, *, bodiless: bool) -> AnswerHead:
    """Read a head, given without the empty line at its end.

    ``bodiless`` says that the answer has no body whatever its headers say: it is one to HEAD.

    Raises:
        ProtocolError: It is malformed, or its body could end in two places.
    """
    text = data.decode("latin-1")
    first, separator, rest = text.partition("\r\n")
    line = _status_line(first)
    if line is None:
        if not text.startswith("HTTP/1."):
            raise NotHttpError(bytes(data[:16]))
        raise ProtocolError("the status line of the answer is malformed")
    if not _is_fields(separator + rest):
        raise ProtocolError("a header of the answer is malformed")
    headers = _fields(rest)
    status = int(line[2])
    modern = line[1] == "1"
    keep_alive = modern and "close" not in headers.get("connection", "").lower()
    length, chunked = _framing(headers)
    if chunked and not modern:
        raise ProtocolError("HTTP/1.0 has no chunks")
    if bodiless or status in _BODILESS or status < 200:
        length, chunked = 0, False
    # Without a length and chunks the body ends where the connection does.
    return AnswerHead(
        status, headers, length, chunked, keep_alive and (chunked or length is not None)
    )


def _fields(text: str) -> dict[str, str]:
    headers: dict[str, str] = {}
    if not text:
        return headers
    lines = text.split("\r\n")
    if len(lines) > _MAX_FIELDS:
        raise ProtocolError(f"the answer has more than {_MAX_FIELDS} headers")
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
            raise ProtocolError("nobody can tell where the answer ends")
        return None, True
    if given is None:
        return None, False
    if not _is_length(given):
        raise ProtocolError("the answer's Content-Length is none")
    return int(given), False


def request_head(
    method: str, target: str, fixed: str, headers: Mapping[str, str], length: int | None
) -> bytes:
    """Write a head, with the empty line at its end.

    ``fixed`` are headers that are the same for every request, each line with its end.

    Raises:
        ValueError: Something in it has a line break, which would forge a header.
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
