"""Calls that are cancelled while their connection comes about: nobody else notices."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trustme

from careflow_storage import BackblazeStorage, StorageError, StorageSettings
from careflow_storage._http.connection import Connection
from tests.support.behind_proxy import tasks_of_the_library
from tests.support.cancelled import cancelled_at_step
from tests.support.hostile import HostileServer, raw_response

pytestmark = pytest.mark.slow

FDS = Path("/proc/self/fd")
RESPONSE = raw_response(
    b"x", ETag='"9dd4e461268c8034f5c8564e155c67a6"', Last_Modified="Mon, 23 Nov 2026 06:48:48 GMT"
)
HOST = "store.example"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", HOST).configure_cert(tls)
    return tls


@asynccontextmanager
async def listening(serve: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve each connection with ``serve``, until the block ends; give the port."""
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client has left, or the test has ended
        finally:
            tasks.discard(task)
            writer.transport.abort()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(65536):
        pass


async def silent_behind_a_tunnel(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
    await silent(reader, writer)


def tunnel_to(port: int) -> Serve:
    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            await asyncio.gather(pump(reader, there_writer), pump(there_reader, writer))
        finally:
            there_writer.transport.abort()

    return serve


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.readexactly(4))
    await writer.drain()
    await silent(reader, writer)


