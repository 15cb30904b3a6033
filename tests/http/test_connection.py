"""Connections and their pool, against servers that response as they like."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trustme

from careflow_storage import BackblazeStorage, NoSuchKeyError
from careflow_storage._http.connection import Connection
from careflow_storage._http.errors import (
    ConnectTimeoutError,
    PoolClosedError,
    ProtocolError,
    TlsError,
)
from careflow_storage._http.parser import ResponseHead, request_head
from careflow_storage._http.pool import Pool
from tests.support.bodies import noise
from tests.support.hostile import Asked, Bytes, HostileServer, raw_response

LARGE = noise(1_000_000)


class Body:
    """A body in slices of 64 KiB."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)
        self.given = 0

    async def slices(self) -> AsyncGenerator[bytes]:
        for start in range(0, self.size, 65536):
            piece = self.data[start : start + 65536]
            self.given += len(piece)
            yield piece


@asynccontextmanager
async def serving(
    response: Callable[[Asked], Bytes], *, tls: ssl.SSLContext | None = None, **options: Any
) -> AsyncIterator[tuple[HostileServer, Pool]]:
    """A server, and a pool of connections to it."""
    fields = {"connect_timeout": 5.0, "idle_timeout": 5.0, "keep_alive": 4.0, **options}
    trust = fields.pop("trust", None)
    async with HostileServer(response, tls) as server:
        pool = Pool(server.url, trust, **fields)
        try:
            yield server, pool
        finally:
            await pool.close()


async def ask(
    pool: Pool, method: str = "GET", body: Body | bytes | None = None
) -> tuple[Connection, ResponseHead]:
    """Send a request over an idle connection, or a new one."""
    connection = pool.take_idle() or await pool.connect()
    length = None if body is None else len(body) if isinstance(body, bytes) else body.size
    head = request_head(method, "/bucket/key", "host: h\r\n", {}, length)
    return connection, await connection.request(head, body, bodiless=method == "HEAD")


async def fetched(pool: Pool, method: str = "GET", body: Body | bytes | None = None) -> bytes:
    """Ask, read the whole response, and give the connection back."""
    connection, _ = await ask(pool, method, body)
    data = await connection.read_all(10_000_000)
    pool.give(connection)
    return data


async def in_pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]
        await asyncio.sleep(0)


CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwiki\r\n5;x=y\r\npedia\r\n"
    b"0\r\nTrailer: t\r\n\r\n"
)


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (raw_response(b"wikipedia"), b"wikipedia"),
        (CHUNKED, b"wikipedia"),
        (b"HTTP/1.1 200 OK\r\n\r\nwikipedia", b"wikipedia"),
        (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\na: b\r\n\r\n" + CHUNKED,
            b"wikipedia",
        ),
        (raw_response(b""), b""),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    ],
    ids=["length", "chunks", "until it closes", "informational", "empty", "204"],
)
async def test_a_response_is_the_same_however_its_bytes_are_cut(
    response: bytes, expected: bytes, size: int
) -> None:
    async with serving(lambda _: in_pieces(response, size)) as (_, pool):
        assert await fetched(pool) == expected


@pytest.mark.parametrize("response", [raw_response(b"x"), CHUNKED], ids=["length", "chunks"])
async def test_a_connection_serves_one_request_after_the_other(response: bytes) -> None:
    async with serving(lambda _: response) as (server, pool):
        first, _ = await ask(pool)
        await first.read_all(100)
        pool.give(first)
        second, _ = await ask(pool, "PUT", b"body")
        assert second is first
        await second.read_all(100)
        pool.give(second)
        assert [(each.method, each.body) for each in server.asked] == [
            ("GET", b""),
            ("PUT", b"body"),
        ]


async def test_the_length_in_a_response_to_head_is_not_waited_for() -> None:
    async with serving(lambda _: raw_response(b"0123456789")) as (_, pool):
        connection, head = await ask(pool, "HEAD")
        assert (head.headers["content-length"], head.length) == ("10", 0)
        assert await connection.read_all(100) == b""
        pool.give(connection)
        assert pool.take_idle() is connection


NOT_AGAIN = {
    "said so": raw_response(b"x", Connection="close"),
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx",
    "more than the response": raw_response(b"x") + b"y",
    "another response": raw_response(b"x") + raw_response(b"y"),
}


@pytest.mark.parametrize("response", NOT_AGAIN.values(), ids=NOT_AGAIN.keys())
async def test_a_connection_that_could_mix_responses_up_is_not_used_again(response: bytes) -> None:
    async with serving(lambda _: response) as (_, pool):
        assert await fetched(pool) == b"x"
        assert pool.take_idle() is None


