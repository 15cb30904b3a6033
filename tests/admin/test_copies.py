"""Copies and moves on the server: the very version, all of its metadata, verified."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from careflow_storage import (
    AccessDeniedError,
    BackblazeStorage,
    ChecksumMismatchError,
    InvalidInputError,
    NoSuchKeyError,
    PreconditionFailedError,
    ServiceUnavailableError,
    SizeMismatchError,
    StorageSettings,
)
from careflow_storage._s3.requests import control_plane
from careflow_storage._transfer import copy
from careflow_storage.protection import CustomerKey
from careflow_storage.testing import B2Server
from careflow_storage.testing.proxy.proxy import FaultProxy
from careflow_storage.testing.proxy.rule import Attempt
from tests.support.behind_proxy import NOTHING_HELD, held, storage_behind
from tests.support.bucket import Bucket

MIB = 1024 * 1024
LARGE = random.Random(7).randbytes(11 * MIB + 5)

pytest_plugins = ["careflow_storage.testing.plugin"]


@pytest.fixture(
    params=["b2_settings", pytest.param("seaweed_settings", marks=pytest.mark.integration)]
)
async def storage(request: pytest.FixtureRequest) -> AsyncIterator[BackblazeStorage]:
    """Open on B2's emulator, then on a real server."""
    async with BackblazeStorage(request.getfixturevalue(request.param)) as opened:
        yield opened


@pytest.fixture
async def b2(b2_settings: StorageSettings) -> AsyncIterator[BackblazeStorage]:
    async with BackblazeStorage(b2_settings) as opened:
        yield opened


