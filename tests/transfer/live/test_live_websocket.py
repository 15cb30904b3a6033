"""The recipes of docs/live-recordings.md, run on a real server."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import socket
import wave
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI, WebSocket
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Request, TextMessage

from careflow_storage import BackblazeStorage, FileMetadata
from tests.support.bodies import noise
from tests.test_docs import python_blocks

DOCUMENT = Path(__file__).parents[3] / "docs" / "live-recordings.md"
CALL = noise(50_000)


def recipes() -> dict[str, Any]:
    """The definitions in the code blocks of the document that do not call the storage."""
    defined: dict[str, Any] = {"BackblazeStorage": BackblazeStorage}
    for _, block in python_blocks(DOCUMENT):
        if "FastAPI" in block or "def record_stream" in block or "def wav_of" in block:
            exec(block, defined)  # noqa: S102 - our own documentation
    return defined


class Client:
    """A browser, or Twilio, at the other end of a websocket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._connection = WSConnection(ConnectionType.CLIENT)

    async def open(self, path: str) -> None:
        self._send(Request(host="localhost", target=path))
        while True:
            self._connection.receive_data(await self._reader.read(65536))
            if any(isinstance(event, AcceptConnection) for event in self._connection.events()):
                return

    def _send(self, event: Any) -> None:
        self._writer.write(self._connection.send(event))

    async def send(self, data: bytes | str) -> None:
        self._send(BytesMessage(data) if isinstance(data, bytes) else TextMessage(data))
        await self._writer.drain()

    async def close(self, code: int) -> None:
        self._send(CloseConnection(code=code))
        await self._writer.drain()

    def abort(self) -> None:
        self._writer.transport.abort()

    async def heard(self) -> None:
        """Wait until the server has closed."""
        while await self._reader.read(65536):
            pass


class Site:
    """An app on a server, and when its websockets have ended."""

    def __init__(self, app: FastAPI) -> None:
        self.ended = asyncio.Event()
        self.received = 0
        self.all_received = asyncio.Event()
        self._app = app
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.server = uvicorn.Server(
            uvicorn.Config(self, ws="wsproto", log_config=None, timeout_graceful_shutdown=10)
        )

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            await self._app(scope, receive, send)
            return

        async def heard() -> Any:
            message = await receive()
            self.received += len(message.get("bytes") or b"")
            if self.received == len(CALL):
                self.all_received.set()
            return message

        try:
            await self._app(scope, heard, send)
        finally:
            self.ended.set()

    async def connect(self, path: str) -> Client:
        client = Client(*await asyncio.open_connection(*self._listening.getsockname()))
        await client.open(path)
        return client

    async def serve(self) -> None:
        await self.server.serve(sockets=[self._listening])


@asynccontextmanager
async def site(app: FastAPI, storage: BackblazeStorage) -> AsyncIterator[Site]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
        yield {"storage": storage}

    app.router.lifespan_context = lifespan
    served = Site(app)
    serving = asyncio.create_task(served.serve())
    try:
        yield served
    finally:
        served.server.should_exit = True
        await serving


async def stored(storage: BackblazeStorage) -> dict[str, FileMetadata]:
    return {
        file.key.rpartition("-")[2]: await storage.get_file_metadata(file.key)
        for file in await storage.list_files()
    }


End = Callable[[Client, Site], Awaitable[None]]


async def abort(client: Client, _: Site) -> None:
    client.abort()


async def restart(_: Client, site: Site) -> None:
    # Like SIGTERM, which uvicorn would raise again after its shutdown.
    site.server.should_exit = True


def closed(code: int) -> End:
    async def close(client: Client, _: Site) -> None:
        await client.close(code)

    return close


async def says_end(client: Client, _: Site) -> None:
    await client.send("end")


ENDS: dict[str, tuple[End, bool]] = {
    "end message": (says_end, True),
    "1000": (closed(1000), True),
    "TCP abort": (abort, False),
    "1001": (closed(1001), False),
    "1011": (closed(1011), False),
    "1012": (closed(1012), False),
    "server restart": (restart, False),
}


