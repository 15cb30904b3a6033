"""An ASGI app on a real web server, in the event loop of the test."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal

import httpx
import hypercorn.asyncio
import hypercorn.config
import pytest
import uvicorn

from tests.support.served import Uvicorn
from tests.support.websocket_client import WebSocketClient

ServerName = Literal["uvicorn", "uvicorn with h11", "hypercorn"]
SERVERS: tuple[ServerName, ...] = ("uvicorn", "uvicorn with h11", "hypercorn")


class Site:
    """A running app.

    Attributes:
        url: Its address.
    """

    def __init__(self, app: Any, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._app = app
        self._port = port
        self._ended: asyncio.Queue[BaseException | None] = asyncio.Queue()
        self._clients: list[asyncio.StreamWriter] = []
        self._stop: Callable[[], Awaitable[None]] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        failure: BaseException | None = None
        try:
            await self._app(scope, receive, send)
        except BaseException as error:
            failure = error
            raise
        finally:
            if scope["type"] != "lifespan":
                self._ended.put_nowait(failure)

    async def ended(self) -> BaseException | None:
        """Wait until the app is through with a request; return what it raised."""
        return await self._ended.get()

    def client(self) -> httpx.AsyncClient:
        """Return a client of the site."""
        # Without TLS: it takes 30 ms to load the certificates.
        return httpx.AsyncClient(base_url=self.url, verify=False, trust_env=False)  # noqa: S501

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection for a client that leaves, or stalls, where it likes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._clients.append(writer)
        return reader, writer

    async def stop(self) -> None:
        """Stop the server as a deployment does, while its clients are connected."""
        assert self._stop is not None
        await self._stop()

    async def hang_up(self) -> None:
        """Close the connections that are still open."""
        for writer in self._clients:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def websocket(self, path: str) -> WebSocketClient:
        """Open a WebSocket that the app accepts."""
        client = WebSocketClient(*await self.connect())
        assert await client.open(path) == (101, b"")
        return client


@asynccontextmanager
async def site(app: Any, server: ServerName = "uvicorn", **options: Any) -> AsyncIterator[Site]:
    """Run the app, its lifespan included."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        running = Site(app, listening.getsockname()[1])
        serve = _hypercorn if server == "hypercorn" else _uvicorn
        if server == "uvicorn with h11":
            options["http"] = "h11"
        async with serve(running, listening, options):
            try:
                yield running
            finally:
                await running.hang_up()


@asynccontextmanager
async def _uvicorn(app: Site, listening: socket.socket, options: Any) -> AsyncIterator[None]:
    options = {"http": "httptools", "ws": "wsproto", "lifespan": "on", **options}
    server = Uvicorn(uvicorn.Config(app, log_config=None, **options))
    serving = asyncio.create_task(server.serve(sockets=[listening]))

    async def stop() -> None:
        server.stop()
        await serving

    app._stop = stop
    try:
        yield
    finally:
        await stop()


@asynccontextmanager
async def _hypercorn(app: Site, listening: socket.socket, options: Any) -> AsyncIterator[None]:
    config = hypercorn.config.Config()
    config.bind = [f"fd://{listening.detach()}"]
    config.errorlog = logging.getLogger("hypercorn.error")
    for name, value in options.items():
        setattr(config, name, value)
    stop = asyncio.Event()
    serving = asyncio.create_task(hypercorn.asyncio.serve(app, config, shutdown_trigger=stop.wait))
    try:
        yield
    finally:
        stop.set()
        await serving


def no_tracebacks(caplog: pytest.LogCaptureFixture) -> bool:
    """Whether the log has no exception, neither of the library nor of the server."""
    return not [record for record in caplog.records if record.exc_info]
