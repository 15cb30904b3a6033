"""The same library on another server: JuiceFS's gateway, which is strict and has no versions."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from careflow_storage import (
    BackblazeStorage,
    InvalidCredentialsError,
    NoSuchBucketError,
    NoSuchKeyError,
    PreconditionFailedError,
    ServerResponseError,
    StorageSettings,
)
from careflow_storage.testing.proxy.proxy import FaultProxy
from tests.support.behind_proxy import NOTHING_HELD, PART, held, storage_behind
from tests.support.bucket import Bucket
from tests.support.juicefs import juicefs, juicefs_settings

__all__ = ["juicefs", "juicefs_settings"]

pytestmark = pytest.mark.integration

SMALL = b"a short recording"
LARGE = random.Random(3).randbytes(3 * PART + 7)  # this server takes parts of any size


@pytest.fixture
async def proxy(juicefs_settings: StorageSettings) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(juicefs_settings.endpoint or "") as opened:
        yield opened


@pytest.fixture
async def storage(
    proxy: FaultProxy, juicefs_settings: StorageSettings
) -> AsyncIterator[BackblazeStorage]:
    async with storage_behind(proxy, juicefs_settings, idle_timeout=30.0) as opened:
        yield opened
        assert held(opened) == NOTHING_HELD


@pytest.fixture
def bucket(juicefs_settings: StorageSettings) -> Bucket:
    return Bucket(juicefs_settings)


async def chunks() -> AsyncIterator[bytes]:
    for start in range(0, len(LARGE), 70_001):
        yield LARGE[start : start + 70_001]


@pytest.mark.parametrize("checksum", ["md5", "sha256"])
@pytest.mark.parametrize("body", [b"", SMALL, LARGE], ids=["empty", "small", "large"])
async def test_what_is_uploaded_is_there_and_comes_back(
    storage: BackblazeStorage, bucket: Bucket, tmp_path: Path, body: bytes, checksum: Any
) -> None:
    result = await storage.upload_file("a/key", body, checksum=checksum, metadata={"call": "1"})
    assert (result.size, result.version_id) == (len(body), None)
    assert bucket.content("a/key") == body
    assert await storage.get_file("a/key") == body
    if body:
        assert await storage.stream_file("a/key", start=3, end=10).read() == body[3:10]
    downloaded = await storage.download_file("a/key", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == body
    # --keep-etag is the server's option: its ETags are S3's.
    assert downloaded.verified == ("composite-md5" if body is LARGE else "md5")
    found = await storage.get_file_metadata("a/key")
    assert (found.size, found.etag, found.metadata) == (len(body), result.etag, {"call": "1"})
    assert bucket.unfinished() == []


async def test_a_stream_of_unknown_size_and_a_real_recording_come_back(
    storage: BackblazeStorage, bucket: Bucket, recordings: dict[str, Path]
) -> None:
    assert (await storage.upload_file("stream", chunks())).parts == 4
    assert bucket.content("stream") == LARGE
    for name, path in recordings.items():
        result = await storage.upload_recording("CA1", path, name)
        assert await storage.get_file(result.key) == path.read_bytes()
        assert (await storage.get_file_metadata(result.key)).content_type == result.content_type


async def test_a_crc32_that_the_server_does_not_know_does_no_harm(
    storage: BackblazeStorage, bucket: Bucket
) -> None:
    await storage.upload_file("small", SMALL, checksum="crc32")
    assert bucket.content("small") == SMALL


async def test_more_than_a_page_of_keys_is_listed_in_order(
    juicefs_settings: StorageSettings,
) -> None:
    keys = [f"p/{number:04}" for number in range(1003)]
    waiting = iter(keys)
    async with BackblazeStorage(juicefs_settings) as storage:

        async def store() -> None:
            for key in waiting:
                await storage.upload_file(key, b"")

        await storage.upload_file("other", b"x")
        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(store())
        assert [file.key for file in await storage.list_files("p/")] == keys
        assert [file.key for file in await storage.list_files("p/", 3)] == keys[:3]


async def test_a_batch_of_deletions_whose_response_names_no_key_is_not_taken_for_done(
    storage: BackblazeStorage, bucket: Bucket
) -> None:
    """This server deletes, and responds with empty entries: nobody can tell what was deleted."""
    bucket.put("key", SMALL)
    with pytest.raises(ServerResponseError, match="has no Key"):
        await storage.delete_files(["key"])
    assert bucket.content("key") is None


async def test_without_versions_a_deletion_is_final_and_says_so(
    storage: BackblazeStorage, bucket: Bucket
) -> None:
    await storage.upload_file("key", SMALL)
    result = await storage.delete_file("key")
    assert (result.deleted, result.delete_marker, result.version_id) == (True, False, None)
    assert bucket.content("key") is None
    assert not await storage.file_exists("key")
    with pytest.raises(NoSuchKeyError):
        await storage.get_file("key")
    assert (await storage.delete_file("key")).deleted


async def test_overwrite_false_refuses_what_is_there(
    storage: BackblazeStorage, bucket: Bucket
) -> None:
    await storage.upload_file("key", SMALL, overwrite=False)
    for body in (b"other", LARGE):
        with pytest.raises(PreconditionFailedError):
            await storage.upload_file("key", body, overwrite=False)
    assert bucket.content("key") == SMALL


async def test_presigned_urls_are_taken_by_a_strict_server(
    storage: BackblazeStorage, bucket: Bucket, juicefs_settings: StorageSettings
) -> None:
    async with (
        BackblazeStorage(juicefs_settings) as direct,
        aiohttp.ClientSession() as browser,
    ):
        key = "CA1/ä ö+&=.wav"
        url = await direct.get_signed_url(key, method="PUT", content_type="audio/wav")
        async with browser.put(url, data=SMALL, headers={"Content-Type": "audio/wav"}) as response:
            assert response.status == 200
        url = await direct.get_signed_url(key, download_as="für Sie.wav")
        async with browser.get(url) as response:
            assert await response.read() == SMALL
            assert "f%C3%BCr" in response.headers["Content-Disposition"]
        async with browser.get(url[:-1] + ("0" if url[-1] != "0" else "1")) as response:
            assert response.status == 403


@pytest.mark.parametrize(
    "key",
    ["ä/ö ü", "a+b=c&d", "100%", "%41", "a b", "'\"<>", "emoji \U0001f399", "-_.~!*()", "@:,;$"],
)
async def test_unusual_keys_stay_as_they_are(storage: BackblazeStorage, key: str) -> None:
    await storage.upload_file(key, SMALL)
    assert await storage.get_file(key) == SMALL
    assert [file.key for file in await storage.list_files()] == [key]
    await storage.delete_file(key)
    assert await storage.list_files() == []


async def test_metadata_of_all_kinds_comes_back(storage: BackblazeStorage) -> None:
    metadata = {"agent": "Jürgen", "note": "a  b, c", "empty": "", "emoji": "\U0001f399"}
    await storage.upload_file("small", SMALL, metadata=metadata)
    await storage.upload_file("large", LARGE, metadata=metadata)
    for key in ("small", "large"):
        assert (await storage.get_file_metadata(key)).metadata == metadata


@pytest.mark.parametrize(
    "operation", ["PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"]
)
async def test_lost_responses_are_settled_though_a_second_complete_is_refused(
    storage: BackblazeStorage, proxy: FaultProxy, bucket: Bucket, operation: str
) -> None:
    rule = proxy.add(operation=operation, cut="rst", at="resp", times=1)
    body = SMALL if operation == "PutObject" else LARGE
    result = await storage.upload_file("key", body)
    assert rule.hits == 1
    assert bucket.content("key") == body
    assert (await storage.get_file_metadata("key")).etag == result.etag
    statuses = [a.status for a in proxy.log if a.operation == "CompleteMultipartUpload"]
    if operation == "CompleteMultipartUpload":
        assert statuses == [200, 404]
    if operation != "CreateMultipartUpload":
        assert bucket.unfinished() == []


async def test_a_bit_that_flips_on_the_way_up_is_refused_and_the_old_object_stays(
    storage: BackblazeStorage, proxy: FaultProxy, bucket: Bucket
) -> None:
    bucket.put("key", SMALL)
    proxy.add(method="PUT", corrupt_upload=5)
    with pytest.raises(Exception, match="BadDigest"):
        await storage.upload_file("key", b"a newer recording")
    assert bucket.content("key") == SMALL


async def test_a_download_that_breaks_goes_on_pinned_by_its_etag(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    await storage.upload_file("key", LARGE)
    proxy.clear()
    rule = proxy.add(method="GET", cut="rst", at=("body", 100_000), times=2)
    assert await storage.get_file("key") == LARGE
    assert rule.hits == 2
    gets = [attempt for attempt in proxy.log if attempt.method == "GET"]
    assert "if-match" in gets[-1].headers


async def test_wrong_keys_and_buckets_are_told_apart(juicefs_settings: StorageSettings) -> None:
    for changes, expected in (
        ({"application_key": "wrong"}, InvalidCredentialsError),
        ({"key_id": "unknown"}, InvalidCredentialsError),
        ({"bucket_name": "no-such-bucket"}, NoSuchBucketError),
    ):
        other = juicefs_settings.model_copy(update=changes)
        async with BackblazeStorage(other) as elsewhere:
            with pytest.raises(expected):
                await elsewhere.list_files()
            with pytest.raises(expected):
                await elsewhere.upload_file("key", SMALL)
