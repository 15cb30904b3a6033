"""What each call gives back when it ends: slots, memory, descriptors, files and uploads."""

from __future__ import annotations

import asyncio
import gc
import io
import os
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from careflow_storage import (
    BackblazeStorage,
    BodyChangedError,
    InvalidInputError,
    StorageError,
    StorageSettings,
)
from careflow_storage._transfer import copy
from careflow_storage.outbox import Outbox, OutboxError
from careflow_storage.testing.proxy.proxy import FaultProxy
from careflow_storage.testing.proxy.rule import Attempt, Rule
from tests.support.behind_proxy import (
    NOTHING_HELD,
    PART,
    held,
    storage_behind,
    tasks_of_the_library,
    unfinished_uploads,
    versions,
)
from tests.support.bodies import noise, stream
from tests.support.descriptors import open_files, sockets_to

LONG = noise(2 * PART + 7)
needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.fixture
async def storage(proxy: FaultProxy, settings: StorageSettings) -> AsyncIterator[BackblazeStorage]:
    """A storage that holds nothing when the test ends."""
    async with storage_behind(proxy, settings, retry_attempts=1) as opened:
        await opened.client()
        before = tasks_of_the_library()
        yield opened
        assert held(opened) == NOTHING_HELD
        assert opened._runtime.context().spool.size == 0
        assert await unfinished_uploads(opened) == []
        assert tasks_of_the_library() <= before


async def until_closed(url: str) -> None:
    """Wait until this process has no connection to this server."""
    async with asyncio.timeout(60):
        while sockets_to(url):  # noqa: ASYNC110 - a closing socket sends no event
            await asyncio.sleep(0)


@pytest.fixture
def no_open_files(tmp_path: Path) -> Iterator[None]:
    """Fail if the test leaves a file open."""
    # What the garbage collector would close must be closed before.
    gc.disable()
    try:
        yield
        assert open_files(tmp_path) == []
    finally:
        gc.enable()


class HungUpError(Exception):
    """The caller hung up."""


async def hang_up(
    storage: BackblazeStorage, data: bytes, *, after: Rule | None = None, **options: Any
) -> None:
    """Record ``data``, wait until the fault ``after`` is applied, and fail."""
    async with storage.open_recording("CA1", "a.ogg", **options) as writer:
        await writer.write(data)
        if after is not None:
            await after.fired.wait()
        raise HungUpError


# --- uploads ----------------------------------------------------------------------------


@needs_proc
@pytest.mark.usefixtures("no_open_files")
@pytest.mark.parametrize("size", [1000, len(LONG)])
@pytest.mark.parametrize("refused", [False, True])
@pytest.mark.parametrize("opened", [False, True])
async def test_an_upload_closes_the_file(
    storage: BackblazeStorage,
    proxy: FaultProxy,
    tmp_path: Path,
    size: int,
    refused: bool,
    opened: bool,
) -> None:
    path = tmp_path / "call.wav"
    path.write_bytes(LONG[:size])
    if refused:
        proxy.add(method="PUT", status=403, code="AccessDenied")
    with path.open("rb") as file:
        upload = storage.upload_file("key", file if opened else path)
        if refused:
            with pytest.raises(StorageError):
                await upload
        else:
            assert (await upload).size == size