@pytest.fixture
def parts_of_five_mib(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is larger than 5 MiB is copied in such parts; a real server takes no smaller ones."""
    monkeypatch.setattr(copy, "MAX_COPY_BYTES", 5 * MIB)
    monkeypatch.setattr(copy, "_COPIED_PART_BYTES", 5 * MIB)


async def headers_of(storage: BackblazeStorage, key: str) -> dict[str, str]:
    head = await storage._runtime.context().requests.head_object(key)
    return {name.lower(): value for name, value in head.headers.items()}


async def store(storage: BackblazeStorage, key: str, body: bytes = b"speech") -> Any:
    return await storage.upload_file(
        key,
        body,
        "audio/webm",
        metadata={"who": "größe", "call": "CA1"},
        cache_control="no-store",
        content_disposition="inline",
    )


async def half_a_call(storage: BackblazeStorage) -> None:
    async with storage.open_recording("CA1", "call.webm", on_error="keep") as writer:
        await writer.write(b"half a call")
        raise ConnectionResetError


async def test_given_a_file_when_copied_then_the_copy_is_the_same_in_all(
    storage: BackblazeStorage,
) -> None:
    source = await store(storage, "a/ä +&%41.webm")
    copy = await storage.admin.copy_file("a/ä +&%41.webm", "b/ü ?#.webm")
    assert copy.model_dump() == {
        "source": "a/ä +&%41.webm",
        "source_version_id": source.version_id,
        "key": "b/ü ?#.webm",
        "size": 6,
        "etag": source.etag,
        "version_id": copy.version_id,
        "parts": 1,
    }
    found = await storage.get_file_metadata("b/ü ?#.webm")
    assert (found.version_id, found.size, found.etag) == (copy.version_id, 6, source.etag)
    assert (found.content_type, found.partial) == ("audio/webm", False)
    assert found.metadata == {"who": "größe", "call": "CA1"}
    headers = await headers_of(storage, "b/ü ?#.webm")
    assert (headers["cache-control"], headers["content-disposition"]) == ("no-store", "inline")
    assert await storage.get_file("b/ü ?#.webm") == b"speech"
    assert await storage.get_file("a/ä +&%41.webm") == b"speech"


async def test_given_new_metadata_when_copied_then_only_what_is_not_given_is_taken_over(
    storage: BackblazeStorage,
) -> None:
    await store(storage, "a")
    await storage.admin.copy_file("a", "b", metadata={"New": "1"})
    await storage.admin.copy_file("a", "c", content_type="audio/ogg")
    await storage.admin.copy_file("a", "d", metadata={})
    found = {key: await storage.get_file_metadata(key) for key in "bcd"}
    assert {key: file.content_type for key, file in found.items()} == {
        "b": "audio/webm",
        "c": "audio/ogg",
        "d": "audio/webm",
    }
    assert {key: file.metadata for key, file in found.items()} == {
        "b": {"new": "1"},
        "c": {"who": "größe", "call": "CA1"},
        "d": {},
    }
    assert (await headers_of(storage, "c"))["cache-control"] == "no-store"


async def test_given_an_old_version_when_copied_then_it_is_that_one(
    storage: BackblazeStorage,
) -> None:
    old = await store(storage, "a", b"old")
    await store(storage, "a", b"newer")
    copy = await storage.admin.copy_file("a", "b", version_id=old.version_id)
    assert (copy.source_version_id, copy.size) == (old.version_id, 3)
    assert await storage.get_file("b") == b"old"
    await storage.admin.copy_file("a", "a", version_id=old.version_id)
    assert await storage.get_file("a") == b"old"


async def test_given_a_recording_that_was_cut_off_when_copied_then_the_copy_says_so_too(
    storage: BackblazeStorage,
) -> None:
    with pytest.raises(ConnectionResetError):
        await half_a_call(storage)
    (file,) = await storage.list_files()
    await storage.admin.copy_file(file.key, "b")
    await storage.admin.copy_file(file.key, "c", metadata={"x": "1"})
    assert (await storage.get_file_metadata("b")).partial is True
    assert (await storage.get_file_metadata("c")).partial is True


async def test_given_a_file_onto_itself_when_copied_then_something_must_change(
    storage: BackblazeStorage,
) -> None:
    await store(storage, "a")
    with pytest.raises(InvalidInputError, match="onto itself"):
        await storage.admin.copy_file("a", "a")
    with pytest.raises(InvalidInputError, match="onto itself"):
        await storage.admin.move_file("a", "a")
    await storage.admin.copy_file("a", "a", content_type="audio/ogg")
    found = await storage.get_file_metadata("a")
    assert (found.content_type, found.metadata["call"]) == ("audio/ogg", "CA1")


async def test_given_bad_input_when_copied_then_no_request_is_sent(
    b2: BackblazeStorage, b2_server: B2Server
) -> None:
    bad: Any
    for bad in (
        {"metadata": {"b2-x": "1"}},
        {"metadata": {"a": "x\n"}},
        {"content_type": "ä"},
        {"version_id": ""},
        {"encryption": "SSE-KMS"},
        {"source_encryption": "secret"},
    ):
        with pytest.raises(InvalidInputError):
            await b2.admin.copy_file("a", "b", **bad)
    assert b2_server.requests == []


async def test_given_a_target_that_is_there_when_it_may_not_be_overwritten_then_it_stays(
    storage: BackblazeStorage,
) -> None:
    await store(storage, "a")
    await store(storage, "b", b"mine")
    for call in (storage.admin.copy_file, storage.admin.move_file):
        with pytest.raises(PreconditionFailedError):
            await call("a", "b", overwrite=False)
    assert await storage.get_file("b") == b"mine"
    assert await storage.get_file("a") == b"speech"
    await storage.admin.copy_file("a", "c", overwrite=False)
    assert await storage.get_file("c") == b"speech"


async def test_given_nothing_to_copy_then_the_error_names_the_source(
    storage: BackblazeStorage,
) -> None:
    for call in (storage.admin.copy_file, storage.admin.move_file):
        with pytest.raises(NoSuchKeyError) as caught:
            await call("missing", "b")
        assert caught.value.key == "missing"
    assert await storage.admin.list_file_versions() == []


# --- in parts ---------------------------------------------------------------------------


async def test_given_a_large_file_when_copied_then_it_is_done_in_parts_and_verified(
    storage: BackblazeStorage, parts_of_five_mib: None
) -> None:
    await store(storage, "a", LARGE)
    copy = await storage.admin.copy_file("a", "b")
    assert (copy.size, copy.parts) == (len(LARGE), 3)
    assert await storage.get_file("b") == LARGE
    found = await storage.get_file_metadata("b")
    assert found.metadata == {"who": "größe", "call": "CA1"}
    assert (await headers_of(storage, "b"))["content-disposition"] == "inline"
    assert await storage.list_incomplete_uploads() == []


async def test_given_a_failed_or_cancelled_copy_in_parts_then_no_upload_is_left(
    b2: BackblazeStorage, b2_server: B2Server, parts_of_five_mib: None
) -> None:
    await store(b2, "a", LARGE)
    b2_server.faults.next("UploadPartCopy", path="partNumber=2", status=403, code="AccessDenied")
    with pytest.raises(AccessDeniedError):
        await b2.admin.copy_file("a", "b")
    assert b2_server.incomplete_uploads() == []
    hanging = b2_server.faults.next("UploadPartCopy", path="partNumber=3", cut="hang")
    copying_it = asyncio.create_task(b2.admin.copy_file("a", "b"))
    await hanging.fired.wait()
    copying_it.cancel()
    with pytest.raises(asyncio.CancelledError):
        await copying_it
    assert b2_server.incomplete_uploads() == []
    assert b2_server.versions("b") == []
    assert held(b2) == NOTHING_HELD


async def test_given_lost_responses_when_copied_in_parts_then_there_is_one_version(
    b2: BackblazeStorage, b2_server: B2Server, parts_of_five_mib: None
) -> None:
    await store(b2, "a", LARGE)
    for operation in ("CreateMultipartUpload", "UploadPartCopy", "CompleteMultipartUpload"):
        b2_server.faults.next(operation, cut="rst", at="resp")
    copy = await b2.admin.copy_file("a", "b")
    assert [each.version_id for each in b2_server.versions("b")] == [copy.version_id]
    # The one whose ID was lost: it has no part.
    assert [each.parts for each in b2_server.incomplete_uploads()] == [{}]


# --- when something goes wrong ----------------------------------------------------------


@pytest.mark.parametrize("lost", [1, 3, None])
async def test_given_lost_responses_when_copied_then_the_copy_is_found_and_made_once(
    b2: BackblazeStorage, b2_server: B2Server, lost: int | None
) -> None:
    await store(b2, "a")
    if lost is None:
        b2_server.faults.always("CopyObject", cut="rst", at="resp")
    else:
        b2_server.faults.next("CopyObject", cut="rst", at="resp", times=lost)
    copy = await b2.admin.copy_file("a", "b")
    assert [each.version_id for each in b2_server.versions("b")] == [copy.version_id]
    assert [each.operation for each in b2_server.requests].count("CopyObject") == 1


async def test_given_a_busy_server_when_copied_then_it_is_tried_again_or_the_error_says_so(
    b2: BackblazeStorage, b2_server: B2Server
) -> None:
    await store(b2, "a")
    b2_server.faults.next("CopyObject", status=503, code="SlowDown", times=3)
    assert (await b2.admin.copy_file("a", "b")).size == 6
    b2_server.faults.always("CopyObject", status=503, code="SlowDown")
    with pytest.raises(ServiceUnavailableError):
        await b2.admin.copy_file("a", "c")
    assert b2_server.versions("c") == []


async def test_given_an_error_inside_a_200_response_when_copied_then_it_is_tried_again(
    b2: BackblazeStorage, b2_server: B2Server
) -> None:
    await store(b2, "a")
    error = b"<Error><Code>InternalError</Code><Message>busy</Message></Error>"
    b2_server.faults.next("CopyObject", status=200, body=error)
    await b2.admin.copy_file("a", "b")
    assert await b2.get_file("b") == b"speech"


async def test_given_a_source_that_is_overwritten_meanwhile_then_the_copy_is_of_the_first(
    proxy: FaultProxy, settings: StorageSettings
) -> None:
    async with storage_behind(proxy, settings) as storage:
        await store(storage, "a")
        _overwrite_before(proxy, Bucket(settings), "CopyObject")
        await storage.admin.copy_file("a", "b")
        assert await storage.get_file("b") == b"speech"


async def test_given_a_source_without_versions_that_is_overwritten_then_nothing_is_mixed(
    seaweed_settings: StorageSettings,
) -> None:
    name = f"plain-{seaweed_settings.bucket_name}"
    plain = seaweed_settings.model_copy(update={"bucket_name": name})
    async with FaultProxy(plain.endpoint or "") as proxy, storage_behind(proxy, plain) as storage:
        client = await storage.client()
        await client.create_bucket(Bucket=name)
        await store(storage, "a")
        assert (await storage.admin.copy_file("a", "b")).version_id is None
        _overwrite_before(proxy, Bucket(plain), "CopyObject")
        with pytest.raises(PreconditionFailedError):
            await storage.admin.copy_file("a", "c")
        assert not await storage.file_exists("c")


def _overwrite_before(proxy: FaultProxy, bucket: Bucket, operation: str) -> None:
    def overwrite(attempt: Attempt) -> bool:
        if attempt.operation == operation:
            bucket.put("a", b"somebody else's")
        return False

    proxy.add(when=overwrite)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"Content-Length": "7"}, SizeMismatchError),
        ({"ETag": f'"{"0" * 32}"'}, ChecksumMismatchError),
    ],
    ids=["size", "MD5"],
)
async def test_given_a_copy_that_differs_from_its_source_then_the_error_says_so(
    b2: BackblazeStorage, b2_server: B2Server, changes: dict[str, str], error: type[Exception]
) -> None:
    await store(b2, "a")
    wrong = b"<CopyObjectResult><ETag>&quot;" + b"0" * 32 + b"&quot;</ETag></CopyObjectResult>"
    b2_server.faults.next("CopyObject", status=200, body=wrong)
    await store(b2, "b", b"speech")
    b2_server.faults.always("HeadObject", key="b", headers=changes)
    with pytest.raises(error) as caught:
        await b2.admin.copy_file("a", "b")
    assert getattr(caught.value, "key", None) == "b"


# --- encryption -------------------------------------------------------------------------


async def test_given_a_customers_keys_when_copied_then_source_and_target_have_their_own(
    b2: BackblazeStorage, b2_server: B2Server
) -> None:
    await store(b2, "a")
    old, new = CustomerKey.generate(), CustomerKey.generate()
    await b2.upload_file("s", b"speech", encryption=old)
    await b2.admin.copy_file("a", "b", encryption="SSE-B2")
    sent = b2_server.requests[-1].headers
    assert sent["x-amz-server-side-encryption"] == "AES256"
    b2_server.faults.next("CopyObject", status=403, code="AccessDenied")
    with pytest.raises(AccessDeniedError) as caught:
        await b2.admin.copy_file("s", "c", source_encryption=old, encryption=new)
    sent = b2_server.requests[-1].headers
    prefix = "x-amz-server-side-encryption-customer"
    assert sent[f"{prefix}-key-md5"] == new.md5
    assert sent[f"x-amz-copy-source-{prefix.removeprefix('x-amz-')}-key-md5"] == old.md5
    head = next(each for each in reversed(b2_server.requests) if each.operation == "HeadObject")
    assert head.headers[f"{prefix}-key-md5"] == old.md5
    for secret in (old, new):
        assert secret.to_base64() not in repr(caught.value)


async def test_given_a_customers_key_on_a_real_server_then_copies_moves_and_versions_keep_theirs(
    seaweed_storage: BackblazeStorage,
) -> None:
    admin = seaweed_storage.admin
    old, new = CustomerKey.generate(), CustomerKey.generate()
    source = await seaweed_storage.upload_file("a", b"speech", encryption=old)
    await admin.copy_file("a", "b", source_encryption=old, encryption=new)
    await admin.copy_file("a", "c", source_encryption=old)
    assert await seaweed_storage.get_file("b", encryption=new) == b"speech"
    assert await seaweed_storage.get_file("c") == b"speech"
    await seaweed_storage.upload_file("a", b"newer")
    await admin.restore_file("a", source.version_id, encryption=old)
    await admin.move_file("a", "d", encryption=old)
    assert await seaweed_storage.get_file("d", encryption=old) == b"speech"
    with pytest.raises(AccessDeniedError, match="customer's key"):
        await admin.copy_file("d", "e")


# --- moves ------------------------------------------------------------------------------


async def test_given_a_file_when_moved_then_it_is_there_and_hidden_here(
    storage: BackblazeStorage,
) -> None:
    source = await store(storage, "a")
    moved = await storage.admin.move_file("a", "b")
    assert (moved.source_version_id, moved.key) == (source.version_id, "b")
    assert [file.key for file in await storage.list_files()] == ["b"]
    assert await storage.get_file("b") == b"speech"
    assert await storage.get_file("a", version_id=source.version_id) == b"speech"


async def test_given_a_source_that_is_overwritten_meanwhile_when_moved_then_it_is_not_hidden(
    proxy: FaultProxy, settings: StorageSettings
) -> None:
    async with storage_behind(proxy, settings) as storage:
        await store(storage, "a")
        _overwrite_before(proxy, Bucket(settings), "CopyObject")
        with pytest.raises(PreconditionFailedError, match="was not hidden") as caught:
            await storage.admin.move_file("a", "b")
        assert "The copy exists, as 'b'" in str(caught.value)
        assert await storage.get_file("a") == b"somebody else's"
        assert await storage.get_file("b") == b"speech"


async def test_given_a_source_that_cannot_be_hidden_when_moved_then_the_error_names_the_copy(
    b2: BackblazeStorage, b2_server: B2Server
) -> None:
    await store(b2, "a")
    b2_server.faults.always("DeleteObject", status=403, code="AccessDenied")
    with pytest.raises(AccessDeniedError, match="The copy exists, as 'b'"):
        await b2.admin.move_file("a", "b")
    assert await b2.get_file("a") == await b2.get_file("b") == b"speech"


async def test_a_large_copy_may_take_longer_than_other_calls(
    b2_settings: StorageSettings, b2_server: B2Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if the server copied 100 bytes a second: ten seconds are granted.
    monkeypatch.setattr(control_plane, "_COPIED_BYTES_PER_SECOND", 100)
    patient = b2_settings.model_copy(update={"idle_timeout": 0.3})
    async with BackblazeStorage(patient) as storage:
        await storage.upload_file("a", b"x" * 1000)
        await storage.client()
        b2_server.faults.next("CopyObject", delay=0.6)
        await storage.admin.copy_file("a", "b")
        assert storage.request_counts()["CopyObject"] == 1
        assert await storage.get_file("b") == b"x" * 1000
