"""Reading objects: whole, as a stream, in ranges, as a file; and stopping midway."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator
from typing import Any

import pytest

from careflow_storage import (
    BackblazeStorage,
    InvalidInputError,
    InvalidRangeError,
    NoSuchKeyError,
    StorageClosedError,
    StorageError,
    StorageSettings,
)
from careflow_storage.testing.proxy.proxy import FaultProxy
from tests.support.bodies import MIB, noise
from tests.support.hostile import HostileServer

DATA = noise(2 * MIB)
SIZE = len(DATA)


@pytest.fixture
async def stored(storage: BackblazeStorage) -> BackblazeStorage:
    """With 2 MiB under "a"."""
    await storage.upload_file("a", DATA)
    return storage


@pytest.fixture
async def narrow(settings: StorageSettings) -> AsyncIterator[BackblazeStorage]:
    """With 2 MiB under "a", and one request in flight at a time."""
    one = settings.model_copy(update={"max_connections": 1, "pool_timeout": 30.0})
    async with BackblazeStorage(one) as opened:
        await opened.upload_file("a", DATA)
        yield opened


class TestRanges:
    @pytest.mark.parametrize(
        ("start", "end"),
        [
            (0, None),
            (0, 0),
            (0, 1),
            (5, 5),
            (1000, 1000),
            (17, 100_000),
            (SIZE - 1, None),
            (SIZE - 1, SIZE),
            (SIZE - 10, SIZE + 10),
            (0, SIZE * 2),
        ],
    )
    async def test_given_a_range_when_streamed_then_it_equals_a_python_slice(
        self, stored: BackblazeStorage, start: int, end: int | None
    ) -> None:
        stream = stored.stream_file("a", start=start, end=end)
        assert b"".join([chunk async for chunk in stream]) == DATA[start:end]
        async with stored.stream_file("a", start=start, end=end) as opened:
            assert opened.metadata.size == SIZE
            assert await opened.read() == DATA[start:end]

    @pytest.mark.integration
    async def test_given_a_real_server_when_ranges_are_streamed_then_they_are_the_same(
        self, seaweed_storage: BackblazeStorage
    ) -> None:
        await seaweed_storage.upload_file("a", DATA)
        for start, end in [(0, 0), (5, 5), (0, 1), (17, 100_000), (SIZE - 10, SIZE + 10)]:
            async with seaweed_storage.stream_file("a", start=start, end=end) as stream:
                assert stream.metadata.size == SIZE
                assert await stream.read() == DATA[start:end]
        with pytest.raises(InvalidRangeError):
            await seaweed_storage.stream_file("a", start=SIZE + 1).read()

    @pytest.mark.parametrize("start", [SIZE + 1, SIZE * 10])
    async def test_given_a_start_beyond_the_end_then_the_error_says_so(
        self, stored: BackblazeStorage, start: int
    ) -> None:
        with pytest.raises(InvalidRangeError) as caught:
            await stored.stream_file("a", start=start).read()
        assert (caught.value.key, caught.value.status) == ("a", 416)

    @pytest.mark.parametrize(("start", "end"), [(5, 4), (-1, None), (0, -1), (-5, -3)])
    async def test_given_an_inverted_range_then_it_is_refused_before_any_request(
        self, storage: BackblazeStorage, start: int, end: int | None
    ) -> None:
        with pytest.raises(InvalidInputError):
            storage.stream_file("a", start=start, end=end)

    @pytest.mark.parametrize(("start", "end"), [(0.5, None), ("0", None), (0, 1.5), (0, "5")])
    async def test_given_a_range_that_is_not_of_whole_numbers_then_it_is_refused(
        self, storage: BackblazeStorage, start: Any, end: Any
    ) -> None:
        with pytest.raises(InvalidInputError):
            storage.stream_file("a", start=start, end=end)

    async def test_given_an_empty_object_when_read_in_any_way_then_it_is_empty(
        self, storage: BackblazeStorage
    ) -> None:
        await storage.upload_file("empty", b"")
        assert await storage.get_file("empty") == b""
        assert [chunk async for chunk in storage.stream_file("empty")] == []
        async with await storage.open_file("empty") as file:
            assert await file.read() == b""
        assert await storage.stream_file("empty", end=10).read() == b""


class TestStreams:
    async def test_given_a_missing_object_then_the_first_step_raises(
        self, storage: BackblazeStorage
    ) -> None:
        stream = storage.stream_file("missing")
        with pytest.raises(NoSuchKeyError):
            await stream.read()
        with pytest.raises(NoSuchKeyError):
            async with storage.stream_file("missing"):
                pass

    async def test_given_an_open_stream_then_its_metadata_is_known_before_the_first_chunk(
        self, storage: BackblazeStorage
    ) -> None:
        await storage.upload_file("a.txt", "words", metadata={"agent": "Zoë"})
        async with storage.stream_file("a.txt") as stream:
            assert stream.metadata.size == 5
            assert stream.metadata.metadata == {"agent": "Zoë"}
            assert stream.metadata == await storage.get_file_metadata("a.txt")

    async def test_given_a_stream_that_is_not_open_then_its_metadata_is_not_known(
        self, storage: BackblazeStorage
    ) -> None:
        with pytest.raises(StorageClosedError):
            _ = storage.stream_file("a").metadata

    async def test_given_a_stream_that_was_read_then_reading_it_again_raises(
        self, stored: BackblazeStorage
    ) -> None:
        stream = stored.stream_file("a")
        assert await stream.read() == DATA
        with pytest.raises(StorageClosedError):
            await stream.read()

    async def test_given_a_version_then_its_bytes_are_read_although_newer_ones_exist(
        self, storage: BackblazeStorage
    ) -> None:
        old = await storage.upload_file("a", b"old")
        await storage.upload_file("a", b"new")
        assert await storage.get_file("a", version_id=old.version_id) == b"old"
        assert await storage.stream_file("a", version_id=old.version_id).read() == b"old"
        metadata = await storage.get_file_metadata("a", version_id=old.version_id)
        assert (metadata.size, metadata.version_id) == (3, old.version_id)


class TestWalkingAway:
    """With a single slot, a slot that is not released blocks the next request."""

    async def test_given_a_reader_that_breaks_off_then_the_next_request_goes_through(
        self, narrow: BackblazeStorage
    ) -> None:
        for _ in range(3):
            async for _chunk in narrow.stream_file("a"):
                break
        async with asyncio.timeout(60):
            assert await narrow.file_exists("a")

    async def test_given_a_block_that_is_left_early_then_the_next_request_goes_through(
        self, narrow: BackblazeStorage
    ) -> None:
        async with narrow.stream_file("a"):
            pass
        async with narrow.stream_file("a") as stream:
            async for _chunk in stream:
                break
        async with asyncio.timeout(60):
            assert await narrow.file_exists("a")

    async def test_given_a_reader_that_raises_then_the_next_request_goes_through(
        self, narrow: BackblazeStorage
    ) -> None:
        async def play() -> None:
            async for _chunk in narrow.stream_file("a"):
                raise RuntimeError("the player is full")

        with pytest.raises(RuntimeError, match="the player is full"):
            await play()
        async with asyncio.timeout(60):
            assert await narrow.file_exists("a")

    async def test_given_a_reader_that_is_cancelled_then_the_next_request_goes_through(
        self, narrow: BackblazeStorage
    ) -> None:
        reading = asyncio.Event()

        async def read() -> None:
            async for _chunk in narrow.stream_file("a"):
                reading.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(read())
        await reading.wait()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        del task
        async with asyncio.timeout(60):
            assert await narrow.file_exists("a")

    async def test_given_an_open_file_when_closed_midway_then_the_next_request_goes_through(
        self, narrow: BackblazeStorage
    ) -> None:
        async with await narrow.open_file("a") as file:
            await file.read(10)
        async with asyncio.timeout(60):
            assert await narrow.file_exists("a")

    async def test_given_an_error_response_then_the_next_request_goes_through(
        self, narrow: BackblazeStorage
    ) -> None:
        with pytest.raises(NoSuchKeyError):
            await narrow.get_file("missing")
        with pytest.raises(InvalidRangeError):
            await narrow.stream_file("a", start=SIZE * 2).read()
        async with asyncio.timeout(60):
            assert await narrow.file_exists("a")


class TestOpenFile:
    async def test_given_an_open_file_then_it_reads_and_seeks_like_a_local_one(
        self, stored: BackblazeStorage
    ) -> None:
        local = io.BytesIO(DATA)
        async with await stored.open_file("a") as file:
            assert file.size == SIZE
            for offset, whence, size in [
                (0, io.SEEK_SET, 10),
                (0, io.SEEK_CUR, 100_000),
                (7, io.SEEK_CUR, 10),
                (-10, io.SEEK_CUR, 20),
                (-100, io.SEEK_END, 50),
                (0, io.SEEK_CUR, 1000),
                (SIZE // 2, io.SEEK_SET, -1),
                (SIZE + 5, io.SEEK_SET, 10),
                (3, io.SEEK_SET, 0),
            ]:
                assert await file.seek(offset, whence) == local.seek(offset, whence)
                assert await file.read(size) == local.read(size)
                assert file.tell() == local.tell()

    async def test_given_an_open_file_when_iterated_then_all_of_it_comes(
        self, stored: BackblazeStorage
    ) -> None:
        async with await stored.open_file("a") as file:
            assert b"".join([chunk async for chunk in file]) == DATA

    async def test_given_an_open_file_when_the_object_is_replaced_then_it_still_reads_the_old_one(
        self, stored: BackblazeStorage
    ) -> None:
        async with await stored.open_file("a") as file:
            assert await file.read(10) == DATA[:10]
            await stored.upload_file("a", b"something else")
            await file.seek(SIZE - 10)
            assert await file.read() == DATA[-10:]

    @pytest.mark.parametrize(("offset", "whence"), [(-1, 0), (-SIZE - 1, 2), (0, 3)])
    async def test_given_an_invalid_offset_then_it_is_refused_and_the_position_stays(
        self, stored: BackblazeStorage, offset: int, whence: int
    ) -> None:
        async with await stored.open_file("a") as file:
            await file.seek(5)
            with pytest.raises(InvalidInputError):
                await file.seek(offset, whence)
            assert await file.read(5) == DATA[5:10]

    async def test_given_a_closed_file_or_a_missing_one_then_the_error_says_so(
        self, stored: BackblazeStorage
    ) -> None:
        file = await stored.open_file("a")
        await file.aclose()
        await file.aclose()
        with pytest.raises(StorageClosedError):
            await file.read(1)
        with pytest.raises(NoSuchKeyError):
            await stored.open_file("missing")

    async def test_given_a_read_that_fails_midway_when_tried_again_then_no_byte_is_missing(
        self, settings: StorageSettings, moto_server: str
    ) -> None:
        async with FaultProxy(moto_server) as proxy:
            flaky = settings.model_copy(update={"endpoint": proxy.url, "retry_attempts": 2})
            async with BackblazeStorage(flaky) as storage:
                await storage.upload_file("a", DATA)
                async with await storage.open_file("a") as file:
                    assert await file.read(10) == DATA[:10]
                    await file.seek(SIZE // 2)
                    proxy.add(method="GET", times=1, cut="rst", at=("body", 300_000))
                    proxy.add(method="GET", status=503, code="SlowDown")
                    with pytest.raises(StorageError):
                        await file.read()
                    assert file.tell() == SIZE // 2
                    proxy.clear()
                    assert await file.read() == DATA[SIZE // 2 :]


async def test_the_late_end_of_an_http_chunk_is_not_the_end_of_the_body() -> None:
    async def slowly() -> AsyncIterator[bytes]:
        yield (
            b"HTTP/1.1 206 Partial Content\r\nTransfer-Encoding: chunked\r\n"
            b'ETag: "e"\r\nLast-Modified: Mon, 23 Nov 2026 06:48:48 GMT\r\n'
            b"Content-Range: bytes 1-8/9\r\n\r\n4\r\nrest"
        )
        await chunk_was_read.wait()
        yield b"\r\n"
        await asyncio.sleep(0)
        yield b"4\r\nmore\r\n0\r\n\r\n"

    chunk_was_read = asyncio.Event()
    async with (
        HostileServer(lambda _: slowly()) as server,
        BackblazeStorage(server.settings()) as storage,
    ):
        received = b""
        async for chunk in storage.stream_file("key", start=1):
            received += chunk
            chunk_was_read.set()
    assert received == b"restmore"
    assert len(server.asked) == 1
