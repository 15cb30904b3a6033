"""Readers that pause: waiting requests get their slots, and their bytes are right."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any
from unittest import mock

import pytest

from careflow_storage import BackblazeStorage, StorageSettings
from careflow_storage._s3 import limiter
from careflow_storage._s3.signing.signer import Credentials
from careflow_storage._transfer.download.range_reader import CHUNK_BYTES
from careflow_storage.errors import (
    ChecksumMismatchError,
    PreconditionFailedError,
    StorageClosedError,
)
from careflow_storage.local.client import SyncClient
from careflow_storage.testing.proxy.proxy import FaultProxy
from tests.support.behind_proxy import NOTHING_HELD, held, storage_behind
from tests.support.bodies import MIB, noise

DATA = noise(2 * MIB + 17)
SLOTS = 2


@pytest.fixture
async def storage(proxy: FaultProxy, settings: StorageSettings) -> AsyncIterator[BackblazeStorage]:
    """With `DATA` under "a", in one piece, and two requests in flight at a time."""
    async with storage_behind(
        proxy, settings, max_connections=SLOTS, multipart_threshold=4 * MIB
    ) as opened:
        opened.settings.__dict__.update(part_size=4 * MIB, memory_budget=16 * MIB)
        await opened.upload_file("a", DATA)
        proxy.clear()
        yield opened
        assert held(opened) == NOTHING_HELD


Read = Callable[[BackblazeStorage, Callable[[], Awaitable[None]]], Coroutine[Any, Any, bytes]]


async def pause_between_chunks(
    storage: BackblazeStorage, pause: Callable[[], Awaitable[None]]
) -> bytes:
    chunks: list[bytes] = []
    async for chunk in storage.stream_file("a"):
        if not chunks:
            await pause()
        chunks.append(chunk)
    return b"".join(chunks)


async def pause_before_the_first_chunk(
    storage: BackblazeStorage, pause: Callable[[], Awaitable[None]]
) -> bytes:
    async with storage.stream_file("a") as stream:
        assert stream.metadata.size == len(DATA)
        await pause()
        return b"".join([chunk async for chunk in stream])


async def pause_before_reading_all(
    storage: BackblazeStorage, pause: Callable[[], Awaitable[None]]
) -> bytes:
    async with storage.stream_file("a") as stream:
        await pause()
        return await stream.read()


async def pause_between_reads(
    storage: BackblazeStorage, pause: Callable[[], Awaitable[None]]
) -> bytes:
    async with await storage.open_file("a") as file:
        first = await file.read(1000)
        await pause()
        return first + await file.read()


async def pause_before_each_chunk(
    storage: BackblazeStorage, pause: Callable[[], Awaitable[None]]
) -> bytes:
    chunks: list[bytes] = []
    async with await storage.open_file("a") as file:
        async for chunk in file:
            await pause()
            chunks.append(chunk)
    return b"".join(chunks)


READS: list[Read] = [
    pause_between_chunks,
    pause_before_the_first_chunk,
    pause_before_reading_all,
    pause_between_reads,
    pause_before_each_chunk,
]


@pytest.mark.parametrize("read", READS)
async def test_given_more_paused_readers_than_slots_then_other_requests_go_through(
    storage: BackblazeStorage, read: Read
) -> None:
    paused, go_on = asyncio.Semaphore(0), asyncio.Event()

    async def pause() -> None:
        paused.release()
        await go_on.wait()

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        readers = [group.create_task(read(storage, pause)) for _ in range(3 * SLOTS)]
        for _ in readers:
            await paused.acquire()
        assert (await storage.get_file_metadata("a")).size == len(DATA)
        assert [file.key for file in await storage.list_files()] == ["a"]
        await storage.upload_file("b", b"abc")
        go_on.set()
    assert all(reader.result() == DATA for reader in readers)


async def test_given_free_slots_then_a_paused_stream_costs_no_further_request(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    async def pause() -> None:
        await storage.get_file_metadata("a")

    assert await pause_before_each_chunk(storage, pause) == DATA
    assert proxy.count("GET") == 1


async def test_given_a_slow_reader_then_it_is_served_in_pieces_without_a_slot(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    async with contextlib.aclosing(aiter(storage.stream_file("a"))) as chunks:
        received = await anext(chunks)
        await crowd(storage)
        # From now on, slower than any connection.
        with mock.patch("careflow_storage._transfer.download.range_reader.PAUSE_SECONDS", -1.0):
            async for chunk in chunks:
                assert held(storage) == NOTHING_HELD
                assert len(chunk) <= CHUNK_BYTES
                received += chunk
    assert received == DATA
    asked = [attempt for attempt in proxy.log if attempt.method == "GET"][1:]
    ranges = [attempt.headers["range"] for attempt in asked if "range" in attempt.headers]
    sizes = [_size(text) for text in ranges]
    assert all(size == CHUNK_BYTES for size in sizes[:-1])
    assert len(ranges) >= 6


async def test_given_a_slow_reader_that_becomes_fast_then_one_request_gives_the_rest(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    async with contextlib.aclosing(aiter(storage.stream_file("a"))) as chunks:
        received = await anext(chunks)
        await crowd(storage)
        with mock.patch("careflow_storage._transfer.download.range_reader.PAUSE_SECONDS", 1e9):
            received += b"".join([chunk async for chunk in chunks])
    assert received == DATA
    asked = [attempt for attempt in proxy.log if "range" in attempt.headers]
    assert len(asked) <= 2


@pytest.mark.parametrize("versioned", [True, False])
async def test_given_the_object_is_replaced_meanwhile_then_the_versions_do_not_mix(
    proxy: FaultProxy, settings: StorageSettings, versioned: bool
) -> None:
    bucket = settings.bucket_name or ""
    if not versioned:
        bucket += "-plain"
        client = SyncClient(settings.endpoint or "", Credentials("test-key-id", "test-key"))
        assert client.create_bucket(bucket).status == 200
    async with storage_behind(
        proxy, settings, max_connections=1, bucket_name=bucket, multipart_threshold=4 * MIB
    ) as storage:
        await storage.upload_file("a", DATA)

        async def replace() -> None:
            # It needs the stream's slot.
            await storage.upload_file("a", DATA[::-1])

        if versioned:
            assert await pause_between_chunks(storage, replace) == DATA
        else:
            with pytest.raises(PreconditionFailedError):
                await pause_between_chunks(storage, replace)
        assert held(storage) == NOTHING_HELD


async def test_given_damage_after_the_pause_then_the_checksum_detects_it(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    async def pause() -> None:
        await crowd(storage)
        proxy.add(method="GET", corrupt=1000, times=1)

    with pytest.raises(ChecksumMismatchError):
        await pause_between_chunks(storage, pause)


async def test_given_a_stream_as_the_body_of_an_upload_then_one_slot_is_enough(
    proxy: FaultProxy, settings: StorageSettings
) -> None:
    async with storage_behind(proxy, settings, max_connections=1) as storage:
        await storage.upload_file("a", DATA)
        async with asyncio.timeout(60), storage.stream_file("a") as stream:
            await storage.upload_file("b", aiter(stream))
        assert await storage.get_file("b") == DATA
        assert held(storage) == NOTHING_HELD


@pytest.mark.parametrize("leave", ["aclose", "cancel", "break"])
async def test_given_a_stream_without_its_slot_when_left_then_nothing_is_held(
    storage: BackblazeStorage, leave: str
) -> None:
    begun, stay = asyncio.Event(), asyncio.Event()

    async def read() -> None:
        async with storage.stream_file("a") as stream:
            async for _ in stream:
                await crowd(storage)
                begun.set()
                if leave == "break":
                    break
                if leave == "aclose":
                    await stream.aclose()
                    break
                await stay.wait()

    task = asyncio.create_task(read())
    await begun.wait()
    if leave == "cancel":
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    else:
        await task
    assert held(storage) == NOTHING_HELD
    assert await storage.get_file("a") == DATA


async def test_given_a_storage_that_is_closed_meanwhile_then_the_next_chunk_says_so(
    proxy: FaultProxy, settings: StorageSettings
) -> None:
    async with storage_behind(proxy, settings, max_connections=1) as storage:
        await storage.upload_file("a", DATA)
        chunks = aiter(storage.stream_file("a"))
        await anext(chunks)
        await crowd(storage)
    with pytest.raises(StorageClosedError):
        async for _ in chunks:
            pass


async def test_given_an_endless_pause_then_the_connection_is_released_anyway(
    storage: BackblazeStorage,
) -> None:
    with mock.patch.object(limiter, "LONG_PAUSE_SECONDS", 0.0):
        async with contextlib.aclosing(aiter(storage.stream_file("a"))) as chunks:
            received = await anext(chunks)
            assert held(storage) == NOTHING_HELD
            received += b"".join([chunk async for chunk in chunks])
    assert received == DATA


async def crowd(storage: BackblazeStorage) -> None:
    """More requests than slots: the slots of paused streams are reclaimed."""
    calls: list[Awaitable[Any]] = [storage.get_file("a") for _ in range(4 * SLOTS)]
    with mock.patch.object(limiter, "PAUSE_SECONDS", 0.0):
        await asyncio.gather(*calls)
    assert held(storage) == NOTHING_HELD


def _size(asked: str) -> int:
    start, _, last = asked.removeprefix("bytes=").partition("-")
    return int(last) - int(start) + 1 if last else -1
