"""The responses to errors, for requests and WebSockets, on real web servers."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from fastapi import Depends, FastAPI, WebSocket
from starlette.requests import Request

from careflow_storage import (
    AccessDeniedError,
    InvalidInputError,
    NoSuchKeyError,
    ServiceUnavailableError,
    StorageError,
)
from careflow_storage.integrations.fastapi import install_error_handlers
from tests.support.web import SERVERS, ServerName, no_tracebacks, site
from tests.support.websocket_client import WebSocketClient

SECRET = "bucket-of-the-app"


def app_that_fails(error: StorageError) -> FastAPI:
    app = FastAPI()
    install_error_handlers(app)

    def fail() -> None:
        raise error

    @app.get("/route")
    async def route() -> None:
        raise error

    @app.get("/dependency", dependencies=[Depends(fail)])
    async def dependency() -> None:
        pass

    @app.websocket("/before")
    async def before(websocket: WebSocket) -> None:
        raise error

    @app.websocket("/after")
    async def after(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.receive_text()
        raise error

    @app.websocket("/closed")
    async def closed(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close(1000)
        raise error

    return app


@pytest.mark.parametrize("path", ["/route", "/dependency"])
async def test_a_refusal_is_a_problem_with_its_message(path: str) -> None:
    app = app_that_fails(NoSuchKeyError("There is no such file."))
    async with site(app) as running, running.client() as client:
        response = await client.get(path)
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["detail"] == "There is no such file."


async def test_a_failure_is_logged_in_one_line_and_says_nothing_to_the_client(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = app_that_fails(AccessDeniedError("no", bucket=SECRET, request_id="7"))
    async with site(app) as running, running.client() as client:
        response = await client.get("/route?token=hidden")
    assert response.status_code == 502
    assert SECRET not in response.text
    (logged,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert logged.message.startswith("GET '/route': ")
    assert SECRET in logged.message
    assert "hidden" not in logged.message
    assert no_tracebacks(caplog)


async def test_the_client_is_asked_to_wait() -> None:
    app = app_that_fails(ServiceUnavailableError("busy", retry_after=89.5))
    async with site(app) as running, running.client() as client:
        response = await client.get("/route")
    assert (response.status_code, response.headers["retry-after"]) == (503, "90")


ERRORS: list[tuple[StorageError, int, int]] = [
    (InvalidInputError("bad"), 422, 1008),
    (AccessDeniedError("no"), 502, 1011),
    (ServiceUnavailableError("busy"), 503, 1013),
]


@pytest.mark.parametrize("name", SERVERS)
async def test_a_websocket_is_refused_like_a_request_and_closed_by_a_code(
    name: ServerName, caplog: pytest.LogCaptureFixture
) -> None:
    for error, status, code in ERRORS:
        async with site(app_that_fails(error), name) as running:
            client = WebSocketClient(*await running.connect())
            refused, body = await client.open("/before")
            assert (refused, type(error).__name__.encode() in body) == (status, True)
            assert await running.ended() is None
            client = await running.websocket("/after")
            await client.send("go on")
            assert (await client.closed())[0] == code
            assert await running.ended() is None
            client = await running.websocket("/closed")
            assert (await client.closed())[0] == 1000
            assert await running.ended() is None
    assert no_tracebacks(caplog)


@pytest.mark.parametrize("name", SERVERS)
async def test_a_websocket_that_left_before_the_error_is_no_second_error(
    name: ServerName, caplog: pytest.LogCaptureFixture
) -> None:
    app = FastAPI()
    install_error_handlers(app)

    @app.websocket("/")
    async def receive(websocket: WebSocket) -> None:
        await websocket.accept()
        while (await websocket.receive())["type"] != "websocket.disconnect":
            pass
        raise ServiceUnavailableError("busy")

    async with site(app, name) as running:
        client = await running.websocket("/")
        client.abort()
        assert await running.ended() is None
    assert no_tracebacks(caplog)


@pytest.mark.parametrize("name", SERVERS)
async def test_a_client_that_leaves_in_its_upload_is_one_quiet_line(
    name: ServerName, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    app = FastAPI()
    install_error_handlers(app)

    @app.put("/upload")
    async def upload(request: Request) -> int:
        return len(await request.body())

    async with site(app, name) as running:
        _, writer = await running.connect()
        writer.write(b"PUT /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nabc")
        await writer.drain()
        writer.transport.abort()
        assert await running.ended() is None
    assert no_tracebacks(caplog)
    ours: list[Any] = [record for record in caplog.records if record.name == "careflow_storage"]
    assert [record.message for record in ours] == ["PUT '/upload': the client left."]
    assert ours[0].levelno == logging.INFO
