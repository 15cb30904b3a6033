"""The tables of docs/web-apps.md: what is refused, and how."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Annotated

import httpx
import pytest
from fastapi import Depends, FastAPI, Request, Response, WebSocket

from careflow_storage import BackblazeStorage, UploadResult
from careflow_storage._transfer.bodies import limits
from careflow_storage.integrations.fastapi import (
    file_response,
    form_file,
    get_storage,
    install_error_handlers,
    storage_lifespan,
    websocket_audio,
)
from careflow_storage.testing import B2Server
from tests.support.bodies import MIB
from tests.support.web import Site, no_tracebacks, site
from tests.support.websocket_client import WebSocketClient
from tests.test_docs import code_names, rows

PAGE = Path(__file__).parents[2] / "docs" / "web-apps.md"
MAX_SIZE = MIB
Storage = Annotated[BackblazeStorage, Depends(get_storage)]
Got = tuple[int, str | None]
Case = Callable[[Site, httpx.AsyncClient], Awaitable[Got]]

app = FastAPI()
install_error_handlers(app)


@app.put("/recordings/{call_id}/{name}")
async def put(call_id: str, name: str, request: Request, storage: Storage) -> UploadResult:
    length = request.headers.get("x-length")
    return await storage.upload_recording(
        call_id,
        request.stream(),
        name,
        size=int(length) if length else None,
        max_size=MAX_SIZE,
    )


@app.post("/recordings/{call_id}")
async def post(
    call_id: str,
    request: Request,
    storage: Storage,
    timeout: float | None = None,  # noqa: ASYNC109 - of each read
    rate: float | None = None,
) -> UploadResult:
    async with form_file(request, max_size=MAX_SIZE, read_timeout=timeout, min_rate=rate) as part:
        return await storage.upload_recording(call_id, part, part.filename)


@app.get("/{key:path}")
async def play(key: str, request: Request, storage: Storage) -> Response:
    return await file_response(storage, key, request)


@app.websocket("/calls")
async def record(
    websocket: WebSocket,
    storage: Storage,
    timeout: float | None = None,  # noqa: ASYNC109 - of each read
) -> None:
    async with storage.open_recording("CA1", "call.webm", on_error="keep") as recording:
        async for chunk in websocket_audio(
            websocket, max_size=2000, max_message_size=1000, read_timeout=timeout
        ):
            await recording.write(chunk)


def got(response: httpx.Response) -> Got:
    problem = response.headers.get("content-type") == "application/problem+json"
    return response.status_code, response.json()["error"] if problem else None


def posting(files: list[tuple[str, tuple[str, bytes]]], **options: str) -> Case:
    async def send(_: Site, client: httpx.AsyncClient) -> Got:
        return got(await client.post("/recordings/CA1", files=files, **options))  # type: ignore[arg-type]  # lists are fine

    return send


async def send_malformed(_: Site, client: httpx.AsyncClient) -> Got:
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    return got(await client.post("/recordings/CA1", content=b"--c\r\n", headers=headers))


async def send_no_form(_: Site, client: httpx.AsyncClient) -> Got:
    return got(await client.post("/recordings/CA1", content=b"call"))


async def send_too_short(_: Site, client: httpx.AsyncClient) -> Got:
    headers = {"x-length": "5"}
    return got(await client.put("/recordings/CA1/a.webm", content=b"call", headers=headers))


async def send_too_much(_: Site, client: httpx.AsyncClient) -> Got:
    return got(await client.put("/recordings/CA1/a.webm", content=bytes(MAX_SIZE + 1)))


async def leave_the_folder(_: Site, client: httpx.AsyncClient) -> Got:
    return got(await client.put("/recordings/..%5Cx/a.webm", content=b"call"))


async def stall(running: Site, _: httpx.AsyncClient) -> Got:
    return await _dribble(running, "/recordings/CA1?timeout=0.1", [])


async def dribble(running: Site, _: httpx.AsyncClient) -> Got:
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.webm"\r\n\r\n'
    return await _dribble(running, "/recordings/CA1?rate=100000", [head, *([b"a"] * 1000)])


async def _dribble(running: Site, path: str, pieces: list[bytes]) -> Got:
    reader, writer = await running.connect()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999\r\n"
    writer.write(head.encode() + b"Content-Type: multipart/form-data; boundary=b\r\n\r\n")

    async def send() -> None:
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0.01)

    sending = asyncio.create_task(send())
    status = int((await reader.readline()).split()[1])
    content = await reader.readuntil(b"}")
    sending.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await sending
    return status, json.loads(content[content.index(b"{") :])["error"]


def playing(key: str, ranges: str) -> Case:
    async def get(running: Site, client: httpx.AsyncClient) -> Got:
        return got(await client.get(f"/{key}", headers={"Range": ranges}))

    return get


FILE = ("file", ("a.webm", b"call"))
REQUESTS: dict[str, list[Case]] = {
    "a form without a file, or without one in this field": [
        posting([("file", (None, b"text"))]),  # type: ignore[list-item]  # a text field
        posting([("other", ("a.webm", b"call"))]),
    ],
    "a form with two files": [posting([FILE, FILE])],
    "a form with an empty file": [posting([("file", ("a.webm", b""))])],
    "a file name with a folder, or that is no valid name": [
        posting([("file", ("../a.webm", b"call"))]),
        posting([("file", ("a\u202e.webm", b"call"))]),
    ],
    "a malformed form, or one that ends early": [send_malformed],
    "no form": [send_no_form],
    "a body with more than `max_size` bytes": [
        send_too_much,
        posting([("file", ("a.webm", bytes(MAX_SIZE + 1)))]),
    ],
    "a client that sends nothing for `read_timeout`": [stall],
    "a client that sends less than `min_rate`": [dribble],
    "a body that is shorter than its `size`": [send_too_short],
    "a call ID that leaves its folder": [leave_the_folder],
    "a range that is malformed, or several ranges": [
        playing("there", "bytes=x"),
        playing("there", "bytes=0-1,3-4"),
        playing("there", "bytes=" + ",".join(["0-0"] * 1000)),
    ],
    "a range that begins after the end": [playing("there", "bytes=4-")],
    "a missing file": [playing("missing", "bytes=0-")],
}
Send = Callable[[WebSocketClient], Awaitable[None]]


def sending(*messages: bytes | str) -> Send:
    async def send(client: WebSocketClient) -> None:
        for message in messages:
            await client.send(message)

    return send


async def send_a_large_one(client: WebSocketClient) -> None:
    with contextlib.suppress(ConnectionError):
        await client.send_in_pieces(5 * MIB)


async def leave(client: WebSocketClient) -> None:
    client.half_close()


MESSAGES: dict[str, tuple[Send, int]] = {
    "sends a text message other than `end`": (sending(b"call", "stop"), 4),
    "ends without any audio": (sending("end"), 0),
    "sends nothing for `read_timeout`": (sending(), 0),
    "sends a message with more than `max_message_size` bytes": (sending(b"call", bytes(1001)), 4),
    "sends a recording with more than `max_size` bytes": (sending(*[bytes(999)] * 3), 1998),
    "sends a message that is too large for the server": (send_a_large_one, 0),
    "disconnects": (leave, 0),
}


@pytest.fixture
async def running(server: B2Server) -> AsyncIterator[Site]:
    app.router.lifespan_context = storage_lifespan(server.settings())
    async with site(app, ws_max_size=MIB) as opened:
        yield opened


@pytest.fixture
async def storage(server: B2Server) -> AsyncIterator[BackblazeStorage]:
    async with BackblazeStorage(server.settings()) as opened:
        await opened.upload_file("there", b"call")
        yield opened


async def test_each_request_of_the_table_gets_its_response_and_stores_nothing(
    running: Site,
    storage: BackblazeStorage,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(limits, "RATE_WINDOW", 0.2)
    table = rows(PAGE, "The request")
    assert [row[0] for row in table] == list(REQUESTS)
    async with running.client() as client:
        for case, status, error in table:
            for send in REQUESTS[case]:
                expected = (int(status), next(iter(code_names(error)), None))
                assert await send(running, client) == expected, case
                assert await running.ended() is None
    assert [file.key for file in await storage.list_files()] == ["there"]
    assert await storage.list_incomplete_uploads() == []
    assert no_tracebacks(caplog)


async def test_each_sender_of_the_table_gets_its_code(
    running: Site, storage: BackblazeStorage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "careflow_storage")
    table = rows(PAGE, "The sender")
    assert [row[0] for row in table] == list(MESSAGES)
    for case, code, error in table:
        send, kept = MESSAGES[case]
        is_silent = "sends nothing" in case
        client = await running.websocket("/calls?timeout=0.3" if is_silent else "/calls")
        await send(client)
        if code and "server" not in case:
            assert (await client.closed())[0] == int(code), case
        assert await running.ended() is None
        files = await storage.list_files("recordings/")
        assert [file.size for file in files] == ([kept] if kept else []), case
        for file in files:
            assert (await storage.get_file_metadata(file.key)).partial
            await storage.delete_file(file.key)
        cut_off = "WebSocket '/calls': " in "".join(caplog.messages)
        assert cut_off is (code_names(error) == ["RecordingCutOff"]), case
        caplog.clear()
    assert no_tracebacks(caplog)
