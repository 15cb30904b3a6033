"""Copies between two storages: complete, verified, as cheap as they can be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from careflow_storage import (
    AccessDeniedError,
    BackblazeStorage,
    ChecksumMismatchError,
    CustomerKey,
    InvalidInputError,
    NoSuchBucketError,
    NoSuchKeyError,
    PreconditionFailedError,
    Retention,
    StorageClosedError,
    StorageSettings,
    StorageTimeoutError,
)
from careflow_storage.testing.proxy.rule import Attempt
from tests.support.behind_proxy import PART
from tests.support.bodies import noise
from tests.support.bucket import Bucket
from tests.support.juicefs import juicefs, juicefs_settings
from tests.support.two_storages import Pair, opened, pair, two_servers

__all__ = ["juicefs", "juicefs_settings", "pair", "two_servers"]

MIB = 1024 * 1024
BODIES = {
    "empty": b"",
    "one byte": b"x",
    "small": noise(10_000),
    "streamed": noise(290_000),
    "one PUT exactly": noise(PART),
    "two parts": noise(PART + 1),
    "parts exactly": noise(3 * PART),
    "large": noise(4 * PART + 7),
}
LARGE = BODIES["large"]
OTHER = LARGE[::-1]


async def upload_all(storage: BackblazeStorage, key: str, body: bytes) -> None:
    await storage.upload_file(
        key,
        body,
        "audio/webm",
        metadata={"who": "größe", "call": "CA1"},
        cache_control="no-store",
        content_disposition="inline",
    )


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
@pytest.mark.parametrize("whole", [False, True], ids=["as it was uploaded", "stored with one PUT"])
async def test_a_copy_has_the_bytes_and_headers_of_its_source(
    pair: Pair, body: bytes, whole: bool
) -> None:
    threshold = 1 << 30 if whole else PART
    async with opened(pair.source.settings, multipart_threshold=threshold) as storage:
        await upload_all(storage, "a/ä +&%41.webm", body)
    result = await pair.target.copy_from(pair.source, "a/ä +&%41.webm", "b/ü.webm")
    assert pair.copied("b/ü.webm") == body
    source = await pair.source.get_file_metadata("a/ä +&%41.webm")
    copy = await pair.target.get_file_metadata("b/ü.webm")
    changed = {"key", "etag", "version_id", "last_modified"}
    assert copy.model_dump(exclude=changed) == source.model_dump(exclude=changed)
    assert copy.metadata == {"who": "größe", "call": "CA1"}
    assert (result.key, result.size, result.etag) == ("b/ü.webm", len(body), copy.etag)
    assert (result.bucket, result.version_id) == (pair.target_server.bucket, copy.version_id)
    assert result.content_type == "audio/webm"
    if not whole or len(body) <= PART:
        assert copy.etag == source.etag
    pair.assert_nothing_left()


async def test_the_key_stays_unless_another_one_is_given(pair: Pair) -> None:
    await pair.store("a/b", b"x")
    assert (await pair.target.copy_from(pair.source, "a/b")).key == "a/b"
    assert pair.copied("a/b") == b"x"


COSTS: dict[str, tuple[int, dict[str, int], dict[str, int]]] = {
    "small": (10_000, {"GetObject": 1}, {"PutObject": 1}),
    "of one PUT": (PART, {"GetObject": 1}, {"PutObject": 1}),
    "of 3 parts": (
        2 * PART + 1,
        {"GetObject": 4},
        {"CreateMultipartUpload": 1, "UploadPart": 3, "CompleteMultipartUpload": 1},
    ),
}


@pytest.mark.parametrize(("size", "reads", "writes"), COSTS.values(), ids=COSTS.keys())
async def test_a_copy_costs_no_more_requests_than_it_needs(
    pair: Pair, size: int, reads: dict[str, int], writes: dict[str, int]
) -> None:
    await pair.store("key", noise(size))
    async with opened(pair.source.settings) as source:
        await pair.target.copy_from(source, "key")
        assert (source.request_counts(), pair.target.request_counts()) == (reads, writes)


async def test_what_is_given_replaces_what_the_source_has(pair: Pair) -> None:
    await upload_all(pair.source, "key", b"x")
    await pair.target.copy_from(
        pair.source,
        "key",
        content_type="audio/ogg",
        metadata={"new": "1"},
        cache_control="max-age=60",
        content_disposition="attachment",
        checksum="sha256",
    )
    found = await pair.target.get_file_metadata("key")
    assert (found.content_type, found.metadata) == ("audio/ogg", {"new": "1"})
    assert (found.cache_control, found.content_disposition) == ("max-age=60", "attachment")


async def test_a_partial_recording_stays_one(pair: Pair) -> None:
    async with pair.source.open_recording("CA1", "call.webm") as writer:
        await writer.write(b"half a call")
        writer.mark_partial("the line went dead")
    key = writer.result.key
    assert (await pair.target.copy_from(pair.source, key, metadata={})).partial
    assert (await pair.target.get_file_metadata(key)).partial


@pytest.mark.parametrize("body", [b"x" * 1000, LARGE], ids=["small", "large"])
async def test_the_etag_of_the_source_is_stamped_and_never_that_of_its_source(
    pair: Pair, body: bytes
) -> None:
    await pair.store("key", body, metadata={"a": "b", "careflow-source-etag": "of an old copy"})
    etag = (await pair.source.get_file_metadata("key")).etag
    await pair.target.copy_from(pair.source, "key", stamp_source_etag=True)
    found = await pair.target.get_file_metadata("key")
    assert found.metadata == {"a": "b", "careflow-source-etag": etag}
    await pair.target.copy_from(pair.source, "key")
    assert (await pair.target.get_file_metadata("key")).metadata == {"a": "b"}


async def test_an_older_version_can_be_copied(pair: Pair) -> None:
    old = await pair.store("key", b"old")
    await pair.store("key", b"new")
    await pair.source.delete_file("key")
    await pair.target.copy_from(pair.source, "key", version_id=old.version_id)
    assert pair.copied("key") == b"old"
    with pytest.raises(NoSuchKeyError) as caught:
        await pair.target.copy_from(pair.source, "key")
    assert (caught.value.method, caught.value.operation) == ("copy_from", "GetObject")
    assert (caught.value.bucket, caught.value.key) == (pair.source_server.bucket, "key")


@pytest.mark.parametrize("body", [b"x" * 1000, noise(290_000), LARGE], ids=["1", "2", "3"])
async def test_progress_ends_with_all_bytes(pair: Pair, body: bytes) -> None:
    await pair.store("key", body)
    seen: list[int] = []
    await pair.target.copy_from(
        pair.source, "key", progress=lambda event: seen.append(event.transferred)
    )
    assert seen == sorted(set(seen))
    assert seen[-1] == len(body)


# --- what is there already -----------------------------------------------------------------


@pytest.mark.parametrize("body", [b"x", LARGE], ids=["small", "large"])
async def test_an_existing_file_is_replaced_refused_or_returned(pair: Pair, body: bytes) -> None:
    await pair.store("key", body)
    theirs = await pair.target.upload_file("key", b"theirs")
    reads = pair.source.request_counts()
    with pytest.raises(PreconditionFailedError):
        await pair.target.copy_from(pair.source, "key", if_exists="error")
    same = await pair.target.copy_from(pair.source, "key", if_exists="return")
    assert (same.etag, same.version_id, same.reused) == (theirs.etag, theirs.version_id, 6)
    assert pair.source.request_counts() == reads
    assert pair.copied("key") == b"theirs"
    await pair.target.copy_from(pair.source, "key")
    assert pair.copied("key") == body
    for if_exists in ("error", "return"):
        await pair.target.copy_from(pair.source, "key", f"new {if_exists}", if_exists=if_exists)
        assert pair.copied(f"new {if_exists}") == body


# --- damage and change ---------------------------------------------------------------------


@pytest.mark.parametrize("body", [noise(1000), noise(290_000), LARGE], ids=["1", "2", "3"])
@pytest.mark.parametrize("whole", [False, True], ids=["as it was uploaded", "stored with one PUT"])
async def test_a_bit_that_flips_on_the_way_from_the_source_is_never_stored(
    pair: Pair, body: bytes, whole: bool
) -> None:
    await (pair.store_whole if whole else pair.store)("key", body)
    # Of a large object in its third part.
    start = f"bytes={2 * PART}-" if len(body) > PART else "bytes=0-"
    pair.source_server.faults.always(
        "GetObject", when=lambda attempt: attempt.headers["range"].startswith(start), corrupt=7
    )
    with pytest.raises(ChecksumMismatchError) as caught:
        await pair.target.copy_from(pair.source, "key")
    assert caught.value.operation == "GetObject"
    assert caught.value.bucket == pair.source_server.bucket
    pair.assert_nothing_left("key")


@pytest.mark.parametrize("body", [noise(1000), noise(290_000), LARGE], ids=["1", "2", "3"])
async def test_a_bit_that_flips_on_the_way_to_the_target_is_never_stored(
    pair: Pair, body: bytes
) -> None:
    await pair.store("key", body)
    pair.target_server.faults.always("PutObject", corrupt_upload=7)
    pair.target_server.faults.always("UploadPart", corrupt_upload=7)
    with pytest.raises(ChecksumMismatchError):
        await pair.target.copy_from(pair.source, "key")
    pair.assert_nothing_left("key")


async def test_broken_connections_and_busy_servers_are_survived(pair: Pair) -> None:
    await pair.store("key", LARGE)
    pair.source_server.faults.next("GetObject", status=503, code="SlowDown")
    pair.source_server.faults.next("GetObject", cut="rst", at=("body", 100_000), times=2)
    pair.target_server.faults.next("UploadPart", cut="rst", at=("req", 50_000))
    pair.target_server.faults.next("UploadPart", status=503, code="ServiceUnavailable")
    pair.target_server.faults.next("CompleteMultipartUpload", cut="rst", at="resp")
    await pair.target.copy_from(pair.source, "key")
    assert pair.copied("key") == LARGE
    assert len(pair.target_server.versions("key")) == 1
    pair.assert_nothing_left()


async def test_a_vault_that_stays_busy_gets_a_new_upload(pair: Pair) -> None:
    await pair.store("key", LARGE)
    first: list[str] = []

    def of_the_first_upload(attempt: Attempt) -> bool:
        upload_id = attempt.target.partition("uploadId=")[2]
        first[:] = first or [upload_id]
        return upload_id == first[0]

    pair.target_server.faults.always(
        "UploadPart", when=of_the_first_upload, status=503, code="ServiceUnavailable"
    )
    await pair.target.copy_from(pair.source, "key")
    assert pair.copied("key") == LARGE
    pair.assert_nothing_left()


def after_reads(pair: Pair, count: int, do: Any) -> None:
    """Do something in the middle of a copy: when the source gets its request ``count`` + 1."""
    left = count

    def when(_attempt: Attempt) -> bool:
        nonlocal left
        left -= 1
        if left == -1:
            do()
        return False

    pair.source_server.faults.always("GetObject", when=when)


async def test_a_source_that_is_overwritten_meanwhile_is_copied_as_it_was(pair: Pair) -> None:
    await pair.store("key", LARGE)
    copying = asyncio.Event()
    loop = asyncio.get_running_loop()
    after_reads(pair, 2, lambda: loop.call_soon_threadsafe(copying.set))
    copy = asyncio.create_task(pair.target.copy_from(pair.source, "key"))
    await copying.wait()
    await pair.store("key", OTHER)
    await copy
    assert pair.copied("key") == LARGE


async def test_a_source_that_is_erased_meanwhile_is_an_error_and_leaves_nothing(pair: Pair) -> None:
    await pair.store("key", LARGE)
    store = pair.source_server._in_service().store
    version = pair.source_server.versions("key")[0].version_id
    after_reads(pair, 2, lambda: store.delete(pair.source_server.bucket, "key", version))
    for resume in (False, True):
        with pytest.raises(NoSuchKeyError) as caught:
            await pair.target.copy_from(pair.source, "key", resume=resume)
        assert (caught.value.bucket, caught.value.key) == (pair.source_server.bucket, "key")
        pair.assert_nothing_left("key")


@pytest.mark.integration
async def test_a_source_that_is_replaced_where_there_are_no_versions_is_an_error(
    pair: Pair, juicefs_settings: StorageSettings
) -> None:
    bucket = Bucket(juicefs_settings)

    def replace(_attempt: Attempt) -> bool:
        bucket.put("key", OTHER)
        return False

    async with (
        opened(juicefs_settings) as source,
        opened(pair.target.settings, transfer_concurrency=1) as target,
    ):
        await source.upload_file("key", LARGE)
        pair.target_server.faults.always("UploadPart", when=replace)
        with pytest.raises(PreconditionFailedError) as caught:
            await target.copy_from(source, "key")
        assert caught.value.bucket == source.settings.bucket_name
    pair.assert_nothing_left("key")


# --- protection ----------------------------------------------------------------------------

SOON = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)
LATER = SOON + timedelta(days=300)


@pytest.mark.parametrize("body", [b"x" * 1000, LARGE], ids=["small", "large"])
async def test_locks_are_left_kept_or_set(pair: Pair, body: bytes) -> None:
    await pair.source.admin.set_object_lock()
    await pair.target.admin.set_object_lock()
    lock = Retention(mode="governance", retain_until=SOON)
    await pair.store("key", body, retention=lock, legal_hold=True)

    async def copied(**options: Any) -> tuple[Retention | None, bool]:
        await pair.target.copy_from(pair.source, "key", **options)
        found = await pair.target.get_file_metadata("key")
        return found.retention, found.legal_hold

    assert await copied() == (None, False)
    assert await copied(retention="keep", legal_hold="keep") == (lock, True)
    assert await copied(retention="keep") == (lock, False)
    longer = Retention(mode="governance", retain_until=LATER)
    assert await copied(retention=longer, legal_hold="keep") == (longer, True)
    await pair.store("key", body)
    assert await copied(retention="keep", legal_hold="keep") == (None, False)
    assert await copied(legal_hold=True) == (None, True)


@pytest.mark.parametrize("body", [b"x" * 1000, LARGE], ids=["small", "large"])
async def test_objects_with_customers_keys_are_copied(pair: Pair, body: bytes) -> None:
    old, new = CustomerKey.generate(), CustomerKey.generate()
    await pair.store("key", body, encryption=old)
    with pytest.raises(AccessDeniedError):
        await pair.target.copy_from(pair.source, "key")
    await pair.target.copy_from(pair.source, "key", source_encryption=old, encryption=new)
    assert await pair.target.get_file("key", encryption=new) == body
    await pair.target.copy_from(pair.source, "key", source_encryption=old)
    assert await pair.target.get_file("key") == body
    await pair.target.copy_from(pair.target, "key", "again", encryption=new)
    assert await pair.target.get_file("again", encryption=new) == body


# --- two storages --------------------------------------------------------------------------


async def test_a_closed_storage_on_either_side_is_an_error(pair: Pair) -> None:
    async with opened(pair.source.settings) as source, opened(pair.target.settings) as target:
        await source.upload_file("key", b"x")
    for storages in ((pair.target, source), (target, pair.source)):
        with pytest.raises(StorageClosedError):
            await storages[0].copy_from(storages[1], "key")


@pytest.mark.parametrize("closed", ["source", "target"])
@pytest.mark.parametrize("body", [noise(1000), LARGE], ids=["small", "large"])
async def test_closing_either_storage_ends_a_copy_cleanly(
    pair: Pair, closed: str, body: bytes
) -> None:
    await pair.store("key", body)
    async with opened(pair.source.settings) as source, opened(pair.target.settings) as target:
        waits = pair.source_server.faults.always("GetObject", cut="hang", at=("body", 500))
        copy = asyncio.create_task(target.copy_from(source, "key"))
        await waits.fired.wait()
        await (source if closed == "source" else target).close()
        with pytest.raises(StorageClosedError):
            await copy
    pair.assert_nothing_left("key")


async def test_a_timeout_ends_a_copy_cleanly(pair: Pair) -> None:
    await pair.store("key", LARGE)
    pair.target_server.faults.always("UploadPart", cut="hang")
    with pytest.raises(StorageTimeoutError):
        await pair.target.copy_from(pair.source, "key", timeout=0.3)
    pair.target_server.faults.clear()
    pair.assert_nothing_left("key")


@pytest.mark.parametrize("slots", [1, 2])
async def test_copies_in_both_directions_never_wait_for_each_other(pair: Pair, slots: int) -> None:
    tight: dict[str, Any] = {"max_connections": slots, "memory_budget": PART, "pool_timeout": 60.0}
    async with (
        opened(pair.source.settings, **tight) as one,
        opened(pair.target.settings, **tight) as other,
    ):
        bodies = [noise(1000), noise(290_000), LARGE]
        for number, body in enumerate(bodies):
            await one.upload_file(f"one/{number}", body)
            await other.upload_file(f"other/{number}", body)
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            for number in [0, 1, 2, 2, 1, 0]:
                group.create_task(other.copy_from(one, f"one/{number}"))
                group.create_task(one.copy_from(other, f"other/{number}"))
        for number, body in enumerate(bodies):
            assert await other.get_file(f"one/{number}") == body
            assert await one.get_file(f"other/{number}") == body


async def test_many_copies_stay_within_the_memory_budget(pair: Pair) -> None:
    await pair.store("key", LARGE)
    budget = pair.target._runtime.context().budget
    seen: list[int] = []
    async with asyncio.TaskGroup() as group:
        for number in range(8):
            group.create_task(
                pair.target.copy_from(
                    pair.source,
                    "key",
                    f"copy {number}",
                    progress=lambda _: seen.append(budget._free),
                )
            )
    assert seen
    assert min(seen) >= 0
    for number in range(8):
        assert pair.copied(f"copy {number}") == LARGE


# --- bad input -----------------------------------------------------------------------------

BAD: dict[str, dict[str, Any]] = {
    "a key with a line break": {"key": "a\nb"},
    "a target key with a line break": {"to_key": "a\nb"},
    "an empty target key": {"to_key": ""},
    "an empty version": {"version_id": ""},
    "no storage": {"other": "recordings"},
    "an unknown if_exists": {"if_exists": "skip"},
    "an unknown retention": {"retention": "forever"},
    "metadata that is none": {"metadata": "a=b"},
    "a content type that cannot be sent": {"content_type": "a\nb"},
    "resuming with a customer's key": {"resume": True, "encryption": CustomerKey.generate()},
    "a timeout of zero": {"timeout": 0},
    "a timeout that no float can be": {"timeout": 10**400},
    "a progress that is no function": {"progress": "print"},
}


@pytest.mark.parametrize("given", BAD.values(), ids=BAD.keys())
async def test_bad_input_is_refused_before_any_request(pair: Pair, given: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError) as caught:
        await pair.target.copy_from(**{"other": pair.source, "key": "key", **given})
    assert caught.value.method == "copy_from"
    assert pair.counts() == ({}, {})


async def test_a_target_that_refuses_is_reported_as_the_target(pair: Pair) -> None:
    await pair.store("key", b"x")
    settings = pair.target.settings.model_copy(update={"bucket_name": "no-such-bucket"})
    async with BackblazeStorage(settings) as nowhere:
        with pytest.raises(NoSuchBucketError) as caught:
            await nowhere.copy_from(pair.source, "key")
    assert (caught.value.operation, caught.value.bucket) == ("PutObject", "no-such-bucket")


# --- a real server -------------------------------------------------------------------------


@pytest.fixture
async def seaweed(seaweed_settings: StorageSettings) -> AsyncIterator[BackblazeStorage]:
    async with opened(
        seaweed_settings, part_size=5 * MIB, multipart_threshold=5 * MIB, memory_budget=20 * MIB
    ) as storage:
        yield storage


@pytest.mark.integration
@pytest.mark.parametrize("body", [b"", noise(1000), noise(11 * MIB + 5)], ids=["0", "1", "3"])
async def test_a_real_server_is_a_source_and_a_target(
    pair: Pair, seaweed: BackblazeStorage, body: bytes
) -> None:
    await upload_all(seaweed, "a/ä +&%41.webm", body)
    async with opened(pair.target.settings, memory_budget=20 * MIB) as target:
        out = await target.copy_from(seaweed, "a/ä +&%41.webm")
        assert pair.copied("a/ä +&%41.webm") == body
        back = await seaweed.copy_from(target, "a/ä +&%41.webm", "b/ü.webm")
    assert await seaweed.get_file("b/ü.webm") == body
    found = await seaweed.get_file_metadata("b/ü.webm")
    assert found.metadata == {"who": "größe", "call": "CA1"}
    assert (found.content_type, found.cache_control) == ("audio/webm", "no-store")
    assert out.etag == back.etag == (await seaweed.get_file_metadata("a/ä +&%41.webm")).etag
