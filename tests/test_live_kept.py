"""``on_error="keep"`` keeps every byte that was taken: on the server, in a file, or on both."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from careflow_storage import (
    BackblazeStorage,
    InvalidInputError,
    NoSuchUploadError,
    StorageError,
    StorageSettings,
)
from careflow_storage.testing.proxy import FaultProxy
from careflow_storage.transfer import hygiene
from careflow_storage.transfer import spool as spooling
from careflow_storage.transfer.live import RecordingWriter
from tests.behind_proxy import NOTHING_HELD, PART, held, storage_behind, tasks_of_the_library
from tests.bodies import noise, pieces

pytestmark = pytest.mark.slow

LONG = noise(5 * PART + 7)
SHORT = LONG[:50_000]
TINY = LONG[:100]

DAMAGED = {"headers": {"ETag": '"0123456789abcdef0123456789abcdef"'}}
REFUSED = {"status": 403, "code": "AccessDenied"}


@pytest.fixture
async def storage(proxy: FaultProxy, settings: StorageSettings) -> AsyncIterator[BackblazeStorage]:
    before = tasks_of_the_library()
    async with storage_behind(proxy, settings, retry_attempts=2) as opened:
        await opened.client()
        yield opened
        assert held(opened) == NOTHING_HELD
        assert opened._lifecycle.engine().spool.size == 0
        assert tasks_of_the_library() <= before


async def record(
    storage: BackblazeStorage, data: bytes, **options: Any
) -> tuple[RecordingWriter, BaseException | None]:
    """Write ``data``, and return the writer and what came out."""
    writer = storage.open_recording("CA1", "call.webm", on_error="keep", **options)
    try:
        async with writer:
            for chunk in pieces(data, 40_000):
                await writer.write(chunk)
    except BaseException as error:  # noqa: BLE001 - looked at by the test
        return writer, error
    return writer, None


async def found(storage: BackblazeStorage, writer: RecordingWriter) -> bytes:
    """All bytes of a recording that exist, put together as the docs say."""
    on_server = b""
    for upload in await storage.list_incomplete_uploads():
        kept = await storage.keep_incomplete_upload(upload.key, upload.upload_id)
        on_server = await storage.get_file(kept.key)
    if not on_server and [file async for file in files(storage)]:
        on_server = await storage.get_file(writer.key)
    kept_file = writer.kept_file
    if kept_file is None:
        return on_server
    assert len(on_server) >= kept_file.start
    rest = kept_file.path.read_bytes()
    assert len(rest) == kept_file.end - kept_file.start
    return on_server[: kept_file.start] + rest


async def files(storage: BackblazeStorage) -> AsyncIterator[Any]:
    for file in await storage.list_files():
        yield file


def part(number: int) -> dict[str, Any]:
    return {"operation": "UploadPart", "path": f"partNumber={number}&"}


FAULTS: dict[str, tuple[dict[str, Any], bytes]] = {
    "the first part": (part(1) | REFUSED, LONG),
    "a middle part": (part(3) | REFUSED, LONG),
    "the last part": (part(6) | REFUSED, LONG),
    "every part": ({"operation": "UploadPart"} | REFUSED, LONG),
    "a part is damaged": (
        part(2) | DAMAGED,
        LONG,
    ),
    "a part is busy": (part(1) | {"status": 503, "code": "SlowDown"}, LONG),
    "a part is cut": (part(2) | {"cut": "rst", "at": ("req", 1000)}, LONG),
    "the creation": ({"operation": "CreateMultipartUpload"} | REFUSED, LONG),
    "the creation, lost": ({"operation": "CreateMultipartUpload", "cut": "rst"}, LONG),
    "the completion": ({"operation": "CompleteMultipartUpload"} | REFUSED, LONG),
    "the completion, busy": ({"operation": "CompleteMultipartUpload", "status": 503}, LONG),
    "the PUT": ({"operation": "PutObject"} | REFUSED, SHORT),
    "the PUT of little": ({"operation": "PutObject"} | REFUSED, TINY),
    "the PUT is damaged": (
        {"operation": "PutObject"} | DAMAGED,
        SHORT,
    ),
    "the bucket is gone": (
        {
            "when": lambda attempt: attempt.method in ("PUT", "POST"),
            "status": 404,
            "code": "NoSuchBucket",
        },
        LONG,
    ),
    "nothing answers": ({"cut": "rst"}, LONG),
}


@pytest.fixture(autouse=True)
def small_parts() -> Iterator[None]:
    """The server of these tests takes them, and so does what keeps an upload."""
    with mock.patch.object(hygiene, "_SMALLEST_PART_BYTES", 1):
        yield


CASES = [
    (fault, flush)
    for fault in FAULTS
    for flush in (None, 0.001)
    # A flush begins an upload in parts.
    if flush is None or not fault.startswith("the PUT")
]


@pytest.mark.parametrize(("fault", "flush"), CASES)
async def test_whatever_fails_all_that_was_taken_is_there(
    storage: BackblazeStorage,
    proxy: FaultProxy,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    fault: str,
    flush: float | None,
) -> None:
    what, data = FAULTS[fault]
    folder = tmp_path / "kept"
    folder.mkdir()
    proxy.add(**what)
    writer, error = await record(storage, data, keep_dir=folder, flush_interval=flush)
    proxy.clear()
    assert isinstance(error, StorageError)
    kept = writer.kept_file
    assert [kept.path] if kept else list(folder.iterdir()) == []
    if kept is not None:
        assert stat.S_IMODE(kept.path.stat().st_mode) == 0o600
        assert (error.kept_file, error.kept_start) == (str(kept.path), kept.start)
        assert kept.end == writer.bytes_written
        assert str(kept.path) in str(error)
        assert str(kept.path) in caplog.text
    if kept is None or kept.start:
        assert error.unfinished_upload_id
    else:
        assert await storage.list_incomplete_uploads() == []
    everything = await found(storage, writer)
    assert everything[: writer.bytes_written] == data[: writer.bytes_written]
    assert len(everything) >= writer.bytes_written


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    size=st.integers(1, 4 * PART),
    operation=st.sampled_from(["UploadPart", "CreateMultipartUpload", "CompleteMultipartUpload"]),
    after=st.integers(0, 4),
    ends=st.sampled_from(["well", "raises", "cancelled"]),
    fault=st.sampled_from([REFUSED, {"status": 400, "code": "InvalidArgument"}, {"cut": "rst"}]),
)
async def test_wherever_it_fails_all_that_was_taken_is_there(
    settings: StorageSettings,
    size: int,
    operation: str,
    after: int,
    ends: str,
    fault: dict[str, Any],
) -> None:
    async with (
        FaultProxy(settings.endpoint or "") as proxy,
        storage_behind(proxy, settings, retry_attempts=1) as storage,
    ):
        passed = iter(range(after))
        proxy.add(operation=operation, when=lambda _: next(passed, None) is None, **fault)
        writer = storage.open_recording(f"CA{size}", "call.webm", on_error="keep")
        raised: BaseException | None = None
        try:
            async with writer:
                for chunk in pieces(LONG[:size], 40_000):
                    await writer.write(chunk)
                if ends == "raises":
                    raise ValueError
                if ends == "cancelled":
                    raise asyncio.CancelledError
        except BaseException as error:  # noqa: BLE001 - looked at below
            raised = error
        proxy.clear()
        taken = writer.bytes_written
        on_server = b""
        for upload in await storage.list_incomplete_uploads(writer.key):
            try:
                await storage.keep_incomplete_upload(upload.key, upload.upload_id)
            except NoSuchUploadError:
                continue
        if await storage.file_exists(writer.key):
            on_server = await storage.get_file(writer.key)
        kept = writer.kept_file
        rest = kept.path.read_bytes() if kept is not None else b""
        start = kept.start if kept is not None else len(on_server)
        assert on_server[:start] + rest == LONG[:taken]
        if kept is not None:
            kept.path.unlink()
            assert raised is not None
            assert str(kept.path) in "".join(raised.__notes__)


async def test_what_the_block_raised_tells_where_the_rest_is(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    proxy.add(operation="PutObject", **REFUSED)
    writer = storage.open_recording("CA1", "call.webm", on_error="keep")
    with pytest.raises(ValueError, match="mine") as caught:  # noqa: PT012 - the block is tested
        async with writer:
            await writer.write(SHORT)
            raise ValueError("mine")
    assert writer.kept_file is not None
    assert str(writer.kept_file.path) in "".join(caught.value.__notes__)
    assert writer.kept_file.path.read_bytes() == SHORT
    writer.kept_file.path.unlink()


async def test_a_full_disk_keeps_nothing_from_the_server(
    storage: BackblazeStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in hand goes out from memory, and the block's error comes out."""

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    writer = storage.open_recording("CA1", "call.webm", on_error="keep", flush_interval=60)
    with pytest.raises(StorageError) as caught:  # noqa: PT012 - the block is what is tested
        async with writer:
            await writer.write(SHORT)
            monkeypatch.setattr(spooling.Spool, "write", full)
            while True:
                await writer.write(LONG[len(SHORT) :][:40_000])
    assert "temporary file" in str(caught.value) or "space" in str(caught.value)
    stored = await storage.get_file(writer.key)
    assert stored == LONG[: writer.bytes_written]
    assert writer.result.partial
    assert writer.kept_file is None


