"""Downloads and listings on a bad network: the right bytes, or an error and no file."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from careflow_storage._s3.signing.signer import Credentials
from careflow_storage.errors import (
    ChecksumMismatchError,
    ConnectionFailedError,
    PreconditionFailedError,
    ServerResponseError,
    ServiceUnavailableError,
    StorageError,
    StorageTimeoutError,
)
from careflow_storage.local.client import SyncClient
from careflow_storage.settings import StorageSettings
from careflow_storage.storage import BackblazeStorage
from careflow_storage.testing.proxy.proxy import FaultProxy
from tests.support.behind_proxy import (
    NOTHING_HELD,
    PART,
    held,
    storage_behind,
    tasks_of_the_library,
)

pytestmark = pytest.mark.slow

SINGLE = random.Random(1).randbytes(PART)  # one PUT: its ETag is its MD5
COMPOSITE = random.Random(2).randbytes(3 * PART + 7)  # four parts


@pytest.fixture
async def storage(proxy: FaultProxy, settings: StorageSettings) -> AsyncIterator[BackblazeStorage]:
    async with storage_behind(proxy, settings, idle_timeout=1.0) as opened:
        for key, body in {"single": SINGLE, "composite": COMPOSITE}.items():
            await opened.upload_file(key, body)
        proxy.clear()
        yield opened
        assert held(opened) == NOTHING_HELD


@pytest.fixture
async def unversioned(
    proxy: FaultProxy, settings: StorageSettings
) -> AsyncIterator[BackblazeStorage]:
    """On a bucket without versions, as other S3 servers have them."""
    client = SyncClient(settings.endpoint or "", Credentials("test-key-id", "test-key"))
    bucket = f"{settings.bucket_name}-plain"
    assert client.create_bucket(bucket).status == 200
    async with storage_behind(proxy, settings, bucket_name=bucket) as opened:
        await opened.upload_file("single", SINGLE)
        proxy.clear()
        yield opened
        assert held(opened) == NOTHING_HELD


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("cut", ["rst", "fin", "hang"])
@pytest.mark.parametrize(("key", "body"), [("single", SINGLE), ("composite", COMPOSITE)])
async def test_a_stream_that_is_cut_goes_on_where_it_was_pinned_to_the_same_version(
    storage: BackblazeStorage, proxy: FaultProxy, key: str, body: bytes, cut: str
) -> None:
    proxy.add(method="GET", cut=cut, at=("body", 100_000), times=1)
    proxy.add(method="GET", cut=cut, at=("body", 50_000), times=1)

    assert await storage.get_file(key) == body

    version = (await storage.get_file_metadata(key)).version_id
    first, second, third = (attempt for attempt in proxy.log if attempt.method == "GET")
    assert "range" not in first.headers
    # A reset may overtake bytes that were sent before it: then they are asked for again.
    starts = [int(again.headers["range"][6:-1]) for again in (second, third)]
    assert 0 < starts[0] <= 100_000
    assert starts[0] < starts[1] <= starts[0] + 50_000
    assert all(f"versionId={version}" in again.target for again in (second, third))


async def test_without_versions_a_stream_is_pinned_by_its_etag(
    unversioned: BackblazeStorage, proxy: FaultProxy
) -> None:
    proxy.add(method="GET", cut="fin", at=("body", 100_000), times=1)
    assert await unversioned.get_file("single") == SINGLE
    etag = (await unversioned.get_file_metadata("single")).etag
    assert proxy.log[1].headers["if-match"] == f'"{etag}"'
    assert 0 < int(proxy.log[1].headers["range"][6:-1]) <= 100_000


async def test_an_object_that_is_replaced_meanwhile_is_not_mixed_with_the_new_one(
    unversioned: BackblazeStorage, proxy: FaultProxy
) -> None:
    proxy.add(method="GET", cut="fin", at=("body", 100_000), times=1)
    received = 0
    with pytest.raises(PreconditionFailedError):  # noqa: PT012 - the loop is what raises
        async for chunk in unversioned.stream_file("single"):
            if not received:
                await unversioned.upload_file("single", SINGLE[::-1])
            received += len(chunk)
    # An end of the connection may overtake bytes that came before it.
    assert 0 < received <= 100_000


async def test_a_server_that_ignores_if_match_is_noticed_by_the_etag(
    unversioned: BackblazeStorage, proxy: FaultProxy
) -> None:
    proxy.add(method="GET", cut="fin", at=("body", 100_000), times=1)
    proxy.add(method="GET", headers={"ETag": '"another"'})
    with pytest.raises(PreconditionFailedError):
        await unversioned.get_file("single")


async def test_a_version_that_is_replaced_meanwhile_is_read_to_its_end(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    proxy.add(method="GET", cut="fin", at=("body", 100_000), times=1)
    async with storage.stream_file("single") as stream:
        await storage.upload_file("single", SINGLE[::-1])
        assert await stream.read() == SINGLE


async def test_a_stream_that_gets_no_byte_any_more_gives_up(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    proxy.add(method="GET", cut="fin", at=("body", 0))
    with pytest.raises(ConnectionFailedError) as caught:
        await storage.get_file("single")
    assert caught.value.retryable
    assert proxy.count("GET") == storage.settings.retry_attempts


async def test_each_progress_begins_the_counting_of_attempts_anew(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    proxy.add(method="GET", cut="fin", at=("body", PART // 20))
    assert await storage.get_file("single") == SINGLE
    assert proxy.count("GET") >= 20 > storage.settings.retry_attempts


async def test_a_stall_ends_by_the_idle_timeout_and_the_rest_is_fetched(
    storage: BackblazeStorage, proxy: FaultProxy, tmp_path: Path
) -> None:
    proxy.add(method="GET", cut="hang", at="head", times=1)
    proxy.add(method="GET", cut="hang", at=("body", 100_000), times=1)
    begun = time.monotonic()
    await storage.download_file("composite", tmp_path / "file")
    assert time.monotonic() - begun >= 0.5
    assert (tmp_path / "file").read_bytes() == COMPOSITE


async def test_a_server_that_never_responds_ends_by_the_idle_timeout(
    proxy: FaultProxy, settings: StorageSettings
) -> None:
    proxy.add(cut="hang")
    async with storage_behind(proxy, settings, idle_timeout=0.1, retry_attempts=3) as storage:
        with pytest.raises(StorageTimeoutError) as caught:
            await storage.get_file("single")
        assert caught.value.retryable
        assert held(storage) == NOTHING_HELD
    assert proxy.count() == 3


async def test_a_slow_but_living_download_does_not_time_out(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    proxy.add(method="GET", rate=PART / 3)
    begun = time.monotonic()
    assert await storage.get_file("single") == SINGLE
    assert time.monotonic() - begun > 2 * storage.settings.idle_timeout
    assert proxy.count() == 1


@pytest.mark.parametrize("key", ["single", "composite"])
async def test_a_flipped_bit_leaves_no_file(
    storage: BackblazeStorage, proxy: FaultProxy, tmp_path: Path, key: str
) -> None:
    proxy.add(method="GET", corrupt=77_777)
    with pytest.raises(ChecksumMismatchError):
        await storage.get_file(key)
    with pytest.raises(ChecksumMismatchError):
        await storage.download_file(key, tmp_path / "file")
    assert files_in(tmp_path) == {}


async def test_a_flipped_bit_leaves_the_old_file_as_it_was(
    storage: BackblazeStorage, proxy: FaultProxy, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"precious")
    proxy.add(method="GET", corrupt=77_777)
    with pytest.raises(ChecksumMismatchError):
        await storage.download_file("single", tmp_path / "file")
    assert files_in(tmp_path) == {"file": b"precious"}


@pytest.mark.parametrize("key", ["single", "composite"])
async def test_a_short_body_with_a_length_that_agrees_is_not_taken_for_the_whole(
    storage: BackblazeStorage, proxy: FaultProxy, key: str
) -> None:
    proxy.add(method="GET", short=200_000)
    with pytest.raises((ChecksumMismatchError, ServerResponseError)):
        await storage.get_file(key)


@pytest.mark.parametrize(("key", "body"), [("single", SINGLE), ("composite", COMPOSITE)])
async def test_a_download_asks_for_what_short_responses_left_out(
    storage: BackblazeStorage, proxy: FaultProxy, tmp_path: Path, key: str, body: bytes
) -> None:
    proxy.add(method="GET", short=200_000, times=2)
    await storage.download_file(key, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == body


async def test_a_server_that_sends_only_empty_responses_is_given_up(
    storage: BackblazeStorage, proxy: FaultProxy, tmp_path: Path
) -> None:
    proxy.add(method="GET", short=0)
    async with asyncio.timeout(60):
        with pytest.raises(ServerResponseError):
            await storage.download_file("single", tmp_path / "file")
    assert proxy.count("GET") == storage.settings.retry_attempts
    assert files_in(tmp_path) == {}


@pytest.mark.parametrize(
    ("status", "content_range", "size"),
    [
        (200, None, PART),
        (206, f"bytes 0-{PART - 1}/{PART}", PART),
        (206, f"bytes 100-{PART - 1}/{PART}", PART - 100 + 50),
    ],
    ids=["whole", "other range", "too many bytes"],
)
async def test_a_server_that_ignores_or_overdoes_the_range_is_not_believed(
    storage: BackblazeStorage,
    proxy: FaultProxy,
    status: int,
    content_range: str | None,
    size: int,
) -> None:
    metadata = await storage.get_file_metadata("single")
    proxy.add(
        method="GET",
        status=status,
        body=bytes(size),
        headers={
            "ETag": f'"{metadata.etag}"',
            "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT",
            "Content-Range": content_range or "none",
        },
    )
    with pytest.raises(ServerResponseError):
        await storage.stream_file("single", start=100).read()


@pytest.mark.parametrize("fault", ["503", "rst", "precondition"])
async def test_a_download_that_fails_leaves_no_file_and_no_task(
    storage: BackblazeStorage, proxy: FaultProxy, tmp_path: Path, fault: str
) -> None:
    third = {"method": "GET", "when": lambda attempt: f"={2 * PART}-" in attempt.headers["range"]}
    if fault == "503":
        proxy.add(**third, status=503, code="SlowDown")
    elif fault == "rst":
        proxy.add(**third, cut="rst")
    else:
        proxy.add(**third, status=412, code="PreconditionFailed")
    before = tasks_of_the_library()
    with pytest.raises((ServiceUnavailableError, ConnectionFailedError, PreconditionFailedError)):
        await storage.download_file("composite", tmp_path / "file")
    assert tasks_of_the_library() == before
    assert files_in(tmp_path) == {}


@pytest.mark.parametrize("leave", ["break", "error", "async with", "never read", "aclose"])
async def test_a_stream_that_is_left_gives_its_only_slot_back_without_the_garbage_collector(
    proxy: FaultProxy, settings: StorageSettings, leave: str
) -> None:
    async with storage_behind(proxy, settings, max_connections=1, pool_timeout=30.0) as storage:
        await storage.upload_file("single", SINGLE)
        gc.disable()
        try:
            await _leave(storage, leave)
            assert await storage.get_file("single") == SINGLE
        finally:
            gc.enable()
        assert held(storage) == NOTHING_HELD


async def _leave(storage: BackblazeStorage, how: str) -> None:
    if how == "break":
        async for _ in storage.stream_file("single"):
            break
    elif how == "error":
        with contextlib.suppress(ZeroDivisionError):
            async for _ in storage.stream_file("single"):
                raise ZeroDivisionError
    elif how == "async with":
        async with storage.stream_file("single") as stream:
            async for _ in stream:
                break
    elif how == "never read":
        async with storage.stream_file("single"):
            pass
    else:
        stream = storage.stream_file("single")
        chunks = aiter(stream)
        await anext(chunks)
        await stream.aclose()


async def test_an_empty_range_requests_no_byte_and_reports_a_missing_object(
    storage: BackblazeStorage,
) -> None:
    async with storage.stream_file("single", start=5, end=5) as stream:
        assert stream.metadata.size == PART
        assert await stream.read() == b""
    with pytest.raises(FileNotFoundError):
        async with storage.stream_file("missing", start=5, end=5):
            pass


GARBAGE = [b"", b"<", b"<ListBucketResult><Contents><Key>a", b"<html/>", b"\x00\xff", b"{}"]


@pytest.mark.parametrize("body", GARBAGE, ids=["empty", "<", "cut", "html", "binary", "json"])
async def test_a_listing_that_is_garbage_is_an_error_and_never_an_empty_list(
    storage: BackblazeStorage, proxy: FaultProxy, body: bytes
) -> None:
    proxy.add(method="GET", body=body)
    with pytest.raises(ServerResponseError):
        await storage.list_files()


@pytest.mark.parametrize("fields", [{"cut": "fin", "at": ("body", 300)}, {"short": 300}])
async def test_a_listing_that_is_cut_once_is_asked_for_again(
    storage: BackblazeStorage, proxy: FaultProxy, fields: dict[str, object]
) -> None:
    proxy.add(method="GET", times=1, **fields)
    assert [file.key for file in await storage.list_files()] == ["composite", "single"]
    assert proxy.count() == 2


async def test_an_error_inside_a_200_listing_is_that_error(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    proxy.add(method="GET", body=b"<Error><Code>AccessDenied</Code></Error>")
    with pytest.raises(StorageError) as caught:
        await storage.list_files()
    assert caught.value.code == "AccessDenied"
    assert proxy.count() == 1
