"""The examples for Litestar, Quart, aiohttp and Django behave alike, on real web servers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from types import ModuleType

import httpx
import pytest

from careflow_storage import BackblazeStorage
from careflow_storage.testing import B2Server
from tests.support.behind_proxy import NOTHING_HELD, held
from tests.support.bodies import MIB, noise, pieces
from tests.support.web import Site
from tests.support.web_frameworks import Framework, frameworks

# Where a server cancels a request that has ended, Django leaves its empty temporary file open.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore:Unclosed file <tempfile.SpooledTemporaryFile",
        "ignore:Exception ignored in. <function SpooledTemporaryFile",
    ),
]

DATA = noise(6 * MIB)
PATH = "/recordings/CA123/call.webm"
CHUNK = 64 * 1024
# More than the buffers of both sockets hold, so that the app must wait for a client that stalls.
LONG = 24 * MIB


@pytest.fixture(params=frameworks(), ids=str)
def framework(request: pytest.FixtureRequest) -> Framework:
    chosen: Framework = request.param
    return chosen


@pytest.fixture
def module(framework: Framework) -> ModuleType:
    return framework.load()


@pytest.fixture
async def app(
    framework: Framework,
    module: ModuleType,
    server: B2Server,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> AsyncIterator[Site]:
    """The running example, on a bucket of the emulator. It leaves nothing, and no traceback."""
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    async with framework.run(module) as running:
        await wait_for_startup(running)
        yield running
        assert held(framework.storage_of(module)) == NOTHING_HELD
    assert server.incomplete_uploads() == []
    assert not [record for record in caplog.records if shows_a_traceback(record)]


async def wait_for_startup(running: Site) -> None:
    """hypercorn accepts connections before the app has started; requests wait for it."""
    async with httpx.AsyncClient(base_url=running.url, trust_env=False, timeout=60) as client:
        assert (await client.get("/no-such-route")).status_code == 404
    await running.ended()


def shows_a_traceback(record: logging.LogRecord) -> bool:
    if record.exc_info is None:
        return False
    # On Python 3.11 asyncio logs each connection that hypercorn closes at its shutdown.
    return not isinstance(record.exc_info[1], asyncio.CancelledError)


@pytest.fixture
async def client(app: Site) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=app.url, trust_env=False, timeout=60) as opened:
        yield opened


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    for piece in pieces(data, CHUNK):
        yield piece


def assert_problem(response: httpx.Response, status: int, error: str) -> None:
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["error"] == error
    assert response.json()["status"] == status


async def test_a_recording_is_stored_and_played(client: httpx.AsyncClient) -> None:
    stored = await client.put(PATH, content=DATA)
    assert stored.status_code == 201, stored.text
    assert stored.json()["size"] == len(DATA)
    path = "/" + stored.json()["key"]

    whole = await client.get(path)
    assert (whole.status_code, whole.content) == (200, DATA)
    assert whole.headers["content-type"] == "audio/webm"
    assert whole.headers["content-length"] == str(len(DATA))
    assert whole.headers["accept-ranges"] == "bytes"
    tag = whole.headers["etag"]

    part = await client.get(path, headers={"Range": "bytes=4-9"})
    assert (part.status_code, part.content) == (206, DATA[4:10])
    assert part.headers["content-range"] == f"bytes 4-9/{len(DATA)}"
    assert part.headers["content-length"] == "6"

    suffix = await client.get(path, headers={"Range": "bytes=-500"})
    assert (suffix.status_code, suffix.content) == (206, DATA[-500:])

    several = await client.get(path, headers={"Range": "bytes=0-1,3-4"})
    assert (several.status_code, several.content) == (200, DATA)

    beyond = await client.get(path, headers={"Range": f"bytes={len(DATA)}-"})
    assert (beyond.status_code, beyond.content) == (416, b"")
    assert beyond.headers["content-range"] == f"bytes */{len(DATA)}"

    unchanged = await client.get(path, headers={"If-None-Match": tag})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert unchanged.headers["etag"] == tag

    changed = await client.get(path, headers={"If-Match": '"another"'})
    assert changed.status_code == 412

    head = await client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(DATA))
    assert head.headers["etag"] == tag

    link = await client.get(path + "/link")
    assert link.status_code == 307
    assert link.headers["cache-control"] == "no-store"
    async with httpx.AsyncClient(trust_env=False) as player:
        assert (await player.get(link.headers["location"])).content == DATA


async def test_a_body_of_unknown_length_is_stored(client: httpx.AsyncClient) -> None:
    stored = await client.put(PATH, content=chunks(DATA))
    assert stored.status_code == 201, stored.text
    assert (await client.get("/" + stored.json()["key"])).content == DATA


async def test_the_file_of_a_form_is_stored(client: httpx.AsyncClient) -> None:
    file = ("call.webm", DATA, "audio/webm")
    stored = await client.post("/recordings/CA123", files={"file": file})
    assert stored.status_code == 201, stored.text
    assert (await client.get("/" + stored.json()["key"])).content == DATA


async def test_a_form_without_a_file_is_a_422(client: httpx.AsyncClient, server: B2Server) -> None:
    for form in ({"other": ("call.webm", b"RIFF")}, {"file": (None, b"no file")}):
        assert (await client.post("/recordings/CA123", files=form)).status_code == 422
    assert server.versions() == []


async def test_a_file_in_a_form_that_is_too_large_is_a_413(
    client: httpx.AsyncClient,
    module: ModuleType,
    server: B2Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_SIZE", MIB)
    refused = await client.post("/recordings/CA123", files={"file": ("a.webm", DATA[: MIB + 1])})
    assert_problem(refused, 413, "FileTooLargeError")
    assert server.versions() == []


async def test_a_client_that_leaves_in_mid_form_leaves_nothing(app: Site, server: B2Server) -> None:
    _, writer = await app.connect()
    writer.write(
        b"POST /recordings/CA123 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 30000000\r\n"
        b"Content-Type: multipart/form-data; boundary=B\r\n\r\n--B\r\n"
        b'Content-Disposition: form-data; name="file"; filename="a.webm"\r\n\r\n'
    )
    writer.write(DATA + DATA)
    await writer.drain()
    writer.transport.abort()
    await app.ended()
    assert server.versions() == []


async def test_an_empty_recording_is_stored_and_played(client: httpx.AsyncClient) -> None:
    stored = await client.put(PATH, content=b"")
    assert stored.status_code == 201, stored.text
    played = await client.get("/" + stored.json()["key"])
    assert (played.status_code, played.content) == (200, b"")
    assert played.headers["content-length"] == "0"


async def test_the_upload_begins_before_the_body_has_arrived(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()
    upload_recording = BackblazeStorage.upload_recording

    async def upload(
        self: BackblazeStorage, call_id: str, body: object, name: str, **given: object
    ) -> object:
        async def watched() -> AsyncIterator[bytes]:
            async for chunk in body:  # type: ignore[attr-defined]  # all examples pass a stream
                begun.set()
                yield chunk

        return await upload_recording(self, call_id, watched(), name, **given)  # type: ignore[arg-type]  # as given

    async def body() -> AsyncIterator[bytes]:
        yield DATA[:CHUNK]
        await begun.wait()
        yield DATA[CHUNK:]

    monkeypatch.setattr(BackblazeStorage, "upload_recording", upload)
    stored = await client.put(PATH, content=body())
    assert stored.status_code == 201, stored.text
    assert stored.json()["size"] == len(DATA)


async def test_a_missing_recording_is_a_404(client: httpx.AsyncClient) -> None:
    assert_problem(await client.get(PATH), 404, "NoSuchKeyError")
    assert_problem(await client.get(PATH + "/link"), 404, "NoSuchKeyError")
    assert (await client.head(PATH)).status_code == 404


async def test_a_refused_name_is_a_422(client: httpx.AsyncClient, server: B2Server) -> None:
    refused = await client.put("/recordings/CA123/%2e%2e%5cpasswd", content=b"x")
    assert_problem(refused, 422, "InvalidInputError")
    assert server.versions() == []


@pytest.mark.parametrize("known", [True, False], ids=["declared", "chunked"])
async def test_a_body_that_is_too_large_is_a_413(
    client: httpx.AsyncClient,
    module: ModuleType,
    server: B2Server,
    known: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_SIZE", MIB)
    # Servers may close the connection of a body that they do not read to its end.
    content = DATA[: MIB + 1] if known else chunks(DATA[: MIB + 1])
    assert_problem(await client.put(PATH, content=content), 413, "FileTooLargeError")
    assert server.versions() == []


async def test_a_body_that_stalls_is_a_408(
    app: Site, module: ModuleType, server: B2Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not shorter: a megabyte must arrive before it, on a busy machine too.
    monkeypatch.setattr(module, "READ_TIMEOUT", 1.0)
    reader, writer = await app.connect()
    writer.write(
        b"PUT %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 30000000\r\n\r\n" % PATH.encode()
    )
    writer.write(DATA[:MIB])
    await writer.drain()
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.split(b" ", 2)[1] == b"408", head
    assert server.versions() == []


async def test_a_client_that_leaves_in_mid_upload_leaves_nothing(
    app: Site, server: B2Server
) -> None:
    _, writer = await app.connect()
    writer.write(
        b"PUT %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 30000000\r\n\r\n" % PATH.encode()
    )
    writer.write(DATA + DATA)
    await writer.drain()
    writer.transport.abort()
    await app.ended()
    assert server.versions() == []


async def test_a_client_that_leaves_in_mid_download_frees_the_connection(
    app: Site, framework: Framework, module: ModuleType
) -> None:
    storage = framework.storage_of(module)
    stored = await storage.upload_recording("CA123", noise(MIB) * (LONG // MIB), "long.webm")
    reader, writer = await app.connect()
    writer.write(f"GET /{stored.key} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    await reader.readexactly(MIB)
    writer.transport.abort()
    await app.ended()
    assert held(storage) == NOTHING_HELD


async def test_a_player_that_stalls_stops_no_other_request(
    app: Site, client: httpx.AsyncClient, framework: Framework, module: ModuleType
) -> None:
    storage = framework.storage_of(module)
    stored = await storage.upload_recording("CA123", noise(MIB) * (LONG // MIB), "long.webm")
    reader, writer = await app.connect()
    writer.write(f"GET /{stored.key} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert (await client.head("/" + stored.key)).headers["content-length"] == str(LONG)
    received = 0
    while received < LONG:
        received += len(await reader.read(MIB))
    assert received == LONG
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