async def test_bytes_that_come_while_nothing_was_asked_end_the_connection() -> None:
    begin = asyncio.Event()

    async def response() -> AsyncIterator[bytes]:
        yield raw_response(b"x")
        await begin.wait()
        yield raw_response(b"forged")

    async with serving(lambda _: response()) as (_, pool):
        connection, _head = await ask(pool)
        assert await connection.read_all(10) == b"x"
        pool.give(connection)
        assert connection.usable
        begin.set()
        while connection.usable:  # noqa: ASYNC110 - it has no event to tell
            await asyncio.sleep(0)
        assert pool.take_idle() is None


async def test_a_body_of_an_unread_response_is_not_taken_for_the_next_response() -> None:
    async with serving(lambda _: raw_response(LARGE)) as (_, pool):
        connection, _ = await ask(pool)
        assert len(await connection.read(1000)) == 1000
        pool.give(connection)
        assert pool.take_idle() is None


@pytest.mark.parametrize("full", [True, False], ids=["filled", "as it comes"])
async def test_a_body_goes_straight_to_the_memory_of_who_reads(full: bool) -> None:
    async with serving(lambda _: raw_response(LARGE)) as (_, pool):
        connection, _ = await ask(pool)
        target, found = memoryview(bytearray(300_001)), b""
        while size := await connection.read_into(target, full=full):
            if full and not connection.complete:
                assert size == len(target)
            found += target[:size]
        assert found == LARGE
        pool.give(connection)
        assert pool.take_idle() is connection


async def test_what_came_before_a_break_is_given_and_then_the_break() -> None:
    cut = raw_response(LARGE, length=len(LARGE) + 1)
    async with serving(lambda _: in_pieces(cut, 100_000)) as (_, pool):
        connection, _ = await ask(pool)
        target = memoryview(bytearray(2_000_000))
        assert await connection.read_into(target, full=True) == len(LARGE)
        assert target[: len(LARGE)] == LARGE
        with pytest.raises(ConnectionError):
            await connection.read_into(target, full=True)
        pool.give(connection)
        assert pool.take_idle() is None


async def test_a_server_whose_response_nobody_reads_must_wait() -> None:
    held = asyncio.Event()

    async def endless(_: Asked) -> AsyncIterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n"
        for _each in range(400):
            yield LARGE[:250_000]
        held.set()

    async with serving(lambda asked: endless(asked)) as (_, pool):
        connection, _ = await ask(pool)
        # 100 MB could have come, many times over, while this loop turns.
        for _ in range(2000):
            await asyncio.sleep(0)
        assert not held.is_set()
        assert len(await connection.read(500_000)) == 500_000


