"""Files through the app, and redirects to the bucket, on real web servers."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from careflow_storage import BackblazeStorage, StorageClosedError
from careflow_storage.integrations.fastapi import (
    file_response,
    install_error_handlers,
    redirect_response,
)
from careflow_storage.testing import B2Server
from tests.support.behind_proxy import NOTHING_HELD, held
from tests.support.bodies import MIB, noise
from tests.support.web import SERVERS, ServerName, no_tracebacks, site

DATA = noise(MIB)
LONG = noise(12 * MIB)
ETAG = f'"{hashlib.md5(DATA, usedforsecurity=False).hexdigest()}"'


@pytest.fixture
async def storage(server: B2Server) -> AsyncIterator[BackblazeStorage]:
    async with BackblazeStorage(server.settings(retry_attempts=2)) as opened:
        await opened.upload_file("a.webm", DATA, "audio/webm")
        yield opened
        assert held(opened) == NOTHING_HELD


def app_of(storage: BackblazeStorage, *middleware: Middleware) -> Starlette:
    async def play(request: Request) -> Response:
        return await file_response(
            storage, request.path_params["key"], request, request.query_params.get("as")
        )

    async def redirect(request: Request) -> Response:
        return await redirect_response(storage, request.path_params["key"])

    app = Starlette(
        routes=[
            Route("/files/{key:path}", play, methods=["GET", "HEAD", "POST"]),
            Route("/links/{key:path}", redirect),
        ],
        middleware=middleware,
    )
    install_error_handlers(app)
    return app


REQUESTS: dict[str, tuple[dict[str, str], int, bytes]] = {
    "whole": ({}, 200, DATA),
    "range": ({"Range": "bytes=100-199"}, 206, DATA[100:200]),
    "open range": ({"Range": f"bytes={MIB - 5}-"}, 206, DATA[-5:]),
    "suffix": ({"Range": "bytes=-7"}, 206, DATA[-7:]),
    "several ranges": ({"Range": "bytes=0-1,5-6"}, 200, DATA),
    "a thousand ranges": ({"Range": "bytes=" + ",".join(["0-1"] * 1000)}, 200, DATA),
    "no range at all": ({"Range": "lines=1-2"}, 200, DATA),
    "a range that is malformed": ({"Range": "bytes=9-2"}, 200, DATA),
    "beyond the end": ({"Range": f"bytes={MIB}-"}, 416, b""),
    "not modified": ({"If-None-Match": ETAG}, 304, b""),
    "modified": ({"If-None-Match": '"other"'}, 200, DATA),
    "precondition": ({"If-Match": '"other"'}, 412, b""),
    "if-range of this version": ({"Range": "bytes=0-3", "If-Range": ETAG}, 206, DATA[:4]),
    "if-range of another": ({"Range": "bytes=0-3", "If-Range": '"other"'}, 200, DATA),
}


@pytest.mark.parametrize("name", SERVERS)
async def test_a_player_gets_what_it_asks_for(storage: BackblazeStorage, name: ServerName) -> None:
    async with (
        site(app_of(storage), name) as running,
        running.client() as client,
    ):
        for kind, (headers, status, body) in REQUESTS.items():
            response = await client.get("/files/a.webm", headers=headers)
            assert (response.status_code, response.content) == (status, body), kind
            assert response.headers["etag"] == ETAG, kind
            assert "x-amz-request-id" not in response.headers
            if status in (200, 206):
                assert response.headers["content-type"] == "audio/webm"
                assert response.headers["content-length"] == str(len(body))
        refused = await client.get("/files/a.webm", headers={"Range": f"bytes={MIB}-"})
        assert refused.headers["content-range"] == f"bytes */{MIB}"
        head = await client.head("/files/a.webm")
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == str(MIB)


async def test_what_cannot_be_served_is_a_problem(storage: BackblazeStorage) -> None:
    async with (
        site(app_of(storage)) as running,
        running.client() as client,
    ):
        for path in ("/files/missing", "/links/missing"):
            missing = await client.get(path)
            assert (missing.status_code, missing.json()["error"]) == (404, "NoSuchKeyError")
            assert missing.headers["content-type"] == "application/problem+json"
        posted = await client.post("/files/a.webm")
        assert (posted.status_code, posted.json()["error"]) == (422, "InvalidInputError")
        named = await client.get("/files/a.webm", params={"as": "a/b\r\n"})
        assert named.status_code == 422


async def test_a_file_is_saved_under_a_name_in_any_script(storage: BackblazeStorage) -> None:
    async with (
        site(app_of(storage)) as running,
        running.client() as client,
    ):
        saved = await client.get("/files/a.webm", params={"as": 'Anruf "für" 王.webm'})
    disposition = saved.headers["content-disposition"]
    assert disposition.startswith("attachment; filename=")
    assert "filename*=UTF-8''Anruf%20%22f%C3%BCr%22%20%E7%8E%8B.webm" in disposition


async def test_a_redirect_leads_to_the_bucket_and_is_not_cached(storage: BackblazeStorage) -> None:
    async with (
        site(app_of(storage)) as running,
        running.client() as client,
    ):
        response = await client.get("/links/a.webm")
        assert response.status_code == 307
        assert response.headers["cache-control"] == "no-store"
        async with httpx.AsyncClient() as browser:
            played = await browser.get(response.headers["location"], headers={"Range": "bytes=-5"})
    assert (played.status_code, played.content) == (206, DATA[-5:])


async def test_a_redirect_without_a_check_sends_no_request(storage: BackblazeStorage) -> None:
    before = storage.request_counts()
    response = await redirect_response(storage, "missing", 60, check=False, download_as="b.webm")
    assert "X-Amz-Expires=60" in response.headers["location"]
    assert "b.webm" in response.headers["location"]
    assert storage.request_counts() == before


async def passed(request: Request, call_next: Any) -> Any:
    return await call_next(request)


@pytest.mark.parametrize(
    ("name", "middleware"),
    # This middleware completes the response of a client that left, which hypercorn logs.
    [
        *((name, []) for name in SERVERS),
        ("uvicorn", [Middleware(BaseHTTPMiddleware, dispatch=passed)]),
    ],
)
async def test_a_player_that_leaves_holds_nothing_and_leaves_no_traceback(
    storage: BackblazeStorage,
    name: ServerName,
    middleware: list[Middleware],
    caplog: pytest.LogCaptureFixture,
) -> None:
    await storage.upload_file("long.webm", LONG, "audio/webm")
    caplog.set_level(logging.INFO)
    bodies = []
    serve_file = storage.serve_file

    async def serve(*given: Any, **options: Any) -> Any:
        bodies.append(await serve_file(*given, **options))
        return bodies[-1]

    storage.serve_file = serve  # type: ignore[method-assign]  # to see its body
    async with site(app_of(storage, *middleware), name) as running:
        reader, writer = await running.connect()
        writer.write(b"GET /files/long.webm HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        await reader.readexactly(100_000)
        writer.transport.abort()
        assert await running.ended() is None
    assert no_tracebacks(caplog)
    assert "GET '/files/long.webm': the client left." in caplog.messages
    assert held(storage) == NOTHING_HELD
    with pytest.raises(StorageClosedError, match="body was closed"):
        await anext(bodies[0].body)


@pytest.mark.parametrize("name", SERVERS)
async def test_a_storage_that_fails_ends_the_response_early(
    storage: BackblazeStorage,
    server: B2Server,
    name: ServerName,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server.faults.next("GetObject", cut="rst", at=("body", 100_000))
    server.faults.always("GetObject", status=500)
    async with (
        site(app_of(storage), name) as running,
        running.client() as client,
    ):
        async with client.stream("GET", "/files/a.webm") as response:
            assert response.status_code == 200
            with pytest.raises(httpx.RemoteProtocolError):
                await response.aread()
        assert await running.ended() is None
    assert no_tracebacks(caplog)
    (logged,) = [record for record in caplog.records if record.name == "careflow_storage"]
    assert "the response ends early" in logged.message


async def test_a_cancelled_response_closes_its_file(storage: BackblazeStorage) -> None:
    await storage.upload_file("long.webm", LONG, "audio/webm")
    sent = asyncio.Event()

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            sent.set()
            await asyncio.Event().wait()

    scope: Any = {
        "type": "http",
        "method": "GET",
        "path": "/files/long.webm",
        "headers": [],
        "query_string": b"",
        "server": ("localhost", 80),
        "scheme": "http",
    }
    running = asyncio.create_task(app_of(storage)(scope, receive, send))
    await sent.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert held(storage) == NOTHING_HELD


async def test_a_background_task_runs_after_the_response(storage: BackblazeStorage) -> None:
    ran: list[str] = []
    app = FastAPI()

    @app.get("/")
    async def play(request: Request) -> Response:
        response = await file_response(storage, "a.webm", request)
        response.background = BackgroundTask(ran.append, "ran")
        response.headers["X-Call"] = "CA1"
        return response

    async with site(app) as running, running.client() as client:
        response = await client.get("/")
        await running.ended()
    assert response.content == DATA
    assert response.headers["x-call"] == "CA1"
    assert ran == ["ran"]
