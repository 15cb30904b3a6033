"""Responses as they should be and as they should not, read by us, by h11 and by httptools.

What we accept, h11 reads in the same way, head and body and where it ends. httptools tells whether
a difference would be ours alone. What h11 takes and we do not is meant: chunks in HTTP/1.0, two
lengths that agree, a length beside chunks, an end of line without its carriage return.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import h11
import httptools
import pytest

from careflow_storage._http.errors import ProtocolError
from careflow_storage._http.parser import Incoming


@dataclass(frozen=True)
class Read:
    """What a reader made of a response: its body, and whether that ended within the bytes."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    complete: bool


def by_us(data: bytes, cuts: list[int], *, bodiless: bool) -> Read | None:
    """Read as a connection does, with the bytes coming in pieces; None if it is refused."""
    incoming, head, body = Incoming(), None, bytearray()
    incoming.expect_response(bodiless=bodiless)
    try:
        for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            piece = data[start:end]
            incoming.room()[: len(piece)] = piece
            incoming.came(len(piece))
            if head is None:
                head = incoming.find_head()
            if head is not None:
                while not (incoming.left is not None and incoming.ended) and (
                    size := incoming.available()
                ):
                    body += incoming.take(size)
    except ProtocolError:
        return None
    if head is None:
        return None
    complete = incoming.left is None or incoming.ended
    return Read(head.status, merged(list(head.headers.items())), bytes(body), complete)


def by_h11(data: bytes, *, bodiless: bool) -> Read | None:
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=256 * 1024)
    method = "HEAD" if bodiless else "GET"
    connection.send(h11.Request(method=method, target="/", headers=[("Host", "h")]))
    connection.send(h11.EndOfMessage())
    head, body, complete = None, bytearray(), False
    try:
        connection.receive_data(data)
        ended = False
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                if ended or head is None or "content-length" in dict(named(head)):
                    break
                if any(name == "transfer-encoding" for name, _ in named(head)):
                    break
                # The body goes on until the connection ends.
                connection.receive_data(b"")
                ended = True
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                complete = True
                break
            elif isinstance(event, h11.InformationalResponse):
                if event.status_code == 101:
                    return None
            else:
                break
    except h11.RemoteProtocolError:
        return None
    if head is None:
        return None
    return Read(head.status_code, merged(named(head)), bytes(body), complete)


def named(head: h11.Response) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in head.headers]


def by_httptools(data: bytes) -> tuple[int, bytes] | None:
    """The status and the body of the final response; it knows no HEAD."""

    class Seen:
        def __init__(self) -> None:
            self.body = bytearray()
            self.statuses: list[int] = []
            self.complete = False

        def on_headers_complete(self) -> None:
            if not self.complete:
                self.statuses.append(parser.get_status_code())

        def on_body(self, piece: bytes) -> None:
            if not self.complete:
                self.body += piece

        def on_message_complete(self) -> None:
            self.complete = self.statuses[-1] >= 200

    seen = Seen()
    parser = httptools.HttpResponseParser(seen)
    try:
        parser.feed_data(data)
    except httptools.HttpParserError:
        # What follows a response may be anything; that is for the connection to refuse.
        if not seen.complete:
            return None
    if not seen.statuses or seen.statuses[-1] < 200:
        return None
    return seen.statuses[-1], bytes(seen.body)


