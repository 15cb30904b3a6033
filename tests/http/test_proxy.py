"""Through a proxy: https in a tunnel that it cannot look into, http by the proxy's own hands."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trustme

from careflow_storage._http.connection import Connection
from careflow_storage._http.errors import ConnectTimeoutError, ProxyError
from careflow_storage._http.parser import request_head
from careflow_storage._http.pool import Pool
from careflow_storage._http.proxy import Proxy
from tests.support.hostile import Asked, HostileServer, raw_response

PASSWORD = "p@ss/word"
AUTHORIZATION = "Basic " + base64.b64encode(f"me:{PASSWORD}".encode()).decode()


class Tunnels:
    """Opens tunnels (CONNECT); ``heads`` are the requests that it has seen."""

    def __init__(self, response: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n") -> None:
        self.heads: list[str] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self._response = response

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heads.append(head)
            writer.write(self._response)
            if " 200 " in self._response.decode():
                await self._tunnel(head.split(" ")[1], reader, writer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async def _tunnel(
        self, target: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        host, _, port = target.rpartition(":")
        there_reader, there_writer = await asyncio.open_connection(host, int(port))
        await asyncio.gather(_pump(reader, there_writer), _pump(there_reader, writer))
        with contextlib.suppress(ConnectionError):
            await there_writer.wait_closed()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def listening(proxy: Tunnels) -> AsyncIterator[str]:
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"http://me:p%40ss%2Fword@127.0.0.1:{port}"
    finally:
        server.close()
        await server.wait_closed()
        await asyncio.gather(*proxy.tasks)


def pool_of(origin: str, tls: ssl.SSLContext | None, proxy: str) -> Pool:
    return Pool(
        origin, tls, connect_timeout=5, idle_timeout=5, keep_alive=4, proxy=Proxy.parse(proxy)
    )


async def ask(pool: Pool, body: bytes) -> tuple[Connection, bytes]:
    connection = pool.take_idle() or await pool.connect()
    head = request_head(
        "PUT", f"{pool.target_prefix}/b/k", f"host: h\r\n{pool.proxy_headers}", {}, len(body)
    )
    await connection.request(head, body, bodiless=False)
    response = await connection.read_all(1_000_000)
    pool.give(connection)
    return connection, response


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def contexts(authority: trustme.CA) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The server's, and that of who trusts it."""
    tls, trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    authority.configure_trust(trust)
    return tls, trust


async def test_https_goes_through_a_tunnel_and_the_password_stays_with_the_proxy(
    authority: trustme.CA,
) -> None:
    tls, trust = contexts(authority)
    proxy = Tunnels()
    body = bytes(range(256)) * 1000
    async with (
        HostileServer(lambda asked: raw_response(asked.body), tls) as server,
        listening(proxy) as url,
    ):
        pool = pool_of(server.url, trust, url)
        first, response = await ask(pool, body)
        assert response == body
        again, response = await ask(pool, body)
        assert (again, response) == (first, body)
        await pool.close()
        (head,) = proxy.heads
        assert head.startswith(f"CONNECT 127.0.0.1:{server.port} HTTP/1.1\r\n")
        assert f"proxy-authorization: {AUTHORIZATION}\r\n" in head
        assert [asked.target for asked in server.asked] == ["/b/k", "/b/k"]
        assert all("proxy-authorization" not in asked.headers for asked in server.asked)


async def test_a_proxy_cannot_take_the_servers_place(authority: trustme.CA) -> None:
    tls, _ = contexts(trustme.CA())
    _, trust = contexts(authority)
    async with (
        HostileServer(lambda _: raw_response(b""), tls) as server,
        listening(Tunnels()) as url,
    ):
        pool = pool_of(server.url, trust, url)
        with pytest.raises(ConnectionError):
            await ask(pool, b"secret")
        await pool.close()
        assert server.asked == []


async def test_a_proxy_that_refuses_is_told(authority: trustme.CA) -> None:
    _, trust = contexts(authority)
    proxy = Tunnels(b"HTTP/1.1 407 Who are you?\r\nContent-Length: 0\r\n\r\n")
    async with listening(proxy) as url:
        pool = pool_of("https://server.example", trust, url)
        with pytest.raises(
            ProxyError, match=r"refuses the tunnel to server\.example:443"
        ) as caught:
            await pool.connect()
        assert caught.value.status == 407
        await pool.close()


async def test_a_proxy_that_does_not_respond_ends_with_the_connect_timeout(
    authority: trustme.CA,
) -> None:
    _, trust = contexts(authority)
    async with listening(Tunnels(b"")) as url:
        pool = Pool(
            "https://server.example",
            trust,
            connect_timeout=0.1,
            idle_timeout=5,
            keep_alive=4,
            proxy=Proxy.parse(url),
        )
        with pytest.raises((ConnectTimeoutError, ConnectionError)):
            await pool.connect()
        await pool.close()


async def test_http_is_asked_of_the_proxy_with_the_whole_url() -> None:
    def response(asked: Asked) -> bytes:
        return raw_response(f"{asked.target} {asked.headers.get('proxy-authorization')}".encode())

    async with HostileServer(response) as proxy:
        url = f"http://me:p%40ss%2Fword@127.0.0.1:{proxy.port}"
        pool = pool_of("http://store.example:9000", None, url)
        _, answered_with = await ask(pool, b"x")
        assert answered_with.decode() == f"http://store.example:9000/b/k {AUTHORIZATION}"
        await pool.close()
