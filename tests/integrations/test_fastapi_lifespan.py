"""One storage for the life of an app, and the dependency that returns it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI, WebSocket
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from careflow_storage import (
    BackblazeStorage,
    InvalidInputError,
    NotConfiguredError,
    StorageClosedError,
    StorageSettings,
)
from careflow_storage.integrations.fastapi import get_storage, storage_lifespan
from careflow_storage.testing import B2Server
from tests.support.web import SERVERS, ServerName, site

Storage = Annotated[BackblazeStorage, Depends(get_storage)]


@pytest.fixture
def of_bucket(server: B2Server) -> StorageSettings:
    return server.settings()


@pytest.mark.parametrize("name", SERVERS)
async def test_every_request_gets_the_same_open_storage(
    of_bucket: StorageSettings, name: ServerName
) -> None:
    seen: list[BackblazeStorage] = []
    mounted = FastAPI()
    app = FastAPI(lifespan=storage_lifespan(of_bucket))
    app.mount("/mounted", mounted)

    @app.get("/exists")
    @mounted.get("/exists")
    async def exists(storage: Storage) -> bool:
        seen.append(storage)
        return await storage.file_exists("a")

    async with site(app, name) as running, running.client() as client:
        for path in ("/exists", "/mounted/exists"):
            assert (await client.get(path)).json() is False
    assert seen[0] is seen[1]
    with pytest.raises(StorageClosedError):
        await seen[0].file_exists("a")


@pytest.mark.parametrize("name", SERVERS)
async def test_a_websocket_gets_the_storage(of_bucket: StorageSettings, name: ServerName) -> None:
    app = FastAPI(lifespan=storage_lifespan(of_bucket))

    @app.websocket("/ws")
    async def ws(websocket: WebSocket, storage: Storage) -> None:
        await websocket.accept()
        await websocket.send_json(await storage.file_exists("a"))

    async with site(app, name) as running:
        client = await running.websocket("/ws")
        assert await client.receive_json() is False
        await running.ended()
        client.abort()


async def test_starlette_without_fastapi(of_bucket: StorageSettings) -> None:
    async def exists(request: Request) -> JSONResponse:
        return JSONResponse(await get_storage(request).file_exists("a"))

    inner = Starlette(routes=[Route("/exists", exists)])
    app = Starlette(routes=[Mount("/in", inner)], lifespan=storage_lifespan(of_bucket))
    async with site(app) as running, running.client() as client:
        assert (await client.get("/in/exists")).json() is False


async def test_another_lifespan_runs_inside_and_keeps_its_state(of_bucket: StorageSettings) -> None:
    storages: list[BackblazeStorage] = []

    @asynccontextmanager
    async def other(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        yield {"database": "open"}
        # The storage closes last.
        assert await storages[0].file_exists("a") is False
        storages.clear()

    app = FastAPI(lifespan=storage_lifespan(of_bucket, lifespan=other))

    @app.get("/")
    async def state(request: Request, storage: Storage) -> str:
        storages.append(storage)
        return str(request.state.database)

    async with site(app) as running, running.client() as client:
        assert (await client.get("/")).json() == "open"
    assert not storages


async def test_a_lifespan_without_a_state(of_bucket: StorageSettings) -> None:
    @asynccontextmanager
    async def other(app: FastAPI) -> AsyncIterator[None]:
        yield

    async with storage_lifespan(of_bucket, lifespan=other)(FastAPI()) as state:
        assert list(state) == ["storage"]


async def test_a_lifespan_of_ones_own_can_use_it(of_bucket: StorageSettings) -> None:
    @asynccontextmanager
    async def own(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        async with storage_lifespan(of_bucket)(app) as state:
            yield {**state, "database": "open"}

    async with own(FastAPI()) as state:
        assert set(state) == {"storage", "database"}


@pytest.mark.parametrize("fails", ["at startup", "at shutdown"])
async def test_the_storage_closes_when_another_lifespan_fails(
    of_bucket: StorageSettings, fails: str
) -> None:
    @asynccontextmanager
    async def other(app: FastAPI) -> AsyncIterator[None]:
        if fails == "at startup":
            raise RuntimeError(fails)
        yield
        raise RuntimeError(fails)

    opened: list[BackblazeStorage] = []
    with pytest.raises(RuntimeError, match=fails):
        async with storage_lifespan(of_bucket, lifespan=other)(FastAPI()) as state:
            opened.append(state["storage"])
    for storage in opened:
        with pytest.raises(StorageClosedError):
            await storage.file_exists("a")


async def test_two_storages_under_one_name_are_refused(of_bucket: StorageSettings) -> None:
    @asynccontextmanager
    async def other(app: FastAPI) -> AsyncIterator[dict[str, str]]:
        yield {"storage": "mine"}

    with pytest.raises(InvalidInputError, match="'storage'"):
        async with storage_lifespan(of_bucket, lifespan=other)(FastAPI()):
            pass


async def test_the_app_does_not_start_without_its_settings() -> None:
    with pytest.raises(NotConfiguredError) as refused:
        async with storage_lifespan()(FastAPI()):
            pass
    assert "BACKBLAZE_KEY_ID" in refused.value.missing


async def test_without_the_lifespan_the_error_says_what_to_do() -> None:
    app = FastAPI()

    @app.get("/")
    async def exists(storage: Storage) -> None:
        pass

    # Runs no lifespan, as a test client does.
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        with pytest.raises(StorageClosedError, match="lifespan=storage_lifespan"):
            await client.get("/")


def test_starlette_alone_is_enough() -> None:
    code = (
        "import sys; sys.modules['fastapi'] = None; import careflow_storage.integrations.fastapi"
        " as web\nfor name in web.__all__:\n    if name != 'uppy_router': getattr(web, name)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_without_starlette_the_error_names_the_extra() -> None:
    code = (
        "import sys; sys.modules['starlette'] = None\n"
        "from careflow_storage.integrations.fastapi import get_storage"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert 'pip install "careflow-storage[fastapi]"' in done.stderr
