"""Recordings over a WebSocket: complete if the sender said so, partial if it was cut off."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Literal

import pytest
from fastapi import FastAPI, WebSocket
from wsproto.frame_protocol import CloseReason

from careflow_storage import BackblazeStorage, FileMetadata, InvalidInputError
from careflow_storage.integrations.fastapi import install_error_handlers, websocket_audio
from careflow_storage.testing import B2Server
from tests.support.behind_proxy import NOTHING_HELD, held
from tests.support.bodies import MIB, noise
from tests.support.web import SERVERS, ServerName, no_tracebacks, site
from tests.support.websocket_client import WebSocketClient

CALL = noise(50_000)


@pytest.fixture
async def storage(server: B2Server) -> AsyncIterator[BackblazeStorage]:
    settings = server.settings(part_size=5 * MIB, multipart_threshold=5 * MIB)
    async with BackblazeStorage(settings) as opened:
        yield opened
        assert held(opened) == NOTHING_HELD
        if "CreateMultipartUpload" in opened.request_counts():
            assert await opened.list_incomplete_uploads() == []


def app_of(
    storage: BackblazeStorage, on_error: Literal["keep", "abort"] = "keep", **options: Any
) -> FastAPI:
    app = FastAPI()
    install_error_handlers(app)

    @app.websocket("/calls")
    async def record(websocket: WebSocket) -> None:
        async with storage.open_recording("CA1", "call.webm", on_error=on_error) as recording:
            async for chunk in websocket_audio(websocket, **options):
                await recording.write(chunk)
        await websocket.send_json({"size": recording.result.size})
        await websocket.close()

    @app.websocket("/uploads")
    async def upload(websocket: WebSocket) -> None:
        await websocket.accept()
        await storage.upload_recording("CA1", websocket_audio(websocket, **options), "call.webm")

    return app


async def stored(storage: BackblazeStorage) -> FileMetadata | None:
    files = await storage.list_files()
    return await storage.get_file_metadata(files[0].key) if files else None


End = Callable[[WebSocketClient], Awaitable[None]]


def closed(code: int) -> End:
    async def close(client: WebSocketClient) -> None:
        await client.close(code)

    return close


async def abort(client: WebSocketClient) -> None:
    # Not a reset: the server must have read all that was sent.
    client.half_close()


async def say_end(client: WebSocketClient) -> None:
    await client.send("end")


COMPLETE: dict[str, End] = {"end message": say_end, "code 1000": closed(1000)}
CUT_OFF: dict[str, End] = {
    "connection lost": abort,
    # What `socket.close()` sends in a page.
    "no code": closed(CloseReason.NO_STATUS_RCVD),
    "code 1001": closed(1001),
    "code 1011": closed(1011),
    "code 1012": closed(1012),
}


@pytest.mark.parametrize("name", SERVERS)
@pytest.mark.parametrize("path", ["/calls", "/uploads"])
@pytest.mark.parametrize("end", [*COMPLETE, *CUT_OFF])
async def test_a_recording_is_complete_only_if_the_sender_said_so(
    storage: BackblazeStorage,
    name: ServerName,
    path: str,
    end: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    complete = end in COMPLETE
    if name == "hypercorn" and end == "code 1000":
        complete = False  # it reports every closed connection as lost
    async with site(app_of(storage), name) as running:
        client = await running.websocket(path)
        for start in range(0, len(CALL), 10_000):
            await client.send(CALL[start : start + 10_000])
        await (COMPLETE | CUT_OFF)[end](client)
        if end == "end message" and path == "/calls":
            assert await client.receive_json() == {"size": len(CALL)}
            assert await client.closed() == (1000, "")
        assert await running.ended() is None
    found = await stored(storage)
    if path == "/uploads" and not complete:
        assert found is None
    else:
        assert found is not None
        assert (found.size, found.partial) == (len(CALL), not complete)
        assert ("close code" in found.metadata.get("partial-reason", "")) is not complete
    assert no_tracebacks(caplog)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_nothing_is_kept_with_abort(storage: BackblazeStorage) -> None:
    async with site(app_of(storage, "abort")) as running:
        client = await running.websocket("/calls")
        await client.send(noise(6 * MIB))
        client.half_close()
        assert await running.ended() is None
    assert await stored(storage) is None


Send = Callable[[WebSocketClient], Awaitable[None]]


def sending(*messages: bytes | str) -> Send:
    async def send(client: WebSocketClient) -> None:
        for message in messages:
            await client.send(message)

    return send


REFUSED: dict[str, tuple[Send, int, int]] = {
    "another text": (sending(b"abc", "stop"), 1003, 3),
    "nothing for too long": (sending(), 1008, 0),
    "nothing more for too long": (sending(b"abc"), 1008, 3),
    "an end without audio": (sending("end"), 1008, 0),
    "an end after empty messages": (sending(b"", b"", "end"), 1008, 0),
    "a message that is too large": (sending(b"abc", bytes(1001)), 1009, 3),
    "a text that is too large": (sending(b"abc", "e" * 1001), 1009, 3),
    "a recording that is too large": (sending(bytes(999), bytes(999), bytes(999)), 1009, 1998),
}


@pytest.mark.parametrize("name", SERVERS)
@pytest.mark.parametrize("kind", REFUSED)
async def test_what_breaks_a_limit_ends_the_recording_with_a_code(
    storage: BackblazeStorage, name: ServerName, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    send, code, kept = REFUSED[kind]
    # Only where nothing is sent: a busy machine may be late with what is sent.
    read_timeout = 1.0 if kind.startswith("nothing") else None
    app = app_of(storage, max_size=2000, max_message_size=1000, read_timeout=read_timeout)
    async with site(app, name) as running:
        for path in ("/calls", "/uploads"):
            client = await running.websocket(path)
            await send(client)
            assert (await client.closed())[0] == code
            assert await running.ended() is None
    # Of "/calls", which keeps what arrived; "/uploads" stores nothing.
    found = await storage.list_files()
    assert [file.size for file in found] == ([kept] if kept else [])
    for file in found:
        assert (await storage.get_file_metadata(file.key)).partial
    assert no_tracebacks(caplog)


@pytest.mark.parametrize("name", SERVERS)
async def test_a_message_of_100_megabytes_is_refused_by_the_server(
    storage: BackblazeStorage, name: ServerName, caplog: pytest.LogCaptureFixture
) -> None:
    async with site(app_of(storage), name) as running:
        client = await running.websocket("/calls")
        await client.send(b"abc")
        # The server closes with code 1009, or resets the connection before that arrives.
        sending = asyncio.create_task(client.send_in_pieces(100_000_000))
        closing = asyncio.create_task(client.closed())
        await asyncio.wait({sending, closing}, return_when=asyncio.FIRST_COMPLETED)
        client.abort()
        await asyncio.gather(sending, closing, return_exceptions=True)
        assert await running.ended() is None
    found = await stored(storage)
    assert found is not None
    assert (found.size, found.partial) == (3, True)
    assert no_tracebacks(caplog)


async def test_no_end_message_leaves_only_the_close_code(storage: BackblazeStorage) -> None:
    async with site(app_of(storage, end=None)) as running:
        client = await running.websocket("/calls")
        await client.send(CALL)
        await client.send("end")
        assert (await client.closed())[0] == 1003
        await running.ended()
        client = await running.websocket("/calls")
        await client.send(CALL)
        await client.close(1000)
        await running.ended()
    partial = [
        (await storage.get_file_metadata(file.key)).partial for file in await storage.list_files()
    ]
    assert sorted(partial) == [False, True]


async def test_a_server_that_stops_cuts_the_recording_off(storage: BackblazeStorage) -> None:
    received = asyncio.Event()
    app = FastAPI()

    @app.websocket("/calls")
    async def record(websocket: WebSocket) -> None:
        async with storage.open_recording("CA1", "call.webm", on_error="keep") as recording:
            async for chunk in websocket_audio(websocket):
                await recording.write(chunk)
                received.set()

    install_error_handlers(app)
    async with site(app, timeout_graceful_shutdown=10) as running:
        client = await running.websocket("/calls")
        await client.send(CALL)
        await received.wait()
        await running.stop()
        assert await running.ended() is None
    found = await stored(storage)
    assert found is not None
    assert (found.size, found.partial) == (len(CALL), True)


@pytest.mark.parametrize("limit", [{"read_timeout": 0}, {"max_size": -1}])
def test_a_limit_that_is_none_is_refused(limit: dict[str, Any]) -> None:
    websocket = WebSocket({"type": "websocket"}, None, None)  # type: ignore[arg-type]  # unused
    with pytest.raises(InvalidInputError, match=next(iter(limit))):
        websocket_audio(websocket, **limit)
