"""A body that stalls, or comes too slowly, ends the upload; nothing is stored or left."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from careflow_storage import (
    BackblazeStorage,
    BodyTimeoutError,
    InvalidInputError,
    StorageClosedError,
    StorageSettings,
    StorageTimeoutError,
)
from careflow_storage._transfer.bodies import limits
from careflow_storage.testing.proxy.proxy import FaultProxy
from tests.support.behind_proxy import NOTHING_HELD, PART, held, storage_behind, unfinished_uploads
from tests.support.bodies import noise

STALL = 0.05
PATIENT = 60.0


@pytest.fixture
async def proxy(settings: StorageSettings) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(settings.endpoint or "") as opened:
        yield opened


@pytest.fixture
async def storage(proxy: FaultProxy, settings: StorageSettings) -> AsyncIterator[BackblazeStorage]:
    async with storage_behind(proxy, settings) as opened:
        yield opened
        assert held(opened) == NOTHING_HELD


@pytest.fixture
def short_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RATE_WINDOW", STALL)


async def assert_nothing_is_left(storage: BackblazeStorage) -> None:
    assert await storage.list_files() == []
    assert await unfinished_uploads(storage) == []


class Stalling:
    """An async generator that stalls after its bytes, and notes that it has ended."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.ended = False

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            yield self.data
            await asyncio.Event().wait()
        finally:
            self.ended = True


class Iterable:
    """Makes an iterator of its own for each ``async for``."""

    def __init__(self, source: Stalling) -> None:
        self.source = source

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self.source.chunks()