@needs_proc
@pytest.mark.usefixtures("no_open_files")
async def test_a_refused_file_is_closed(storage: BackblazeStorage, tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    path.write_bytes(LONG)
    with path.open("rb") as file:
        file.seek(0, io.SEEK_END)
        with pytest.raises(InvalidInputError, match="at its end"):
            await storage.upload_file("key", file)
    path.write_bytes(b"RIFF")
    with pytest.raises(StorageError):
        await storage.upload_file("key", path, size=5)
    with pytest.raises(StorageError):
        await storage.upload_file("key", tmp_path)


async def test_a_file_that_changes_after_its_parts_were_read_is_not_stored(
    storage: BackblazeStorage, proxy: FaultProxy, tmp_path: Path
) -> None:
    path = tmp_path / "call.wav"
    path.write_bytes(LONG)

    def change(request: Attempt) -> bool:
        with path.open("r+b") as file:
            file.write(b"RIFF")
        return False

    # When the last part is being sent, the first one is stored.
    proxy.add(method="PUT", path="partNumber=3", when=change)
    async with storage_behind(proxy, storage.settings, transfer_concurrency=1) as other:
        with pytest.raises(BodyChangedError):
            await other.upload_file("key", path)
    assert await versions(storage, "key") == (0, 0)


# --- recordings in progress -------------------------------------------------------------


async def test_an_aborted_recording_cancels_the_flush_that_is_running(
    proxy: FaultProxy, settings: StorageSettings
) -> None:
    stuck = proxy.add(method="PUT", path="partNumber=1", cut="hang", at="head")
    # Without the cancellation, the recording would wait for the server.
    async with storage_behind(proxy, settings, idle_timeout=600.0, retry_attempts=1) as storage:
        await storage.client()
        recording = hang_up(storage, LONG[:1000], after=stuck, flush_interval=0.01)
        task = asyncio.create_task(recording)
        ended, _ = await asyncio.wait({task}, timeout=30)
        stuck.release.set()
        with pytest.raises(HungUpError):
            await task
        assert ended
        assert held(storage) == NOTHING_HELD
        assert storage._runtime.context().spool.size == 0
        assert await unfinished_uploads(storage) == []
    assert stuck.hits == 1


@pytest.mark.parametrize("size", [1000, PART - 1, len(LONG)])
@pytest.mark.parametrize("on_error", ["abort", "keep"])
@pytest.mark.parametrize("refused", [False, True])
async def test_an_interrupted_recording_holds_nothing(
    storage: BackblazeStorage, proxy: FaultProxy, size: int, on_error: Any, refused: bool
) -> None:
    if refused:
        proxy.add(method="PUT", status=403, code="AccessDenied")
    with pytest.raises(HungUpError):
        await hang_up(storage, LONG[:size], on_error=on_error)


@needs_proc
@pytest.mark.usefixtures("no_open_files")
@pytest.mark.parametrize("flush_interval", [None, 0.01])
async def test_the_file_of_a_recording_that_could_not_be_stored_is_closed(
    storage: BackblazeStorage, proxy: FaultProxy, tmp_path: Path, flush_interval: float | None
) -> None:
    proxy.add(method="PUT", status=403, code="AccessDenied")
    with pytest.raises(StorageError):
        async with storage.open_recording(
            "CA1", "a.ogg", on_error="keep", keep_dir=tmp_path, flush_interval=flush_interval
        ) as writer:
            await writer.write(LONG[:1000])
    (kept,) = await asyncio.to_thread(lambda: list(tmp_path.iterdir()))
    assert kept.read_bytes() == LONG[:1000]


# --- copies -----------------------------------------------------------------------------


async def test_a_copy_in_parts_that_fails_leaves_no_upload(
    storage: BackblazeStorage, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copy, "MAX_COPY_BYTES", PART)
    monkeypatch.setattr(copy, "_COPIED_PART_BYTES", PART)
    await storage.upload_file("from", LONG)
    proxy.add(operation="UploadPartCopy", path="partNumber=2", status=403, code="AccessDenied")
    with pytest.raises(StorageError):
        await storage.admin.copy_file("from", "to")
    assert await versions(storage, "to") == (0, 0)


async def test_marking_as_partial_erases_only_another_version(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    # A store that overwrites a version in place: erasing it would erase the recording.
    def keep_version(request: Attempt) -> bool:
        source = request.headers.get("x-amz-copy-source", "")
        copied.headers = {"x-amz-version-id": source.partition("versionId=")[2]}
        return bool(source)

    copied = proxy.add(when=keep_version)
    with pytest.raises(HungUpError):
        await hang_up(storage, LONG, on_error="keep")
    assert copied.hits == 1
    assert proxy.count("DELETE") == 0


# --- downloads --------------------------------------------------------------------------


@needs_proc
@pytest.mark.usefixtures("no_open_files")
@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("fault", [{}, {"corrupt": 5}, {"status": 403, "code": "AccessDenied"}])
async def test_a_download_closes_its_files(
    storage: BackblazeStorage,
    proxy: FaultProxy,
    tmp_path: Path,
    resume: bool,
    fault: dict[str, Any],
) -> None:
    await storage.upload_file("key", LONG)
    if fault:
        proxy.add(method="GET", path="/key", **fault)
    download = storage.download_file("key", tmp_path / "file", resume=resume)
    if fault:
        with pytest.raises(StorageError):
            await download
    else:
        await download
        assert os.listdir(tmp_path) == ["file"]  # noqa: PTH208


@pytest.mark.parametrize("begun", [False, True])
async def test_a_stream_that_is_left_early_gives_its_slot_back(
    storage: BackblazeStorage, begun: bool
) -> None:
    await storage.upload_file("key", LONG)
    async with storage.stream_file("key") as stream:
        if begun:
            async for _ in stream:
                break
    assert held(storage) == NOTHING_HELD


@pytest.mark.parametrize("fault", [{"corrupt": 5}, {"cut": "rst", "at": ("body", 1000)}])
async def test_a_stream_that_fails_gives_its_slot_back(
    storage: BackblazeStorage, proxy: FaultProxy, fault: dict[str, Any]
) -> None:
    await storage.upload_file("key", LONG)
    proxy.add(method="GET", path="/key", **fault)
    stream = storage.stream_file("key")
    with pytest.raises(StorageError):
        await stream.read()
    assert held(storage) == NOTHING_HELD


@needs_proc
async def test_a_cancelled_request_closes_its_connection(
    proxy: FaultProxy, settings: StorageSettings
) -> None:
    stuck = proxy.add(operation="ListObjectsV2", cut="hang", at=("body", 10))
    async with storage_behind(proxy, settings) as storage:
        task = asyncio.ensure_future(storage.list_files())
        await stuck.fired.wait()
        assert len(sockets_to(proxy.url)) == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until_closed(proxy.url)


@needs_proc
async def test_a_reader_that_seeks_or_fails_keeps_one_connection(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    await storage.upload_file("key", LONG)
    async with await storage.open_file("key") as reader:
        await reader.read(10)
        for position in (PART, 0, 2 * PART):
            await reader.seek(position)
            assert held(storage)["slots"] == 0
            assert await reader.read(7) == LONG[position : position + 7]
            assert held(storage)["slots"] <= 1
    assert held(storage) == NOTHING_HELD


async def test_a_stream_resumes_with_the_only_slot(
    proxy: FaultProxy, settings: StorageSettings
) -> None:
    cut = proxy.add(method="GET", path="/key", cut="rst", at=("body", 1000), times=1)
    async with storage_behind(proxy, settings, max_connections=1, pool_timeout=20) as storage:
        await storage.upload_file("key", LONG)
        assert await storage.stream_file("key").read() == LONG
        assert cut.hits == 1
        assert held(storage) == NOTHING_HELD


async def test_a_reader_that_failed_gives_its_slot_back_and_reads_the_same_bytes_again(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    await storage.upload_file("key", LONG)
    async with await storage.open_file("key") as reader:
        proxy.add(method="GET", path="/key", cut="rst", at=("body", PART))
        with pytest.raises(StorageError):
            await reader.read()
        assert held(storage) == NOTHING_HELD
        proxy.clear()
        assert await reader.read() == LONG


async def test_completed_requests_share_one_connection(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    await storage.upload_file("key", b"RIFF")
    proxy.clear()
    for _ in range(3):
        assert await storage.get_file("key") == b"RIFF"
        with pytest.raises(StorageError):
            await storage.get_file("missing")
    assert len({attempt.connection for attempt in proxy.log}) == 1


# --- the outbox -------------------------------------------------------------------------


@needs_proc
@pytest.mark.usefixtures("no_open_files")
async def test_a_closed_outbox_holds_no_file_and_leaves_no_lock(
    storage: BackblazeStorage, tmp_path: Path
) -> None:
    tasks = tasks_of_the_library()
    folder = tmp_path / "outbox"
    async with Outbox(folder, storage) as outbox:
        await outbox.put_recording("CA1", LONG, "a.ogg")
        with pytest.raises(StorageError):
            await outbox.put_recording("CA2", stream(LONG), "a.ogg", size=5)
        assert len(os.listdir(folder / "spool")) == 1  # noqa: PTH208
        assert open_files(folder / "spool") == []
    assert list((folder / "owners").glob("*.lock")) == []
    assert tasks_of_the_library() <= tasks


def overwrite(database: Path) -> None:
    database.write_bytes(b"not a database" * 100)


def drop_a_table(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        (name,) = connection.execute("SELECT name FROM sqlite_master WHERE type='table'").fetchone()
        connection.execute(f"DROP TABLE {name}")
        connection.commit()


@needs_proc
@pytest.mark.usefixtures("no_open_files")
@pytest.mark.parametrize("damage", [overwrite, drop_a_table])
async def test_an_outbox_that_cannot_open_holds_no_file(
    storage: BackblazeStorage, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    folder = tmp_path / "outbox"
    async with Outbox(folder, storage):
        pass
    damage(folder / "outbox.sqlite3")
    # The first failure must not hold the lock that the second attempt takes.
    for _ in range(2):
        async with asyncio.timeout(30):
            with pytest.raises(OutboxError):
                async with Outbox(folder, storage):
                    pass
        assert open_files(tmp_path) == []
