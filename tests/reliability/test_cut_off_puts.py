"""A server keeps the beginning of a PUT whose connection broke: it is not the recording.

SeaweedFS may do so, B2 does not. The beginning is stored here as that server would, with the
headers of the PUT.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from careflow_storage import (
    BackblazeStorage,
    PreconditionFailedError,
    StorageError,
    StorageSettings,
)
from careflow_storage.testing.proxy.proxy import FaultProxy
from tests.support.behind_proxy import NOTHING_HELD, PART, held, storage_behind
from tests.support.bodies import noise

DATA = noise(PART - 1)
LONGER = noise(2 * PART)
MARKER = "x-amz-meta-careflow-upload"


@pytest.fixture
async def proxy(seaweed_settings: StorageSettings) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(seaweed_settings.endpoint or "") as opened:
        yield opened


@pytest.fixture
async def storage(
    proxy: FaultProxy, seaweed_settings: StorageSettings
) -> AsyncIterator[BackblazeStorage]:
    async with storage_behind(proxy, seaweed_settings) as opened:
        yield opened
        assert held(opened) == NOTHING_HELD


@pytest.fixture
async def direct(seaweed_settings: StorageSettings) -> AsyncIterator[BackblazeStorage]:
    async with BackblazeStorage(seaweed_settings) as opened:
        yield opened


async def store(direct: BackblazeStorage, key: str, data: bytes, marker: str) -> None:
    client = await direct.client()
    bucket = str(direct.settings.bucket_name)
    await client.put_object(
        Bucket=bucket, Key=key, Body=data, Metadata={MARKER.removeprefix("x-amz-meta-"): marker}
    )


async def cut_off(proxy: FaultProxy, direct: BackblazeStorage, key: str, size: int) -> None:
    """Break the next PUT, whose first bytes the server keeps."""
    # The real server gets nothing of this PUT: it would store its beginning at any time.
    rule = proxy.add(operation="PutObject", times=1, cut="hang", at="head")
    await rule.fired.wait()
    (attempt,) = [each for each in proxy.log if each.fault is rule]
    await store(direct, key, DATA[:size], attempt.headers[MARKER])
    rule.release.set()


@pytest.mark.parametrize("size", [0, 1, 100_000, len(DATA) - 1])
@pytest.mark.parametrize(
    "options",
    [
        {"if_exists": "return"},
        {"if_exists": "error"},
        {"if_exists": "return", "checksum": "sha256"},
    ],
)
async def test_a_retry_replaces_what_the_first_attempt_left(
    storage: BackblazeStorage,
    direct: BackblazeStorage,
    proxy: FaultProxy,
    options: dict[str, Any],
    size: int,
) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(cut_off(proxy, direct, "key", size))
        result = await storage.upload_file("key", DATA, **options)
    assert (result.size, result.reused) == (len(DATA), 0)
    assert await direct.get_file("key") == DATA


async def test_a_retry_of_a_live_recording_does_the_same(
    storage: BackblazeStorage, direct: BackblazeStorage, proxy: FaultProxy
) -> None:
    async with (
        asyncio.TaskGroup() as tasks,
        storage.open_recording("CA1", "call.webm", if_exists="error") as recording,
    ):
        await recording.write(DATA)
        tasks.create_task(cut_off(proxy, direct, recording.key, 1000))
    assert await direct.get_file(recording.key) == DATA


@pytest.mark.parametrize("body", ["bytes", "file", "stream"])
async def test_the_next_call_replaces_what_a_failed_one_left(
    storage: BackblazeStorage,
    direct: BackblazeStorage,
    proxy: FaultProxy,
    body: str,
    tmp_path: Path,
) -> None:
    proxy.add(operation="PutObject", cut="rst", at="resp", times=None, status=503)
    with pytest.raises(StorageError):
        await storage.upload_file("key", DATA, if_exists="return")
    marker = proxy.log[-1].headers[MARKER]
    proxy.clear()
    await store(direct, "key", DATA[:1000], marker)
    path = tmp_path / "call.webm"
    path.write_bytes(DATA)

    async def stream() -> AsyncIterator[bytes]:
        yield DATA

    bodies: dict[str, Any] = {"bytes": DATA, "file": path, "stream": stream()}
    result = await storage.upload_file("key", bodies[body], if_exists="return")
    assert (result.size, result.reused) == (len(DATA), 0)
    assert await direct.get_file("key") == DATA
    again = await storage.upload_file("key", DATA, if_exists="return")
    assert again.reused == len(DATA)


@pytest.mark.parametrize(
    "data", [DATA[::-1], DATA[:999], LONGER], ids=["other", "shorter", "parts"]
)
async def test_what_is_not_the_beginning_of_the_body_stays(
    storage: BackblazeStorage, direct: BackblazeStorage, data: bytes
) -> None:
    await store(direct, "key", DATA[:1000], f"{'0' * 32}-{len(DATA)}")
    result = await storage.upload_file("key", data, if_exists="return")
    assert (result.size, result.reused) == (1000, 1000)
    assert await direct.get_file("key") == DATA[:1000]
    with pytest.raises(PreconditionFailedError):
        await storage.upload_file("key", data, if_exists="error")
