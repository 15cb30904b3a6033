"""Deleting as B2 does it: hidden first, erased by version, purged for good."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from careflow_storage import (
    BackblazeStorage,
    InvalidInputError,
    NoSuchBucketError,
    NoSuchKeyError,
)
from tests.support.unfinished import unfinished_uploads


@pytest.fixture(
    params=["settings", pytest.param("seaweed_settings", marks=pytest.mark.integration)]
)
async def versioned(request: pytest.FixtureRequest) -> AsyncIterator[BackblazeStorage]:
    """Open on the fast server, then on the real one."""
    async with BackblazeStorage(request.getfixturevalue(request.param)) as opened:
        yield opened


async def begin_upload(storage: BackblazeStorage, key: str) -> str:
    """Begin a multipart upload and leave it so, as a crashed process does."""
    client = await storage.client()
    begun = await client.create_multipart_upload(Bucket=storage.settings.bucket_name, Key=key)
    return str(begun["UploadId"])


async def versions(storage: BackblazeStorage) -> list[str]:
    """The keys of all versions and delete markers."""
    client = await storage.client()
    page = await client.list_object_versions(Bucket=storage.settings.bucket_name)
    return sorted(
        entry["Key"] for name in ("Versions", "DeleteMarkers") for entry in page.get(name, ())
    )


class TestOne:
    async def test_given_a_file_when_deleted_then_it_is_hidden_and_its_version_stays(
        self, versioned: BackblazeStorage
    ) -> None:
        uploaded = await versioned.upload_file("a", b"x")
        result = await versioned.delete_file("a")
        assert (result.key, result.deleted, result.delete_marker) == ("a", True, True)
        assert result.version_id not in (None, uploaded.version_id)
        assert not await versioned.file_exists("a")
        with pytest.raises(NoSuchKeyError):
            await versioned.get_file("a")
        assert await versioned.get_file("a", version_id=uploaded.version_id) == b"x"

    async def test_given_a_hidden_file_when_its_marker_is_erased_then_it_is_back(
        self, versioned: BackblazeStorage
    ) -> None:
        await versioned.upload_file("a", b"x")
        marker = await versioned.delete_file("a")
        await versioned.delete_file("a", version_id=marker.version_id)
        assert await versioned.get_file("a") == b"x"

    async def test_given_two_versions_when_the_new_one_is_erased_then_the_old_one_is_current(
        self, versioned: BackblazeStorage
    ) -> None:
        await versioned.upload_file("a", b"old")
        new = await versioned.upload_file("a", b"new")
        result = await versioned.delete_file("a", version_id=new.version_id)
        assert (result.deleted, result.delete_marker) == (True, False)
        assert result.version_id == new.version_id
        assert await versioned.get_file("a") == b"old"
        with pytest.raises(NoSuchKeyError):
            await versioned.get_file("a", version_id=new.version_id)

    async def test_given_a_missing_file_when_deleted_then_it_succeeds(
        self, versioned: BackblazeStorage
    ) -> None:
        assert (await versioned.delete_file("missing")).deleted


class TestMany:
    async def test_given_many_keys_when_deleted_then_each_has_its_result_in_their_order(
        self, versioned: BackblazeStorage
    ) -> None:
        for key in ("a", "ä & <b>", "c"):
            await versioned.upload_file(key, b"x")
        keys = ["c", "a", "missing", "a", "ä & <b>", "c"]
        results = await versioned.delete_files(keys)
        assert [(result.key, result.deleted) for result in results] == [(k, True) for k in keys]
        assert all(result.delete_marker for result in results if result.key != "missing")
        assert await versioned.list_files() == []

    async def test_given_more_keys_than_one_request_takes_then_all_are_deleted(
        self, storage: BackblazeStorage
    ) -> None:
        keys = [f"{number}" for number in range(2001)]
        await storage.upload_file("2000", b"x")
        results = await storage.delete_files(iter(keys))
        assert [result.key for result in results] == keys
        assert all(result.deleted for result in results)
        assert await storage.list_files() == []

    async def test_given_no_keys_then_there_is_nothing_to_do(
        self, storage: BackblazeStorage
    ) -> None:
        assert await storage.delete_files([]) == []

    @pytest.mark.parametrize("keys", ["abc", ["a", ""], ["a", None], None, 5], ids=repr)
    async def test_given_a_key_that_cannot_be_among_them_then_none_is_deleted(
        self, storage: BackblazeStorage, keys: Any
    ) -> None:
        await storage.upload_file("a", b"x")
        with pytest.raises(InvalidInputError):
            await storage.delete_files(keys)
        assert await storage.file_exists("a")

    async def test_given_no_such_bucket_then_the_error_says_so(
        self, versioned: BackblazeStorage
    ) -> None:
        other = versioned.settings.model_copy(update={"bucket_name": "no-such-bucket"})
        async with BackblazeStorage(other) as elsewhere:
            with pytest.raises(NoSuchBucketError) as caught:
                await elsewhere.delete_files(["a"])
            assert caught.value.bucket == "no-such-bucket"
            with pytest.raises(NoSuchBucketError):
                await elsewhere.delete_file("a")
            with pytest.raises(NoSuchBucketError):
                await elsewhere.purge_file("a")


class TestPurge:
    async def test_given_versions_markers_and_unfinished_uploads_when_purged_then_all_are_gone(
        self, versioned: BackblazeStorage
    ) -> None:
        for body in (b"one", b"two", b"three"):
            await versioned.upload_file("a/b", body)
        await versioned.delete_file("a/b")
        await begin_upload(versioned, "a/b")
        await begin_upload(versioned, "a/b")
        result = await versioned.purge_file("a/b")
        assert (result.key, result.versions, result.delete_markers, result.uploads) == (
            "a/b",
            3,
            1,
            2,
        )
        assert await versions(versioned) == []
        assert await unfinished_uploads(versioned.settings) == []

    async def test_given_keys_that_begin_alike_when_one_is_purged_then_the_others_stay(
        self, versioned: BackblazeStorage
    ) -> None:
        others = ["CA1/a.webm.json", "CA1/a.web", "CA1/a.webmä", "CA1/A.webm", "CA10/a.webm"]
        for key in ["CA1/a.webm", *others]:
            await versioned.upload_file(key, b"x")
        kept = await begin_upload(versioned, "CA1/a.webm2")
        result = await versioned.purge_file("CA1/a.webm")
        assert (result.versions, result.delete_markers, result.uploads) == (1, 0, 0)
        assert await versions(versioned) == sorted(others)
        assert await unfinished_uploads(versioned.settings) == [kept]

    async def test_given_nothing_under_the_key_when_purged_then_nothing_is_counted(
        self, versioned: BackblazeStorage
    ) -> None:
        result = await versioned.purge_file("missing")
        assert (result.versions, result.delete_markers, result.uploads) == (0, 0, 0)

    async def test_given_a_hostile_key_when_purged_then_it_is_gone(
        self, storage: BackblazeStorage
    ) -> None:
        keys = ["a & <b> %41 +", "ä\u2028", "a//b", "]]>", "\U0001f399️"]
        for key in keys:
            await storage.upload_file(key, b"x")
            assert (await storage.purge_file(key)).versions == 1
        assert await versions(storage) == []

    @pytest.mark.integration
    async def test_given_more_versions_than_one_page_when_purged_then_all_are_gone(
        self, seaweed_storage: BackblazeStorage
    ) -> None:
        await seaweed_storage.upload_file("ab", b"x")
        waiting = iter(range(1002))

        async def store() -> None:
            for _ in waiting:
                await seaweed_storage.upload_file("a", b"")

        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(store())
        assert (await seaweed_storage.purge_file("a")).versions == 1002
        assert await versions(seaweed_storage) == ["ab"]
