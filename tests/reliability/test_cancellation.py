"""Cancelled at any moment, nothing is left behind: no upload, task, file, slot or byte."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from careflow_storage._transfer.bodies.memory import ByteBudget
from careflow_storage._transfer.upload import multipart
from careflow_storage.errors import StorageError
from careflow_storage.settings import StorageSettings
from careflow_storage.storage import BackblazeStorage
from careflow_storage.testing.proxy.proxy import FaultProxy
from tests.support.behind_proxy import (
    NOTHING_HELD,
    PART,
    held,
    storage_behind,
    tasks_of_the_library,
    unfinished_uploads,
)
from tests.support.cancelled import cancelled_at_request, cancelled_at_step

pytestmark = pytest.mark.slow

LARGE = random.Random(1).randbytes(3 * PART + 7)
# Of the library: the tests' own is longer.
SECONDS_FOR_AN_ABORT = multipart._ABORT_SECONDS_WHEN_CANCELLED


@pytest.fixture
async def storage(proxy: FaultProxy, settings: StorageSettings) -> AsyncIterator[BackblazeStorage]:
    async with storage_behind(proxy, settings) as opened:
        await opened.client()
        await opened.upload_file("there", LARGE)
        yield opened


async def chunks() -> AsyncIterator[bytes]:
    for start in range(0, len(LARGE), 100_000):
        await asyncio.sleep(0)
        yield LARGE[start : start + 100_000]


Transfer = Callable[[BackblazeStorage, Path], Awaitable[Any]]
TRANSFERS: dict[str, Transfer] = {
    "put": lambda storage, folder: storage.upload_file("key", LARGE[:PART]),
    "bytes": lambda storage, folder: storage.upload_file("key", LARGE),
    "path": lambda storage, folder: storage.upload_file("key", folder / "source"),
    "stream": lambda storage, folder: storage.upload_file("key", chunks()),
    "progress": lambda storage, folder: storage.upload_file("key", LARGE, progress=print),
    "download": lambda storage, folder: storage.download_file("there", folder / "file"),
    "get": lambda storage, folder: storage.get_file("there"),
}


async def transfer(storage: BackblazeStorage, folder: Path, kind: str) -> None:
    await TRANSFERS[kind](storage, folder)


def assert_no_half_file(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} <= {"source", "file"}
    if (folder / "file").exists():
        assert (folder / "file").read_bytes() == LARGE
        (folder / "file").unlink()


async def assert_nothing_left(
    storage: BackblazeStorage, folder: Path, tasks: set[asyncio.Task[Any]]
) -> None:
    assert tasks_of_the_library() <= tasks
    assert held(storage) == NOTHING_HELD
    assert_no_half_file(folder)
    assert await unfinished_uploads(storage) == []


@pytest.mark.parametrize("kind", TRANSFERS)
async def test_cancelled_whenever_it_waits_a_transfer_leaves_nothing_behind(
    storage: BackblazeStorage, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "source").write_bytes(LARGE)
    tasks = tasks_of_the_library()
    number = 1
    while await cancelled_at_step(transfer(storage, tmp_path, kind), number):
        await assert_nothing_left(storage, tmp_path, tasks)
        number += 1
        assert number < 300
    assert number > 2
    await assert_nothing_left(storage, tmp_path, tasks)
    assert await storage.get_file("there") == LARGE


@pytest.mark.parametrize("kind", TRANSFERS)
async def test_cancelled_at_any_request_a_transfer_leaves_nothing_behind(
    storage: BackblazeStorage, proxy: FaultProxy, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "source").write_bytes(LARGE)
    tasks = tasks_of_the_library()
    number = 1
    while await cancelled_at_request(proxy, transfer(storage, tmp_path, kind), number):
        await assert_nothing_left(storage, tmp_path, tasks)
        number += 1
    assert number > 1
    assert await storage.get_file("there") == LARGE


async def test_many_transfers_cancelled_together_give_everything_back(
    storage: BackblazeStorage, tmp_path: Path
) -> None:
    (tmp_path / "source").write_bytes(LARGE)
    before = tasks_of_the_library()
    for turns in range(0, 60, 4):
        tasks = [
            asyncio.create_task(transfer(storage, tmp_path, kind))
            for kind in ("path", "stream", "bytes", "path", "download")
        ]
        for _ in range(turns):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [o for o in outcomes if not isinstance(o, asyncio.CancelledError | None)] == []
        await assert_nothing_left(storage, tmp_path, before)
    await transfer(storage, tmp_path, "path")
    assert await storage.get_file("key") == LARGE


async def test_a_waiter_cancelled_in_the_moment_of_a_release_is_just_cancelled() -> None:
    budget = ByteBudget(10)
    share = await budget.acquire(10)
    waiter = asyncio.create_task(budget.acquire(5))
    await asyncio.sleep(0)
    waiter.cancel()
    budget.release(share)
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert await budget.acquire(10) == 10


async def test_a_stream_cancelled_while_it_stalls_frees_its_only_slot(
    proxy: FaultProxy, settings: StorageSettings
) -> None:
    async with storage_behind(proxy, settings, max_connections=1, pool_timeout=30) as storage:
        await storage.upload_file("key", LARGE[:PART])
        rule = proxy.add(method="GET", cut="hang", at=("body", 1000), times=1)
        reading = asyncio.create_task(storage.get_file("key"))
        await rule.fired.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert held(storage) == NOTHING_HELD
        assert await storage.get_file("key") == LARGE[:PART]


async def fail_and_abort(
    storage: BackblazeStorage, proxy: FaultProxy, **abort: Any
) -> asyncio.Task[Any]:
    """Begin an upload whose second part is refused, and return when its abort is sent."""
    proxy.add(method="PUT", path="partNumber=2", status=403, code="AccessDenied")
    rule = proxy.add(method="DELETE", **abort)
    upload = asyncio.create_task(storage.upload_file("key", LARGE))
    await rule.fired.wait()
    return upload


async def test_an_abort_that_fails_is_reported_with_the_upload_id(
    storage: BackblazeStorage, proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    upload = await fail_and_abort(storage, proxy, status=403, code="AccessDenied")
    with pytest.raises(StorageError) as caught:
        await upload
    (upload_id,) = await unfinished_uploads(storage)
    assert caught.value.unfinished_upload_id == upload_id
    assert upload_id in caught.value.__notes__[0]
    assert upload_id in caplog.text
    assert held(storage) == NOTHING_HELD


async def test_an_abort_that_fails_once_is_tried_again(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    upload = await fail_and_abort(storage, proxy, status=503, code="SlowDown", times=2)
    with pytest.raises(PermissionError) as caught:
        await upload
    assert isinstance(caught.value, StorageError)
    assert caught.value.unfinished_upload_id is None
    assert await unfinished_uploads(storage) == []


async def test_a_cancelled_upload_whose_abort_hangs_ends_soon_and_reports_it(
    storage: BackblazeStorage,
    proxy: FaultProxy,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert SECONDS_FOR_AN_ABORT < 1.0
    monkeypatch.setattr(multipart, "_ABORT_SECONDS_WHEN_CANCELLED", SECONDS_FOR_AN_ABORT)
    hanging = proxy.add(method="PUT", path="partNumber=2", cut="hang")
    proxy.add(method="DELETE", cut="hang")
    before = tasks_of_the_library()
    upload = asyncio.create_task(storage.upload_file("key", LARGE))
    await hanging.fired.wait()
    upload.cancel()
    await asyncio.wait({upload}, timeout=60)
    assert upload.done()
    with pytest.raises(asyncio.CancelledError) as caught:
        await upload
    assert tasks_of_the_library() <= before
    proxy.clear()
    (upload_id,) = await unfinished_uploads(storage)
    assert upload_id in caught.value.__notes__[0]
    assert upload_id in caplog.text
    assert held(storage) == NOTHING_HELD


async def test_cancelling_during_the_abort_after_an_error_still_aborts(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    upload = await fail_and_abort(storage, proxy, delay=0.2)
    for _ in range(3):
        upload.cancel()
        await asyncio.wait({upload}, timeout=0.01)
    with pytest.raises(asyncio.CancelledError):
        await upload
    assert await unfinished_uploads(storage) == []
    assert held(storage) == NOTHING_HELD


async def test_cancelling_again_and_again_still_aborts(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    proxy.add(method="DELETE", delay=0.1)
    hanging = proxy.add(method="PUT", path="partNumber=2", cut="hang")
    upload = asyncio.create_task(storage.upload_file("key", LARGE))
    await hanging.fired.wait()
    while not upload.done():
        upload.cancel()
        await asyncio.wait({upload}, timeout=0.01)
    assert upload.cancelled()
    assert await unfinished_uploads(storage) == []
    assert held(storage) == NOTHING_HELD


async def test_a_creation_under_way_when_cancelled_is_waited_for_and_aborted(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    creating = proxy.add(method="POST", path="uploads", delay=0.2)
    upload = asyncio.create_task(storage.upload_file("key", LARGE))
    await creating.fired.wait()
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    assert proxy.count("DELETE") > 0
    assert await unfinished_uploads(storage) == []


async def test_a_deadline_of_the_caller_is_a_timeout_and_not_a_cancellation(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    proxy.add(method="PUT", cut="hang")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await storage.upload_file("key", LARGE)
    assert await unfinished_uploads(storage) == []
    assert held(storage) == NOTHING_HELD


async def test_no_byte_of_another_recording_goes_out_over_an_abandoned_connection(
    settings: StorageSettings, tmp_path: Path
) -> None:
    """Buffers are used again, while a closing connection would still send from them."""
    size = 40 * PART
    received: list[bytearray] = []
    connected, read_on = asyncio.Event(), asyncio.Event()
    ended: asyncio.Queue[None] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = bytearray()
        received.append(body)
        await reader.readuntil(b"\r\n\r\n")
        connected.set()
        await read_on.wait()
        with contextlib.suppress(ConnectionError):
            while len(body) < size and (chunk := await reader.read(64 * 1024)):
                body += chunk
            writer.write(b"HTTP/1.1 501 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()
        ended.put_nowait(None)

    async def under_way(storage: BackblazeStorage, name: str) -> asyncio.Task[Any]:
        connected.clear()
        upload = asyncio.create_task(storage.upload_file("key", tmp_path / name))
        await connected.wait()
        # Until the buffers between here and there are full.
        await asyncio.wait({upload}, timeout=0.3)
        return upload

    for name in ("other", "first", "second"):
        (tmp_path / name).write_bytes(name[:1].encode() * size)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1024)
    proxy = FaultProxy("http://127.0.0.1:9")
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with storage_behind(
        proxy, settings, multipart_threshold=size, memory_budget=4 * size
    ) as storage:
        # As long as one is at work, the buffers of others are kept to be used again.
        other, first = await under_way(storage, "other"), await under_way(storage, "first")
        first.cancel()
        await asyncio.wait({first})
        second = await under_way(storage, "second")
        read_on.set()
        for upload in (other, second):
            with pytest.raises(StorageError):
                await upload
        for _ in received:
            await ended.get()
    server.close()
    await server.wait_closed()
    assert [set(body) for body in received] == [{ord("o")}, {ord("f")}, {ord("s")}]
