"""The example app on a real server, in front of the B2 emulator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from careflow_storage import BackblazeStorage
from careflow_storage.testing import B2Server
from examples.recordings_app import AppSettings, create_app
from tests.support.served import served

TOKENS = {"anna": "the token of anna", "ben": "the token of ben"}
SERVED = {"lifespan": "on", "ws": "wsproto", "timeout_graceful_shutdown": 5}


@pytest.fixture
def app(b2_server: B2Server) -> Any:
    """The application."""
    return create_app(AppSettings(users=TOKENS, _env_file=None), b2_server.settings())


@pytest.fixture
def chunks_received() -> asyncio.Semaphore:
    """Released for each chunk of audio that the application has taken from a WebSocket."""
    return asyncio.Semaphore(0)


@pytest.fixture
async def address(app: Any, chunks_received: asyncio.Semaphore) -> AsyncIterator[str]:
    """Where the application runs."""

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        async def counted() -> Any:
            message = await receive()
            if message.get("type") == "websocket.receive" and message.get("bytes"):
                chunks_received.release()
            return message

        await app(scope, counted, send)

    async with served(watched, **SERVED) as url:
        yield url


@pytest.fixture
async def emulated(b2_server: B2Server) -> AsyncIterator[BackblazeStorage]:
    """The bucket of the application."""
    async with BackblazeStorage(b2_server.settings()) as opened:
        yield opened


@pytest.fixture
async def client_of(address: str) -> AsyncIterator[Callable[[str | None], httpx.AsyncClient]]:
    """Makes a client that sends a user's token, or none."""
    async with AsyncExitStack() as opened:
        clients = []

        def client(user: str | None) -> httpx.AsyncClient:
            headers = {"Authorization": f"Bearer {TOKENS[user]}"} if user else {}
            clients.append(httpx.AsyncClient(base_url=address, headers=headers, trust_env=False))
            opened.push_async_callback(clients[-1].aclose)
            return clients[-1]

        yield client


@pytest.fixture
def anna(client_of: Callable[[str | None], httpx.AsyncClient]) -> httpx.AsyncClient:
    """A signed-in user."""
    return client_of("anna")


@pytest.fixture
def ben(client_of: Callable[[str | None], httpx.AsyncClient]) -> httpx.AsyncClient:
    """Another signed-in user."""
    return client_of("ben")


@pytest.fixture
def stranger(client_of: Callable[[str | None], httpx.AsyncClient]) -> httpx.AsyncClient:
    """A client without a token."""
    return client_of(None)
