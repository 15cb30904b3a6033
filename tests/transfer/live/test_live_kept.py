"""``on_error="keep"`` keeps every accepted byte: on the server, in a file, or in both."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
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
from careflow_storage._transfer import incomplete
from careflow_storage._transfer.bodies import spool as spooling
from careflow_storage._transfer.live import kept_file
from careflow_storage._transfer.live.writer import RecordingWriter
from careflow_storage.testing.proxy.proxy import FaultProxy
from tests.support.behind_proxy import (
    NOTHING_HELD,
    PART,
    held,
    storage_behind,
    tasks_of_the_library,
)
from tests.support.bodies import noise, pieces

if TYPE_CHECKING:
    from typing_extensions import Buffer

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
        assert opened._runtime.context().spool.size == 0
        assert tasks_of_the_library() <= before


async def record(
    storage: BackblazeStorage, data: bytes, **options: Any
) -> tuple[RecordingWriter, BaseException | None]:
    """Write ``data``; return the writer and the exception, if one was raised."""
    writer = storage.open_recording("CA1", "call.webm", on_error="keep", **options)
    try:
        async with writer:
            for chunk in pieces(data, 40_000):
                await writer.write(chunk)
    except BaseException as error:  # noqa: BLE001 - asserted by the test
        return writer, error
    return writer, None


async def found(storage: BackblazeStorage, writer: RecordingWriter) -> bytes:
    """Return all bytes of a recording, combined as the docs say."""
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
    "nothing responds": ({"cut": "rst"}, LONG),
}


@pytest.fixture(autouse=True)
def small_parts() -> Iterator[None]:
    """The test server accepts small parts; so must the code that keeps an upload."""
    with mock.patch.object(incomplete, "_SMALLEST_PART_BYTES", 1):
        yield


CASES = [
    (fault, flush)
    for fault in FAULTS
    for flush in (None, 0.001)
    # A flush begins an upload in parts.
    if flush is None or not fault.startswith("the PUT")
]


@pytest.mark.parametrize(("fault", "flush"), CASES)
async def test_whatever_fails_no_accepted_byte_is_lost(
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
async def test_at_whatever_request_it_fails_no_accepted_byte_is_lost(
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
        except BaseException as error:  # noqa: BLE001 - asserted below
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


async def test_the_exception_of_the_block_says_where_the_rest_is(
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
    """The current part is sent from memory, and the exception of the block is raised."""

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    writer = storage.open_recording("CA1", "call.webm", on_error="keep", flush_interval=60)
    with pytest.raises(StorageError) as caught:  # noqa: PT012 - the block is what is tested
        async with writer:
            await writer.write(SHORT)
            monkeypatch.setattr(spooling.SharedSpool, "write", full)
            while True:
                await writer.write(LONG[len(SHORT) :][:40_000])
    assert "temporary file" in str(caught.value) or "space" in str(caught.value)
    stored = await storage.get_file(writer.key)
    assert stored == LONG[: writer.bytes_written]
    assert writer.result.partial
    assert writer.kept_file is None


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary folder, used when ``keep_dir`` fails."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def in_folders(*folders: Path) -> list[Path]:
    return [path for folder in folders for path in folder.iterdir()]


class FullDisk(FileIO):
    """Accepts ``room`` bytes in the ``full`` folders; the last write is short."""

    room = 30_001
    full: tuple[Path, ...] = ()

    def write(self, data: Buffer, /) -> int:
        view = memoryview(data)
        opened = os.fstat(self.fileno())
        if any(os.path.samestat(opened, path.stat()) for path in in_folders(*self.full)):
            view = view[: self.room - self.tell()]
            if not view:
                raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(view)


@pytest.mark.parametrize("data", [TINY, SHORT, LONG], ids=["tiny", "short", "in parts"])
@pytest.mark.parametrize("fault", ["removed", "full at once", "full on the way"])
async def test_when_keep_dir_fails_the_file_is_in_the_temporary_folder(
    storage: BackblazeStorage,
    proxy: FaultProxy,
    tmp_path: Path,
    temporary: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    data: bytes,
) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    monkeypatch.setattr(kept_file, "FileIO", FullDisk)
    monkeypatch.setattr(FullDisk, "full", () if fault == "removed" else (folder,))
    monkeypatch.setattr(FullDisk, "room", 0 if fault == "full at once" else len(data) // 3)
    proxy.add(operation="PutObject", **REFUSED)
    proxy.add(operation="UploadPart", **REFUSED)
    writer = storage.open_recording("CA1", "call.webm", on_error="keep", keep_dir=folder)
    with pytest.raises(StorageError) as caught:  # noqa: PT012 - the block is what is tested
        async with writer:
            if fault == "removed":
                folder.rmdir()
            await writer.write(data)
    assert caught.value.code == "AccessDenied"
    assert writer.kept_file is not None
    assert (writer.kept_file.start, writer.kept_file.end) == (0, writer.bytes_written)
    assert in_folders(temporary) == [writer.kept_file.path]
    assert writer.kept_file.path.read_bytes() == data[: writer.bytes_written]
    assert caught.value.kept_file == str(writer.kept_file.path)
    notes = "".join(caught.value.__notes__)
    assert f"writing the file failed in {folder}" in notes
    assert "lost" not in notes
    assert fault == "removed" or in_folders(folder) == []


@pytest.mark.parametrize("keep_dir", [True, False])
async def test_when_both_folders_are_full_one_file_keeps_what_fits_and_the_rest_is_reported(
    storage: BackblazeStorage,
    proxy: FaultProxy,
    tmp_path: Path,
    temporary: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    keep_dir: bool,
) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    monkeypatch.setattr(kept_file, "FileIO", FullDisk)
    monkeypatch.setattr(FullDisk, "full", (folder, temporary))
    proxy.add(operation="PutObject", **REFUSED)
    writer, error = await record(storage, SHORT, keep_dir=folder if keep_dir else None)
    assert error is not None
    file = writer.kept_file
    assert file is not None
    assert (file.start, file.end) == (0, FullDisk.room)
    assert file.path.read_bytes() == SHORT[: FullDisk.room]
    assert in_folders(folder, temporary) == [file.path]
    told = f"bytes {file.end} to {len(SHORT)} are lost"
    assert told in "".join(error.__notes__)
    assert told in caplog.text


async def test_when_no_folder_is_writable_a_note_says_so(
    storage: BackblazeStorage, proxy: FaultProxy, tmp_path: Path, temporary: Path
) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    proxy.add(operation="PutObject", **REFUSED)
    writer = storage.open_recording("CA1", "call.webm", on_error="keep", keep_dir=folder)
    with pytest.raises(StorageError) as caught:  # noqa: PT012 - the block is what is tested
        async with writer:
            await writer.write(SHORT)
            for each in (folder, temporary):
                each.rmdir()
    assert caught.value.code == "AccessDenied"
    assert "is lost; writing the file failed" in "".join(caught.value.__notes__)
    assert writer.kept_file is None


@pytest.mark.parametrize("ends", ["well", "raises"])
@pytest.mark.parametrize(
    ("gone_at", "size"),
    [
        (part(2), len(LONG)),
        (part(2), 5 * PART),
        (part(6), len(LONG)),
        ({"operation": "CompleteMultipartUpload"}, len(LONG)),
        ({"operation": "CompleteMultipartUpload"}, 5 * PART),
    ],
)
async def test_the_lost_bytes_of_an_upload_aborted_elsewhere_are_reported(
    storage: BackblazeStorage,
    proxy: FaultProxy,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    gone_at: dict[str, Any],
    size: int,
    ends: str,
) -> None:
    proxy.add(**gone_at, status=404, code="NoSuchUpload")
    writer = storage.open_recording("CA1", "call.webm", on_error="keep", keep_dir=tmp_path)
    with pytest.raises((StorageError, ZeroDivisionError)) as caught:  # noqa: PT012 - the block
        async with writer:
            await writer.write(LONG[:size])
            if ends == "raises":
                raise ZeroDivisionError
    error = caught.value
    file = writer.kept_file
    start = file.start if file is not None else writer.bytes_written
    assert start >= PART
    told = f"Bytes 0 to {start} of the recording {writer.key!r} are lost"
    assert told in "".join(error.__notes__)
    assert told in caplog.text
    assert "is kept" not in "".join(error.__notes__)
    if file is not None:
        assert file.path.read_bytes() == LONG[start : writer.bytes_written]
    if isinstance(error, StorageError):
        assert isinstance(error, NoSuchUploadError)
        assert told in str(error)
        assert error.unfinished_upload_id is None


COPY_FAULTS: dict[str, dict[str, Any]] = {
    "denied": REFUSED,
    "busy": {"status": 503, "code": "SlowDown"},
    "not found": {"status": 404, "code": "NoSuchKey"},
    "cut": {"cut": "rst"},
}


@pytest.mark.parametrize("fault", COPY_FAULTS)
@pytest.mark.parametrize(
    ("ends", "on_error"),
    [
        ("marked", "keep"),
        ("marked", "abort"),
        ("silent", "keep"),
        ("silent", "abort"),
        ("raises", "keep"),
    ],
)
async def test_a_recording_stored_but_not_marked_is_reported(
    storage: BackblazeStorage, proxy: FaultProxy, fault: str, ends: str, on_error: Any
) -> None:
    proxy.add(operation="CopyObject", **COPY_FAULTS[fault])
    writer = storage.open_recording("CA1", "call.webm", on_error=on_error, explicit_finish=True)
    with pytest.raises((StorageError, ZeroDivisionError)) as caught:  # noqa: PT012 - the block
        async with writer:
            await writer.write(LONG)
            if ends == "marked":
                writer.mark_partial("closed with code 1006")
            if ends == "raises":
                raise ZeroDivisionError
    proxy.clear()
    error = caught.value
    assert writer.result.partial is False
    stored = await storage.get_file_metadata(writer.key)
    assert (stored.partial, stored.size) == (False, len(LONG))
    assert stored.version_id == writer.result.version_id
    if ends == "raises":
        assert isinstance(error, ZeroDivisionError)
        assert "is stored, but not marked as partial" in "".join(error.__notes__)
        return
    assert isinstance(error, StorageError)
    assert (error.stored_unmarked, error.retryable) == (True, False)
    assert "stored, but not marked as partial" in str(error)
    assert error.key == writer.key
    assert str(writer.result.version_id) in str(error) or writer.result.version_id is None
    assert await storage.list_incomplete_uploads() == []


async def test_a_marking_copy_with_a_lost_response_is_recognised(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    proxy.add(operation="CopyObject", cut="rst", at="resp")
    writer, error = await record(storage, LONG, explicit_finish=True)
    proxy.clear()
    assert error is None
    assert writer.result.partial is True
    stored = await storage.get_file_metadata(writer.key)
    assert (stored.partial, stored.version_id) == (True, writer.result.version_id)


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


async def test_an_invalid_keep_dir_is_refused_at_once(
    storage: BackblazeStorage, proxy: FaultProxy, tmp_path: Path
) -> None:
    before = proxy.count()
    with pytest.raises(InvalidInputError, match="keep_dir"):
        storage.open_recording("CA1", "call.webm", on_error="keep", keep_dir=tmp_path / "none")
    assert proxy.count() == before
