"""Files that are read: whole, by ranges, as open files; each from one version."""

from __future__ import annotations

import io
import pickle
import random
import threading
from pathlib import Path

import fsspec
import pytest
from fsspec.callbacks import Callback

from careflow_storage import PreconditionFailedError
from careflow_storage.integrations.fsspec import CareflowFile, CareflowFileSystem
from careflow_storage.testing import B2Server

MIB = 1024 * 1024
CONTENT = random.Random(1).randbytes(3 * MIB + 17)


@pytest.fixture
def stored(fs: CareflowFileSystem, server: B2Server) -> str:
    fs.pipe("calls/a.bin", CONTENT)
    return "calls/a.bin"


def cost(server: B2Server, since: int) -> list[str]:
    return [attempt.operation for attempt in server.requests[since:]]


@pytest.mark.parametrize(
    ("start", "end"),
    [
        *((None, None), (0, 10), (5, None), (-10, None), (None, -10), (-20, -10), (10, 10)),
        *((20, 10), (len(CONTENT) - 1, len(CONTENT) + 5), (len(CONTENT), None), (10**9, 10**9 + 1)),
    ],
)
def test_a_range_is_a_slice(
    fs: CareflowFileSystem, stored: str, start: int | None, end: int | None
) -> None:
    assert fs.cat_file(stored, start=start, end=end) == CONTENT[start:end]


def test_many_files_and_many_ranges_are_read_at_once(fs: CareflowFileSystem) -> None:
    files = {f"many/{n}": bytes([n]) * 100 for n in range(30)}
    fs.pipe(files)
    assert fs.cat("many/*") == files
    assert fs.cat(["many/1", "many/2"]) == {"many/1": files["many/1"], "many/2": files["many/2"]}
    assert fs.cat_ranges([*files], 10, 12) == [content[10:12] for content in files.values()]
    missing = fs.cat_ranges(["many/1", "many/none"], [0, 0], [1, 1])
    assert missing[0] == b"\1"
    assert isinstance(missing[1], FileNotFoundError)
    assert fs.cat(["many/1", "many/none"], on_error="omit") == {"many/1": files["many/1"]}


def test_a_directory_is_read_with_all_that_is_in_it(fs: CareflowFileSystem) -> None:
    fs.pipe({"a/1": b"1", "a/b/2": b"2"})
    assert fs.cat("a", recursive=True) == {"a/1": b"1", "a/b/2": b"2"}
    assert fs.cat("a/*") == {"a/1": b"1"}


def test_reads_that_continue_each_other_share_a_request(
    fs: CareflowFileSystem, stored: str, server: B2Server
) -> None:
    before = len(server.requests)
    with fs.open(stored, block_size=64 * 1024) as file:
        pieces = [*iter(lambda: file.read(10_000), b"")]
    assert b"".join(pieces) == CONTENT
    assert cost(server, before) == ["HeadObject", "GetObject", "GetObject"]


def test_reads_elsewhere_are_range_requests(
    fs: CareflowFileSystem, stored: str, server: B2Server
) -> None:
    before = len(server.requests)
    with fs.open(stored, cache_type="none") as file:
        file.seek(-100, io.SEEK_END)
        assert file.read(100) == CONTENT[-100:]
        file.seek(7)
        assert file.read(10) == CONTENT[7:17]
    assert cost(server, before) == ["HeadObject", "GetObject", "GetObject"]


@pytest.mark.parametrize("cache", ["readahead", "bytes", "blockcache", "background", "all", "none"])
def test_a_file_reads_as_one_on_a_disk(
    fs: CareflowFileSystem, stored: str, cache: str, tmp_path: Path
) -> None:
    rng = random.Random(cache)
    local = io.BytesIO(CONTENT)
    with fs.open(stored, block_size=256 * 1024, cache_type=cache) as file:
        for _ in range(30):
            if rng.random() < 0.5:
                position = rng.randrange(len(CONTENT) + 100)
                assert file.seek(position) == local.seek(position)
            size = rng.choice([1, 100, 5000, 300_000])
            assert file.read(size) == local.read(size)
            assert file.tell() == min(local.tell(), file.tell())


def test_a_listed_file_is_opened_without_a_request(
    fs: CareflowFileSystem, stored: str, server: B2Server
) -> None:
    fs.ls("calls")
    before = len(server.requests)
    with fs.open(stored) as file:
        assert file.size == len(CONTENT)
        assert file.read(10) == CONTENT[:10]
    assert cost(server, before) == ["GetObject"]


