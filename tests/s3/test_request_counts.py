"""`count_requests`: the requests of the calls within a block, and of no others."""

from __future__ import annotations

import asyncio
import contextvars
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from careflow_storage.errors import ServiceUnavailableError
from careflow_storage.settings import StorageSettings
from careflow_storage.storage import BackblazeStorage
from careflow_storage.testing.proxy.proxy import FaultProxy
from tests.support.behind_proxy import PART, storage_behind

SMALL = b"a short recording"
LARGE = bytes(3 * PART)
IN_PARTS = {"CreateMultipartUpload": 1, "UploadPart": 3, "CompleteMultipartUpload": 1}


async def test_requests_are_counted_by_operation_while_the_block_runs(
    storage: BackblazeStorage,
) -> None:
    await storage.upload_file("before", SMALL)
    with storage.count_requests() as requests:
        assert requests == {}
        await storage.upload_file("key", SMALL)
        assert requests == {"PutObject": 1}
        await storage.get_file("key")
        await storage.list_files()
    await storage.get_file("key")

    assert requests == {"PutObject": 1, "GetObject": 1, "ListObjectsV2": 1}
    assert requests.total() == 3
    assert requests["HeadObject"] == 0


async def test_every_attempt_counts_as_the_server_sees_it(
    proxy: FaultProxy, settings: StorageSettings
) -> None:
    async with storage_behind(proxy, settings) as storage:
        with storage.count_requests() as requests:
            proxy.add(times=2, status=503, code="SlowDown")
            await storage.upload_file("key", SMALL)
            proxy.add(method="HEAD", status=503)
            with pytest.raises(ServiceUnavailableError):
                await storage.get_file_metadata("key")

    assert requests == {"PutObject": 3, "HeadObject": storage.settings.retry_attempts}
    assert len(proxy.log) == requests.total()


async def test_parts_and_the_aioboto3_client_count(
    proxy: FaultProxy, settings: StorageSettings
) -> None:
    async with storage_behind(proxy, settings) as storage:
        with storage.count_requests() as requests:
            await storage.upload_file("large", LARGE)
            await storage.list_incomplete_uploads()
            await (await storage.client()).list_buckets()

    assert requests == {**IN_PARTS, "ListMultipartUploads": 1, "ListBuckets": 1}
    assert len(proxy.log) == requests.total()


async def test_blocks_of_concurrent_tasks_do_not_mix(storage: BackblazeStorage) -> None:
    every_block_open = asyncio.Barrier(3)

    async def stores(number: int) -> Counter[str]:
        with storage.count_requests() as requests:
            await every_block_open.wait()
            for turn in range(number):
                await storage.upload_file(f"{number}/{turn}", SMALL)
        return requests

    counted = await asyncio.gather(*(stores(number) for number in (1, 2, 3)))

    assert counted == [{"PutObject": number} for number in (1, 2, 3)]
    assert storage.request_counts() == {"PutObject": 6}


async def test_a_block_within_another_counts_in_both(storage: BackblazeStorage) -> None:
    with storage.count_requests() as outer:
        await storage.upload_file("key", SMALL)
        with storage.count_requests() as inner:
            await storage.get_file("key")
        await storage.get_file("key")

    assert inner == {"GetObject": 1}
    assert outer == {"PutObject": 1, "GetObject": 2}


async def test_a_block_counts_the_requests_of_its_own_storage(settings: StorageSettings) -> None:
    async with BackblazeStorage(settings) as one, BackblazeStorage(settings) as other:
        with one.count_requests() as of_one, other.count_requests() as of_other:
            await one.upload_file("key", SMALL)
            await other.get_file("key")
            await other.get_file("key")

    assert of_one == {"PutObject": 1}
    assert of_other == {"GetObject": 2}


async def test_the_clean_up_of_a_task_that_outlives_the_block_counts(
    proxy: FaultProxy, settings: StorageSettings
) -> None:
    async with storage_behind(proxy, settings) as storage:
        part = proxy.add(path="partNumber=1", cut="hang")
        with storage.count_requests() as requests:
            upload = asyncio.create_task(storage.upload_file("key", LARGE))
            await part.fired.wait()
        before = requests["AbortMultipartUpload"]
        upload.cancel()
        with pytest.raises(asyncio.CancelledError):
            await upload
        # The other requests of this task are not within.
        await storage.list_files()

    assert before == 0
    assert requests["AbortMultipartUpload"] > 0
    assert requests["ListObjectsV2"] == 0
    # Of a part that the cancellation cut off the server may not have seen all.
    received = Counter(attempt.operation for attempt in proxy.log) - Counter({"ListObjectsV2": 1})
    assert requests.keys() == received.keys()
    assert all(received[operation] <= count for operation, count in requests.items())


async def test_pages_and_chunks_count_where_they_are_read(storage: BackblazeStorage) -> None:
    await storage.upload_file("key", SMALL)
    listing, stream = storage.list_files(), storage.stream_file("key")
    with storage.count_requests() as requests:
        assert [file.key async for file in listing] == ["key"]
        assert b"".join([chunk async for chunk in stream]) == SMALL

    assert requests == {"ListObjectsV2": 1, "GetObject": 1}


async def test_a_block_that_ends_in_another_context_ends(storage: BackblazeStorage) -> None:
    async def counting() -> AsyncIterator[Counter[str]]:
        with storage.count_requests() as requests:
            yield requests

    async def step() -> Counter[str] | None:
        return await anext(fixture, None)

    # As the fixtures of a test runner are.
    fixture = counting()
    requests = await asyncio.create_task(step(), context=contextvars.Context())
    assert await asyncio.create_task(step(), context=contextvars.Context()) is None
    await storage.list_files()

    assert requests == {}


async def test_a_storage_counts_before_it_is_opened(settings: StorageSettings) -> None:
    storage = BackblazeStorage(settings)
    with storage.count_requests() as requests:
        async with storage:
            await storage.list_files()
    assert requests == {"ListObjectsV2": 1}
