"""What is in the bucket, at which cost, and for how long a listing is remembered."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from careflow_storage import BackblazeStorage, StorageSettings
from careflow_storage.integrations.fsspec import CareflowFileSystem
from careflow_storage.testing import B2Server

KEYS = ("calls/CA1/a.webm", "calls/CA1/b.webm", "calls/CA2/a.webm", "calls/index.csv", "top.txt")


class Bucket:
    """Another program that stores objects."""

    def __init__(self, settings: StorageSettings) -> None:
        self._settings = settings

    def put(self, *keys: str, body: bytes = b"12345") -> None:
        asyncio.run(self._put(keys, body))

    async def _put(self, keys: tuple[str, ...], body: bytes) -> None:
        async with BackblazeStorage(self._settings) as storage:
            for key in keys:
                await storage.upload_file(key, body)


@pytest.fixture
def bucket(server: B2Server) -> Bucket:
    bucket = Bucket(server.settings())
    bucket.put(*KEYS)
    return bucket


def cost(server: B2Server, since: int) -> list[str]:
    return [attempt.operation for attempt in server.requests[since:]]


def test_a_directory_lists_its_files_and_directories(
    fs: CareflowFileSystem, bucket: Bucket
) -> None:
    assert fs.ls("", detail=False) == ["calls", "top.txt"]
    assert fs.ls("careflow://calls/", detail=False) == ["calls/CA1", "calls/CA2", "calls/index.csv"]
    entry = fs.ls("calls")[-1]
    assert (entry["size"], entry["type"]) == (5, "file")
    assert datetime.now(UTC) - entry["LastModified"] < timedelta(hours=1)
    assert fs.ls("calls")[0] == {"name": "calls/CA1", "size": 0, "type": "directory"}


def test_a_file_lists_itself_and_nothing_is_not_found(
    fs: CareflowFileSystem, bucket: Bucket
) -> None:
    assert fs.ls("top.txt", detail=False) == ["top.txt"]
    with pytest.raises(FileNotFoundError):
        fs.ls("calls/CA9")
    with pytest.raises(FileNotFoundError):
        fs.ls("calls/CA")  # the beginning of names


def test_the_root_of_an_empty_bucket_is_an_empty_directory(fs: CareflowFileSystem) -> None:
    assert fs.ls("") == []
    assert fs.isdir("")
    assert fs.find("") == []


def test_a_marker_of_an_empty_folder_is_a_directory(fs: CareflowFileSystem, bucket: Bucket) -> None:
    bucket.put("empty/", body=b"")
    assert fs.isdir("empty")
    assert fs.ls("empty") == []
    assert not fs.isfile("empty")
    assert fs.find("empty") == []
    assert fs.find("empty", withdirs=True) == ["empty"]
    fs.rmdir("empty")
    assert not fs.exists("empty")


def test_a_walk_is_that_of_a_local_disk(fs: CareflowFileSystem, bucket: Bucket) -> None:
    assert [*fs.walk("")] == [
        ("", ["calls"], ["top.txt"]),
        ("calls", ["CA1", "CA2"], ["index.csv"]),
        ("calls/CA1", [], ["a.webm", "b.webm"]),
        ("calls/CA2", [], ["a.webm"]),
    ]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("calls/*/a.webm", ["calls/CA1/a.webm", "calls/CA2/a.webm"]),
        ("calls/CA1/*.webm", ["calls/CA1/a.webm", "calls/CA1/b.webm"]),
        ("calls/CA?", ["calls/CA1", "calls/CA2"]),
        ("**/a.webm", ["calls/CA1/a.webm", "calls/CA2/a.webm"]),
        ("c*", ["calls"]),
        ("calls/in[d]ex.csv", ["calls/index.csv"]),
        ("nothing/*", []),
    ],
)
def test_patterns_match(
    fs: CareflowFileSystem, bucket: Bucket, pattern: str, found: list[str]
) -> None:
    assert fs.glob(pattern) == found


def test_find_and_du_cost_one_request_for_any_number_of_directories(
    fs: CareflowFileSystem, bucket: Bucket, server: B2Server
) -> None:
    before = len(server.requests)
    assert fs.find("") == sorted(KEYS)
    assert cost(server, before) == ["ListObjectsV2"]
    assert fs.du("calls") == 20
    assert cost(server, before) == ["ListObjectsV2"] * 2
    # What they have seen is known.
    assert fs.ls("calls/CA1", detail=False) == ["calls/CA1/a.webm", "calls/CA1/b.webm"]
    assert fs.info("calls/CA2/a.webm")["size"] == 5
    assert fs.isdir("calls/CA2")
    assert len(cost(server, before)) == 2


def test_find_takes_a_depth_a_prefix_and_directories(
    fs: CareflowFileSystem, bucket: Bucket
) -> None:
    assert fs.find("calls", maxdepth=1) == ["calls/index.csv"]
    assert fs.find("", maxdepth=2) == ["calls/index.csv", "top.txt"]
    assert fs.find("calls", prefix="in") == ["calls/index.csv"]
    assert fs.find("calls/CA1", withdirs=True) == ["calls/CA1", *KEYS[:2]]
    assert fs.find("calls", maxdepth=1, withdirs=True) == [
        *("calls", "calls/CA1", "calls/CA2", "calls/index.csv"),
    ]
    assert fs.find("top.txt") == ["top.txt"]
    assert fs.find("missing") == []
    assert fs.du("calls", total=False, maxdepth=1) == {"calls/index.csv": 5}
    with pytest.raises(ValueError, match="maxdepth"):
        fs.find("calls", maxdepth=0)


def test_info_costs_one_request_for_a_file_and_two_for_another_path(
    fs: CareflowFileSystem, bucket: Bucket, server: B2Server
) -> None:
    before = len(server.requests)
    info = fs.info("top.txt")
    assert (info["size"], info["type"], info["name"]) == (5, "file", "top.txt")
    assert info["VersionId"]
    assert cost(server, before) == ["HeadObject"]
    assert fs.isdir("calls")
    assert not fs.exists("missing")
    assert cost(server, before)[1:] == ["HeadObject", "ListObjectsV2"] * 2


def test_a_listing_is_remembered_until_it_is_refreshed(
    fs: CareflowFileSystem, bucket: Bucket, server: B2Server
) -> None:
    fs.ls("calls/CA1")
    bucket.put("calls/CA1/c.webm", body=b"123")
    assert len(fs.ls("calls/CA1")) == 2
    # What a cached listing lacks may be new.
    assert fs.exists("calls/CA1/c.webm")
    assert len(fs.ls("calls/CA1", refresh=True)) == 3
    bucket.put("calls/CA1/c.webm", body=b"1234")
    assert fs.info("calls/CA1/c.webm")["size"] == 3
    assert fs.info("calls/CA1/c.webm", refresh=True)["size"] == 4
    fs.invalidate_cache()
    assert fs.info("calls/CA1/c.webm")["size"] == 4


def test_a_file_system_can_remember_nothing(server: B2Server, fs: CareflowFileSystem) -> None:
    forgetful = CareflowFileSystem(use_listings_cache=False, skip_instance_cache=True)
    bucket = Bucket(server.settings())
    bucket.put("a/1")
    assert forgetful.ls("a", detail=False) == ["a/1"]
    bucket.put("a/2")
    assert forgetful.ls("a", detail=False) == ["a/1", "a/2"]
    assert forgetful.find("") == ["a/1", "a/2"]
    forgetful.close()


@pytest.mark.parametrize("change", ["pipe", "open", "put", "cp", "touch", "rm", "mv"])
def test_a_change_is_seen_in_every_listing_above_it(
    fs: CareflowFileSystem, bucket: Bucket, change: str, tmp_path: Path
) -> None:
    before = {folder: fs.ls(folder, detail=False) for folder in ("", "calls", "calls/CA1")}
    assert before
    new = "calls/CA1/new/x"
    match change:
        case "pipe":
            fs.pipe(new, b"1")
        case "open":
            with fs.open(new, "wb") as file:
                file.write(b"1")
        case "put":
            (tmp_path / "x").write_bytes(b"1")
            fs.put(str(tmp_path / "x"), new)
        case "cp":
            fs.cp("top.txt", new)
        case "touch":
            fs.touch(new)
        case "mv":
            fs.mv("top.txt", new)
            assert fs.ls("", detail=False) == ["calls"]
        case "rm":
            fs.rm("calls/CA1", recursive=True)
            assert fs.ls("calls", detail=False) == ["calls/CA2", "calls/index.csv"]
            with pytest.raises(FileNotFoundError):
                fs.ls("calls/CA1")
            return
    assert fs.ls("calls/CA1", detail=False) == ["calls/CA1/a.webm", "calls/CA1/b.webm", new[:-2]]
    assert fs.ls("calls/CA1/new", detail=False) == [new]
    assert fs.isfile(new)


def test_the_key_of_a_content_changes_with_it_and_is_the_same_from_a_listing(
    fs: CareflowFileSystem, bucket: Bucket
) -> None:
    described = fs.ukey("top.txt"), fs.checksum("top.txt")
    fs.ls("")
    assert (fs.ukey("top.txt"), fs.checksum("top.txt")) == described
    fs.pipe("top.txt", b"54321")
    assert fs.ukey("top.txt") != described[0]
    assert fs.checksum("top.txt") != described[1]


def test_times_are_those_of_the_newest_version(fs: CareflowFileSystem, bucket: Bucket) -> None:
    assert datetime.now(UTC) - fs.modified("top.txt") < timedelta(hours=1)
    assert fs.created("top.txt") == fs.modified("top.txt")
    with pytest.raises(IsADirectoryError):
        fs.modified("calls")


def test_the_mapper_is_a_dict_of_files(fs: CareflowFileSystem, bucket: Bucket) -> None:
    mapper = fs.get_mapper("careflow://calls")
    assert sorted(mapper) == ["CA1/a.webm", "CA1/b.webm", "CA2/a.webm", "index.csv"]
    mapper["new"] = b"1"
    assert mapper["new"] == b"1"
    del mapper["new"]
    assert "new" not in mapper


@pytest.mark.integration
def test_given_a_real_server_when_files_are_listed_then_they_are_found(
    seaweed_fs: CareflowFileSystem,
) -> None:
    seaweed_fs.pipe({f"calls/CA{call}/{n}.webm": b"12" for call in range(5) for n in range(3)})
    assert len(seaweed_fs.ls("calls")) == 5
    assert len(seaweed_fs.find("calls")) == 15
    assert seaweed_fs.du("calls") == 30
    assert seaweed_fs.glob("calls/*/1.webm") == [f"calls/CA{n}/1.webm" for n in range(5)]
    seaweed_fs.rm("calls/CA1", recursive=True)
    assert not seaweed_fs.exists("calls/CA1")