async def test_a_folder_that_cannot_be_written_is_told_beside_the_error(
    storage: BackblazeStorage, proxy: FaultProxy, tmp_path: Path
) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    proxy.add(operation="PutObject", **REFUSED)
    writer = storage.open_recording("CA1", "call.webm", on_error="keep", keep_dir=folder)
    with pytest.raises(StorageError) as caught:  # noqa: PT012 - the block is what is tested
        async with writer:
            await writer.write(SHORT)
            folder.rmdir()
    assert caught.value.code == "AccessDenied"
    assert "is lost; writing the file failed" in "".join(caught.value.__notes__)
    assert writer.kept_file is None


async def test_with_abort_no_file_is_written(
    storage: BackblazeStorage, proxy: FaultProxy, tmp_path: Path
) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    proxy.add(operation="UploadPart", **REFUSED)
    with pytest.raises(StorageError) as caught:
        async with storage.open_recording("CA1", "call.webm", keep_dir=folder) as writer:
            await writer.write(LONG)
    assert caught.value.kept_file is None
    assert os.listdir(folder) == []  # noqa: PTH208


async def test_a_folder_that_is_none_is_refused_at_once(
    storage: BackblazeStorage, proxy: FaultProxy, tmp_path: Path
) -> None:
    before = proxy.count()
    with pytest.raises(InvalidInputError, match="keep_dir"):
        storage.open_recording("CA1", "call.webm", on_error="keep", keep_dir=tmp_path / "none")
    assert proxy.count() == before