def test_text_compression_and_lines_are_read(fs: CareflowFileSystem, stored: str) -> None:
    with fs.open("a.csv.gz", "wb", compression="infer") as file:
        file.write(b"one\ntwo\n")
    with fs.open("a.csv.gz", "rt", compression="infer") as file:
        assert file.readlines() == ["one\n", "two\n"]
    with fsspec.open("careflow://a.csv.gz", "rb", compression="gzip") as file:
        assert file.read() == b"one\ntwo\n"
    fs.pipe("lines.txt", "ä\nö".encode())
    assert fs.read_text("lines.txt") == "ä\nö"
    assert fs.head("lines.txt", 2) == "ä".encode()
    assert fs.tail("lines.txt", 2) == "ö".encode()


def test_a_file_that_is_replaced_while_it_is_open_reads_the_version_it_had(
    fs: CareflowFileSystem, stored: str
) -> None:
    with fs.open(stored, cache_type="none") as file:
        assert file.read(5) == CONTENT[:5]
        fs.pipe(stored, b"other")
        assert file.read(5) == CONTENT[5:10]


def test_a_file_that_was_replaced_since_it_was_listed_is_an_error(
    fs: CareflowFileSystem, stored: str
) -> None:
    fs.ls("calls")
    other = CareflowFileSystem(skip_instance_cache=True)
    other.pipe(stored, CONTENT[::-1])
    with fs.open(stored) as file, pytest.raises(OSError, match="was replaced") as caught:
        file.read(5)
    assert isinstance(caught.value.__cause__, PreconditionFailedError)
    fs.invalidate_cache()
    assert fs.open(stored).read(5) == CONTENT[::-1][:5]
    other.close()


def test_an_open_file_is_pickled_with_its_version_and_position(
    fs: CareflowFileSystem, stored: str
) -> None:
    with fs.open(stored) as file:
        file.seek(100)
        pickled = pickle.dumps(file)
    fs.pipe(stored, b"other")
    with pickle.loads(pickled) as again:  # noqa: S301 - made two lines above
        assert isinstance(again, CareflowFile)
        assert again.read(10) == CONTENT[100:110]
        assert again.fs == CareflowFileSystem()
    with fs.open("new", "wb") as file, pytest.raises(TypeError, match="pickled"):
        pickle.dumps(file)
    CareflowFileSystem().close()


def test_an_open_file_can_be_dropped(fs: CareflowFileSystem, stored: str) -> None:
    file = fs.open(stored, block_size=1000)
    file.read(2000)
    file.read(2000)
    del file
    assert fs.cat_file(stored, end=5) == CONTENT[:5]


def test_threads_share_a_file_system(fs: CareflowFileSystem, stored: str) -> None:
    read: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: read.append(fs.open(stored).read())) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read == [CONTENT] * 8


def test_files_are_downloaded_with_progress(
    fs: CareflowFileSystem, stored: str, tmp_path: Path
) -> None:
    callback = Callback()
    fs.get_file(stored, tmp_path / "a.bin", callback=callback)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert (callback.size, callback.value) == (len(CONTENT), len(CONTENT))
    fs.pipe({"tree/1": b"1", "tree/b/2": b"2"})
    fs.get("tree", str(tmp_path / "tree"), recursive=True)
    assert (tmp_path / "tree/b/2").read_bytes() == b"2"


def test_an_open_file_refuses_what_it_cannot_do(fs: CareflowFileSystem, stored: str) -> None:
    with pytest.raises(TypeError, match="encryption"):
        fs.open(stored, encryption=None)
    with fs.open(stored) as file:
        with pytest.raises(ValueError, match="write"):
            file.write(b"1")
        with pytest.raises(ValueError, match="Seek before"):
            file.seek(-1)
    with pytest.raises(ValueError, match="closed"):
        file.read(1)


@pytest.mark.integration
def test_given_a_real_server_when_a_file_is_read_then_it_is_what_was_written(
    seaweed_fs: CareflowFileSystem,
) -> None:
    content = random.Random(2).randbytes(21 * MIB)
    with seaweed_fs.open("big.bin", "wb") as file:
        file.write(content)
    with seaweed_fs.open("big.bin") as file:
        assert b"".join(iter(lambda: file.read(MIB), b"")) == content
        file.seek(-5, io.SEEK_END)
        assert file.read() == content[-5:]
    assert seaweed_fs.cat_file("big.bin", start=-7) == content[-7:]
