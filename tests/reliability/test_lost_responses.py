"""The server did it, and the response was lost: what a replay leaves in the bucket, exactly.

On a server that keeps versions, as B2 does. What the result says is compared with what another
client finds. The numbers are those of docs/reliability.md.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from careflow_storage import BackblazeStorage, PreconditionFailedError, StorageSettings
from careflow_storage.testing.proxy.proxy import FaultProxy
from tests.support.behind_proxy import NOTHING_HELD, held, storage_behind
from tests.support.bucket import Bucket

SMALL = b"a short recording"
PART = 5 * 1024 * 1024  # a real server takes no less
LARGE = random.Random(11).randbytes(2 * PART + 7)
OLD = b"what was there before"
LOST = {"cut": "rst", "at": "resp"}


@pytest.fixture
async def proxy(seaweed_settings: StorageSettings) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(seaweed_settings.endpoint or "") as opened:
        yield opened


@pytest.fixture
async def storage(
    proxy: FaultProxy, seaweed_settings: StorageSettings
) -> AsyncIterator[BackblazeStorage]:
    async with storage_behind(
        proxy, seaweed_settings, memory_budget=4 * PART, idle_timeout=30.0
    ) as opened:
        opened.settings.__dict__.update(part_size=PART, multipart_threshold=PART)
        yield opened
        assert held(opened) == NOTHING_HELD


@pytest.fixture
def bucket(seaweed_settings: StorageSettings) -> Bucket:
    return Bucket(seaweed_settings)


def lose(proxy: FaultProxy, operation: str, times: int | None) -> Any:
    proxy.clear()
    return proxy.add(operation=operation, times=times, **LOST)


def sent(proxy: FaultProxy, operation: str) -> int:
    return sum(attempt.operation == operation for attempt in proxy.log)


@pytest.mark.parametrize("lost", [1, 3])
async def test_each_lost_response_to_a_put_leaves_one_more_version_of_the_same_bytes(
    storage: BackblazeStorage, proxy: FaultProxy, bucket: Bucket, lost: int
) -> None:
    lose(proxy, "PutObject", lost)
    result = await storage.upload_file("key", SMALL)
    history = bucket.history("key")
    assert sent(proxy, "PutObject") == lost + 1
    assert bucket.counts("key") == (lost + 1, 0)
    assert [kept.version_id for kept in history if kept.is_latest] == [result.version_id]
    assert {bucket.content("key", kept.version_id) for kept in history} == {SMALL}


async def test_with_overwrite_false_a_lost_response_to_a_put_leaves_one_version(
    storage: BackblazeStorage, proxy: FaultProxy, bucket: Bucket
) -> None:
    lose(proxy, "PutObject", 1)
    result = await storage.upload_file("key", SMALL, overwrite=False)
    (kept,) = bucket.history("key")
    assert kept.version_id == result.version_id
    with pytest.raises(PreconditionFailedError):
        await storage.upload_file("key", SMALL, overwrite=False)


@pytest.mark.parametrize("lost", [1, 3])
async def test_each_lost_response_to_a_deletion_leaves_one_more_delete_marker(
    storage: BackblazeStorage, proxy: FaultProxy, bucket: Bucket, lost: int
) -> None:
    version = bucket.put("key", OLD)
    lose(proxy, "DeleteObject", lost)
    result = await storage.delete_file("key")
    assert bucket.counts("key") == (1, lost + 1)
    (latest,) = [kept for kept in bucket.history("key") if kept.is_latest]
    assert (latest.version_id, latest.is_marker) == (result.version_id, True)
    assert (result.deleted, result.delete_marker) == (True, True)
    assert bucket.content("key", version) == OLD


async def test_a_lost_response_to_the_erasure_of_a_version_changes_nothing(
    storage: BackblazeStorage, proxy: FaultProxy, bucket: Bucket
) -> None:
    bucket.put("key", OLD)
    version = bucket.put("key", SMALL)
    lose(proxy, "DeleteObject", 1)
    result = await storage.delete_file("key", version_id=version)
    assert (result.deleted, result.version_id) == (True, version)
    assert bucket.counts("key") == (1, 0)
    assert bucket.content("key") == OLD


async def test_a_lost_response_to_many_deletions_leaves_one_more_marker_of_each_key(
    storage: BackblazeStorage, proxy: FaultProxy, bucket: Bucket
) -> None:
    keys = ["a", "b", "c"]
    for key in keys:
        bucket.put(key, OLD)
    lose(proxy, "DeleteObjects", 1)
    results = await storage.delete_files(keys)
    for key, result in zip(keys, results, strict=True):
        assert (result.key, result.deleted, result.delete_marker) == (key, True, True)
        assert bucket.counts(key) == (1, 2)
        (latest,) = [kept for kept in bucket.history(key) if kept.is_latest]
        assert latest.version_id == result.version_id


async def test_a_lost_response_to_a_purge_is_counted_and_leaves_nothing(
    storage: BackblazeStorage, proxy: FaultProxy, bucket: Bucket
) -> None:
    for body in (OLD, SMALL):
        bucket.put("key", body)
    bucket.begin_upload("key")
    lose(proxy, "DeleteObjects", 1)
    proxy.add(operation="AbortMultipartUpload", times=1, **LOST)
    result = await storage.purge_file("key")
    assert (result.versions, result.delete_markers, result.uploads) == (2, 0, 1)
    assert bucket.history("key") == []
    assert bucket.unfinished() == []


@pytest.mark.parametrize(
    ("operation", "unfinished"),
    [("CreateMultipartUpload", 1), ("UploadPart", 0), ("CompleteMultipartUpload", 0)],
)
async def test_a_lost_response_in_a_multipart_upload_leaves_one_version(
    storage: BackblazeStorage,
    proxy: FaultProxy,
    bucket: Bucket,
    caplog: pytest.LogCaptureFixture,
    operation: str,
    unfinished: int,
) -> None:
    lose(proxy, operation, 1)
    result = await storage.upload_file("key", LARGE)
    (kept,) = bucket.history("key")
    assert (kept.version_id, kept.size) == (result.version_id, len(LARGE))
    assert bucket.content("key") == LARGE
    # An empty upload without a known ID may be another writer's: it is reported, not aborted.
    left = bucket.unfinished()
    assert len(left) == unfinished
    assert all(upload_id in caplog.text for _, upload_id in left)


async def test_when_every_response_to_complete_is_lost_the_object_is_found_all_the_same(
    storage: BackblazeStorage, proxy: FaultProxy, bucket: Bucket
) -> None:
    lose(proxy, "CompleteMultipartUpload", None)
    result = await storage.upload_file("key", LARGE)
    (kept,) = bucket.history("key")
    assert kept.version_id == result.version_id
    assert bucket.content("key") == LARGE
    assert bucket.unfinished() == []


async def test_a_lost_response_to_an_abort_leaves_no_upload(
    storage: BackblazeStorage, proxy: FaultProxy, bucket: Bucket
) -> None:
    lose(proxy, "AbortMultipartUpload", 1)
    proxy.add(operation="UploadPart", path="partNumber=2", status=403, code="AccessDenied")
    with pytest.raises(PermissionError):
        await storage.upload_file("key", LARGE)
    assert bucket.unfinished() == []
    assert bucket.history("key") == []


@pytest.mark.parametrize(
    ("operation", "body", "left"),
    [
        ("PutObject", SMALL, SMALL),
        ("CreateMultipartUpload", LARGE, OLD),
        ("UploadPart", LARGE, OLD),
    ],
)
async def test_when_every_response_is_lost_the_error_comes_and_the_key_holds_all_or_nothing(
    storage: BackblazeStorage,
    proxy: FaultProxy,
    bucket: Bucket,
    operation: str,
    body: bytes,
    left: bytes,
) -> None:
    bucket.put("key", OLD)
    lose(proxy, operation, None)
    with pytest.raises(ConnectionError):
        await storage.upload_file("key", body)
    assert bucket.content("key") == left
    if operation != "CreateMultipartUpload":
        assert bucket.unfinished() == []


async def test_a_key_that_another_client_writes_right_after_us_does_not_hide_our_upload(
    storage: BackblazeStorage, proxy: FaultProxy, bucket: Bucket
) -> None:
    proxy.clear()
    committed = proxy.add(operation="CompleteMultipartUpload", times=1, **LOST)

    def another_client_writes(_: object) -> bool:
        if committed.hits and bucket.content("key") == LARGE:
            bucket.put("key", SMALL)
        return False

    proxy.add(when=another_client_writes)
    proxy.add(operation="CompleteMultipartUpload", status=404, code="NoSuchUpload")
    result = await storage.upload_file("key", LARGE)
    assert bucket.content("key") == SMALL
    assert bucket.content("key", result.version_id) == LARGE
