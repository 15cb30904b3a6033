"""Twilio media streams, as Twilio's documentation shows them, on a real web server."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from fastapi import FastAPI, WebSocket

from careflow_storage import BackblazeStorage, FileMetadata
from careflow_storage.integrations.fastapi import (
    TwilioStream,
    install_error_handlers,
    record_twilio,
    twilio_media,
)
from careflow_storage.testing import B2Server
from tests.support.behind_proxy import NOTHING_HELD, held
from tests.support.bodies import noise
from tests.support.web import no_tracebacks, site
from tests.support.websocket_client import WebSocketClient

INBOUND, OUTBOUND = noise(160 * 20), noise(160 * 20)[::-1]
CONNECTED = {"event": "connected", "protocol": "Call", "version": "1.0.0"}
START: dict[str, Any] = {
    "event": "start",
    "sequenceNumber": "1",
    "start": {
        "accountSid": "AC1",
        "streamSid": "MZ1",
        "callSid": "CA1",
        "tracks": ["inbound", "outbound"],
        "customParameters": {"agent": "42"},
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
    },
    "streamSid": "MZ1",
}
STOP = {"event": "stop", "sequenceNumber": "42", "stop": {"callSid": "CA1"}}


def media(track: str, sound: bytes, number: int = 1) -> dict[str, Any]:
    return {
        "event": "media",
        "sequenceNumber": str(number + 1),
        "media": {
            "track": track,
            "chunk": str(number),
            "timestamp": str(20 * number),
            "payload": base64.b64encode(sound).decode(),
        },
        "streamSid": "MZ1",
    }


def both_tracks() -> list[Any]:
    pieces = [
        media(track, sound[number * 160 :][:160], number)
        for number in range(20)
        for track, sound in (("inbound", INBOUND), ("outbound", OUTBOUND))
    ]
    other = [{"event": "dtmf", "dtmf": {"digit": "1"}}, {"event": "mark", "mark": {"name": "m"}}]
    return [CONNECTED, START, *pieces, *other]


@pytest.fixture
async def storage(server: B2Server) -> AsyncIterator[BackblazeStorage]:
    async with BackblazeStorage(server.settings()) as opened:
        yield opened
        assert held(opened) == NOTHING_HELD


def app_of(storage: BackblazeStorage, **options: Any) -> FastAPI:
    app = FastAPI()
    install_error_handlers(app)

    @app.websocket("/stream")
    async def stream(websocket: WebSocket) -> None:
        app.state.results = await record_twilio(storage, websocket, **options)

    @app.websocket("/media")
    async def pieces(websocket: WebSocket) -> None:
        audio = twilio_media(websocket)
        app.state.stream = await audio.start()
        app.state.pieces = [piece async for piece in audio]

    return app


async def send(client: WebSocketClient, *messages: Any) -> None:
    for message in messages:
        await client.send(message if isinstance(message, bytes | str) else json.dumps(message))


async def stored(storage: BackblazeStorage) -> dict[str, FileMetadata]:
    return {
        file.key.rpartition("-")[2]: await storage.get_file_metadata(file.key)
        for file in await storage.list_files()
    }


async def stop(client: WebSocketClient) -> None:
    await send(client, STOP)


async def close_normally(client: WebSocketClient) -> None:
    await client.close(1000)


async def close_with_an_error(client: WebSocketClient) -> None:
    await client.close(1011)


async def leave(client: WebSocketClient) -> None:
    client.half_close()


ENDS: dict[str, Callable[[WebSocketClient], Awaitable[None]]] = {
    "stop": stop,
    # Twilio says stop first, so this is no end of a call.
    "code 1000": close_normally,
    "code 1011": close_with_an_error,
    "connection lost": leave,
}


@pytest.mark.parametrize("end", ENDS)
async def test_each_track_is_a_recording_which_is_complete_after_stop(
    storage: BackblazeStorage, end: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = app_of(storage, metadata={"agent": "42"})
    async with site(app) as running:
        client = await running.websocket("/stream")
        await send(client, *both_tracks())
        await ENDS[end](client)
        assert await running.ended() is None
    found = await stored(storage)
    assert set(found) == {"inbound.ulaw", "outbound.ulaw"}
    assert len({file.key.rpartition("-")[0] for file in found.values()}) == 1  # the same time
    for name, sound in (("inbound.ulaw", INBOUND), ("outbound.ulaw", OUTBOUND)):
        file = found[name]
        assert file.key.startswith("recordings/CA1/")
        assert await storage.get_file(file.key) == sound
        assert (file.partial, file.content_type) == (end != "stop", "audio/basic")
        assert file.metadata["agent"] == "42"
        assert ("partial-reason" in file.metadata) == (end != "stop")
    results = {result.key: result.partial for result in app.state.results}
    assert results == {file.key: file.partial for file in found.values()}
    assert no_tracebacks(caplog)


async def test_the_call_can_be_named_by_the_app(storage: BackblazeStorage) -> None:
    async with site(app_of(storage, call_id="call-7")) as running:
        client = await running.websocket("/stream")
        await send(client, CONNECTED, START, media("inbound", b"abc"), STOP)
        await running.ended()
    (file,) = (await stored(storage)).values()
    assert file.key.startswith("recordings/call-7/")


async def test_the_pieces_and_the_parameters_of_a_stream(storage: BackblazeStorage) -> None:
    app = app_of(storage)
    async with site(app) as running:
        client = await running.websocket("/media")
        await send(client, *both_tracks(), STOP)
        await running.ended()
    assert app.state.stream == TwilioStream("MZ1", "CA1", ("inbound", "outbound"), {"agent": "42"})
    pieces = app.state.pieces
    assert b"".join(piece.data for piece in pieces if piece.track == "inbound") == INBOUND
    assert [piece.timestamp for piece in pieces[:4]] == [0, 0, 20, 20]


@pytest.mark.parametrize(
    "messages",
    [[], [CONNECTED], [CONNECTED, START], [CONNECTED, START, media("inbound", b"")]],
    ids=len,
)
@pytest.mark.parametrize("end", ENDS)
async def test_a_stream_without_audio_stores_nothing(
    storage: BackblazeStorage, messages: list[Any], end: str
) -> None:
    async with site(app_of(storage)) as running:
        client = await running.websocket("/stream")
        await send(client, *messages)
        await ENDS[end](client)
        assert await running.ended() is None
    assert await stored(storage) == {}


def started(**changes: Any) -> dict[str, Any]:
    return {"event": "start", "start": {**START["start"], **changes}}


OTHER_FORMAT = {
    **START,
    "start": {"streamSid": "M", "callSid": "C", "tracks": [], "mediaFormat": {"encoding": "l16"}},
}
REFUSED: dict[str, tuple[list[Any], int]] = {
    "no JSON": ([CONNECTED, START, media("inbound", b"abc"), "{"], 1007),
    "nested JSON": ([CONNECTED, START, media("inbound", b"abc"), "[" * 60_000], 1007),
    "no object": ([CONNECTED, START, media("inbound", b"abc"), "[]"], 1007),
    "no event": ([CONNECTED, START, media("inbound", b"abc"), "{}"], 1007),
    "another track": ([CONNECTED, START, media("inbound", b"abc"), media("../x", b"a")], 1007),
    "no base64": (
        [
            *(CONNECTED, START, media("inbound", b"abc")),
            {"event": "media", "media": {"track": "inbound", "payload": "%"}},
        ],
        1007,
    ),
    "a payload that is no text": (
        [
            *(CONNECTED, START, media("inbound", b"abc")),
            {"event": "media", "media": {"track": "inbound", "payload": None}},
        ],
        1007,
    ),
    "a binary message": ([CONNECTED, START, media("inbound", b"abc"), b"abc"], 1003),
    "a message of 65 KiB": ([CONNECTED, START, media("inbound", b"abc"), "x" * 66_560], 1009),
    "media before the start": ([CONNECTED, media("inbound", b"abc")], 1007),
    "a start without a call": ([{"event": "start", "start": {"streamSid": "MZ1"}}], 1007),
    "a start that is no object": ([{"event": "start", "start": "MZ1"}], 1007),
    "another format": ([OTHER_FORMAT], 1007),
    "tracks that are no texts": ([started(tracks=[["inbound"]])], 1007),
    "parameters that are a list": ([started(customParameters=["abc"])], 1007),
    "parameters that are no texts": ([started(customParameters={"agent": 42})], 1007),
    "a time that is infinite": (
        [
            CONNECTED,
            START,
            media("inbound", b"abc"),
            '{"event": "media", "media": '
            '{"track": "inbound", "payload": "YWJj", "timestamp": Infinity}}',
        ],
        1007,
    ),
    "nothing": ([], 1008),
}


@pytest.mark.parametrize("kind", REFUSED)
async def test_what_twilio_does_not_send_ends_the_recording(
    storage: BackblazeStorage, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    messages, code = REFUSED[kind]
    limits = {"read_timeout": 0.3} if kind == "nothing" else {}
    async with site(app_of(storage, **limits)) as running:
        client = await running.websocket("/stream")
        await send(client, *messages)
        assert (await client.closed())[0] == code
        assert await running.ended() is None
    found = await stored(storage)
    kept = media("inbound", b"abc") in messages and START in messages
    assert {name: (file.size, file.partial) for name, file in found.items()} == (
        {"inbound.ulaw": (3, True)} if kept else {}
    )
    assert no_tracebacks(caplog)


async def test_a_call_that_leaves_its_folder_is_refused(storage: BackblazeStorage) -> None:
    start = {"event": "start", "start": {"streamSid": "M", "callSid": "../x", "tracks": []}}
    async with site(app_of(storage)) as running:
        client = await running.websocket("/stream")
        await send(client, start, media("inbound", b"abc"))
        assert (await client.closed())[0] == 1008
    assert await stored(storage) == {}


async def test_a_track_that_cannot_be_stored_does_not_make_the_other_partial(
    storage: BackblazeStorage, server: B2Server
) -> None:
    server.faults.always("PutObject", key=r"inbound\.ulaw$", status=403, code="AccessDenied")
    async with site(app_of(storage)) as running:
        client = await running.websocket("/stream")
        await send(client, *both_tracks(), STOP)
        assert (await client.closed())[0] == 1011
    found = await stored(storage)
    assert list(found) == ["outbound.ulaw"]
    assert not found["outbound.ulaw"].partial
