"""The null server below S3: HTTP on the wire, the pretended network, the listing's numbers."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.model import Endpoint
from benchmarks.null.content import expected
from benchmarks.null.link import Bucket, Line, Network
from benchmarks.null.listing import Recordings
from benchmarks.servers import null_server

# They start servers and programs of the benchmarks; nothing of the library depends on them.
pytestmark = pytest.mark.slow

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    with null_server(tmp_path_factory.mktemp("null")) as endpoint:
        yield endpoint


async def exchange(endpoint: Endpoint, *pieces: bytes, responses: int = 1) -> list[bytes]:
    """Send the pieces one after another; give the heads of the responses, with their bodies."""
    host, port = endpoint.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        return [await read_response(reader) for _ in range(responses)]
    finally:
        writer.close()
        await writer.wait_closed()


async def read_response(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    _, _, rest = head.partition(b"\r\nContent-Length: ")
    length = int(rest.split(b"\r\n")[0]) if rest else 0
    return head + await reader.readexactly(length)


class TestHttp:
    async def test_given_a_request_byte_by_byte_when_sent_then_it_gets_a_response(
        self, plain: Endpoint
    ) -> None:
        request = b"PUT /b/k HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabcde"
        (response,) = await exchange(plain, *(bytes([byte]) for byte in request))
        assert response.startswith(b"HTTP/1.1 200 OK\r\n")

    async def test_given_two_requests_at_once_when_sent_then_both_get_a_response_in_order(
        self, plain: Endpoint
    ) -> None:
        get = b"GET /b/size-%d HTTP/1.1\r\nHost: x\r\n\r\n"
        large, small = await exchange(plain, get % 5_000_000 + get % 10, responses=2)
        assert large.endswith(b"\r\n\r\n" + expected(0, 5_000_000))
        assert small.endswith(b"\r\n\r\n" + expected(0, 10))

    async def test_given_expect_when_the_head_is_there_then_the_client_is_told_to_go_on(
        self, plain: Endpoint
    ) -> None:
        head = b"PUT /b/k HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"
        (response,) = await exchange(plain, head)
        assert response == b"HTTP/1.1 100 Continue\r\n\r\n"

    async def test_given_a_chunked_body_when_put_then_its_decoded_length_is_remembered(
        self, plain: Endpoint
    ) -> None:
        put = b"PUT /b/chunked HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        body = b"5\r\nabcde\r\n10;x=y\r\n0123456789abcdef\r\n0\r\nx-amz-trailer: z\r\n\r\n"
        head = b"HEAD /b/chunked HTTP/1.1\r\n\r\n"
        for pieces in ([put + body + head], [put, *(bytes([byte]) for byte in body), head]):
            host, port = plain.url.removeprefix("http://").split(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            await read_response(reader)
            response = await reader.readuntil(b"\r\n\r\n")
            writer.close()
            await writer.wait_closed()
            assert b"\r\nContent-Length: 21\r\n" in response

    async def test_given_aws_chunked_when_put_then_the_decoded_length_counts(
        self, plain: Endpoint
    ) -> None:
        put = (
            b"PUT /b/aws HTTP/1.1\r\nContent-Encoding: aws-chunked\r\nContent-Length: 4\r\n"
            b"X-Amz-Decoded-Content-Length: 1234\r\n\r\nabcd"
        )
        await exchange(plain, put)
        response = (await exchange(plain, b"GET /b/aws HTTP/1.1\r\n\r\n"))[0]
        assert response.endswith(b"\r\n\r\n" + expected(0, 1234))

    async def test_given_content_md5_when_put_then_the_etag_is_its_hex(
        self, plain: Endpoint
    ) -> None:
        md5 = hashlib.md5(b"x", usedforsecurity=False)
        encoded = base64.b64encode(md5.digest())
        put = b"PUT /b/k HTTP/1.1\r\nContent-MD5: %b\r\nContent-Length: 1\r\n\r\nx" % encoded
        (response,) = await exchange(plain, put)
        assert b'\r\nETag: "%b"\r\n' % md5.hexdigest().encode() in response

    async def test_given_a_range_behind_the_end_when_asked_then_it_is_refused(
        self, plain: Endpoint
    ) -> None:
        get = b"GET /b/size-10 HTTP/1.1\r\nRange: bytes=10-\r\n\r\n"
        (response,) = await exchange(plain, get)
        assert response.startswith(b"HTTP/1.1 416 ")

    @pytest.mark.parametrize(
        "nonsense",
        [
            b"what?\r\n\r\n",
            b"PUT /b/k HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
            b"PUT /b/k HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"GET /b/k HTTP/1.1\r\nX: " + b"x" * 100_000,
        ],
    )
    async def test_given_nonsense_when_sent_then_it_is_refused(
        self, plain: Endpoint, nonsense: bytes
    ) -> None:
        (response,) = await exchange(plain, nonsense)
        assert response.startswith(b"HTTP/1.1 400 ")


class TestNetwork:
    async def test_given_a_round_trip_when_asked_twice_then_neither_response_is_early(
        self, tmp_path: Path
    ) -> None:
        with null_server(tmp_path, rtt_ms=40) as endpoint:
            host, port = endpoint.url.removeprefix("http://").split(":")
            begun = time.monotonic()
            reader, writer = await asyncio.open_connection(host, int(port))
            waited = []
            for _ in range(2):
                writer.write(b"GET /b/size-10 HTTP/1.1\r\n\r\n")
                await read_response(reader)
                waited.append(time.monotonic() - begun)
                begun = time.monotonic()
            writer.close()
            await writer.wait_closed()
        assert waited[0] >= 0.08  # with TCP's handshake
        assert waited[1] >= 0.04

    def test_given_a_bucket_when_taken_from_then_bytes_move_at_its_rate(self) -> None:
        bucket = Bucket(rate=1000.0, burst=100.0)
        moments = [bucket.take(100, 50.0) for _ in range(3)]
        assert moments == pytest.approx([50.0, 50.1, 50.2])

    def test_given_a_window_when_it_is_used_up_then_a_connection_waits_for_round_trips(
        self,
    ) -> None:
        network = Network.of(rtt_ms=1000, mbit=0, window_mib=1)
        assert network is not None
        line = Line(network, tls=False)
        begun = time.monotonic()
        assert line.leaves(MIB) <= time.monotonic()
        assert line.leaves(MIB) >= begun + 1
        assert Network.of(rtt_ms=0, mbit=0, window_mib=1) is None


class TestRecordings:
    @pytest.mark.parametrize("count", [0, 1, 49, 50, 51, 1234])
    def test_given_a_number_of_keys_when_paged_then_pages_join_to_all_of_them(
        self, count: int
    ) -> None:
        recordings = Recordings(count)
        keys: list[bytes] = []
        following: int | None = 0
        while following is not None:
            page = recordings.page(b"", b"", following, 77)
            keys += [entry.key for entry in page.entries]
            following = page.following
        assert keys == [recordings.key(number) for number in range(count)]
        assert keys == sorted(set(keys))

    def test_given_a_million_keys_when_a_late_page_is_asked_then_it_is_made_at_once(self) -> None:
        recordings = Recordings(1_000_000)
        last = recordings.key(999_999)
        page = recordings.page(b"recordings/", b"", recordings.number_after(last) - 1, 1000)
        assert [entry.key for entry in page.entries] == [last]
        assert page.following is None

    def test_given_a_prefix_nobody_has_when_listed_then_the_page_is_empty(self) -> None:
        page = Recordings(100).page(b"other/", b"/", 0, 1000)
        assert (page.entries, page.prefixes, page.following) == ([], [], None)
