"""Bounded memory: the shared budget, the sizes of parts, and the spool."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from careflow_storage import BackblazeStorage, InvalidInputError, StorageSettings
from careflow_storage._s3.responses.lengths import MAX_PARTS
from careflow_storage._transfer.bodies import growing_part, parts
from careflow_storage._transfer.bodies.memory import ByteBudget
from careflow_storage._transfer.bodies.parts import (
    MAX_OBJECT_BYTES,
    MAX_PART_BYTES,
    PartSizes,
)
from careflow_storage._transfer.upload.marker import UploadMarker
from careflow_storage.testing.proxy.proxy import FaultProxy
from tests.support import behind_proxy
from tests.support.bodies import noise, pieces, stream

MIB = 1024 * 1024
PART = 5 * MIB


@pytest.fixture
def tight(settings: StorageSettings) -> StorageSettings:
    return settings.model_copy(update={"part_size": PART, "memory_budget": 8 * MIB})


def free_bytes(storage: BackblazeStorage) -> int:
    return storage._runtime.context().budget._free


class Trickle:
    """A live call: some bytes at once, then none until it is resumed."""

    def __init__(self, first: bytes, rest: bytes) -> None:
        self._pieces = (first, rest)
        self.waiting = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._pieces[0]
        self.waiting.set()
        await self.go_on.wait()
        for start in range(0, len(self._pieces[1]), 320):
            yield self._pieces[1][start : start + 320]


async def until_free(storage: BackblazeStorage, size: int) -> None:
    async with asyncio.timeout(60):
        while free_bytes(storage) < size:  # noqa: ASYNC110 - the budget has no event for free memory
            await asyncio.sleep(0)


async def test_given_a_call_that_pauses_in_a_part_then_its_memory_is_freed(
    tight: StorageSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growing_part, "_MEMORY_SECONDS", 0.05)
    data = noise(PART + 1000)
    call = Trickle(data[:300_000], data[300_000:])
    async with BackblazeStorage(tight) as storage:
        upload = asyncio.create_task(storage.upload_file("call.webm", call))
        await call.waiting.wait()
        await until_free(storage, 8 * MIB)
        # Other transfers find all the memory they need.
        assert (await storage.upload_file("other", data)).size == len(data)
        call.go_on.set()
        result = await upload
        assert (result.size, result.parts) == (len(data), 2)
        assert await storage.get_file("call.webm") == data
        assert free_bytes(storage) == 8 * MIB


async def test_given_a_short_call_that_pauses_then_it_is_stored_whole_by_one_put(
    tight: StorageSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growing_part, "_MEMORY_SECONDS", 0.05)
    call = Trickle(b"OggS" + bytes(100), noise(100_000))
    async with BackblazeStorage(tight) as storage:
        upload = asyncio.create_task(storage.upload_recording("CA1", call, "call"))
        await call.waiting.wait()
        await until_free(storage, 8 * MIB)
        call.go_on.set()
        result = await upload
        assert (result.parts, result.content_type) == (1, "audio/ogg")
        assert await storage.get_file(result.key) == b"OggS" + bytes(100) + noise(100_000)


async def test_given_a_paused_call_when_cancelled_then_memory_and_disk_are_freed(
    tight: StorageSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(growing_part, "_MEMORY_SECONDS", 0.05)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    call = Trickle(bytes(1000), b"")
    async with BackblazeStorage(tight) as storage:
        upload = asyncio.create_task(storage.upload_file("call", call))
        await call.waiting.wait()
        await until_free(storage, 8 * MIB)
        upload.cancel()
        with pytest.raises(asyncio.CancelledError):
            await upload
        assert free_bytes(storage) == 8 * MIB
        assert not await storage.file_exists("call")
    assert os.listdir(tmp_path) == []  # noqa: PTH208


async def test_given_no_free_memory_then_a_stream_is_spooled_to_the_disk(
    tight: StorageSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growing_part, "_MEMORY_SECONDS", 0.05)
    data = noise(2 * PART + 7)

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 700_000):
            yield data[start : start + 700_000]

    async with BackblazeStorage(tight) as storage:
        budget = storage._runtime.context().budget
        held = await budget.acquire(8 * MIB)
        result = await storage.upload_file("a", chunks(), checksum="crc32")
        assert result.parts == 3
        budget.release(held)
        assert await storage.get_file("a") == data


@pytest.mark.parametrize("kind", ["path", "stream"])
async def test_given_parts_larger_than_the_budget_then_they_are_sent_from_the_disk(
    settings: StorageSettings, tmp_path: Path, kind: str
) -> None:
    large = settings.model_copy(update={"part_size": 9 * MIB, "memory_budget": 8 * MIB})
    data = noise(20 * MIB)
    path = tmp_path / "call.wav"
    path.write_bytes(data)

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(data), MIB):
            yield data[start : start + MIB]

    async with BackblazeStorage(large) as storage:
        result = await storage.upload_file("a", path if kind == "path" else chunks())
        assert (result.parts, result.size) == (3, len(data))
        assert await storage.get_file("a") == data


class TestBudget:
    @given(
        total=st.integers(1, 100),
        steps=st.lists(st.tuples(st.integers(1, 150), st.integers(0, 2)), max_size=30),
    )
    @profile(deadline=None)
    def test_the_budget_is_never_exceeded_whatever_is_requested_or_cancelled(
        self, total: int, steps: list[tuple[int, int]]
    ) -> None:
        async def run() -> None:
            budget = ByteBudget(total)
            tasks: list[asyncio.Task[int]] = []
            for size, action in steps:
                tasks.append(asyncio.create_task(budget.acquire(size)))
                await asyncio.sleep(0)
                if action == 1:
                    tasks[len(tasks) // 2].cancel()
                elif action == 2 and tasks[0].done() and not tasks[0].cancelled():
                    budget.release(tasks.pop(0).result())
                assert 0 <= budget._free <= total
            # Every waiter is served or cancelled: each round wakes at least the next one.
            for _ in range(3 * len(steps) + 3):
                for task in [task for task in tasks if task.done()]:
                    tasks.remove(task)
                    if not task.cancelled():
                        budget.release(task.result())
                await asyncio.sleep(0)
            assert tasks == []
            assert budget._free == total

        asyncio.run(run())

    async def test_given_a_waiter_cancelled_when_its_share_is_granted_then_the_share_is_released(
        self,
    ) -> None:
        budget = ByteBudget(10)
        held = await budget.acquire(10)
        waiter = asyncio.create_task(budget.acquire(10))
        await asyncio.sleep(0)
        waiter.cancel()
        budget.release(held)
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert await budget.acquire(10) == 10

    async def test_given_spare_buffers_then_they_count_and_are_freed_at_the_end(self) -> None:
        budget = ByteBudget(3 * MIB)
        shares = [await budget.acquire(MIB) for _ in range(3)]
        buffers = [budget.take_buffer(MIB) for _ in shares]
        budget.give_buffer(buffers[0])
        budget.release(shares[0])
        assert len(budget._spare) == 1
        await budget.acquire(MIB)
        assert budget.take_buffer(MIB) is buffers[0]
        for share, buffer in zip(shares, buffers, strict=True):
            budget.give_buffer(buffer)
            budget.release(share)
        assert budget._spare == []


class TestPartSizes:
    @given(st.integers(0, MAX_OBJECT_BYTES), st.integers(5 * MIB, 5_000_000_000))
    def test_an_object_of_known_size_fits_into_ten_thousand_equal_parts(
        self, total: int, smallest: int
    ) -> None:
        sizes = PartSizes(smallest, total)
        assert smallest <= sizes.size_of(1) <= MAX_PART_BYTES
        assert sizes.size_of(1) == sizes.size_of(MAX_PARTS)
        assert sizes.size_of(1) * MAX_PARTS >= total

    @given(st.integers(8 * MIB, 5_000_000_000))
    def test_a_stream_of_unknown_size_reaches_ten_terabytes(self, smallest: int) -> None:
        sizes = PartSizes(smallest, None)
        every = [sizes.size_of(number) for number in range(1, MAX_PARTS + 1)]
        assert every == sorted(every)
        assert every[-1] <= MAX_PART_BYTES
        assert sum(every) >= MAX_OBJECT_BYTES

    @pytest.mark.parametrize(
        ("smallest", "total", "expected"),
        [
            (5 * MIB, 0, 5 * MIB),
            (5 * MIB, 50_000 * MIB, 5 * MIB),
            (5 * MIB, 50_000 * MIB + 1, 6 * MIB),
            (8 * MIB, 80_000 * MIB, 8 * MIB),
            (8 * MIB, 80_000 * MIB + 1, 9 * MIB),
            (8 * MIB, 5 * 2**40, 525 * MIB),
            (8 * MIB, 10_000_000_000_000, 954 * MIB),
            (1_000_000_000, 10_000_000_000_000, 1_000_000_000),
            (5_000_000_000, 10_000_000_000_000, 5_000_000_000),
        ],
    )
    def test_parts_of_a_known_size_are_the_smallest_that_suffice(
        self, smallest: int, total: int, expected: int
    ) -> None:
        sizes = PartSizes(smallest, total)
        assert [sizes.size_of(number) for number in (1, 901, 10_000)] == [expected] * 3

    @pytest.mark.parametrize(
        ("number", "expected"),
        [
            (1, 8 * MIB),
            (900, 8 * MIB),
            (901, 16 * MIB),
            (1800, 16 * MIB),
            (1801, 32 * MIB),
            (9000, 4096 * MIB),
            (9001, 5_000_000_000),
            (10_000, 5_000_000_000),
        ],
    )
    def test_parts_of_a_stream_double_every_900_parts(self, number: int, expected: int) -> None:
        # Later versions must find the same parts: upload markers hold only the first size.
        assert PartSizes(8 * MIB, None).size_of(number) == expected

    def test_ten_thousand_growing_parts_hold_more_than_five_tebibytes(self) -> None:
        sizes = PartSizes(5 * MIB, None)
        assert sum(map(sizes.size_of, range(1, 10_001))) >= 5 * 2**40

    def test_more_than_b2_can_hold_is_refused(self) -> None:
        with pytest.raises(InvalidInputError, match="10000000000000"):
            PartSizes(8 * MIB, MAX_OBJECT_BYTES + 1)

    @given(st.integers(5 * MIB, 5_000_000_000), st.booleans())
    def test_the_upload_marker_holds_the_part_sizes(self, smallest: int, growing: bool) -> None:
        mark = UploadMarker.new(PartSizes(smallest, None if growing else 0))
        read = UploadMarker.parse(str(mark))
        assert read is not None
        assert [read.sizes.size_of(n) for n in (1, 901, 10_000)] == [
            mark.sizes.size_of(n) for n in (1, 901, 10_000)
        ]

    @pytest.mark.parametrize("text", [None, "", "x", "0" * 32, f"{'0' * 32}-0", f"{'G' * 32}-1"])
    def test_a_foreign_upload_marker_is_ignored(self, text: str | None) -> None:
        assert UploadMarker.parse(text) is None


@pytest.mark.parametrize("live", [False, True])
async def test_the_parts_of_a_stream_double(
    proxy: FaultProxy, settings: StorageSettings, monkeypatch: pytest.MonkeyPatch, live: bool
) -> None:
    monkeypatch.setattr(parts, "_GROWTH_STEP", 2)
    part = behind_proxy.PART
    data, key = noise(7 * part), "key"
    async with behind_proxy.storage_behind(proxy, settings) as storage:
        if live:
            async with storage.open_recording("CA1", "a.ogg") as writer:
                for chunk in pieces(data):
                    await writer.write(chunk)
            key = writer.key
        else:
            await storage.upload_file(key, stream(data))
        sent = [one.headers["content-length"] for one in proxy.log if one.operation == "UploadPart"]
        assert sorted(map(int, sent)) == [part, part, part, 2 * part, 2 * part]
        assert await storage.get_file(key) == data
