"""make_seekable: what a browser recorded gets its duration and its index, and stays as it was."""

from __future__ import annotations

import asyncio
import hashlib
import io
import wave
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from careflow_storage import (
    BackblazeStorage,
    CustomerKey,
    LocalFileError,
    NoSuchKeyError,
    PreconditionFailedError,
    Retention,
)
from careflow_storage.media import UnsupportedMediaError, make_seekable, probe, waveform
from careflow_storage.testing import B2Server
from tests.support.audio import greeting, recorded, tone, unsized, wav


@pytest.fixture
async def storage(server: B2Server, temporary: Path) -> AsyncIterator[BackblazeStorage]:
    async with BackblazeStorage(server.settings()) as opened:
        yield opened
    assert left_in(temporary) == []


def left_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())


@pytest.mark.parametrize(("ending", "seconds"), [("webm", 5.9), ("mp4", 3.9)])
async def test_a_recording_of_a_browser(
    storage: BackblazeStorage, ending: str, seconds: float
) -> None:
    before = await storage.upload_file("call", recorded(ending))
    assert not (await probe(storage, "call")).seekable
    shape = await waveform(storage, "call", points=30)
    after = await make_seekable(storage, "call")
    assert (after.key, after.reused) == ("call", 0)
    assert after.version_id not in (None, before.version_id)
    info = await probe(storage, "call")
    assert (info.seekable, info.size, info.container) == (True, after.size, ending)
    assert info.duration == pytest.approx(seconds, abs=0.1)
    again = await waveform(storage, "call", points=30)
    assert (again.mix, again.duration) == (shape.mix, shape.duration)


async def test_the_index_of_a_webm_is_before_the_data(storage: BackblazeStorage) -> None:
    await storage.upload_file("call", recorded("webm"))
    await make_seekable(storage, "call")
    stored = await storage.get_file("call")
    assert stored.index(b"\x1c\x53\xbb\x6b", 300) < stored.index(b"\x1f\x43\xb6\x75")


async def test_what_is_seekable_costs_no_upload(
    server: B2Server, storage: BackblazeStorage
) -> None:
    for ending in ("webm", "m4a", "ogg", "mp3", "wav"):
        before = await storage.upload_file("call", greeting(ending))
        counted = storage.request_counts()
        after = await make_seekable(storage, "call")
        requests = {
            name: count - counted.get(name, 0)
            for name, count in storage.request_counts().items()
            if count != counted.get(name, 0)
        }
        assert after == before.model_copy(update={"reused": before.size})
        assert requests.pop("GetObject") <= 3
        assert requests == {"HeadObject": 1}
    assert len(server.versions("call")) == 5


async def test_a_second_call_changes_nothing(storage: BackblazeStorage) -> None:
    await storage.upload_file("call", recorded("webm"))
    first = await make_seekable(storage, "call")
    second = await make_seekable(storage, "call")
    assert (second.version_id, second.reused) == (first.version_id, first.size)


async def test_the_new_version_is_served_like_the_old_one(storage: BackblazeStorage) -> None:
    async with storage.open_recording(
        "CA1",
        "a.webm",
        on_error="keep",
        content_type="audio/webm;codecs=opus",
        cache_control="private, max-age=60",
        content_disposition="inline",
        metadata={"agent": "Zoë", "call": "CA1"},
    ) as writer:
        await writer.write(recorded("webm"))
        writer.mark_partial("The connection was lost.")
    key = writer.result.key
    before = await storage.get_file_metadata(key)
    assert before.partial
    result = await make_seekable(storage, key)
    assert result.partial
    after = await storage.get_file_metadata(key)
    assert after.version_id != before.version_id
    changed = {"etag", "last_modified", "size", "version_id"}
    assert after.model_dump(exclude=changed) == before.model_dump(exclude=changed)


@pytest.mark.slow
async def test_a_large_recording_goes_in_parts(server: B2Server, temporary: Path) -> None:
    settings = server.settings(part_size=5 * 1024**2, multipart_threshold=5 * 1024**2)
    async with BackblazeStorage(settings) as storage:
        samples = bytes(6 * 1024**2)
        await storage.upload_file("call", unsized(wav([]) + samples), metadata={"agent": "7"})
        result = await make_seekable(storage, "call")
        assert result.parts == 2
        assert (await storage.get_file_metadata("call")).metadata == {"agent": "7"}
        with wave.open(io.BytesIO(await storage.get_file("call"))) as file:
            assert file.getnframes() == len(samples) // 2
    assert left_in(temporary) == []


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
async def test_only_the_sizes_of_a_wav_change(storage: BackblazeStorage, size: int) -> None:
    complete = wav(tone(1, 0.5))
    await storage.upload_file("call", unsized(complete, size))
    await make_seekable(storage, "call")
    assert await storage.get_file("call") == complete