@asynccontextmanager
async def answering_early(status: str) -> AsyncIterator[Pool]:
    """A pool of connections to a server that responds to a head and reads no body."""
    tested = asyncio.Event()

    async def response(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(raw_response(b"no", status))
        await writer.drain()
        await tested.wait()
        writer.close()

    server = await asyncio.start_server(response, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    pool = Pool(url, None, connect_timeout=5, idle_timeout=5, keep_alive=4)
    try:
        yield pool
    finally:
        tested.set()
        await pool.close()
        server.close()
        await server.wait_closed()


async def test_a_server_that_refuses_early_does_not_get_the_rest_of_the_body() -> None:
    body = Body(noise(64 * 1024 * 1024))
    async with answering_early("403 Forbidden") as pool:
        connection, head = await ask(pool, "PUT", body)
        assert (head.status, await connection.read_all(10)) == (403, b"no")
        assert body.given < body.size
        pool.give(connection)
        assert pool.take_idle() is None


async def test_a_success_before_the_whole_body_was_received_is_an_error() -> None:
    async with answering_early("200 OK") as pool:
        with pytest.raises(ProtocolError, match="before it received the whole body"):
            await ask(pool, "PUT", Body(noise(64 * 1024 * 1024)))


async def test_others_have_their_turn_while_a_fast_server_takes_a_large_body() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with serving(lambda _: raw_response(b"")) as (server, pool):
        counting = asyncio.create_task(count())
        body = Body(noise(4 * 1024 * 1024))
        await fetched(pool, "PUT", body)
        counting.cancel()
        assert server.asked[0].body == body.data
        assert turns >= body.size // 65536


async def test_standing_still_ends_in_a_timeout_and_moving_slowly_does_not() -> None:
    async def drip(_: Asked) -> AsyncIterator[bytes]:
        yield raw_response(b"", length=60)
        for _each in range(60):
            yield b"x"
            await asyncio.sleep(0.01)

    async with serving(lambda asked: drip(asked), idle_timeout=0.3) as (_, pool):
        assert await fetched(pool) == b"x" * 60

    async def stand(_: Asked) -> AsyncIterator[bytes]:
        yield raw_response(b"some", length=9)
        await asyncio.Event().wait()

    async with serving(lambda asked: stand(asked), idle_timeout=0.05) as (_, pool):
        with pytest.raises(TimeoutError, match="nothing moved"):
            await fetched(pool)


async def test_a_head_that_never_ends_has_as_long_as_one_that_never_comes() -> None:
    async def drip(_: Asked) -> AsyncIterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nx: "
        while True:
            yield b"y"
            await asyncio.sleep(0.005)

    async with serving(lambda asked: drip(asked), idle_timeout=0.1) as (_, pool):
        with pytest.raises(TimeoutError, match="nothing moved"):
            await fetched(pool)


async def test_an_idle_connection_is_given_again_only_for_a_while() -> None:
    async with serving(lambda _: raw_response(b"x"), keep_alive=0.0) as (_, pool):
        await fetched(pool)
        assert pool.take_idle() is None


async def test_the_connection_that_was_used_last_is_given_first() -> None:
    async with serving(lambda _: raw_response(b"x")) as (_, pool):
        first, second = [(await ask(pool))[0] for _ in range(2)]
        for connection in (second, first):
            await connection.read_all(10)
            pool.give(connection)
        assert [pool.take_idle(), pool.take_idle(), pool.take_idle()] == [first, second, None]


async def test_closing_the_pool_ends_requests_under_way_and_refuses_new_ones() -> None:
    asked = asyncio.Event()

    async def never(_: Asked) -> AsyncIterator[bytes]:
        asked.set()
        await asyncio.Event().wait()
        yield b""

    async with serving(lambda each: never(each)) as (_, pool):
        request = asyncio.create_task(fetched(pool))
        await asked.wait()
        await pool.close()
        with pytest.raises(PoolClosedError):
            await request
        with pytest.raises(PoolClosedError):
            await pool.connect()


async def test_nobody_there_and_nobody_answering_are_told_apart() -> None:
    async with serving(lambda _: raw_response(b"x")) as (_, pool):
        pass
    late = Pool(
        f"http://127.0.0.1:{pool._port}", None, connect_timeout=5, idle_timeout=5, keep_alive=4
    )
    with pytest.raises(ConnectionRefusedError):
        await late.connect()
    await late.close()

    with socket.create_server(("127.0.0.1", 0)) as silent:
        deaf = Pool(
            f"https://127.0.0.1:{silent.getsockname()[1]}",
            ssl.create_default_context(),
            connect_timeout=0.05,
            idle_timeout=5,
            keep_alive=4,
        )
        with pytest.raises(ConnectTimeoutError):
            await deaf.connect()
        await deaf.close()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


async def test_over_tls_it_is_the_same(authority: trustme.CA) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    body = Body(noise(3 * 1024 * 1024 + 7))
    async with serving(lambda asked: raw_response(asked.body), tls=tls, trust=trust) as (_, pool):
        connection, head = await ask(pool, "PUT", body)
        for again in (False, True):
            if again:
                connection, head = await ask(pool, "PUT", body)
            assert head.length == body.size
            target, found = memoryview(bytearray(1_000_000)), b""
            while size := await connection.read_into(target, full=True):
                found += target[:size]
            assert found == body.data
            pool.give(connection)
        assert pool.take_idle() is connection


async def test_a_server_that_cannot_prove_who_it_is_is_told_nothing(authority: trustme.CA) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("another.example").configure_cert(tls)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    async with serving(lambda _: raw_response(b""), tls=tls, trust=trust) as (server, pool):
        with pytest.raises(TlsError) as caught:
            await fetched(pool)
        assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
        assert server.asked == []


async def test_a_response_that_is_too_long_or_none_is_a_protocol_error() -> None:
    async with serving(lambda _: raw_response(LARGE)) as (_, pool):
        connection, _ = await ask(pool)
        with pytest.raises(ProtocolError, match="longer than 1000"):
            await connection.read_all(1000)
        connection.abort()
    async with serving(lambda _: b"SSH-2.0-OpenSSH_9.2\r\n\r\n") as (_, pool):
        with pytest.raises(ProtocolError):
            await ask(pool)


# --- as a storage uses them -------------------------------------------------------------


async def test_a_refused_get_costs_no_connection() -> None:
    document = b"<Error><Code>NoSuchKey</Code></Error>"
    async with (
        HostileServer(lambda _: raw_response(document, "404 Not Found")) as server,
        BackblazeStorage(server.settings()) as storage,
    ):
        for _ in range(3):
            with pytest.raises(NoSuchKeyError):
                await storage.get_file("key")
        assert len(server.asked) == 3
        assert server.connections == 1


async def test_a_stream_that_is_open_when_its_storage_closes_can_still_be_closed() -> None:
    response = raw_response(LARGE, ETag='"e"', Last_Modified="Mon, 23 Nov 2026 06:48:48 GMT")
    async with HostileServer(lambda _: response) as server:
        storage = BackblazeStorage(server.settings())
        await storage.initialize()
        stream = storage.stream_file("key")
        await stream.__aenter__()
        await storage.close()
        await stream.aclose()
