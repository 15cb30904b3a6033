"""Folders, which S3 does not have: common prefixes, complete and byte-exact."""

from __future__ import annotations

from typing import Any

import pytest
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends

from careflow_storage import BackblazeStorage, FolderContents, InvalidInputError, NoSuchBucketError

KEYS = [
    "recordings/CA1/1.webm",
    "recordings/CA1/2.webm",
    "recordings/CA10/1.webm",
    "recordings/a+b c&<d>/100%/x",
    "recordings/größe/🎙",
    "recordings/notes.txt",
    "recordings/zzz",
    "top",
]
FOLDERS = ["recordings/CA1/", "recordings/CA10/", "recordings/a+b c&<d>/", "recordings/größe/"]


async def fill(storage: BackblazeStorage, keys: list[str] = KEYS) -> None:
    for key in keys:
        await storage.upload_file(key, b"x")


def keys(folder: FolderContents) -> list[str]:
    return [file.key for file in folder.files]


async def check_folders(storage: BackblazeStorage) -> None:
    await fill(storage)
    top = await storage.list_folder()
    assert top.common_prefixes == ["recordings/"]
    assert keys(top) == ["top"]
    folder = await storage.list_folder("recordings/")
    assert folder.common_prefixes == FOLDERS
    assert keys(folder) == ["recordings/notes.txt", "recordings/zzz"]
    assert folder.files == [file for file in await storage.list_files() if file.key in keys(folder)]
    # What is found can be asked for: the whole tree is reached from its top.
    found, waiting = [], [""]
    for prefix in waiting:
        here = await storage.list_folder(prefix)
        waiting += here.common_prefixes
        found += keys(here)
    assert sorted(found) == sorted(KEYS)


async def test_given_files_in_folders_when_one_is_listed_then_it_shows_what_is_in_it(
    storage: BackblazeStorage,
) -> None:
    await check_folders(storage)


@pytest.mark.integration
async def test_given_a_real_server_when_a_folder_is_listed_then_it_shows_what_is_in_it(
    seaweed_storage: BackblazeStorage,
) -> None:
    await check_folders(seaweed_storage)


async def test_given_no_delimiter_at_the_end_when_listed_then_the_folder_itself_is_found(
    storage: BackblazeStorage,
) -> None:
    await fill(storage)
    found = await storage.list_folder("recordings/CA1")
    assert found == FolderContents(common_prefixes=FOLDERS[:2], files=[])


async def test_given_an_empty_folder_when_listed_then_there_is_nothing(
    storage: BackblazeStorage,
) -> None:
    assert await storage.list_folder() == FolderContents(common_prefixes=[], files=[])
    assert [page async for page in storage.list_folder("none/").pages()] == []


async def test_given_a_folders_own_key_when_listed_then_it_is_one_of_the_files(
    storage: BackblazeStorage,
) -> None:
    await fill(storage, ["a/", "a/b", "a/c/", "a//d"])
    folder = await storage.list_folder("a/")
    assert keys(folder) == ["a/", "a/b"]
    assert folder.common_prefixes == ["a//", "a/c/"]


@pytest.mark.parametrize(
    ("delimiter", "expected"),
    [
        ("-", (["2026-"], [])),
        ("-1", (["2026-1"], [])),
        ("+ä", (["2026-11+ä"], ["2026-12"])),
        ("/", ([], ["2026-11+äx", "2026-11+äy", "2026-12"])),
    ],
)
async def test_given_another_delimiter_when_listed_then_keys_are_cut_at_it(
    storage: BackblazeStorage, delimiter: str, expected: tuple[list[str], list[str]]
) -> None:
    await fill(storage, ["2026-11+äx", "2026-11+äy", "2026-12"])
    folder = await storage.list_folder("20", delimiter=delimiter)
    assert (folder.common_prefixes, keys(folder)) == expected


async def test_given_more_than_a_page_holds_when_a_folder_is_listed_then_all_come(
    storage: BackblazeStorage,
) -> None:
    # Storing them one by one takes longer than all that is tested.
    backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    folders = [f"r/CA{number:04}/" for number in range(1003)]
    files = [f"r/CA{number:04}.webm" for number in range(1003)]
    for key in (*(f"{folder}{number}" for folder in folders for number in (1, 2)), *files):
        backend.put_object(str(storage.settings.bucket_name), key, b"")
    folder = await storage.list_folder("r/")
    assert (folder.common_prefixes, keys(folder)) == (folders, files)
    pages = [page async for page in storage.list_folder("r/").pages()]
    sizes = [len(page.common_prefixes) + len(page.files) for page in pages]
    assert sum(sizes) == 2006
    assert max(sizes) <= 1000
    assert [each for page in pages for each in page.common_prefixes] == folders
    assert storage.request_counts()["ListObjectsV2"] == 6


@pytest.mark.slow
@pytest.mark.integration
async def test_given_a_real_server_and_2500_folders_when_listed_then_all_come(
    seaweed_storage: BackblazeStorage,
) -> None:
    folders = [f"r/CA{number:04}/" for number in range(2500)]
    await fill(seaweed_storage, [f"{folder}1" for folder in folders] + ["r/top"])
    folder = await seaweed_storage.list_folder("r/")
    assert (folder.common_prefixes, keys(folder)) == (folders, ["r/top"])
    assert len([page async for page in seaweed_storage.list_folder("r/").pages()]) == 3


@pytest.mark.integration
async def test_given_a_server_that_repeats_a_folder_on_the_next_page_then_it_comes_once(
    seaweed_storage: BackblazeStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    # SeaweedFS does so with delimiters that are not its own.
    monkeypatch.setattr("careflow_storage._s3.requests.listing.PAGE_KEYS", 2)
    await fill(seaweed_storage, [f"r/f{number}/x{n}" for number in range(4) for n in range(3)])
    folder = await seaweed_storage.list_folder("r/", delimiter="x")
    assert folder.common_prefixes == [f"r/f{number}/x" for number in range(4)]


async def test_given_one_listing_when_used_twice_then_each_time_it_begins_anew(
    storage: BackblazeStorage,
) -> None:
    await fill(storage, ["a"])
    listing = storage.list_folder()
    assert keys(await listing) == ["a"]
    await fill(storage, ["b"])
    assert keys(await listing) == ["a", "b"]


@pytest.mark.parametrize("text", [None, b"/", 5, "\ud800", "a\n", "ä" * 513], ids=ascii)
async def test_given_a_prefix_or_delimiter_that_is_none_then_it_is_refused_before_any_request(
    storage: BackblazeStorage, text: Any
) -> None:
    with pytest.raises(InvalidInputError, match="prefix"):
        storage.list_folder(text)
    with pytest.raises(InvalidInputError, match="delimiter"):
        storage.list_folder(delimiter=text)
    with pytest.raises(InvalidInputError, match="delimiter must not be empty"):
        storage.list_folder(delimiter="")


async def test_given_no_such_bucket_when_listed_then_the_error_says_so(
    storage: BackblazeStorage,
) -> None:
    other = storage.settings.model_copy(update={"bucket_name": "no-such-bucket"})
    async with BackblazeStorage(other) as elsewhere:
        with pytest.raises(NoSuchBucketError) as caught:
            await elsewhere.list_folder()
    assert (caught.value.operation, caught.value.bucket) == ("ListObjectsV2", "no-such-bucket")