@pytest.mark.parametrize("on_error", ["keep", "abort"])
@pytest.mark.parametrize("end", ENDS)
async def test_a_call_is_complete_only_if_the_browser_said_so(
    storage: BackblazeStorage, monkeypatch: pytest.MonkeyPatch, end: str, on_error: str
) -> None:
    open_recording = storage.open_recording

    def opened(*given: Any, **options: Any) -> Any:
        return open_recording(*given, **(options | {"on_error": on_error}))

    monkeypatch.setattr(storage, "open_recording", opened)
    how, complete = ENDS[end]
    async with site(recipes()["app"], storage) as served, asyncio.timeout(30):
        client = await served.connect("/calls/CA1")
        for start in range(0, len(CALL), 10_000):
            await client.send(CALL[start : start + 10_000])
        await served.all_received.wait()
        await how(client, served)
        await served.ended.wait()
        client.abort()
    found = (await stored(storage))["call.webm"]
    assert (found.size, found.partial) == (len(CALL), not complete)
    assert await storage.get_file(found.key) == CALL
    assert ("code" in found.metadata.get("partial-reason", "")) is not complete


INBOUND, OUTBOUND = noise(160 * 20), noise(160 * 20)[::-1]


def twilio() -> list[str]:
    """The messages of a stream with both tracks, as Twilio's documentation shows them."""
    media: list[dict[str, Any]] = []
    for number in range(20):
        for track, sound in (("inbound", INBOUND), ("outbound", OUTBOUND)):
            payload = base64.b64encode(sound[number * 160 : number * 160 + 160]).decode()
            media.append(
                {
                    "event": "media",
                    "sequenceNumber": str(len(media) + 2),
                    "media": {
                        "track": track,
                        "chunk": str(number + 1),
                        "timestamp": str(20 * number),
                        "payload": payload,
                    },
                    "streamSid": "MZ1",
                }
            )
    start = {
        "event": "start",
        "sequenceNumber": "1",
        "start": {
            "streamSid": "MZ1",
            "callSid": "CA1",
            "tracks": ["inbound", "outbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        },
        "streamSid": "MZ1",
    }
    connected = {"event": "connected", "protocol": "Call", "version": "1.0.0"}
    return [json.dumps(message) for message in (connected, start, *media)]


STOP = json.dumps({"event": "stop", "sequenceNumber": "42", "stop": {"callSid": "CA1"}})


@pytest.mark.parametrize("end", ["stop", "1000", "TCP abort", "1011", "server restart"])
async def test_each_track_of_twilio_is_a_recording_which_is_complete_after_stop(
    storage: BackblazeStorage, end: str
) -> None:
    defined = recipes()
    app = FastAPI()

    @app.websocket("/stream")
    async def stream(websocket: WebSocket) -> None:
        await websocket.accept()
        await defined["record_stream"](websocket, websocket.state.storage, "CA1")

    async with site(app, storage) as served, asyncio.timeout(30):
        client = await served.connect("/stream")
        for message in twilio():
            await client.send(message)
        if end == "stop":
            await client.send(STOP)
        else:
            await ENDS[end][0](client, served)
        await served.ended.wait()
        client.abort()
    found = await stored(storage)
    for name, sound in (("inbound.ulaw", INBOUND), ("outbound.ulaw", OUTBOUND)):
        content = await storage.get_file(found[name].key)
        if end == "stop":
            assert content == sound
        assert sound.startswith(content)
        assert (found[name].partial, found[name].content_type) == (end != "stop", "audio/basic")


def test_mu_law_becomes_a_wav_file_by_the_table_of_g711() -> None:
    wav_of = recipes()["wav_of"]
    with wave.open(io.BytesIO(wav_of(bytes([0x00, 0x80, 0x7F, 0xFF, 0x70, 0xF0])))) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 8000)
        frames = file.readframes(6)
    values = [int.from_bytes(frames[n : n + 2], "little", signed=True) for n in range(0, 12, 2)]
    assert values == [-32124, 32124, 0, 0, -120, 120]
