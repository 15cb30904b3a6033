"""Copies between two buckets of one account: by the server, or streamed where it refuses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest

from careflow_storage import (
    AccessDeniedError,
    BackblazeStorage,
    InvalidInputError,
    NoSuchKeyError,
    PreconditionFailedError,
    StorageSettings,
)
from careflow_storage.local import LocalServer
from careflow_storage.testing import B2Server
from tests.support.behind_proxy import PART
from tests.support.bodies import noise
from tests.support.two_storages import opened

LARGE = noise(3 * PART + 7)


@dataclass
class Account:
    """Two buckets of one account."""

    server: B2Server
    source: BackblazeStorage
    target: BackblazeStorage


@pytest.fixture
async def account(server: B2Server) -> AsyncIterator[Account]:
    server.create_bucket("another-bucket")
    async with (
        opened(server.settings()) as source,
        opened(server.settings(bucket_name="another-bucket")) as target,
    ):
        yield Account(server, source, target)
        assert server.incomplete_uploads() == []


def content(account: Account, key: str) -> bytes | None:
    found = account.server.versions(key, bucket="another-bucket")
    return found[0].body if found else None


@pytest.fixture(scope="module")
def running() -> Iterator[B2Server]:
    with B2Server(min_part_size=1) as emulator:
        yield emulator


@pytest.mark.parametrize("body", [b"", b"speech", LARGE], ids=["empty", "small", "large"])
async def test_the_server_copies_without_transferring_a_byte(account: Account, body: bytes) -> None:
    stored = await account.source.upload_file("key", body, "audio/webm", metadata={"a": "ü"})
    result = await account.target.copy_from(account.source, "key", "copy")
    assert content(account, "copy") == body
    assert "GetObject" not in account.source.request_counts()
    assert account.target.request_counts()["CopyObject"] == 1
    assert "PutObject" not in account.target.request_counts()
    found = await account.target.get_file_metadata("copy")
    assert (found.metadata, found.content_type) == ({"a": "ü"}, "audio/webm")
    assert (result.size, result.bucket, result.key) == (len(body), "another-bucket", "copy")
    assert result.version_id == found.version_id
    assert result.checksum == stored.checksum


async def test_an_older_version_and_new_headers_are_copied_by_the_server(account: Account) -> None:
    old = await account.source.upload_file("key", b"old", metadata={"a": "b"})
    await account.source.upload_file("key", b"new")
    await account.target.copy_from(
        account.source,
        "key",
        version_id=old.version_id,
        content_type="audio/ogg",
        metadata={"c": "d"},
        stamp_source_etag=True,
    )
    assert content(account, "key") == b"old"
    found = await account.target.get_file_metadata("key")
    assert found.content_type == "audio/ogg"
    assert found.metadata == {"c": "d", "careflow-source-etag": old.etag}


@pytest.mark.parametrize(
    ("status", "code"), [(403, "AccessDenied"), (501, "NotImplemented"), (400, "InvalidRequest")]
)
async def test_a_server_that_refuses_is_asked_once_and_then_objects_are_streamed(
    account: Account, status: int, code: str
) -> None:
    account.server.faults.always("CopyObject", status=status, code=code)
    for number, body in enumerate([b"one", b"two", LARGE]):
        await account.source.upload_file(f"{number}", body)
        await account.target.copy_from(account.source, f"{number}")
        assert content(account, f"{number}") == body
    assert account.target.request_counts()["CopyObject"] == 1


async def test_another_key_of_the_account_streams(account: Account) -> None:
    key = account.server.create_key(bucket="another-bucket")
    await account.source.upload_file("key", b"speech")
    settings = account.server.settings(key=key, bucket_name="another-bucket")
    async with opened(settings) as target:
        await target.copy_from(account.source, "key")
        assert target.request_counts() == {"PutObject": 1}
    assert content(account, "key") == b"speech"


async def test_what_exists_is_refused_or_returned(account: Account) -> None:
    await account.source.upload_file("key", b"mine")
    theirs = await account.target.upload_file("key", b"theirs")
    with pytest.raises(PreconditionFailedError):
        await account.target.copy_from(account.source, "key", if_exists="error")
    same = await account.target.copy_from(account.source, "key", if_exists="return")
    assert same.version_id == theirs.version_id
    await account.target.copy_from(account.source, "key")
    assert content(account, "key") == b"mine"


async def test_a_missing_source_is_named_with_its_bucket(account: Account) -> None:
    with pytest.raises(NoSuchKeyError) as caught:
        await account.target.copy_from(account.source, "missing", "copy")
    assert (caught.value.bucket, caught.value.key) == (account.server.bucket, "missing")


async def test_a_source_that_vanishes_before_the_copy_is_named_with_its_bucket(
    account: Account,
) -> None:
    await account.source.upload_file("key", b"x")
    account.server.faults.always("CopyObject", status=404, code="NoSuchKey")
    with pytest.raises(NoSuchKeyError) as caught:
        await account.target.copy_from(account.source, "key", "copy")
    assert (caught.value.bucket, caught.value.key) == (account.server.bucket, "key")


async def test_a_target_that_is_denied_is_an_error_of_the_target(account: Account) -> None:
    await account.source.upload_file("key", b"x")
    key = account.server.create_key(capabilities={"readFiles", "listFiles", "listBuckets"})
    settings = account.server.settings(key=key)
    async with (
        opened(settings) as source,
        opened(settings.model_copy(update={"bucket_name": "another-bucket"})) as target,
    ):
        with pytest.raises(AccessDeniedError) as caught:
            await target.copy_from(source, "key")
    assert (caught.value.operation, caught.value.bucket) == ("PutObject", "another-bucket")


async def test_within_one_bucket_only_another_key_is_copied(account: Account) -> None:
    await account.source.upload_file("key", b"x")
    await account.source.copy_from(account.source, "key", "copy")
    assert await account.source.get_file("copy") == b"x"
    async with opened(account.source.settings) as same:
        with pytest.raises(InvalidInputError, match="onto itself"):
            await same.copy_from(account.source, "key")


@pytest.mark.integration
async def test_a_real_server_copies_between_its_buckets(
    seaweedfs: LocalServer, seaweed_settings: StorageSettings
) -> None:
    name = f"{seaweed_settings.bucket_name}-b"
    seaweedfs.create_bucket(name)
    body = noise(11 * 1024 * 1024)
    async with (
        BackblazeStorage(seaweed_settings) as source,
        BackblazeStorage(seaweed_settings.model_copy(update={"bucket_name": name})) as target,
    ):
        for key, each in (("small/ä", b"speech"), ("large", body)):
            await source.upload_file(key, each, metadata={"a": "ü"})
            await target.copy_from(source, key)
            assert await target.get_file(key) == each
            assert (await target.get_file_metadata(key)).metadata == {"a": "ü"}
        assert "GetObject" not in source.request_counts()
