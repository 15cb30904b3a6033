"""Heads of responses and the framing of bodies: whatever comes, it has one meaning or none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from careflow_storage._http.errors import ProtocolError
from careflow_storage._http.parser import Chunks, ResponseHead, parse_response_head, request_head

NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9\-_.!#$%&'*+^`|~]{0,20}", fullmatch=True)
VALUES = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"),
    max_size=40,
)


def parsed(text: str | bytes, *, bodiless: bool = False) -> ResponseHead:
    data = text.encode() if isinstance(text, str) else text
    return parse_response_head(data.replace(b"\n", b"\r\n"), bodiless=bodiless)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=12))
def test_headers_come_back_as_they_were_sent(pairs: list[tuple[str, str]]) -> None:
    reserved = ("content-length", "transfer-encoding", "connection")
    pairs = [pair for pair in pairs if pair[0].lower() not in reserved]
    lines = "".join(f"\r\n{name}: {value}" for name, value in pairs)
    head = parse_response_head(f"HTTP/1.1 200 OK{lines}".encode("latin-1"), bodiless=False)
    expected: dict[str, str] = {}
    for name, value in pairs:
        told = value.strip(" \t")
        name = name.lower()
        expected[name] = f"{expected[name]}, {told}" if name in expected else told
    assert head.headers == expected
    assert head.status == 200


@given(st.binary(max_size=300) | st.binary(max_size=100).map(b"HTTP/1.1 200 OK\r\n".__add__))
def test_any_bytes_are_a_head_or_a_protocol_error(data: bytes) -> None:
    try:
        head = parse_response_head(data, bodiless=False)
    except ProtocolError:
        return
    assert 100 <= head.status <= 999
    assert not any(set(text) & set("\r\n\0") for pair in head.headers.items() for text in pair)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "HTTP/2 200 OK",
        "HTTP/1.1 20 OK",
        "HTTP/1.1 099 OK",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1 ２００ OK",
        "HTTP/1.1  200 OK",
        "http/1.1 200 OK",
        "HTTP/1.1 200 OK\nno colon",
        "HTTP/1.1 200 OK\nname : value",
        "HTTP/1.1 200 OK\n: value",
        "HTTP/1.1 200 OK\na: b\n folded",
        "HTTP/1.1 200 OK\na: b\x00c",
        "HTTP/1.1 200 OK\na: b\x1bc",
        "HTTP/1.1 200 OK\nna\u00efve: b",
        "HTTP/1.1 200 OK\nContent-Length: -1",
        "HTTP/1.1 200 OK\nContent-Length: +1",
        "HTTP/1.1 200 OK\nContent-Length: 1_0",
        "HTTP/1.1 200 OK\nContent-Length: ١",
        "HTTP/1.1 200 OK\nContent-Length:",
        "HTTP/1.1 200 OK\nContent-Length: " + "9" * 19,
        "HTTP/1.1 200 OK\nContent-Length: 1\nContent-Length: 2",
        "HTTP/1.1 200 OK\nContent-Length: 1\nContent-Length: 1",
        "HTTP/1.1 200 OK\nContent-Length: 1\nTransfer-Encoding: chunked",
        "HTTP/1.1 200 OK\nTransfer-Encoding: gzip, chunked",
        "HTTP/1.1 200 OK\nTransfer-Encoding: identity",
        "HTTP/1.1 200 OK" + "\na: b" * 1025,
        # The Kelvin sign and others that change into ASCII where case is ignored.
        "HTTP/1.1 200 OK\nTransfer-Encoding: chun\u212aed",
        "HTTP/1.1 200 OK\nTransfer-Encoding: chun\u212aed\nContent-Length: 5",
        "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\u00a0",
        "HTTP/1.1 200 OK\nTransfer-Encoding: \u0085chunked",
        "HTTP/1.1 200 OK\nTransfer-Encoding: chunked, chunked",
        "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nTransfer-Encoding: chunked",
        "HTTP/1.1 200 OK\nTransfer-Encoding: xchunked",
        "HTTP/1.1 200 OK\nTransfer-Encoding:",
        "HTTP/1.0 200 OK\nTransfer-Encoding: chunked",
        "HTTP/1.1 200 OK\nContent-Length: 5\u00a0",
        "HTTP/1.1 200 OK\nContent-Length: \u00b2",
        "HTTP/1.1 200 OK\nContent-Length: 0x5",
        "HTTP/1.1 200 OK\nContent-Length: 5 5",
        "HTTP/1.1 200 OK\nContent-Length: 5\x0b",
        "HTTP/1.1 200 OK\n\ta: b",
        "HTTP/1.1 200 OK\na\u00a0: b",
        "HTTP/1.1 200 OK\na: b\rc: d",
        " HTTP/1.1 200 OK",
        "\nHTTP/1.1 200 OK",
        "HTTP/1.1\t200 OK",
        "HTTP/1.1 +20 OK",
        "HTTP/1.11 200 OK",
        "HTTP/1.1 200 O\x00K",
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(text: str) -> None:
    with pytest.raises(ProtocolError):
        parsed(text)


def test_a_bare_line_feed_ends_no_line() -> None:
    with pytest.raises(ProtocolError):
        parse_response_head(b"HTTP/1.1 200 OK\r\na: b\nc: d", bodiless=False)


@pytest.mark.parametrize(
    ("text", "bodiless", "length", "chunked", "keep_alive"),
    [
        ("HTTP/1.1 200 OK\nContent-Length: 7", False, 7, False, True),
        ("HTTP/1.1 200 OK\nContent-Length: 7", True, 0, False, True),
        ("HTTP/1.1 200\ncontent-length:0", False, 0, False, True),
        ("HTTP/1.1 200 OK\nTransfer-Encoding: Chunked", False, None, True, True),
        ("HTTP/1.1 200 OK", False, None, False, False),
        ("HTTP/1.1 204 No Content", False, 0, False, True),
        ("HTTP/1.1 304 Not Modified\nContent-Length: 7", False, 0, False, True),
        ("HTTP/1.1 200 OK\nContent-Length: 7\nConnection: Close", False, 7, False, False),
        ("HTTP/1.0 200 OK\nContent-Length: 7", False, 7, False, False),
    ],
)
def test_where_a_body_ends_and_whether_the_connection_goes_on(
    text: str, bodiless: bool, length: int | None, chunked: bool, keep_alive: bool
) -> None:
    head = parsed(text, bodiless=bodiless)
    assert (head.length, head.chunked, head.keep_alive) == (length, chunked, keep_alive)


def test_bytes_that_are_no_utf8_do_not_break_the_head() -> None:
    head = parsed(b"HTTP/1.1 200 OK\nx-amz-meta-a: \xff\xfe")
    assert head.headers["x-amz-meta-a"] == "\xff\xfe"


@pytest.mark.parametrize("bad", ["a\r\nX-Evil: 1", "a\nb", "a\rb", "\r\n\r\nGET / HTTP/1.1"])
def test_no_line_break_gets_into_a_request(bad: str) -> None:
    for target, headers in ((f"/{bad}", {}), ("/", {"a": bad}), ("/", {bad: "a"})):
        with pytest.raises(ValueError, match="line break"):
            request_head("GET", target, "host: h\r\n", headers, None)


def test_a_request_is_written_as_rfc_9112_has_it() -> None:
    head = request_head("PUT", "/b/k?x=", "host: h\r\nuser-agent: u\r\n", {"a": "ä"}, 3)
    assert (
        head
        == (
            "PUT /b/k?x= HTTP/1.1\r\nhost: h\r\nuser-agent: u\r\na: ä\r\ncontent-length: 3\r\n\r\n"
        ).encode()
    )


# --- chunks -----------------------------------------------------------------------------


def unchunked(data: bytes, sizes: list[int]) -> tuple[bytes, int, bool]:
    """Decode, with the bytes coming in pieces of these sizes; give what is left over, too."""
    chunks, buffer, start, found = Chunks(), bytearray(), 0, b""
    position = 0
    for size in [*sizes, len(data)]:
        buffer += data[position : position + size]
        position += size
        while True:
            start, count = chunks.find(buffer, start, len(buffer))
            if not count:
                break
            found += buffer[start : start + count]
            start += count
            chunks.took(count)
    return found, len(buffer) - start, chunks.done


@given(
    st.lists(st.binary(min_size=1, max_size=50), max_size=6),
    st.lists(st.integers(1, 20), max_size=40),
    st.sampled_from([b"", b";ext=1", b"  ", b"; a; b"]),
    st.sampled_from([b"", b"a: b\r\n", b"a: b\r\nc: d\r\n"]),
)
def test_chunks_come_back_however_they_are_cut(
    pieces: list[bytes], sizes: list[int], extension: bytes, trailers: bytes
) -> None:
    data = b"".join(b"%X%s\r\n%s\r\n" % (len(each), extension, each) for each in pieces)
    data += b"0\r\n" + trailers + b"\r\n"
    assert unchunked(data + b"next", sizes) == (b"".join(pieces), 4, True)
    body, _, done = unchunked(data[:-2], sizes)
    assert (body, done) == (b"".join(pieces), False)


@given(st.binary(max_size=100), st.lists(st.integers(1, 20), max_size=10))
def test_any_bytes_are_chunks_or_a_protocol_error(data: bytes, sizes: list[int]) -> None:
    try:
        body, left, _ = unchunked(data, sizes)
    except ProtocolError:
        return
    assert len(body) + left <= len(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b"x\r\n",
        b"-1\r\n",
        b"+1\r\n",
        b"0x1\r\n",
        b"1_0\r\n",
        b" 1\r\na\r\n",
        b"f" * 16 + b"\r\n",
        b"1\r\nabc\r\n",
        b"1;\x00\r\na\r\n",
        b"1;" + b"a" * 5000,
        b"0\r\n" + b"a: b\r\n" * 4000,
        b"1 ;a\r\na\r\n",
        b"1\x0b\r\na\r\n",
        b"\xb2\r\n",
        b"1\na\r\n",
        b"1\r\na\n",
        b";a\r\n",
        b"1;a\nb\r\n",
        b"1;a" + b"b" * 3000 + b"\r\nx\r\n" + (b"1;a" + b"b" * 3000 + b"\r\nx\r\n") * 5,
        b"0\r\na: b\nc: d\r\n\r\n",
        b"0\r\na: b\n",
        b"0\r\na : b\r\n\r\n",
        b"0\r\n folded\r\n\r\n",
        b"0\r\nno colon\r\n\r\n",
        b"0\r\nContent-Length: 5\r\n\r\n",
        b"0\r\ntransfer-Encoding: chunked\r\n\r\n",
        b"0\r\na: \x00\r\n\r\n",
        b"0\r\na: \r\r\n\r\n",
        b"0\r\nHTTP/1.1 200 OK\r\n\r\n",
    ],
)
def test_malformed_or_endless_framing_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        unchunked(data, [])
