"""``timeout=``: a call ends in time, whatever the server does, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import inspect
import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from careflow_storage import (
    BackblazeStorage,
    InvalidInputError,
    ServiceUnavailableError,
    StorageSettings,
    StorageTimeoutError,
)
from careflow_storage.testing.proxy.proxy import FaultProxy
from tests.support.behind_proxy import (
    NOTHING_HELD,
    PART,
    held,
    storage_behind,
    tasks_of_the_library,
    unfinished_uploads,
)

pytestmark = pytest.mark.slow

LARGE = random.Random(5).randbytes(3 * PART + 11)
SOON = 0.2
LATER = 60.0  # never reached: what ends a call here is its own deadline

Call = Callable[[BackblazeStorage, Path, float], Awaitable[Any]]


async def read_stream(storage: BackblazeStorage, folder: Path, seconds: float) -> None:
    async for _ in storage.stream_file("there", timeout=seconds):
        pass


async def read_file(storage: BackblazeStorage, folder: Path, seconds: float) -> None:
    async with await storage.open_file("there", timeout=seconds) as reader:
        await reader.read()


async def list_all(storage: BackblazeStorage, folder: Path, seconds: float) -> None:
    async for _ in storage.list_files(timeout=seconds):
        pass


CALLS: dict[str, Call] = {
    "upload_file": lambda s, folder, t: s.upload_file("key", b"short", timeout=t),
    "upload_file, large": lambda s, folder, t: s.upload_file("key", LARGE, timeout=t),
    "upload_recording": lambda s, folder, t: s.upload_recording("CA1", b"a", "a.wav", timeout=t),
    "copy_from": lambda s, folder, t: s.copy_from(s, "there", "copied", timeout=t),
    "get_file": lambda s, folder, t: s.get_file("there", timeout=t),
    "stream_file": read_stream,
    "serve_file": lambda s, folder, t: s.serve_file("there", timeout=t),
    "open_file": read_file,
    "download_file": lambda s, folder, t: s.download_file("there", folder / "file", timeout=t),
    "delete_file": lambda s, folder, t: s.delete_file("there", timeout=t),
    "delete_files": lambda s, folder, t: s.delete_files(["there"], timeout=t),
    "purge_file": lambda s, folder, t: s.purge_file("there", timeout=t),
    "list_files": lambda s, folder, t: s.list_files(timeout=t),
    "list_files, iterated": list_all,
    "list_folder": lambda s, folder, t: s.list_folder(timeout=t),
    "get_file_metadata": lambda s, folder, t: s.get_file_metadata("there", timeout=t),
    "file_exists": lambda s, folder, t: s.file_exists("there", timeout=t),
    "list_incomplete_uploads": lambda s, folder, t: s.list_incomplete_uploads(timeout=t),
    "abort_upload": lambda s, folder, t: s.abort_upload("there", "some-id", timeout=t),
    "abort_stale_uploads": lambda s, folder, t: s.abort_stale_uploads(timedelta(days=1), timeout=t),
    "keep_incomplete_upload": lambda s, folder, t: s.keep_incomplete_upload(
        "there", "some-id", timeout=t
    ),
}


@pytest.fixture
async def storage(proxy: FaultProxy, settings: StorageSettings) -> AsyncIterator[BackblazeStorage]:
    # By one PUT: the client that multipart uploads need takes half a second to make.
    async with BackblazeStorage(settings) as direct:
        await direct.upload_file("there", LARGE)
    async with storage_behind(proxy, settings, idle_timeout=LATER) as opened:
        yield opened


def assert_empty(folder: Path) -> None:
    assert list(folder.iterdir()) == []


def test_every_public_method_that_asks_the_server_is_here() -> None:
    names = {
        name
        for name, method in inspect.getmembers(BackblazeStorage, inspect.isfunction)
        if "timeout" in inspect.signature(method).parameters and not name.startswith("_")
    }
    without = {"upload_from_url"}  # its source may be what stalls: tested with it
    assert {name.partition(",")[0] for name in CALLS} == names - without


@pytest.mark.parametrize("name", CALLS)
async def test_a_server_that_never_responds_is_left_when_the_time_is_up(
    name: str, storage: BackblazeStorage, proxy: FaultProxy, tmp_path: Path
) -> None:
    before = tasks_of_the_library()
    proxy.add(cut="hang")
    with pytest.raises(StorageTimeoutError, match=r"Not done within 0\.2 s") as caught:
        await CALLS[name](storage, tmp_path, SOON)
    error = caught.value
    assert error.method
    assert error.bucket == storage.settings.bucket_name
    assert error.retryable
    proxy.clear()
    assert held(storage) == NOTHING_HELD
    assert tasks_of_the_library() <= before
    assert await unfinished_uploads(storage) == []
    assert not (tmp_path / "file").exists()


@pytest.mark.parametrize("fault", [{"cut": "hang", "at": ("body", 1000)}, {"rate": 1000}])
@pytest.mark.parametrize("name", ["get_file", "stream_file", "open_file", "download_file"])
async def test_a_body_that_stalls_or_drips_ends_in_time(
    name: str,
    fault: dict[str, Any],
    storage: BackblazeStorage,
    proxy: FaultProxy,
    tmp_path: Path,
) -> None:
    proxy.add(method="GET", **fault)
    with pytest.raises(StorageTimeoutError, match=r"Not done within 0\.2 s"):
        await CALLS[name](storage, tmp_path, SOON)
    assert held(storage) == NOTHING_HELD
    assert_empty(tmp_path)


async def test_an_upload_that_stalls_in_a_part_is_aborted_in_time(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    proxy.add(method="PUT", path="partNumber=2", cut="hang", at=("req", 1000))
    with pytest.raises(StorageTimeoutError):
        await storage.upload_file("key", LARGE, timeout=0.5)
    proxy.clear()
    assert await unfinished_uploads(storage) == []
    assert held(storage) == NOTHING_HELD


async def test_the_pauses_between_retries_count(
    proxy: FaultProxy, settings: StorageSettings
) -> None:
    patient = {"retry_base_delay": LATER, "retry_max_delay": LATER, "retry_attempts": 100}
    async with storage_behind(proxy, settings, **patient) as storage:
        proxy.add(method="HEAD", status=503)
        with pytest.raises(StorageTimeoutError):
            await storage.get_file_metadata("there", timeout=SOON)


async def test_what_fails_before_the_deadline_fails_with_its_own_error(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    proxy.add(method="HEAD", status=503)
    with pytest.raises(ServiceUnavailableError):
        await storage.get_file_metadata("there", timeout=LATER)


async def test_an_idle_timeout_before_the_deadline_says_so(
    proxy: FaultProxy, settings: StorageSettings
) -> None:
    async with storage_behind(proxy, settings, idle_timeout=0.1, retry_attempts=1) as storage:
        proxy.add(method="HEAD", cut="hang")
        with pytest.raises(StorageTimeoutError, match=r"Nothing moved for 0\.1 s"):
            await storage.get_file_metadata("there", timeout=LATER)


async def test_a_call_that_is_done_in_time_is_not_disturbed(
    storage: BackblazeStorage, tmp_path: Path
) -> None:
    await storage.upload_file("key", LARGE, timeout=LATER)
    assert await storage.get_file("key", timeout=LATER) == LARGE
    await storage.download_file("key", tmp_path / "file", timeout=LATER)
    assert len(await storage.list_files(timeout=LATER)) == 2


async def test_a_cancellation_from_outside_stays_one(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    rule = proxy.add(method="HEAD", cut="hang")
    task = asyncio.create_task(storage.get_file_metadata("there", timeout=LATER))
    await rule.fired.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_consumer_of_a_stream_is_not_cancelled_between_two_chunks(
    storage: BackblazeStorage, proxy: FaultProxy, jump: Callable[[float], None]
) -> None:
    async def read_slowly() -> None:
        async for _ in storage.stream_file("there", timeout=LATER):
            # Longer than the stream may take: this wait ends by itself, the next one fails.
            jump(2 * LATER)
            await asyncio.sleep(0.001)
            waits.append(True)

    waits: list[bool] = []
    proxy.add(method="GET", cut="hang", at=("body", 1000))
    with pytest.raises(StorageTimeoutError):
        await read_slowly()
    assert waits
    assert held(storage) == NOTHING_HELD


@pytest.mark.parametrize("seconds", [0, -1, math.nan, math.inf, "5", True])
async def test_a_timeout_that_is_no_duration_is_refused(
    seconds: Any, storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    with pytest.raises(InvalidInputError, match="timeout must be"):
        await storage.get_file("there", timeout=seconds)
    with pytest.raises(InvalidInputError, match="timeout must be"):
        storage.list_files(timeout=seconds)
    assert proxy.log == []
