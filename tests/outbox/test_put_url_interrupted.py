"""A fetch that is cut off anywhere, by whatever, leaves an entry that is delivered once."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from careflow_storage import BackblazeStorage, StorageSettings
from careflow_storage.outbox import Outbox
from careflow_storage.testing.proxy.proxy import FaultProxy
from tests.support.behind_proxy import (
    NOTHING_HELD,
    held,
    storage_behind,
    tasks_of_the_library,
    unfinished_uploads,
    versions,
)
from tests.support.bodies import noise
from tests.support.cancelled import cancelled_at_step
from tests.support.descriptors import descriptors
from tests.support.url_source import Source

QUICK: dict[str, Any] = {"poll_interval": 0.05, "retry_base_delay": 0.05, "retry_max_delay": 0.05}
DATA = noise(400_000)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "outbox"


@pytest.fixture
async def source() -> AsyncIterator[Source]:
    async with Source(DATA) as server:
        yield server


def spooled(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "spool").iterdir())


async def put(outbox: Outbox, url: str) -> Any:
    return await outbox.put_url("CA1", url, "a.wav", allow_private_addresses=True)


@pytest.mark.slow
async def test_cancelled_whenever_it_waits_putting_a_url_leaves_nothing(folder: Path) -> None:
    async with Outbox(folder) as outbox:
        await put(outbox, "https://example.com/first")
        tasks, number = tasks_of_the_library(), 1
        while await cancelled_at_step(put(outbox, "https://example.com/a"), number):
            assert tasks_of_the_library() <= tasks
            assert (await outbox.status()).pending == 1
            number += 1
        assert number > 1
        assert (await outbox.status()).pending == 2
    assert spooled(folder) == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="counts the files in /proc")
async def test_cancelled_whenever_it_waits_a_fetch_is_repeated_whole(
    folder: Path, source: Source, storage: BackblazeStorage
) -> None:
    async with Outbox(folder, storage, **QUICK) as outbox:
        await put(outbox, source.url)
        await outbox.drain()  # opens what stays open: connections, threads
        files, number, cut = len(descriptors()), 1, True
        while cut:
            entry = await put(outbox, f"{source.url}?n={number}")
            cut = await cancelled_at_step(outbox.drain(), number)
            status = await outbox.status()
            assert status.delivering == 0
            now = await outbox.get(entry.id)
            assert now is not None
            # The bytes are on the disk as a whole, or not at all.
            waits = now.state == "pending" and now.sha256 is not None
            assert status.bytes == (len(DATA) if waits else 0)
            assert len(spooled(folder)) == (1 if waits else 0), now
            async with asyncio.timeout(30):
                status = await outbox.drain()
            assert (status.pending, status.dead, status.bytes) == (0, 0, 0), status.last_error
            assert await storage.get_file(entry.key) == DATA
            number += 1
        assert number > 5
        assert spooled(folder) == []
    await source.until_left()
    assert held(storage) == NOTHING_HELD
    assert await unfinished_uploads(storage) == []
    # A server's thread closes its end of a connection when it gets to it.
    async with asyncio.timeout(60):
        while len(descriptors()) > files + 4:  # noqa: ASYNC110 - it sends no event
            await asyncio.sleep(0.005)


async def test_a_worker_that_lost_its_lease_in_mid_fetch_disturbs_no_other(
    folder: Path, source: Source, storage: BackblazeStorage
) -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def stalled(request: web.Request) -> web.StreamResponse:
        if reached.is_set():
            return await source.give(request)
        response = web.StreamResponse(headers={"Content-Type": "audio/wav"})
        response.content_length = len(DATA)
        await response.prepare(request)
        await response.write(DATA[:200_000])
        reached.set()
        await go_on.wait()
        await response.write(bytes(len(DATA) - 200_000))
        return response

    source.routes["/call"] = stalled
    async with Outbox(folder, storage, **QUICK) as slow, Outbox(folder, storage, **QUICK) as quick:
        entry = await put(slow, source.url)
        working = asyncio.create_task(slow.run())
        await reached.wait()
        # As if the process had been suspended for longer than its lease.
        database = sqlite3.connect(folder / "outbox.sqlite3", isolation_level=None)
        database.execute("UPDATE entries SET owner = NULL, lease_until = NULL, due_at = 0")
        database.close()
        async with asyncio.timeout(30):
            await quick.drain()
        go_on.set()
        other = await slow.put_recording("CA2", b"sound", "b.wav")
        async with asyncio.timeout(30):
            while True:
                now = await slow.get(other.id)
                if now is not None and now.state == "delivered" and not spooled(folder):
                    break
                await asyncio.sleep(0.005)
        working.cancel()
        await asyncio.wait([working])
        done = await slow.get(entry.id)
        assert done is not None
        assert (done.state, done.size) == ("delivered", len(DATA))
    assert await storage.get_file(entry.key) == DATA
    assert await versions(storage, entry.key) == (1, 0)


async def test_an_upload_that_was_cut_off_is_not_taken_for_the_recording(
    folder: Path, source: Source, settings: StorageSettings, proxy: FaultProxy
) -> None:
    proxy.add(method="PUT", status=503, code="ServiceUnavailable")
    async with (
        BackblazeStorage(settings) as direct,
        storage_behind(proxy, settings, retry_attempts=1) as storage,
        Outbox(folder, storage, **QUICK) as outbox,
    ):
        entry = await put(outbox, source.url)
        draining = asyncio.create_task(outbox.drain())
        async with asyncio.timeout(30):
            while True:
                now = await outbox.get(entry.id)
                if now is not None and now.sha256 is not None and now.attempts > 1:
                    break
                await asyncio.sleep(0.005)
        # Some servers keep what has arrived of a PUT whose sender was killed.
        await direct.upload_file(entry.key, DATA[:1000])
        proxy.clear()
        async with asyncio.timeout(30):
            await draining
        assert await direct.get_file(entry.key) == DATA
    assert len(source.asked) == 1
