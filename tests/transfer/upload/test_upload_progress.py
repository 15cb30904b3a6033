"""The progress of uploads, and exceptions of progress callbacks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from careflow_storage import BackblazeStorage, Progress, StorageSettings
from tests.support.bodies import BODIES, MIB, noise, stream
from tests.support.unfinished import unfinished_uploads

PART = 5 * MIB
SMALL = noise(50_000)
LARGE = noise(2 * PART + 1000)


@pytest.fixture
async def storage(settings: StorageSettings) -> AsyncIterator[BackblazeStorage]:
    """Whose files above 100 kB go in parts of 5 MiB."""
    small = settings.model_copy(update={"part_size": PART, "multipart_threshold": 100_000})
    async with BackblazeStorage(small) as opened:
        yield opened


class Complaint(Exception):  # noqa: N818 - it is no failure of ours
    """What a callback raises."""


@pytest.mark.parametrize("data", [b"", SMALL, LARGE], ids=["empty", "small", "large"])
async def test_given_a_callback_then_it_hears_rising_counts_and_at_last_the_whole(
    storage: BackblazeStorage, data: bytes
) -> None:
    heard: list[Progress] = []
    await storage.upload_file("a.bin", data, progress=heard.append)
    counts = [event.transferred for event in heard]
    assert counts == sorted(counts)
    assert heard[-1] == Progress(transferred=len(data), total=len(data))
    assert {event.total for event in heard} == {len(data)}


async def test_given_an_async_callback_then_it_is_awaited_and_never_called_twice_at_once(
    storage: BackblazeStorage,
) -> None:
    heard: list[int] = []
    running = 0

    async def listen(event: Progress) -> None:
        nonlocal running
        running += 1
        assert running == 1
        await asyncio.sleep(0)
        heard.append(event.transferred)
        running -= 1

    await storage.upload_file("a.bin", LARGE, progress=listen)
    assert heard == sorted(heard)
    assert heard[-1] == len(LARGE)
    assert running == 0


async def test_given_a_stream_of_unknown_length_then_the_total_is_unknown_too(
    storage: BackblazeStorage,
) -> None:
    heard: list[Progress] = []
    await storage.upload_file("a.bin", stream(LARGE, MIB), progress=heard.append)
    assert heard[-1].transferred == len(LARGE)
    assert {event.total for event in heard[:-1]} <= {None}


@pytest.mark.parametrize("kind", ["path", "file", "file in memory", "text"])
async def test_given_a_body_that_tells_its_size_then_the_total_is_known(
    storage: BackblazeStorage, kind: str, tmp_path: Path
) -> None:
    heard: list[Progress] = []
    with ExitStack() as stack:
        body = "x" * 1000 if kind == "text" else BODIES[kind](noise(1000), tmp_path, stack)
        await storage.upload_file("a.bin", body, progress=heard.append)
    assert heard[-1] == Progress(transferred=1000, total=1000)


async def test_given_an_upload_of_a_recording_then_it_tells_its_progress_too(
    storage: BackblazeStorage,
) -> None:
    heard: list[Progress] = []
    await storage.upload_recording("CA123", SMALL, "a.webm", progress=heard.append)
    assert heard[-1].transferred == len(SMALL)


@pytest.mark.parametrize("is_async", [False, True])
async def test_given_a_callback_that_raises_then_the_upload_is_aborted_and_its_exception_comes_out(
    storage: BackblazeStorage, is_async: bool
) -> None:
    complaint = Complaint("the user closed the window")

    def refuse(_: Progress) -> None:
        raise complaint

    async def refuse_later(_: Progress) -> None:
        raise complaint

    with pytest.raises(Complaint) as caught:
        await storage.upload_file("a.bin", LARGE, progress=refuse_later if is_async else refuse)
    assert caught.value is complaint
    assert not await storage.file_exists("a.bin")
    assert await unfinished_uploads(storage.settings) == []


async def test_given_a_callback_that_never_returns_when_cancelled_then_the_upload_ends(
    storage: BackblazeStorage,
) -> None:
    called = asyncio.Event()

    async def stuck(_: Progress) -> None:
        called.set()
        await asyncio.Event().wait()

    upload = asyncio.create_task(storage.upload_file("a.bin", LARGE, progress=stuck))
    await called.wait()
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    assert asyncio.all_tasks() == {asyncio.current_task()}
