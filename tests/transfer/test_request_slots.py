"""Transfers of bodies leave request slots to the calls that transfer none."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from unittest import mock

import pytest

from careflow_storage import BackblazeStorage, StorageSettings
from careflow_storage._s3 import limiter
from careflow_storage.testing.proxy.proxy import FaultProxy
from tests.support.behind_proxy import NOTHING_HELD, held, storage_behind
from tests.support.bodies import MIB, noise

DATA = noise(2 * MIB + 17)
SLOTS = 10
FOR_BODIES = 9


@pytest.fixture
async def storage(proxy: FaultProxy, settings: StorageSettings) -> AsyncIterator[BackblazeStorage]:
    """With `DATA` under "a" and ten slots, none of which is taken back from a paused reader."""
    with mock.patch.object(limiter, "PAUSE_SECONDS", math.inf):
        async with storage_behind(
            proxy, settings, max_connections=SLOTS, multipart_threshold=4 * MIB, idle_timeout=60.0
        ) as opened:
            opened.settings.__dict__.update(part_size=4 * MIB, memory_budget=64 * MIB)
            await opened.upload_file("a", DATA)
            yield opened
            assert held(opened) == NOTHING_HELD


async def use_other_calls(storage: BackblazeStorage) -> None:
    async with asyncio.timeout(60):
        assert (await storage.get_file_metadata("a")).size == len(DATA)
        assert [file.key for file in await storage.list_files()] == ["a"]
        await storage.upload_file("b", b"abc")
        await storage.delete_file("b")


async def test_given_more_readers_than_slots_then_calls_without_a_body_go_through(
    storage: BackblazeStorage,
) -> None:
    reading, go_on = asyncio.Semaphore(0), asyncio.Event()

    async def read() -> bytes:
        chunks: list[bytes] = []
        async for chunk in storage.stream_file("a"):
            reading.release()
            await go_on.wait()
            chunks.append(chunk)
        return b"".join(chunks)

    readers = [asyncio.create_task(read()) for _ in range(3 * SLOTS)]
    for _ in range(FOR_BODIES):
        await reading.acquire()
    await use_other_calls(storage)
    go_on.set()
    assert set(await asyncio.gather(*readers)) == {DATA}


async def test_given_more_uploads_than_slots_then_calls_without_a_body_go_through(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    stalled = [
        proxy.add(method="PUT", key="^up/", times=1, cut="hang", at=("req", 100_000))
        for _ in range(FOR_BODIES)
    ]
    uploads = [
        asyncio.create_task(storage.upload_file(f"up/{number}", DATA))
        for number in range(3 * SLOTS)
    ]
    for rule in stalled:
        await rule.fired.wait()
    await use_other_calls(storage)
    for rule in stalled:
        rule.release.set()
    results = await asyncio.gather(*uploads)
    assert {result.size for result in results} == {len(DATA)}


async def test_given_calls_without_a_body_without_end_then_bodies_have_their_turn(
    storage: BackblazeStorage,
) -> None:
    ended = asyncio.Event()

    async def look() -> None:
        while not ended.is_set():
            await storage.get_file_metadata("a")

    looking = [asyncio.create_task(look()) for _ in range(3 * SLOTS)]
    try:
        async with asyncio.timeout(60):
            assert await storage.get_file("a") == DATA
            await storage.upload_file("c", DATA)
    finally:
        ended.set()
        await asyncio.gather(*looking)


async def test_given_a_waiting_body_is_cancelled_then_the_next_one_gets_the_slot(
    storage: BackblazeStorage,
) -> None:
    async with asyncio.TaskGroup() as group:
        go_on = asyncio.Event()
        reading = asyncio.Semaphore(0)

        async def read() -> None:
            async with storage.stream_file("a"):
                reading.release()
                await go_on.wait()

        for _ in range(FOR_BODIES):
            group.create_task(read())
        for _ in range(FOR_BODIES):
            await reading.acquire()
        cancelled = group.create_task(read())
        waiting = asyncio.create_task(storage.get_file("a"))
        await use_other_calls(storage)
        cancelled.cancel()
        go_on.set()
        assert await waiting == DATA
