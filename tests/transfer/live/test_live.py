"""Recordings in progress: written in chunks, sent in parts, stored at the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from careflow_storage import (
    BackblazeStorage,
    InvalidInputError,
    StorageClosedError,
    StorageSettings,
)
from careflow_storage._transfer.live.writer import RecordingWriter
from careflow_storage.models import Progress
from careflow_storage.testing.proxy.proxy import FaultProxy
from tests.support.behind_proxy import NOTHING_HELD, PART, held, storage_behind, versions
from tests.support.bodies import noise, pieces

LONG = noise(3 * PART + 7)


@pytest.fixture
async def storage(proxy: FaultProxy, settings: StorageSettings) -> AsyncIterator[BackblazeStorage]:
    async with storage_behind(proxy, settings) as opened:
        yield opened
        assert held(opened) == NOTHING_HELD
        assert opened._runtime.context().spool.size == 0


async def record(writer: RecordingWriter, data: bytes, size: int = 16_384) -> None:
    for chunk in pieces(data, size):
        await writer.write(chunk)


async def record_and_close(writer: RecordingWriter, data: bytes) -> None:
    async with writer:
        await record(writer, data)


@pytest.mark.parametrize("size", [160, 16_384, 100_003, PART, 2 * PART + 1, len(LONG)])
async def test_a_recording_is_stored_as_written_for_any_chunk_size(
    storage: BackblazeStorage, size: int
) -> None:
    async with storage.open_recording("CA1", "call.webm") as writer:
        await record(writer, LONG, size)
        assert writer.bytes_written == len(LONG)
    result = writer.result
    assert (result.key, result.size, result.parts) == (writer.key, len(LONG), 4)
    assert result.partial is False
    assert writer.uploaded == len(LONG)
    assert await storage.get_file(writer.key) == LONG
    assert await versions(storage, writer.key) == (1, 0)


@pytest.mark.parametrize("size", [0, 1, 65_536, PART - 1])
async def test_a_call_shorter_than_one_part_is_one_put(
    storage: BackblazeStorage, proxy: FaultProxy, size: int
) -> None:
    async with storage.open_recording("CA1", "call.webm") as writer:
        await record(writer, LONG[:size])
        assert proxy.log == []
        assert writer.upload_id is None
        assert writer.uploaded == 0
    assert [attempt.method for attempt in proxy.log] == ["PUT"]
    assert (writer.result.size, writer.result.parts, writer.uploaded) == (size, 1, size)
    assert await storage.get_file(writer.key) == LONG[:size]


async def test_a_full_part_goes_out_while_the_call_goes_on(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    rule = proxy.add(method="PUT", path="partNumber=2", delay=0.0)
    async with storage.open_recording("CA1", "call.webm") as writer:
        await record(writer, LONG[: 2 * PART])
        await rule.fired.wait()
        assert writer.upload_id is not None
        await record(writer, LONG[2 * PART :])
    assert await storage.get_file(writer.key) == LONG


@pytest.mark.parametrize("checksum", ["md5", "crc32", "sha256"])
async def test_every_checksum_algorithm_works(storage: BackblazeStorage, checksum: Any) -> None:
    for data in (LONG, LONG[:1000]):
        async with storage.open_recording("CA1", "call.webm", checksum=checksum) as writer:
            await record(writer, data)
        assert writer.result.checksum.algorithm == checksum
        assert await storage.get_file(writer.key) == data


async def test_any_buffer_can_be_written_and_reused(
    storage: BackblazeStorage,
) -> None:
    buffer = bytearray(10_000)
    expected = b""
    async with storage.open_recording("CA1", "call") as writer:
        for number in range(70):
            buffer[:] = bytes([number]) * len(buffer)
            for chunk in (memoryview(buffer), buffer, memoryview(buffer).cast("H"), b""):
                await writer.write(chunk)
            expected += 3 * bytes(buffer)
            buffer[:] = b"!" * len(buffer)
    assert await storage.get_file(writer.key) == expected


async def test_the_content_type_is_detected_from_the_first_bytes(
    storage: BackblazeStorage, recordings: dict[str, Path]
) -> None:
    for name, path in recordings.items():
        data = await asyncio.to_thread(path.read_bytes)
        expected = await storage.upload_recording("CA1", data, "call")
        async with storage.open_recording("CA2", "call", metadata={"agent": "Zoë"}) as writer:
            await record(writer, data, 700)
        assert writer.result.content_type == expected.content_type, name
        found = await storage.get_file_metadata(writer.key)
        assert (found.metadata, found.partial) == ({"agent": "Zoë"}, False)


async def test_progress_reports_sent_bytes_and_ends_with_all_of_them(
    storage: BackblazeStorage,
) -> None:
    for data in (LONG, LONG[:1000]):
        events: list[Progress] = []
        async with storage.open_recording("CA1", "call", progress=events.append) as writer:
            await record(writer, data)
        counts = [event.transferred for event in events]
        assert counts == sorted(counts)
        assert counts[-1] == len(data)


async def test_an_exception_of_the_progress_callback_ends_the_recording(
    storage: BackblazeStorage,
) -> None:
    def refuse(_: Progress) -> None:
        raise RuntimeError("no more")

    writer = storage.open_recording("CA1", "call", progress=refuse)
    with pytest.raises(RuntimeError, match="no more"):
        await record_and_close(writer, 3 * LONG)
    assert not await storage.file_exists(writer.key)
    assert await storage.list_incomplete_uploads() == []


async def test_tasks_that_write_at_once_take_turns(storage: BackblazeStorage) -> None:
    chunks = [bytes([number]) * 100_000 for number in range(12)]
    async with storage.open_recording("CA1", "call") as writer:
        await asyncio.gather(*(writer.write(chunk) for chunk in chunks))
    assert await storage.get_file(writer.key) == b"".join(chunks)


Misuse = Callable[[BackblazeStorage], RecordingWriter]
REFUSED: dict[str, Misuse] = {
    "on_error": lambda storage: storage.open_recording("CA1", "a", on_error="stop"),  # type: ignore[arg-type]  # wrong on purpose
    "no interval": lambda storage: storage.open_recording("CA1", "a", flush_interval=0),
    "no number": lambda storage: storage.open_recording("CA1", "a", flush_interval=True),
    "for ever": lambda storage: storage.open_recording("CA1", "a", flush_interval=float("inf")),
    "both": lambda storage: storage.open_recording("CA1", "a", flush_interval=9, live_read=True),
    "metadata": lambda storage: storage.open_recording("CA1", "a", metadata={"ä": "x"}),
    "content type": lambda storage: storage.open_recording("CA1", "a", content_type="a\nb"),
    "call ID": lambda storage: storage.open_recording("../CA1", "a"),
    "checksum": lambda storage: storage.open_recording("CA1", "a", checksum="md4"),  # type: ignore[arg-type]  # wrong on purpose
}


@pytest.mark.parametrize("misuse", REFUSED)
async def test_invalid_options_are_refused_at_once(
    storage: BackblazeStorage, proxy: FaultProxy, misuse: str
) -> None:
    with pytest.raises(InvalidInputError):
        REFUSED[misuse](storage)
    assert proxy.log == []


@pytest.mark.parametrize("chunk", ["text", None, 5, [1, 2], memoryview(b"abcd")[::2]])
async def test_writing_other_than_bytes_is_refused_and_the_recording_continues(
    storage: BackblazeStorage, chunk: Any
) -> None:
    async with storage.open_recording("CA1", "call") as writer:
        await writer.write(b"before ")
        with pytest.raises(InvalidInputError):
            await writer.write(chunk)
        await writer.write(b"after")
    assert await storage.get_file(writer.key) == b"before after"


async def test_writing_outside_of_the_block_raises(storage: BackblazeStorage) -> None:
    writer = storage.open_recording("CA1", "call")
    with pytest.raises(StorageClosedError, match="not open"):
        await writer.write(b"early")
    async with writer:
        with pytest.raises(StorageClosedError, match="Nothing is stored yet"):
            _ = writer.result
    with pytest.raises(StorageClosedError, match="closed"):
        await writer.write(b"late")
    with pytest.raises(StorageClosedError, match="once"):
        await writer.__aenter__()


async def test_while_parts_cannot_go_out_write_waits_and_then_goes_on(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    gate = proxy.add(method="PUT", path="partNumber=", delay=0.1)
    data = noise(6 * PART)
    ahead = 0
    async with storage.open_recording("CA1", "call") as writer:
        for chunk in pieces(data, 10_000):
            await writer.write(chunk)
            ahead = max(ahead, writer.bytes_written - writer.uploaded)
    assert gate.fired.is_set()
    # Two parts in flight, and one that waits.
    assert 2 * PART < ahead <= 3 * PART
    assert await storage.get_file(writer.key) == data


@pytest.mark.slow
async def test_idle_calls_hold_no_memory_and_no_slot(
    proxy: FaultProxy, settings: StorageSettings
) -> None:
    async with storage_behind(proxy, settings, max_connections=2, pool_timeout=30) as storage:
        writers = [storage.open_recording("CA1", f"{n}.ogg") for n in range(40)]
        for writer in writers:
            await writer.__aenter__()
            await writer.write(LONG[:70_000])
        async with asyncio.timeout(60):
            assert (await storage.upload_file("other", LONG)).size == len(LONG)
        for writer in writers:
            await writer.write(LONG[70_000 : 2 * PART])
            await writer.__aexit__(None, None, None)
            assert writer.result.size == 2 * PART
        assert held(storage) == NOTHING_HELD
        assert await storage.get_file(writers[7].key) == LONG[: 2 * PART]


async def test_a_storage_that_closes_before_its_recordings_ends_them(
    proxy: FaultProxy, settings: StorageSettings, caplog: pytest.LogCaptureFixture
) -> None:
    async with storage_behind(proxy, settings) as storage:
        short, long = storage.open_recording("CA1", "a"), storage.open_recording("CA1", "b")
        for writer in (short, long):
            await writer.__aenter__()
        await short.write(b"short")
        await record(long, LONG)
    context = storage._runtime.context
    for writer in (short, long):
        async with asyncio.timeout(60):
            with pytest.raises(StorageClosedError):
                await writer.__aexit__(None, None, None)
    with pytest.raises(StorageClosedError):
        context()
    assert long.upload_id is not None
    assert long.upload_id in caplog.text