async def exchange_with(port: int) -> None:
    """Connect as any other part of the program does, and say something."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"ping")
    assert await reader.readexactly(4) == b"ping"
    writer.close()
    await writer.wait_closed()


WAYS = [
    "silent in TLS",
    "silent after TLS",
    "answering",
    "proxy silent at CONNECT",
    "proxy, silent in TLS",
    "proxy, answering",
    "proxy over TLS, silent",
    "proxy over TLS, silent at CONNECT",
    "proxy over TLS, answering",
]


async def way_to(
    way: str, stack: AsyncExitStack, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> str:
    """Set up what stands at the other end and between; return the endpoint."""

    async def listen(serve: Serve, context: ssl.SSLContext | None = None) -> int:
        return await stack.enter_async_context(listening(serve, context))

    def proxied(port: int, scheme: str = "http") -> str:
        monkeypatch.setenv("https_proxy", f"{scheme}://127.0.0.1:{port}")
        return f"https://{HOST}"

    server = await stack.enter_async_context(HostileServer(lambda _: RESPONSE, tls))
    match way:
        case "silent in TLS":
            return f"https://127.0.0.1:{await listen(silent)}"
        case "silent after TLS":
            return f"https://127.0.0.1:{await listen(silent, tls)}"
        case "answering":
            return server.url
        case "proxy silent at CONNECT":
            return proxied(await listen(silent))
        case "proxy, silent in TLS":
            return proxied(await listen(silent_behind_a_tunnel))
        case "proxy, answering":
            return proxied(await listen(tunnel_to(server.port)))
        case "proxy over TLS, silent":
            return proxied(await listen(silent), "https")
        case "proxy over TLS, silent at CONNECT":
            return proxied(await listen(silent, tls), "https")
        case "proxy over TLS, answering":
            return proxied(await listen(tunnel_to(server.port), tls), "https")
    raise AssertionError(way)


def settings_for(endpoint: str, ca_file: Path, seconds: float = 30) -> StorageSettings:
    return StorageSettings(
        key_id="keyId",
        application_key="applicationKey",
        bucket_name="recordings-bucket",
        endpoint=endpoint,
        region="us-east-1",
        ca_file=ca_file,
        retry_attempts=1,
        connect_timeout=seconds,
        idle_timeout=seconds,
    )


def sockets() -> list[str]:
    """The open ones of this process."""
    found = []
    for each in FDS.iterdir():
        with contextlib.suppress(OSError):
            found.append(str(each.readlink()))
    return [name for name in found if name.startswith("socket:")]


@asynccontextmanager
async def nothing_left() -> AsyncIterator[None]:
    """See that the block leaves no socket open."""
    gc.collect()
    before = sockets()
    yield
    gc.collect()
    # The servers' own connections close in one of the next turns.
    async with asyncio.timeout(60):
        while not set(sockets()) <= set(before):  # noqa: ASYNC110 - it sends no event
            await asyncio.sleep(0)


@pytest.mark.skipif(not FDS.exists(), reason="counts descriptors as Linux shows them")
@pytest.mark.parametrize("way", WAYS)
async def test_given_a_cancel_at_any_wait_of_connecting_then_nothing_of_it_is_left(
    way: str, authority: trustme.CA, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with nothing_left(), AsyncExitStack() as stack:
        other = await stack.enter_async_context(listening(echo))
        endpoint = await way_to(way, stack, server_tls(authority), monkeypatch)
        for number in range(1, 100):
            cancelled = False
            settings = settings_for(endpoint, ca_file, 30 if "answering" in way else 0.5)
            async with BackblazeStorage(settings) as storage:
                try:
                    cancelled = await cancelled_at_step(storage.get_file("key"), number)
                except StorageError:
                    assert "answering" not in way
                await exchange_with(other)
            assert tasks_of_the_library(connecting=True) == set()
            if not cancelled:
                break
        assert number > 2


async def test_given_a_cancel_in_the_turn_in_which_tls_is_ready_then_others_still_connect(
    authority: trustme.CA, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secured = Connection.secured
    async with (
        listening(echo) as other,
        HostileServer(lambda _: RESPONSE, server_tls(authority)) as server,
        BackblazeStorage(settings_for(server.url, ca_file)) as storage,
    ):
        for _ in range(10):
            call = asyncio.create_task(storage.get_file("key"))

            def cancel(
                connection: Connection,
                transport: asyncio.Transport,
                call: asyncio.Task[bytes] = call,
            ) -> None:
                secured(connection, transport)
                call.cancel()

            with monkeypatch.context() as patch:
                patch.setattr(Connection, "secured", cancel)
                with pytest.raises(asyncio.CancelledError):
                    await call
            await exchange_with(other)
        assert await storage.get_file("key") == b"x"


@pytest.mark.parametrize("way", ["silent in TLS", "answering", "proxy, answering"])
@pytest.mark.parametrize("seed", range(3))
async def test_given_cancels_at_random_moments_then_others_connections_are_untouched(
    way: str, seed: int, authority: trustme.CA, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)

    async def given_up(storage: BackblazeStorage, turns: int) -> None:
        call = asyncio.create_task(storage.get_file("key"))
        for _ in range(turns):
            await asyncio.sleep(0)
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError, StorageError):
            await call

    async with AsyncExitStack() as stack:
        other = await stack.enter_async_context(listening(echo))
        endpoint = await way_to(way, stack, server_tls(authority), monkeypatch)
        settings = settings_for(endpoint, ca_file, 30)
        async with BackblazeStorage(settings) as storage:
            for _ in range(15):
                calls = [given_up(storage, chance.randrange(60)) for _ in range(4)]
                await asyncio.gather(*calls, *(exchange_with(other) for _ in range(4)))
        assert tasks_of_the_library(connecting=True) == set()


@pytest.mark.parametrize("way", [way for way in WAYS if "silent" in way])
async def test_given_a_close_while_connections_come_about_then_it_ends_them(
    way: str, authority: trustme.CA, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AsyncExitStack() as stack:
        endpoint = await way_to(way, stack, server_tls(authority), monkeypatch)
        settings = settings_for(endpoint, ca_file, 60)
        storage = BackblazeStorage(settings)
        await storage.initialize()
        calls = [asyncio.create_task(storage.get_file("key")) for _ in range(5)]
        for _ in range(30):
            await asyncio.sleep(0)
        await storage.close()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(result, StorageError) for result in results), results
        assert tasks_of_the_library(connecting=True) == set()
