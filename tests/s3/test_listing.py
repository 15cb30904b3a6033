"""Listings: complete whatever their length, in order, byte-exact keys."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends

from careflow_storage import BackblazeStorage, FileInfo, InvalidInputError, NoSuchBucketError

HOSTILE = [
    " leading and trailing ",
    "%41 is not A",
    "&amp; <Key>a</Key> ]]>",
    "100%",
    "a+b c",
    "a//b",
    "a?b=c&d#e",
    "a\\b",
    "quotes'\"`",
    "reserved:@!$()*,;=[]{}|^~",
    "recordings/CA1/1-\u00e4.webm",
    "recordings/CA1/1-a\u0308.webm",  # the same to the eye, other bytes
    "recordings/CA10/1-a.webm",
    "trailing/",
    "\u2028line",
    "\uff0d",
    "\U0001f399️ 録音",
]


async def fill(storage: BackblazeStorage, keys: list[str], body: bytes = b"") -> None:
    """Store objects, a few at once."""
    waiting = iter(keys)

    async def store() -> None:
        for key in waiting:
            await storage.upload_file(key, body)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(32, len(keys))):
            group.create_task(store())


async def test_given_files_when_listed_then_each_is_described(storage: BackblazeStorage) -> None:
    before = datetime.now(UTC)
    await storage.upload_file("b", b"12345")
    await storage.upload_file("a", b"")
    files = await storage.list_files()
    assert [type(file) for file in files] == [FileInfo, FileInfo]
    assert [(file.key, file.size) for file in files] == [("a", 0), ("b", 5)]
    assert files[1].etag == hashlib.md5(b"12345", usedforsecurity=False).hexdigest()
    assert files[1].last_modified.utcoffset() == timedelta(0)
    assert abs(files[1].last_modified - before) < timedelta(minutes=1)


async def test_given_an_empty_bucket_when_listed_then_there_is_nothing(
    storage: BackblazeStorage,
) -> None:
    assert await storage.list_files() == []
    assert [file async for file in storage.list_files()] == []
    assert [page async for page in storage.list_files().pages()] == []


async def test_given_hostile_keys_when_listed_then_they_come_byte_exact_and_in_order_of_bytes(
    storage: BackblazeStorage,
) -> None:
    await fill(storage, HOSTILE)
    listed = [file.key for file in await storage.list_files()]
    assert listed == sorted(HOSTILE, key=str.encode)
    for key in listed:
        assert await storage.file_exists(key)
        assert await storage.get_file(key) == b""


@pytest.mark.integration
async def test_given_a_real_server_when_unicode_keys_are_listed_then_they_come_byte_exact(
    seaweed_storage: BackblazeStorage,
) -> None:
    # SeaweedFS rewrites double and back slashes, which is no fault of ours.
    keys = [key for key in HOSTILE if "//" not in key and "\\" not in key and key[-1] != "/"]
    await fill(seaweed_storage, keys, b"x")
    assert sorted(file.key for file in await seaweed_storage.list_files()) == sorted(keys)
    for key in keys:
        assert await seaweed_storage.get_file(key) == b"x"
        assert (await seaweed_storage.get_file_metadata(key)).size == 1


@pytest.mark.parametrize("prefix", ["recordings/CA1/", "a", "100%", "a+", " ", "&amp;", "none"])
async def test_given_a_prefix_when_listed_then_only_keys_that_begin_with_it_come(
    storage: BackblazeStorage, prefix: str
) -> None:
    await fill(storage, HOSTILE)
    listed = [file.key for file in await storage.list_files(prefix)]
    assert sorted(listed) == sorted(key for key in HOSTILE if key.startswith(prefix))


async def test_given_a_hidden_file_when_listed_then_it_is_not_there(
    storage: BackblazeStorage,
) -> None:
    await fill(storage, ["a", "b"])
    await storage.delete_file("a")
    assert [file.key for file in await storage.list_files()] == ["b"]


@pytest.mark.parametrize(("max_keys", "expected"), [(1, 1), (3, 3), (7, 7), (8, 7), (5000, 7)])
async def test_given_a_limit_when_listed_then_no_more_come(
    storage: BackblazeStorage, max_keys: int, expected: int
) -> None:
    await fill(storage, [f"{number}" for number in range(7)])
    files = await storage.list_files(max_keys=max_keys)
    assert [file.key for file in files] == [f"{number}" for number in range(expected)]
    assert [file async for file in storage.list_files("", max_keys)] == files


async def test_given_one_listing_when_used_twice_then_each_time_it_begins_anew(
    storage: BackblazeStorage,
) -> None:
    await fill(storage, ["a"])
    listing = storage.list_files()
    assert [file.key for file in await listing] == ["a"]
    await fill(storage, ["b"])
    assert [file.key async for file in listing] == ["a", "b"]


@pytest.mark.parametrize("max_keys", [0, -1, True, 2.5, "10"], ids=repr)
async def test_given_a_limit_that_is_none_then_it_is_refused_before_any_request(
    storage: BackblazeStorage, max_keys: Any
) -> None:
    with pytest.raises(InvalidInputError, match="max_keys"):
        storage.list_files(max_keys=max_keys)


@pytest.mark.parametrize("prefix", [None, b"a", 5, "\ud800", "a\n", "\x00", "ä" * 513], ids=ascii)
async def test_given_a_prefix_that_is_none_then_it_is_refused_before_any_request(
    storage: BackblazeStorage, prefix: Any
) -> None:
    with pytest.raises(InvalidInputError, match="prefix"):
        storage.list_files(prefix)


async def test_given_more_files_than_a_page_holds_when_listed_then_all_come(
    storage: BackblazeStorage,
) -> None:
    keys = [f"recordings/CA{number:04}/größe.webm" for number in range(1002)]
    # Storing them one by one takes longer than all that is tested.
    backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    for key in keys:
        backend.put_object(str(storage.settings.bucket_name), key, b"")
    assert [file.key for file in await storage.list_files()] == keys
    assert [len(page) async for page in storage.list_files().pages()] == [1000, 2]
    assert [file.key async for file in storage.list_files(max_keys=1001)] == keys[:1001]


async def test_given_no_such_bucket_when_listed_then_the_error_says_so(
    storage: BackblazeStorage,
) -> None:
    other = storage.settings.model_copy(update={"bucket_name": "no-such-bucket"})
    async with BackblazeStorage(other) as elsewhere:
        with pytest.raises(NoSuchBucketError):
            await elsewhere.list_files()


@pytest.mark.slow
@pytest.mark.integration
async def test_given_10001_files_when_listed_then_all_come_in_pages_of_1000(
    seaweed_storage: BackblazeStorage,
) -> None:
    keys = [f"recordings/CA{number:05}/{number}-größe.webm" for number in range(10_001)]
    await fill(seaweed_storage, keys)
    assert [file.key for file in await seaweed_storage.list_files()] == keys
    pages = [len(page) async for page in seaweed_storage.list_files().pages()]
    assert pages == [1000] * 10 + [1]
    assert [file.key async for file in seaweed_storage.list_files(max_keys=2500)] == keys[:2500]
    some = await seaweed_storage.list_files("recordings/CA01")
    assert [file.key for file in some] == keys[1000:2000]
