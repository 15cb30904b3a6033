"""Incomplete uploads can be listed, aborted by age, or kept as a recording."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from careflow_storage.errors import (
    AccessDeniedError,
    InvalidInputError,
    NoSuchUploadError,
    ServerResponseError,
)
from careflow_storage.settings import StorageSettings
from careflow_storage.storage import BackblazeStorage
from careflow_storage.testing.proxy.proxy import FaultProxy
from tests.support.behind_proxy import storage_behind

PIECE = random.Random(4).randbytes(5 * 1024 * 1024)


@pytest.fixture
async def storage(proxy: FaultProxy, settings: StorageSettings) -> AsyncIterator[BackblazeStorage]:
    async with storage_behind(proxy, settings) as opened:
        yield opened


async def begin(
    storage: BackblazeStorage, key: str, parts: dict[int, bytes] | None = None, **headers: Any
) -> str:
    """Begin an upload as another tool does, and leave it."""
    client = await storage.client()
    where: dict[str, Any] = {"Bucket": storage.settings.bucket_name, "Key": key}
    upload_id = (await client.create_multipart_upload(**where, **headers))["UploadId"]
    for number, content in (parts or {}).items():
        await client.upload_part(**where, UploadId=upload_id, PartNumber=number, Body=content)
    return str(upload_id)


async def incomplete(storage: BackblazeStorage, prefix: str = "") -> set[tuple[str, str]]:
    found = await storage.list_incomplete_uploads(prefix)
    return {(upload.key, upload.upload_id) for upload in found}


# --- listing ------------------------------------------------------------------------------


async def list_by_prefix(storage: BackblazeStorage) -> None:
    begun = [(key, await begin(storage, key)) for key in ("a/1", "a/2", "a/2", "b", "ab")]
    assert await incomplete(storage) == set(begun)
    assert await incomplete(storage, "a/") == set(begun[:3])
    assert await incomplete(storage, "a/2") == set(begun[1:3])
    assert await incomplete(storage, "none") == set()


async def test_uploads_are_listed_by_prefix(storage: BackblazeStorage) -> None:
    await list_by_prefix(storage)


async def test_uploads_are_listed_by_prefix_on_a_real_server(
    seaweed_storage: BackblazeStorage,
) -> None:
    await list_by_prefix(seaweed_storage)
    (upload,) = await seaweed_storage.list_incomplete_uploads("b")
    age = datetime.now(UTC) - upload.initiated
    assert timedelta(seconds=-5) < age < timedelta(minutes=5)


def page(key: str, upload_id: str, following: str) -> bytes:
    return (
        f"<ListMultipartUploadsResult><IsTruncated>{str(bool(following)).lower()}</IsTruncated>"
        f"<NextKeyMarker>{following}</NextKeyMarker>"
        f"<NextUploadIdMarker>{following}</NextUploadIdMarker>"
        f"<Upload><Key>{key}</Key><UploadId>{upload_id}</UploadId>"
        "<Initiated>2026-11-23T00:00:00.000Z</Initiated></Upload></ListMultipartUploadsResult>"
    ).encode()


async def test_all_pages_of_uploads_are_read(storage: BackblazeStorage, proxy: FaultProxy) -> None:
    proxy.add(path="key-marker=two", body=page("c", "3", ""))
    proxy.add(path="key-marker=one", body=page("b", "2", "two"))
    proxy.add(operation="ListMultipartUploads", body=page("a", "1", "one"))
    assert await incomplete(storage) == {("a", "1"), ("b", "2"), ("c", "3")}


async def test_a_server_that_repeats_a_page_forever_is_not_followed(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    proxy.add(operation="ListMultipartUploads", body=page("a", "1", "one"))
    with pytest.raises(ServerResponseError, match="the same page again"):
        await storage.list_incomplete_uploads()
    assert proxy.count() == 2


async def test_a_truncated_page_without_a_next_marker_is_refused(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    body = page("a", "1", "one").replace(b"<NextKeyMarker>one</NextKeyMarker>", b"")
    proxy.add(operation="ListMultipartUploads", body=body)
    with pytest.raises(ServerResponseError, match="the same page again"):
        await storage.list_incomplete_uploads()


# --- aborting -----------------------------------------------------------------------------


async def test_aborting_an_upload_twice_is_no_error(
    storage: BackblazeStorage,
) -> None:
    upload_id = await begin(storage, "key", {1: b"part"})
    await storage.abort_upload("key", upload_id)
    assert await incomplete(storage) == set()
    await storage.abort_upload("key", upload_id)


@pytest.mark.parametrize("upload_id", ["", None, 3])
async def test_an_invalid_upload_id_is_refused(
    storage: BackblazeStorage, proxy: FaultProxy, upload_id: Any
) -> None:
    for method in (storage.abort_upload, storage.keep_incomplete_upload):
        with pytest.raises(InvalidInputError, match="upload_id"):
            await method("key", upload_id)
    assert proxy.log == []


@pytest.mark.parametrize("age", [timedelta(), timedelta(seconds=-1), 3600, None])
async def test_an_age_that_would_abort_everything_is_refused(
    storage: BackblazeStorage, proxy: FaultProxy, age: Any
) -> None:
    with pytest.raises(InvalidInputError, match="older_than"):
        await storage.abort_stale_uploads(age)
    assert proxy.log == []


def tomorrow(proxy: FaultProxy) -> None:
    """Advance the clock of the server, not ours."""
    date = format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True)
    proxy.add(operation="ListMultipartUploads", headers={"Date": date})


async def test_stale_uploads_are_those_that_are_old_by_the_servers_clock(
    seaweed_settings: StorageSettings,
) -> None:
    async with (
        FaultProxy(seaweed_settings.endpoint or "") as proxy,
        BackblazeStorage(seaweed_settings.model_copy(update={"endpoint": proxy.url})) as storage,
    ):
        begun = {(f"a/{number}", await begin(storage, f"a/{number}")) for number in range(5)}
        other = await begin(storage, "b")
        assert await storage.abort_stale_uploads(timedelta(hours=1)) == []
        tomorrow(proxy)
        assert await storage.abort_stale_uploads(timedelta(hours=25)) == []
        aborted = await storage.abort_stale_uploads(timedelta(hours=1), prefix="a/")
        assert {(upload.key, upload.upload_id) for upload in aborted} == begun
        assert await incomplete(storage) == {("b", other)}


async def test_an_upload_that_is_completed_meanwhile_is_not_counted(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    completed, stale = await begin(storage, "a"), await begin(storage, "b")
    tomorrow(proxy)
    proxy.add(operation="AbortMultipartUpload", path=completed, status=404, code="NoSuchUpload")
    aborted = await storage.abort_stale_uploads(timedelta(hours=1))
    assert [upload.upload_id for upload in aborted] == [stale]


async def test_an_upload_that_cannot_be_aborted_does_not_stop_the_others(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    locked = await begin(storage, "a")
    for key in "bcd":
        await begin(storage, key)
    tomorrow(proxy)
    proxy.add(operation="AbortMultipartUpload", path=locked, status=403, code="AccessDenied")
    with pytest.raises(AccessDeniedError) as caught:
        await storage.abort_stale_uploads(timedelta(hours=1))
    assert "3 stale uploads were aborted, 1 were not" in caught.value.__notes__[0]
    assert await incomplete(storage) == {("a", locked)}


async def test_without_the_servers_time_nothing_is_stale(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    await begin(storage, "a")
    proxy.add(operation="ListMultipartUploads", headers={"Date": None})
    with pytest.raises(ServerResponseError, match="time"):
        await storage.abort_stale_uploads(timedelta(hours=1))


# --- keeping ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "kept"),
    [
        ({1: PIECE}, PIECE),
        ({1: b"short"}, b"short"),
        ({1: PIECE, 2: PIECE[::-1], 3: b"end"}, PIECE + PIECE[::-1] + b"end"),
        ({1: PIECE, 3: PIECE}, PIECE),
        ({1: PIECE, 2: b"short", 3: PIECE}, PIECE + b"short"),
    ],
    ids=["one", "one short", "all", "gap", "short in the middle"],
)
async def test_the_parts_up_to_the_first_gap_become_a_partial_recording(
    seaweed_storage: BackblazeStorage, parts: dict[int, bytes], kept: bytes
) -> None:
    storage = seaweed_storage
    upload_id = await begin(
        storage, "key", parts, ContentType="audio/webm", Metadata={"call": "CA1"}
    )
    result = await storage.keep_incomplete_upload("key", upload_id)
    assert result.partial
    assert (result.size, result.content_type) == (len(kept), "audio/webm")
    assert await storage.get_file("key") == kept
    stored = await storage.get_file_metadata("key")
    assert stored.partial
    assert (stored.content_type, stored.metadata) == ("audio/webm", {"call": "CA1"})
    assert (stored.etag, stored.version_id) == (result.etag, result.version_id)
    assert await incomplete(storage) == set()


@pytest.mark.parametrize("parts", [{}, {2: b"second"}])
async def test_an_upload_without_its_first_part_cannot_be_kept(
    storage: BackblazeStorage, parts: dict[int, bytes]
) -> None:
    upload_id = await begin(storage, "key", parts)
    with pytest.raises(NoSuchUploadError, match="first part"):
        await storage.keep_incomplete_upload("key", upload_id)
    assert await incomplete(storage) == {("key", upload_id)}


async def test_an_upload_that_no_longer_exists_cannot_be_kept(
    seaweed_storage: BackblazeStorage,
) -> None:
    upload_id = await begin(seaweed_storage, "key", {1: b"part"})
    await seaweed_storage.abort_upload("key", upload_id)
    with pytest.raises(NoSuchUploadError):
        await seaweed_storage.keep_incomplete_upload("key", upload_id)


async def test_keeping_succeeds_despite_a_lost_response_to_complete(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    upload_id = await begin(storage, "key", {1: b"part"})
    proxy.add(operation="CompleteMultipartUpload", cut="rst", at="resp", times=1)
    proxy.add(operation="CompleteMultipartUpload", status=404, code="NoSuchUpload")
    result = await storage.keep_incomplete_upload("key", upload_id)
    assert result.size == 4
    assert await storage.get_file("key") == b"part"


async def test_keeping_the_same_upload_twice_at_once_is_harmless(
    seaweed_storage: BackblazeStorage,
) -> None:
    upload_id = await begin(seaweed_storage, "key", {1: PIECE, 2: b"end"})
    outcomes = await asyncio.gather(
        *(seaweed_storage.keep_incomplete_upload("key", upload_id) for _ in range(2)),
        return_exceptions=True,
    )
    assert [each for each in outcomes if not isinstance(each, BaseException)]
    assert await seaweed_storage.get_file("key") == PIECE + b"end"
    assert (await seaweed_storage.get_file_metadata("key")).partial


@pytest.mark.integration
async def test_a_part_that_was_sent_again_is_kept_as_it_was_sent_last(
    seaweed_storage: BackblazeStorage,
) -> None:
    # SeaweedFS lists both, ordered by their hashes. The content differs, so that both orders come.
    client = await seaweed_storage.client()
    where = {"Bucket": seaweed_storage.settings.bucket_name}
    for seed in range(8):
        last = random.Random(seed).randbytes(5 * 1024 * 1024)
        key = f"again/{seed}"
        upload_id = await begin(seaweed_storage, key, {1: last[:1000]})
        for number, content in ((1, last), (2, b"end")):
            await client.upload_part(
                **where, Key=key, UploadId=upload_id, PartNumber=number, Body=content
            )
        kept = await seaweed_storage.keep_incomplete_upload(key, upload_id)
        assert (kept.size, kept.parts) == (len(last) + 3, 2)
        assert await seaweed_storage.get_file(key) == last + b"end"
