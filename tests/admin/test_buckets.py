"""An operator makes a bucket, looks at it and deletes it; on B2's emulator and on SeaweedFS."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from careflow_storage import (
    AccessDeniedError,
    BackblazeStorage,
    BucketExistsError,
    BucketNotEmptyError,
    InvalidInputError,
    NoSuchBucketError,
    NotSupportedError,
)
from careflow_storage.testing import B2Server

pytest_plugins = ["careflow_storage.testing.plugin"]


@pytest.fixture
async def storage(b2_server: B2Server) -> AsyncIterator[BackblazeStorage]:
    async with BackblazeStorage(b2_server.settings(_env_file=None)) as opened:
        yield opened


def new_name() -> str:
    return f"careflow-test-{uuid.uuid4().hex[:12]}"


async def test_a_bucket_is_made_private_and_encrypted_and_found_again(
    storage: BackblazeStorage, b2_server: B2Server
) -> None:
    made = await storage.admin.create_bucket(env="prod")
    assert made.name == "careflow-recordings-prod"
    assert await storage.admin.get_bucket_encryption(name=made.name) == "SSE-B2"
    assert b2_server.requests[-2].operation == "PutBucketEncryption"
    (created,) = [each for each in b2_server.requests if each.operation == "CreateBucket"]
    assert created.headers["x-amz-acl"] == "private"
    listed = {bucket.name: bucket for bucket in await storage.admin.list_buckets()}
    assert set(listed) == {b2_server.bucket, made.name}
    assert listed[made.name].created is not None
    assert (await storage.admin.head_bucket(made.name)).region == b2_server.region


async def test_the_name_is_by_default_that_of_the_settings(b2_server: B2Server) -> None:
    name = new_name()
    async with BackblazeStorage(b2_server.settings(bucket_name=name)) as storage:
        assert (await storage.admin.create_bucket()).name == name
        assert (await storage.admin.head_bucket()).name == name
        await storage.admin.delete_bucket(confirm=name)
        with pytest.raises(NoSuchBucketError):
            await storage.admin.head_bucket()


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"name": "Upper_Case"}, "name"),
        ({"name": ""}, "name"),
        ({"name": 7}, "name"),
        ({"env": ""}, "env"),
        ({"env": "a b"}, "env"),
        ({"env": "x" * 63}, "env"),
        ({"name": "careflow-a", "env": "a"}, "not both"),
        ({"name": "careflow-a", "encryption": "aws:kms"}, "encryption"),
        ({"name": "careflow-a", "object_lock": "yes"}, "object_lock"),
    ],
)
async def test_what_cannot_be_a_bucket_is_refused_before_any_request(
    storage: BackblazeStorage, given: dict[str, Any], named: str
) -> None:
    with pytest.raises(InvalidInputError, match=named):
        await storage.admin.create_bucket(**given)
    assert storage.request_counts() == {}


async def test_b2_names_are_held_to_b2_rules(b2_server: B2Server) -> None:
    settings = b2_server.settings(
        endpoint="https://s3.us-west-004.backblazeb2.com", bucket_name="careflow-a"
    )
    async with BackblazeStorage(settings) as storage:
        with pytest.raises(InvalidInputError, match="b2-"):
            await storage.admin.create_bucket("b2-recordings")
        assert storage.request_counts() == {}


async def test_a_name_that_is_taken_says_whose_it_is(
    storage: BackblazeStorage, b2_server: B2Server
) -> None:
    await storage.admin.set_bucket_encryption(None)
    with pytest.raises(BucketExistsError) as mine:
        await storage.admin.create_bucket()
    assert "your own" in (mine.value.hint or "")
    assert await storage.admin.get_bucket_encryption() is None, "nothing is changed"
    b2_server.faults.next("CreateBucket", status=409, code="BucketAlreadyExists")
    with pytest.raises(BucketExistsError) as other:
        await storage.admin.create_bucket("careflow-taken")
    assert "choose another" in (other.value.hint or "")


async def test_a_creation_whose_response_was_lost_is_not_taken_for_a_new_bucket(
    storage: BackblazeStorage, b2_server: B2Server
) -> None:
    b2_server.faults.next("CreateBucket", cut="rst", at="resp")
    with pytest.raises(BucketExistsError, match="a response was lost"):
        await storage.admin.create_bucket("careflow-lost")


async def test_a_bucket_whose_encryption_was_refused_can_be_finished(b2_server: B2Server) -> None:
    everything = b2_server.key.capabilities
    key = b2_server.create_key(capabilities=everything - {"writeBucketEncryption"})
    name = new_name()
    async with BackblazeStorage(b2_server.settings(key=key)) as storage:
        with pytest.raises(AccessDeniedError) as raised:
            await storage.admin.create_bucket(name)
        assert "was created, but" in str(raised.value)
        assert f"set_bucket_encryption('SSE-B2', name='{name}')" in (raised.value.hint or "")
        assert raised.value.bucket == name
    async with BackblazeStorage(b2_server.settings()) as storage:
        await storage.admin.set_bucket_encryption("SSE-B2", name=name)
        assert await storage.admin.get_bucket_encryption(name=name) == "SSE-B2"


@pytest.mark.parametrize("name", ["bad\nkey", "recordings\n", "a/b", "naïve", "x" * 256])
async def test_a_name_that_no_bucket_has_is_refused_without_a_request(
    storage: BackblazeStorage, name: str
) -> None:
    sent = storage.request_counts()
    for call in (storage.admin.head_bucket, storage.admin.get_bucket_encryption):
        with pytest.raises(InvalidInputError, match="is not the name of a bucket"):
            await call(name=name)
    assert storage.request_counts() == sent


async def test_head_tells_denied_from_missing_from_elsewhere(
    storage: BackblazeStorage, b2_server: B2Server
) -> None:
    with pytest.raises(NoSuchBucketError, match="no such bucket"):
        await storage.admin.head_bucket("careflow-missing")
    key = b2_server.create_key(capabilities={"readFiles"})
    async with BackblazeStorage(b2_server.settings(key=key)) as limited:
        with pytest.raises(AccessDeniedError) as denied:
            await limited.admin.head_bucket()
    assert "listBuckets" in (denied.value.hint or "")
    b2_server.faults.next("HeadBucket", status=301, headers={"x-amz-bucket-region": "us-east-005"})
    with pytest.raises(NoSuchBucketError) as moved:
        await storage.admin.head_bucket()
    assert "https://s3.us-east-005.backblazeb2.com" in (moved.value.hint or "")


async def test_without_the_permission_to_read_it_the_region_is_unknown(
    storage: BackblazeStorage, b2_server: B2Server
) -> None:
    b2_server.faults.next("HeadBucket", status=200)
    b2_server.faults.next("GetBucketLocation", status=403, code="AccessDenied")
    assert (await storage.admin.head_bucket()).region is None


async def test_only_an_empty_bucket_is_deleted(
    storage: BackblazeStorage, b2_server: B2Server
) -> None:
    await storage.upload_file("key", b"recording")
    await storage.delete_file("key")
    assert await storage.list_files() == [], "it looks empty"
    with pytest.raises(BucketNotEmptyError, match="versions") as raised:
        await storage.admin.delete_bucket(confirm=b2_server.bucket)
    assert "purge_files" in (raised.value.hint or "")
    await storage.purge_file("key")
    client = await storage.client()
    upload = await client.create_multipart_upload(Bucket=b2_server.bucket, Key="key")
    with pytest.raises(BucketNotEmptyError, match="unfinished uploads"):
        await storage.admin.delete_bucket(confirm=b2_server.bucket)
    assert "DeleteBucket" not in storage.request_counts()
    await client.abort_multipart_upload(
        Bucket=b2_server.bucket, Key="key", UploadId=upload["UploadId"]
    )
    await storage.admin.delete_bucket(confirm=b2_server.bucket)
    with pytest.raises(NoSuchBucketError):
        await storage.admin.head_bucket()


@pytest.mark.parametrize("confirm", ["", "careflow", "CAREFLOW-RECORDINGS-TEST", None])
async def test_a_wrong_confirmation_sends_nothing(storage: BackblazeStorage, confirm: Any) -> None:
    with pytest.raises(InvalidInputError, match="confirm"):
        await storage.admin.delete_bucket(confirm=confirm)
    assert storage.request_counts() == {}


async def test_a_deletion_whose_response_was_lost_is_done(
    storage: BackblazeStorage, b2_server: B2Server
) -> None:
    b2_server.faults.next("DeleteBucket", cut="rst", at="resp")
    await storage.admin.delete_bucket(confirm=b2_server.bucket)
    assert storage.request_counts()["DeleteBucket"] == 2
    with pytest.raises(NoSuchBucketError):
        await storage.admin.delete_bucket(confirm=b2_server.bucket)


async def test_the_default_encryption_is_read_and_set(storage: BackblazeStorage) -> None:
    assert await storage.admin.get_bucket_encryption() == "SSE-B2", "B2's default since 2026"
    await storage.admin.set_bucket_encryption(None)
    assert await storage.admin.get_bucket_encryption() is None
    await storage.admin.set_bucket_encryption("SSE-B2")
    assert await storage.admin.get_bucket_encryption() == "SSE-B2"
    with pytest.raises(InvalidInputError, match="encryption"):
        await storage.admin.set_bucket_encryption("aws:kms")  # type: ignore[arg-type]  # bad input


async def test_an_encryption_that_b2_has_not_is_not_called_none(
    storage: BackblazeStorage, b2_server: B2Server
) -> None:
    b2_server.faults.next(
        "GetBucketEncryption",
        body=b"<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault>"
        b"<SSEAlgorithm>aws:kms</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule>"
        b"</ServerSideEncryptionConfiguration>",
    )
    with pytest.raises(NotSupportedError, match="aws:kms"):
        await storage.admin.get_bucket_encryption()


async def test_an_empty_response_is_no_list_of_buckets(
    storage: BackblazeStorage, b2_server: B2Server
) -> None:
    b2_server.faults.next("ListBuckets", status=200)
    assert len(await storage.admin.list_buckets()) == 1
    assert storage.request_counts()["ListBuckets"] == 2


async def test_an_account_without_buckets_lists_none(
    storage: BackblazeStorage, b2_server: B2Server
) -> None:
    await storage.admin.delete_bucket(confirm=b2_server.bucket)
    assert await storage.admin.list_buckets() == []


async def test_a_real_server_makes_looks_and_deletes(seaweed_storage: BackblazeStorage) -> None:
    admin, name = seaweed_storage.admin, new_name()
    await admin.create_bucket(name)
    assert await admin.get_bucket_encryption(name=name) == "SSE-B2"
    assert name in [bucket.name for bucket in await admin.list_buckets()]
    assert (await admin.head_bucket(name)).region
    with pytest.raises(BucketExistsError, match="own"):
        await admin.create_bucket(name)
    await admin.delete_bucket(name, confirm=name)
    with pytest.raises(NoSuchBucketError):
        await admin.head_bucket(name)
    await seaweed_storage.upload_file("key", b"recording")
    own = (await admin.head_bucket()).name
    with pytest.raises(BucketNotEmptyError):
        await admin.delete_bucket(confirm=own)
    await seaweed_storage.purge_file("key")
    await admin.delete_bucket(confirm=own)


async def test_a_real_server_makes_a_bucket_that_can_lock_files(
    seaweed_storage: BackblazeStorage,
) -> None:
    name = new_name()
    await seaweed_storage.admin.create_bucket(name, object_lock=True)
    client = await seaweed_storage.client()
    lock = await client.get_object_lock_configuration(Bucket=name)
    assert lock["ObjectLockConfiguration"]["ObjectLockEnabled"] == "Enabled"
    await seaweed_storage.admin.delete_bucket(name, confirm=name)
