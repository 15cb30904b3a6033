"""Flushed recordings survive a crash; Live Read serves a recording in progress."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator

import pytest

from careflow_storage import BackblazeStorage, StorageSettings
from careflow_storage.testing import B2Server
from careflow_storage.testing.proxy.proxy import FaultProxy
from tests.support.behind_proxy import PART, storage_behind, versions
from tests.support.bodies import noise, pieces

LONG = noise(2 * PART + 7)
MIB = 1024 * 1024
INTERVAL = 0.02


@pytest.fixture
async def storage(proxy: FaultProxy, settings: StorageSettings) -> AsyncIterator[BackblazeStorage]:
    async with storage_behind(proxy, settings) as opened:
        await opened.client()
        yield opened
        assert opened._runtime.context().spool.size == 0


async def until_stored(writer: object, size: int) -> None:
    async with asyncio.timeout(60):
        while writer.uploaded < size:  # type: ignore[attr-defined]  # noqa: ASYNC110 - the writer has no event for it
            await asyncio.sleep(0.005)


async def test_a_flush_uploads_the_bytes_so_far_and_the_last_flush_wins(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    async with storage.open_recording("CA1", "call.ogg", flush_interval=INTERVAL) as writer:
        await writer.write(LONG[:1000])
        await until_stored(writer, 1000)
        await writer.write(LONG[1000 : PART + 5])
        await until_stored(writer, PART + 5)
        for chunk in pieces(LONG[PART + 5 :]):
            await writer.write(chunk)
    assert (writer.result.size, writer.result.parts) == (len(LONG), 3)
    assert await storage.get_file(writer.key) == LONG
    assert await versions(storage, writer.key) == (1, 0)
    assert proxy.count("POST", "uploads") == 1


async def test_without_new_bytes_nothing_is_flushed(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    async with storage.open_recording("CA1", "call.ogg", flush_interval=INTERVAL) as writer:
        await asyncio.sleep(3 * INTERVAL)
        assert proxy.log == []
        await writer.write(LONG[:1000])
        await until_stored(writer, 1000)
        await asyncio.sleep(3 * INTERVAL)
        assert proxy.count("PUT") == 1


async def test_a_slow_flush_neither_delays_a_write_nor_replaces_the_full_part(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    slow = proxy.add(method="PUT", path="partNumber=1", delay=60, times=1)
    async with storage.open_recording("CA1", "call.ogg", flush_interval=INTERVAL) as writer:
        await writer.write(LONG[:1000])
        await slow.fired.wait()
        await writer.write(LONG[1000:])
        assert writer.uploaded == 0
        slow.release.set()
    assert await storage.get_file(writer.key) == LONG


async def test_a_flush_that_fails_is_logged_and_tried_again(
    storage: BackblazeStorage, proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.add(method="PUT", path="partNumber=1", status=403, code="AccessDenied", times=1)
    async with storage.open_recording("CA1", "call.ogg", flush_interval=INTERVAL) as writer:
        await writer.write(LONG[:1000])
        await until_stored(writer, 1000)
    assert "flush failed" in caplog.text
    assert await storage.get_file(writer.key) == LONG[:1000]


_CRASHING = """
import asyncio, sys
from careflow_storage import BackblazeStorage

async def main():
    async with BackblazeStorage() as storage:
        data = sys.stdin.buffer.read()
        async with storage.open_recording("CA1", "call.ogg", flush_interval=0.05) as writer:
            for start in range(0, len(data), 16384):
                await writer.write(data[start : start + 16384])
            while writer.uploaded < len(data):
                await asyncio.sleep(0.01)
            print(writer.key, writer.upload_id, flush=True)
            await asyncio.sleep(600)

asyncio.run(main())
"""


async def test_after_kill_9_all_that_was_flushed_becomes_a_recording(
    seaweed_settings: StorageSettings, seaweed_storage: BackblazeStorage
) -> None:
    data = noise(5 * MIB + 700_001)
    secret = seaweed_settings.application_key
    assert secret is not None
    environment = {
        **os.environ,
        "BACKBLAZE_KEY_ID": str(seaweed_settings.key_id),
        "BACKBLAZE_APPLICATION_KEY": secret.get_secret_value(),
        "BACKBLAZE_BUCKET_NAME": str(seaweed_settings.bucket_name),
        "BACKBLAZE_ENDPOINT": str(seaweed_settings.endpoint),
        "BACKBLAZE_REGION": str(seaweed_settings.region),
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _CRASHING),
        env=environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(data)
    process.stdin.close()
    async with asyncio.timeout(60):
        told = (await process.stdout.readline()).decode().split()
    process.send_signal(signal.SIGKILL)
    await process.wait()
    (left,) = await seaweed_storage.list_incomplete_uploads("recordings/")
    assert [left.key, left.upload_id] == told
    kept = await seaweed_storage.keep_incomplete_upload(left.key, left.upload_id)
    assert (kept.size, kept.partial) == (len(data), True)
    assert await seaweed_storage.get_file(left.key) == data


async def test_live_read_is_requested_only_with_the_option(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    async def asked(*, live_read: bool) -> tuple[str | None, str | None]:
        proxy.clear()
        async with storage.open_recording("CA1", "call.ogg", live_read=live_read) as writer:
            await writer.write(LONG)
        (creation,) = [
            attempt for attempt in proxy.log if attempt.operation == "CreateMultipartUpload"
        ]
        assert await storage.get_file(writer.key) == LONG
        name = "x-backblaze-live-read"
        return (
            creation.headers.get(f"{name}-enabled"),
            creation.headers.get(f"{name}-part-size"),
        )

    assert await asked(live_read=True) == ("true", str(PART))
    assert await asked(live_read=False) == (None, None)


async def test_a_supervisor_listens_to_what_was_uploaded_while_the_call_goes_on() -> None:
    async with B2Server() as server:
        settings = server.settings().model_copy(update={"part_size": 5 * MIB})
        data = noise(11 * MIB)
        async with BackblazeStorage(settings) as storage:
            async with storage.open_recording("CA1", "call.ogg", live_read=True) as writer:
                await writer.write(data[: 10 * MIB])
                await until_stored(writer, 10 * MIB)
                heard = await storage.stream_file(
                    writer.key, start=1000, end=writer.uploaded, version_id=writer.upload_id
                ).read()
                assert heard == data[1000 : 10 * MIB]
                await writer.write(data[10 * MIB :])
            assert await storage.get_file(writer.key) == data