class Reader:
    """An async file."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def read(self, size: int) -> bytes:
        piece, self._data = self._data[:size], self._data[size:]
        if not piece:
            await asyncio.Event().wait()
        return piece


def blocking(data: bytes, stack: ExitStack) -> Iterator[bytes]:
    """A generator that blocks its thread, until the test ends."""
    go_on = threading.Event()
    stack.callback(go_on.set)

    def chunks() -> Iterator[bytes]:
        yield data
        go_on.wait()

    return chunks()


BODIES: dict[str, Callable[[bytes, ExitStack], Any]] = {
    "generator": lambda data, _: Stalling(data).chunks(),
    "iterable": lambda data, _: Iterable(Stalling(data)),
    "reader": lambda data, _: Reader(data),
    "blocking": blocking,
}


@pytest.mark.parametrize("size", [0, 10, 3 * PART + 7])
@pytest.mark.parametrize("kind", BODIES)
async def test_a_body_that_stalls_is_not_stored(
    storage: BackblazeStorage, kind: str, size: int
) -> None:
    with ExitStack() as stack:
        body = BODIES[kind](noise(size), stack)
        with pytest.raises(BodyTimeoutError, match=r"no bytes for 0\.05 s") as caught:
            await storage.upload_file("key", body, read_timeout=STALL, timeout=PATIENT)
    assert (caught.value.method, caught.value.key) == ("upload_file", "key")
    assert isinstance(caught.value, StorageTimeoutError)
    assert not caught.value.retryable
    await assert_nothing_is_left(storage)


@pytest.mark.parametrize("wrap", [Stalling.chunks, Iterable], ids=["generator", "iterable"])
async def test_the_generator_of_a_stalled_body_has_ended(
    storage: BackblazeStorage, wrap: Callable[[Stalling], Any]
) -> None:
    source = Stalling(b"RIFF")
    with pytest.raises(BodyTimeoutError):
        await storage.upload_recording("CA1", wrap(source), "a.wav", read_timeout=STALL)
    assert source.ended


async def test_an_iterator_that_the_caller_does_not_have_is_closed_after_any_error(
    storage: BackblazeStorage,
) -> None:
    source = Stalling(noise(100))
    with pytest.raises(InvalidInputError):
        await storage.upload_file("key", Iterable(source), max_size=99)
    assert source.ended


async def test_a_web_client_that_stalls_in_its_request_is_not_stored(
    storage: BackblazeStorage,
) -> None:
    caught: list[BaseException] = []

    async def receive(request: web.Request) -> web.Response:
        with pytest.raises(BodyTimeoutError) as error:
            await storage.upload_file("key", request, read_timeout=STALL)
        caught.append(error.value)
        return web.Response(status=408)

    app = web.Application()
    app.router.add_post("/", receive)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    try:
        async with (
            aiohttp.ClientSession() as client,
            client.post(url, data=Stalling(noise(2 * PART)).chunks()) as response,
        ):
            assert response.status == 408
    finally:
        await runner.cleanup()
    assert len(caught) == 1
    await assert_nothing_is_left(storage)


@pytest.mark.parametrize("first", [b"", noise(2 * PART + 7)], ids=["from the start", "later"])
async def test_a_body_that_trickles_is_not_stored(
    storage: BackblazeStorage, short_window: None, first: bytes
) -> None:
    async def trickle() -> AsyncIterator[bytes]:
        yield first
        while True:
            yield b"."
            await asyncio.sleep(STALL / 20)

    with pytest.raises(BodyTimeoutError, match=r"fewer than 1e\+06 bytes per second over"):
        await storage.upload_file(
            "key", trickle(), min_rate=1e6, read_timeout=PATIENT, timeout=PATIENT
        )
    await assert_nothing_is_left(storage)


@pytest.mark.parametrize(
    ("chunks", "min_rate", "stored"),
    [
        # Seconds before each chunk, and its bytes: several windows of 30 s.
        ([(9, 1000)] * 20, 90, True),
        ([(9, 1000)] * 20, 110, False),
        ([(0, 1000)] * 100 + [(59, 1)], 110, True),
        ([(0, 1000)] * 100 + [(61, 1)], 110, False),
        ([(29, 10_000), (20, 10_000), (29, 10_000)], 110, True),
        ([(29, 10_000), (29, 1), (29, 10_000)], 110, False),
        ([(29, 1)], 110, True),
        ([(31, 10_000)], 110, False),
    ],
)
async def test_the_rate_is_an_average_over_thirty_seconds(
    storage: BackblazeStorage,
    jump: Callable[[float], None],
    chunks: list[tuple[float, int]],
    min_rate: float,
    stored: bool,
) -> None:
    async def body() -> AsyncIterator[bytes]:
        for seconds, size in chunks:
            jump(seconds)
            # Timers that are due run before the sleep ends.
            await asyncio.sleep(0.001)
            yield b"." * size

    if not stored:
        with pytest.raises(BodyTimeoutError, match="over 30 s"):
            await storage.upload_file("key", body(), min_rate=min_rate)
        return
    result = await storage.upload_file("key", body(), min_rate=min_rate)
    assert result.size == sum(size for _, size in chunks)


async def test_a_slow_server_is_not_taken_for_a_slow_body(
    storage: BackblazeStorage, proxy: FaultProxy, short_window: None
) -> None:
    data = noise(PART)

    async def ready() -> AsyncIterator[bytes]:
        for _ in range(6):
            yield data

    proxy.add(path="partNumber", times=6, delay=2 * STALL)
    result = await storage.upload_file("key", ready(), min_rate=1e9, read_timeout=STALL)
    assert result.size == 6 * PART


async def test_bytes_and_files_are_not_affected(storage: BackblazeStorage, tmp_path: Any) -> None:
    (tmp_path / "file").write_bytes(noise(2 * PART))
    for body in (noise(2 * PART), tmp_path / "file"):
        result = await storage.upload_file("key", body, min_rate=1e12, read_timeout=1e-9)
        assert result.size == 2 * PART


async def test_the_bodys_own_timeout_error_is_not_changed(storage: BackblazeStorage) -> None:
    mine = TimeoutError("my own")

    async def fails() -> AsyncIterator[bytes]:
        yield b"RIFF"
        raise mine

    with pytest.raises(TimeoutError) as caught:
        await storage.upload_file("key", fails(), read_timeout=PATIENT)
    assert caught.value is mine


@pytest.mark.parametrize("then", ["ends", "goes on"])
async def test_a_body_that_catches_the_cancellation_is_not_stored(
    storage: BackblazeStorage, then: str
) -> None:
    async def stubborn() -> AsyncIterator[bytes]:
        yield b"RIFF"
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if then == "goes on":
                yield b"more"

    with pytest.raises(BodyTimeoutError):
        await storage.upload_file("key", stubborn(), read_timeout=STALL)
    await assert_nothing_is_left(storage)


async def test_a_deadline_ends_a_stalled_read(storage: BackblazeStorage) -> None:
    with pytest.raises(StorageTimeoutError, match="Not done within"):
        await storage.upload_file(
            "key", Stalling(b"RIFF").chunks(), read_timeout=PATIENT, timeout=STALL
        )
    await assert_nothing_is_left(storage)


async def test_a_closing_storage_ends_a_stalled_read(settings: StorageSettings) -> None:
    reading = asyncio.Event()

    async def silent() -> AsyncIterator[bytes]:
        yield noise(2 * PART)
        reading.set()
        await asyncio.Event().wait()

    async with BackblazeStorage(settings) as storage:
        upload = asyncio.create_task(storage.upload_file("key", silent(), read_timeout=PATIENT))
        await reading.wait()
    with pytest.raises(StorageClosedError):
        await upload
    async with BackblazeStorage(settings) as storage:
        await assert_nothing_is_left(storage)


@pytest.mark.parametrize("name", ["read_timeout", "min_rate"])
@pytest.mark.parametrize("wrong", [0, -1, float("nan"), float("inf"), "1", True])
async def test_a_bad_limit_is_refused_before_any_request(
    storage: BackblazeStorage, proxy: FaultProxy, name: str, wrong: Any
) -> None:
    given: Any = {name: wrong}
    with pytest.raises(InvalidInputError, match=name):
        await storage.upload_file("key", b"", **given)
    assert not proxy.log
