"""The proxy that other tests rely on does what it says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from careflow_storage.testing.proxy.proxy import FaultProxy

PAYLOAD = bytes(range(256)) * 1024  # 256 KiB


class Upstream:
    """Stores what is PUT and remembers who asked."""

    def __init__(self) -> None:
        self.stored: list[bytes] = []
        self.hosts: list[str] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.hosts.append(request.headers["Host"])
        if request.method in ("PUT", "POST"):
            self.stored.append(await request.read())
            return web.Response(headers={"ETag": '"good"'})
        if request.path == "/chunked":
            response = web.StreamResponse()
            response.enable_chunked_encoding()
            await response.prepare(request)
            await response.write(PAYLOAD)
            return response
        return web.Response(body=PAYLOAD, headers={"ETag": '"good"'})


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


@pytest.fixture
async def proxy(upstream: Upstream) -> AsyncIterator[FaultProxy]:
    application = web.Application(client_max_size=2**30)
    application.router.add_route("*", "/{path:.*}", upstream.handle)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        _, port = runner.addresses[0]
        async with FaultProxy(f"http://127.0.0.1:{port}") as opened:
            yield opened
    finally:
        await runner.cleanup()


@pytest.fixture
async def client(proxy: FaultProxy) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(base_url=proxy.url) as session:
        # aiohttp sends a GET or PUT again by itself, which would be counted as ours.
        session._retry_connection = False
        yield session


async def fetch(client: aiohttp.ClientSession, path: str = "/file", **options: Any) -> bytes:
    async with client.get(path, **options) as response:
        response.raise_for_status()
        return await response.read()


async def test_without_a_rule_bytes_and_host_pass_unchanged_over_one_connection(
    client: aiohttp.ClientSession, proxy: FaultProxy, upstream: Upstream
) -> None:
    for _ in range(3):
        assert await fetch(client) == PAYLOAD
    async with client.put("/file", data=PAYLOAD, headers={"X-Mine": "Yes"}) as response:
        assert (response.status, response.headers["ETag"]) == (200, '"good"')
    async with client.head("/file") as response:
        assert int(response.headers["Content-Length"]) == len(PAYLOAD)

    assert upstream.stored == [PAYLOAD]
    assert set(upstream.hosts) == {proxy.url.removeprefix("http://")}
    assert [attempt.method for attempt in proxy.log] == ["GET", "GET", "GET", "PUT", "HEAD"]
    assert proxy.log[3].headers["x-mine"] == "Yes"
    assert proxy.log[3].body_bytes == len(PAYLOAD)
    assert {attempt.connection for attempt in proxy.log} == {1}
    assert {attempt.status for attempt in proxy.log} == {200}


async def test_chunked_bodies_pass_both_ways(
    client: aiohttp.ClientSession, upstream: Upstream
) -> None:
    async def body() -> AsyncIterator[bytes]:
        for start in range(0, len(PAYLOAD), 10_000):
            yield PAYLOAD[start : start + 10_000]

    async with client.put("/file", data=body()) as response:
        assert response.status == 200
    assert upstream.stored == [PAYLOAD]
    assert await fetch(client, "/chunked") == PAYLOAD


async def test_a_client_that_expects_100_continue_gets_it(
    client: aiohttp.ClientSession, upstream: Upstream
) -> None:
    async with client.put("/file", data=PAYLOAD, expect100=True) as response:
        assert response.status == 200
    assert upstream.stored == [PAYLOAD]


async def test_an_injected_error_is_sent_this_often_and_never_reaches_the_server(
    client: aiohttp.ClientSession, proxy: FaultProxy, upstream: Upstream
) -> None:
    rule = proxy.add(
        method="PUT", times=2, status=503, code="SlowDown", headers={"Retry-After": "3"}
    )
    for _ in range(2):
        async with client.put("/file", data=b"body") as response:
            assert response.status == 503
            assert response.headers["Retry-After"] == "3"
            assert "<Code>SlowDown</Code>" in await response.text()
    assert upstream.stored == []
    async with client.put("/file", data=b"body") as response:
        assert response.status == 200
    assert rule.hits == 2
    assert rule.fired.is_set()
    assert [attempt.status for attempt in proxy.log] == [503, 503, 200]
    assert proxy.connections == 1


async def test_rules_choose_by_method_path_and_headers(
    client: aiohttp.ClientSession, proxy: FaultProxy
) -> None:
    proxy.add(path=r"partNumber=2\b", status=500)
    proxy.add(when=lambda attempt: "range" in attempt.headers, body=b"<Error/>")
    async with client.get("/file?partNumber=2&x") as response:
        assert response.status == 500
    assert await fetch(client, headers={"Range": "bytes=0-"}) == b"<Error/>"
    assert await fetch(client, "/file?partNumber=21") == PAYLOAD
    assert proxy.count("GET", "partNumber") == 2
    proxy.clear()
    assert await fetch(client, "/file?partNumber=2") == PAYLOAD


async def test_a_response_that_does_not_drain_comes_before_the_body_is_sent(
    proxy: FaultProxy,
) -> None:
    proxy.add(status=400, drain=False)
    host, port = proxy.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 400")
    await reader.read()
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("cut", ["rst", "fin"])
async def test_a_cut_at_the_head_reaches_no_server(
    client: aiohttp.ClientSession, proxy: FaultProxy, upstream: Upstream, cut: str
) -> None:
    proxy.add(cut=cut, times=1)
    with pytest.raises((aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)):
        await client.put("/file", data=PAYLOAD)
    assert upstream.hosts == []
    assert await fetch(client) == PAYLOAD
    assert proxy.connections == 2


async def test_a_cut_in_the_request_body_stores_nothing(
    client: aiohttp.ClientSession, proxy: FaultProxy, upstream: Upstream
) -> None:
    proxy.add(method="PUT", cut="rst", at=("req", 100_000))
    with pytest.raises(aiohttp.ClientOSError):
        await client.put("/file", data=PAYLOAD)
    assert proxy.log[0].body_bytes == 100_000
    assert upstream.stored == []


async def test_a_cut_at_the_response_has_stored_everything(
    client: aiohttp.ClientSession, proxy: FaultProxy, upstream: Upstream
) -> None:
    proxy.add(method="PUT", cut="rst", at="resp")
    with pytest.raises((aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)):
        await client.put("/file", data=PAYLOAD)
    assert upstream.stored == [PAYLOAD]
    assert proxy.log[0].status == 200


@pytest.mark.parametrize("path", ["/file", "/chunked"])
async def test_a_cut_in_the_responses_body_delivers_exactly_what_came_before(
    client: aiohttp.ClientSession, proxy: FaultProxy, path: str
) -> None:
    proxy.add(cut="fin", at=("body", 100_000))
    received = b""
    async with client.get(path) as response:
        with pytest.raises(aiohttp.ClientPayloadError):  # noqa: PT012 - the loop is what raises
            async for chunk in response.content.iter_any():
                received += chunk
    assert received == PAYLOAD[:100_000]


async def test_a_cut_at_idle_breaks_the_kept_connection_after_a_whole_response(
    client: aiohttp.ClientSession, proxy: FaultProxy
) -> None:
    proxy.add(cut="rst", at="idle", times=1)
    assert await fetch(client, headers={"Connection": "keep-alive"}) == PAYLOAD
    assert proxy.log[0].status == 200


@pytest.mark.parametrize("at", ["head", "resp", ("req", 100), ("body", 100)])
async def test_a_hang_is_silent_until_it_is_released(
    client: aiohttp.ClientSession, proxy: FaultProxy, at: Any
) -> None:
    rule = proxy.add(cut="hang", at=at)

    async def call() -> None:
        async with client.request("GET", "/file", data=b"x" * 1000) as response:
            await response.read()

    hanging = asyncio.create_task(call())
    await rule.fired.wait()
    done, _ = await asyncio.wait({hanging}, timeout=0.1)
    assert not done
    rule.release.set()
    with pytest.raises(aiohttp.ClientError):
        await hanging


async def test_leaving_the_proxy_ends_what_hangs(upstream: Upstream) -> None:
    async with FaultProxy("http://127.0.0.1:9") as proxy:
        rule = proxy.add(cut="hang")
        async with aiohttp.ClientSession() as session:
            hanging = asyncio.create_task(session.get(proxy.url))
            await rule.fired.wait()
            await proxy.__aexit__(None, None, None)
            with pytest.raises(aiohttp.ClientError):
                await hanging


async def test_a_short_response_agrees_with_its_length(
    client: aiohttp.ClientSession, proxy: FaultProxy
) -> None:
    proxy.add(short=1000, times=1)
    async with client.get("/file") as response:
        assert response.headers["Content-Length"] == "1000"
        assert await response.read() == PAYLOAD[:1000]
    assert await fetch(client) == PAYLOAD


async def test_exactly_one_bit_is_flipped_on_either_way(
    client: aiohttp.ClientSession, proxy: FaultProxy, upstream: Upstream
) -> None:
    proxy.add(method="GET", corrupt=70_000)
    proxy.add(method="PUT", corrupt_upload=70_000)
    received = await fetch(client)
    async with client.put("/file", data=PAYLOAD) as response:
        assert response.status == 200
    for damaged in (received, upstream.stored[0]):
        differing = [i for i in range(len(PAYLOAD)) if damaged[i] != PAYLOAD[i]]
        assert differing == [70_000]


async def test_headers_of_the_servers_response_can_be_changed_and_removed(
    client: aiohttp.ClientSession, proxy: FaultProxy
) -> None:
    proxy.add(method="PUT", headers={"ETag": '"other"'})
    proxy.add(method="GET", headers={"ETag": None})
    async with client.put("/file", data=b"x") as response:
        assert response.headers["ETag"] == '"other"'
    async with client.get("/file") as response:
        assert "ETag" not in response.headers


@pytest.mark.parametrize(
    ("fields", "send"),
    [
        ({"delay": 0.2}, lambda client: client.get("/file")),
        ({"rate": 1_000_000}, lambda client: client.get("/file")),
        ({"upload_rate": 1_000_000}, lambda client: client.put("/file", data=PAYLOAD)),
    ],
    ids=["delay", "rate", "upload_rate"],
)
async def test_a_slow_network_takes_its_time(
    client: aiohttp.ClientSession,
    proxy: FaultProxy,
    fields: dict[str, float],
    send: Callable[[aiohttp.ClientSession], Any],
) -> None:
    proxy.add(**fields)
    started = time.monotonic()
    async with send(client) as response:
        await response.read()
    assert time.monotonic() - started > 0.19


async def test_a_delay_ends_when_it_is_released(
    client: aiohttp.ClientSession, proxy: FaultProxy
) -> None:
    rule = proxy.add(delay=600)
    waiting = asyncio.create_task(fetch(client))
    await rule.fired.wait()
    assert not waiting.done()
    rule.release.set()
    assert await waiting == PAYLOAD
    assert await fetch(client) == PAYLOAD


async def test_a_dead_server_ends_the_clients_connection(client: aiohttp.ClientSession) -> None:
    async with FaultProxy("http://127.0.0.1:9") as proxy:
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await client.get(f"{proxy.url}/file")
        assert proxy.count("GET") == 1