async def test_a_customers_key(storage: BackblazeStorage) -> None:
    key = CustomerKey.generate()
    await storage.upload_file("call", recorded("webm"), encryption=key)
    first = await make_seekable(storage, "call", encryption=key)
    assert (await probe(storage, "call", encryption=key)).seekable
    assert (await storage.get_file_metadata("call", encryption=key)).encryption == "SSE-C"
    second = await make_seekable(storage, "call", encryption=key)
    stored = await storage.get_file("call", encryption=key)
    assert (second.version_id, second.reused) == (first.version_id, len(stored))
    assert second.checksum.value == hashlib.md5(stored, usedforsecurity=False).hexdigest()


async def test_retention_and_legal_hold(server: B2Server, temporary: Path) -> None:
    async with BackblazeStorage(server.settings()) as storage:
        await storage.admin.set_object_lock()
        until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)
        lock = Retention(mode="governance", retain_until=until)
        await storage.upload_file("call", recorded("webm"), retention=lock, legal_hold=True)
        await make_seekable(storage, "call")
        after = await storage.get_file_metadata("call")
        assert (after.retention, after.legal_hold) == (lock, True)


@pytest.mark.parametrize("when", ["GetObject", "PutObject"])
async def test_a_file_that_is_replaced_meanwhile_stays(
    server: B2Server, storage: BackblazeStorage, when: str
) -> None:
    old = await storage.upload_file("call", recorded("webm"))
    place = ("body", 100) if when == "GetObject" else ("req", 100)
    fault = server.faults.next(when, cut="hang", at=place)
    task = asyncio.create_task(make_seekable(storage, "call"))
    await fault.fired.wait()
    new = await storage.upload_file("call", greeting("webm"))
    fault.release.set()
    with pytest.raises(PreconditionFailedError, match="replaced while") as refused:
        await task
    assert refused.value.method == "make_seekable"
    assert [each.version_id for each in server.versions("call")] == [
        new.version_id,
        old.version_id,
    ]


async def test_a_file_that_is_deleted_meanwhile_stays_deleted(
    server: B2Server, storage: BackblazeStorage
) -> None:
    await storage.upload_file("call", recorded("webm"))
    fault = server.faults.next("GetObject", cut="hang", at=("body", 100))
    task = asyncio.create_task(make_seekable(storage, "call"))
    await fault.fired.wait()
    await storage.delete_file("call")
    fault.release.set()
    with pytest.raises(NoSuchKeyError):
        await task
    assert not await storage.file_exists("call")


async def test_a_recording_that_was_cut_off_keeps_what_is_there(storage: BackblazeStorage) -> None:
    await storage.upload_file("call", recorded("webm")[:8000])
    await make_seekable(storage, "call")
    info = await probe(storage, "call")
    assert info.seekable
    assert info.duration == pytest.approx(3.8, abs=0.3)


async def test_a_damaged_recording_is_not_replaced_by_half_of_it(
    server: B2Server, storage: BackblazeStorage
) -> None:
    content = recorded("webm")
    await storage.upload_file("call", content[:6000] + 100_000 * b"\xff" + content[6000:])
    with pytest.raises(UnsupportedMediaError, match=r"damaged: .* would be lost"):
        await make_seekable(storage, "call")
    assert len(server.versions("call")) == 1


async def test_samples_without_a_header_have_no_place_for_it(storage: BackblazeStorage) -> None:
    await storage.upload_file("call", bytes(100), "audio/x-mulaw")
    with pytest.raises(UnsupportedMediaError, match="no place for a duration"):
        await make_seekable(storage, "call")


async def test_a_folder_for_temporary_files_that_is_not_there(
    server: B2Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    async with BackblazeStorage(server.settings()) as storage:
        with pytest.raises(LocalFileError):
            await make_seekable(storage, "call")
    assert server.requests == []
