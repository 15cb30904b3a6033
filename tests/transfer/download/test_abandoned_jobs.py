"""Jobs in threads whose outcome a failed download does not need: asyncio reports none of them."""

from __future__ import annotations

import asyncio
import errno
import gc
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from unittest import mock

import pytest

from careflow_storage import BackblazeStorage, StorageClosedError, StorageSettings
from careflow_storage._transfer.download.file import RANGE_MEMORY, RangeStore
from careflow_storage._transfer.download.partial_file import PartialFile
from careflow_storage._transfer.progress import Meter
from careflow_storage._transfer.threads import Threads
from careflow_storage.errors import ConnectionFailedError
from tests.support.bodies import MIB, noise

DATA = noise(8 * MIB)
READERS = 4


@pytest.fixture(autouse=True)
def _nothing_is_reported(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    gc.collect()
    assert "never retrieved" not in caplog.text


@pytest.fixture
async def in_one_piece(settings: StorageSettings) -> StorageSettings:
    """Settings of a bucket with `DATA` under "a", which its MD5 verifies."""
    whole = settings.model_copy(update={"multipart_threshold": 16 * MIB})
    async with BackblazeStorage(whole) as storage:
        await storage.upload_file("a", DATA)
    return whole


@pytest.mark.parametrize("chunks", [5, 10, 20, 40])
async def test_given_streams_that_are_read_when_the_storage_is_closed(
    in_one_piece: StorageSettings, chunks: int
) -> None:
    received, enough = 0, asyncio.Event()

    async def read(storage: BackblazeStorage) -> None:
        nonlocal received
        async for _ in storage.stream_file("a"):
            received += 1
            if received >= chunks:
                enough.set()

    async with BackblazeStorage(in_one_piece) as storage:
        readers = [asyncio.create_task(read(storage)) for _ in range(READERS)]
        await enough.wait()
    for outcome in await asyncio.gather(*readers, return_exceptions=True):
        assert outcome is None or isinstance(outcome, StorageClosedError)


async def test_given_a_system_without_threads_when_a_stream_is_left(
    in_one_piece: StorageSettings,
) -> None:
    refused: list[str] = []
    start = threading.Thread.start

    def refuse_ours(thread: threading.Thread) -> None:
        if not thread.name.startswith("careflow-storage"):
            return start(thread)  # The server of this test has threads, too.
        refused.append(thread.name)
        raise RuntimeError("can't start new thread")

    async with BackblazeStorage(in_one_piece) as storage:
        received = 0
        with mock.patch.object(threading.Thread, "start", refuse_ours):
            async with aclosing(aiter(storage.stream_file("a"))) as chunks:
                while received < MIB:
                    received += len(await anext(chunks))
    assert refused


async def test_given_a_full_disk_when_the_download_breaks_off() -> None:
    writing, broken = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def fail(*_: object) -> None:
        loop.call_soon_threadsafe(writing.set)
        broken.wait(60)
        raise OSError(errno.ENOSPC, "No space left on device")

    file = mock.create_autospec(PartialFile, instance=True)
    file.write_at.side_effect = fail
    threads = Threads()
    store = RangeStore(file, threads, memoryview(bytearray(RANGE_MEMORY)), 0, hashed=False)

    async def blocks() -> AsyncGenerator[memoryview | bytes]:
        yield await store.free()
        await writing.wait()
        broken.set()
        raise ConnectionFailedError("The connection broke off.")

    with pytest.raises(ConnectionFailedError):
        await store.fill_from(blocks(), Meter(None))
    await threads.close()