def merged(pairs: list[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for name, value in pairs:
        name = name.lower()
        # h11 gives this one in lower case.
        value = value.lower() if name == "transfer-encoding" else value
        found[name] = f"{found[name]}, {value}" if name in found else value
    return tuple(sorted(found.items()))


# --- what is read -----------------------------------------------------------------------

FIRST_LINES = [
    b"HTTP/1.1 200 OK",
    b"HTTP/1.1 200",
    b"HTTP/1.1 200 ",
    b"HTTP/1.1 206 Partial Content",
    b"HTTP/1.1 204 No Content",
    b"HTTP/1.1 304 Not Modified",
    b"HTTP/1.1 503 Slow Down",
    b"HTTP/1.0 200 OK",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK",
    b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 404 Not Found",
]
HEADERS = [
    b'ETag: "abc"',
    b"x-amz-request-id:7",
    b'Content-Type: \taudio/wav; a="b" \t',
    b"X-Empty:",
    b"X-Amz-Meta-Name: \xc3\xa4\xff\x85\xa0",
    b"Connection: close",
    b"Date: Mon, 23 Nov 2026 06:48:48 GMT",
    b"Set-Cookie: a\r\nSet-Cookie: b",
]
# What mutations are made of: everything that some parser of the past has tripped over.
TOKENS = [
    *(b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\n\n", b" ", b"\t", b"\0", b"\x0b", b"\x0c", b"\x1b"),
    *(b":", b";", b",", b"+", b"-", b"_", b"0x", b"0", b"1", b"F", b"\x7f", b"\x85", b"\xa0"),
    *(b"\xb2", b"\xff", b"\xe2\x84\xaa", "\u017f".encode(), b'"', b"\r\n ", b"\r\n\t"),
    *(b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"content-length:6\r\n"),
    *(b"Content-Length: +5\r\n", b"Content-Length: 5, 5\r\n", b"Content-Length : 5\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: \xe2\x84\xaa\r\n"),
    *(b"Transfer-Encoding: gzip, chunked\r\n", b"Transfer-Encoding: identity\r\n"),
    *(b"transfer-encoding: chun\xe2\x84\xaaed\r\n", b"Transfer-Encoding: chunked, chunked\r\n"),
    *(b"Connection: upgrade\r\n", b"Upgrade: h2c\r\n", b"HTTP/1.1 200 OK\r\n", b"HTTP/2 "),
    *(b"0\r\n\r\n", b"5\r\n", b"5;a=b\r\n", b"5 ;a\r\n", b"000000000000005\r\n", b"5\n"),
]


def made(chance: random.Random) -> bytes:
    """A valid response with some of what servers send, and perhaps bytes behind it."""
    lines = [chance.choice(FIRST_LINES), *chance.sample(HEADERS, chance.randrange(4))]
    body = chance.randbytes(chance.choice((0, 1, 5, 16, 300)))
    match chance.randrange(3):
        case 0:
            lines.append(b"Content-Length: %d" % len(body))
            tail = body
        case 1 if b"HTTP/1.1" in lines[0]:
            lines.append(
                chance.choice((b"Transfer-Encoding: chunked", b"transfer-encoding:Chunked"))
            )
            tail = chunked(body, chance)
        case _:
            tail = body
    return b"\r\n".join([*lines, b"", b""]) + tail + chance.choice((b"", b"", b"", b"HTTP/1.1 2"))


def chunked(body: bytes, chance: random.Random) -> bytes:
    pieces = []
    while body:
        size = chance.randrange(1, len(body) + 1)
        form = chance.choice((b"%x", b"%X", b"0%x", b"%x;ext=1", b"%x; a", b"%x  "))
        pieces.append(form % size + b"\r\n" + body[:size] + b"\r\n")
        body = body[size:]
    trailers = chance.choice((b"", b"", b"X-Checksum: 1\r\n", b"a: b\r\nc: \r\n"))
    return b"".join(pieces) + chance.choice((b"0", b"000", b"0;x")) + b"\r\n" + trailers + b"\r\n"


def mutated(data: bytes, chance: random.Random) -> bytes:
    for _ in range(chance.choice((0, 1, 1, 1, 2, 3))):
        place = chance.randrange(len(data) + 1)
        token = chance.choice(TOKENS)
        match chance.randrange(5):
            case 0:
                data = data[:place] + token + data[place:]
            case 1:
                data = data[:place] + token + data[place + len(token) :]
            case 2:
                data = data[:place] + data[place + chance.randrange(1, 4) :]
            case 3:
                # Between two lines, where a header would be.
                lines = data.split(b"\r\n")
                lines.insert(chance.randrange(1, len(lines) + 1), token.removesuffix(b"\r\n"))
                data = b"\r\n".join(lines)
            case _:
                end = min(len(data), place + chance.randrange(1, 20))
                data = data[:end] + data[place:end] + data[end:]
    return data


def cuts_of(data: bytes, chance: random.Random) -> list[int]:
    match chance.randrange(4):
        case 0:
            return []
        case 1:
            return list(range(1, len(data)))
        case _:
            return sorted(chance.sample(range(len(data) + 1), min(len(data), chance.randrange(6))))


def problem(data: bytes, chance: random.Random) -> str | None:
    bodiless = chance.random() < 0.15
    ours = by_us(data, cuts_of(data, chance), bodiless=bodiless)
    whole = by_us(data, [], bodiless=bodiless)
    if (ours is None) != (whole is None) or (ours is not None and ours != whole):
        return f"another meaning in pieces: {ours} and {whole}"
    if ours is None:
        return None
    strict = by_h11(data, bodiless=bodiless)
    if strict is not None:
        return None if strict == ours else f"h11 reads {strict}, we {ours}"
    loose = by_httptools(data)
    if loose is None or bodiless:
        return f"both refuse what we read as {ours}"
    if loose != (ours.status, ours.body):
        return f"h11 refuses, httptools reads {loose}, we {ours}"
    # There is no kind that we read and h11 does not: one that is wanted would be told here.
    return f"only httptools reads it, as we do: {ours}"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_what_we_accept_others_read_in_the_same_way(seed: int) -> None:
    chance = random.Random(seed)
    accepted = 0
    for _ in range(2000):
        valid = made(chance)
        assert by_us(valid, cuts_of(valid, chance), bodiless=False) is not None, valid
        data = mutated(valid, chance)
        found = problem(data, chance)
        assert found is None, f"{found}\n{data!r}"
        accepted += by_us(data, [], bodiless=False) is not None
    # Else it would compare nothing.
    assert 500 < accepted < 2000


@pytest.mark.slow
def test_every_cut_of_a_response_gives_the_same() -> None:
    chance = random.Random(0)
    for _ in range(40):
        data = mutated(made(chance), chance)
        whole = by_us(data, [], bodiless=False)
        for cut in range(len(data) + 1):
            assert by_us(data, [cut], bodiless=False) == whole, (data, cut)
