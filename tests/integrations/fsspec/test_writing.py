"""Files that are written: complete when they are closed, and not there before."""

from __future__ import annotations

import gc
import random
from pathlib import Path
from typing import Any

import pytest
from fsspec.callbacks import Callback

from careflow_storage.integrations.fsspec import CareflowFileSystem
from careflow_storage.testing import B2Server

MIB = 1024 * 1024
# More than the part size of the uploads, so that there is an upload to abort.
LARGE = random.Random(1).randbytes(6 * MIB)


class InterruptedWorkError(Exception):
    """An error of the code that writes."""


def write_and_fail(
    fs: CareflowFileSystem, path: str, content: bytes | str, mode: str = "wb", **options: Any
) -> None:
    with fs.open(path, mode, **options) as file:
        file.write(content)
        raise InterruptedWorkError


def write_in_failed_transaction(fs: CareflowFileSystem, path: str) -> None:
    with fs.transaction:
        with fs.open(path, "wb") as file:
            file.write(LARGE)
        raise InterruptedWorkError


def write_and_drop(fs: CareflowFileSystem, path: str, compression: str | None) -> None:
    file = fs.open(path, "wb", compression=compression)
    file.write(b"1")
    del file
    gc.collect()


def left_over(server: B2Server) -> list[str]:
    return [upload.key for upload in server.incomplete_uploads()]


@pytest.mark.parametrize("pieces", [0, 1, 1000, 3 * MIB])
def test_a_small_file_is_one_request(fs: CareflowFileSystem, server: B2Server, pieces: int) -> None:
    content = LARGE[:pieces]
    before = len(server.requests)
    with fs.open("a/b.txt", "wb") as file:
        for position in range(0, pieces, 100_000):
            assert file.write(content[position : position + 100_000])
        assert not fs.exists("a/b.txt")
        file.flush()
    operations = [attempt.operation for attempt in server.requests[before:]]
    assert operations.count("PutObject") == 1
    assert fs.cat_file("a/b.txt") == content


@pytest.mark.parametrize("size", [MIB, 5 * MIB + 1, len(LARGE)])
def test_a_large_file_is_sent_in_parts(fs: CareflowFileSystem, server: B2Server, size: int) -> None:
    with fs.open("large", "wb") as file:
        for position in range(0, len(LARGE), size):
            file.write(memoryview(LARGE)[position : position + size])
        assert file.tell() == len(LARGE)
    assert fs.cat_file("large") == LARGE
    assert "CompleteMultipartUpload" in {attempt.operation for attempt in server.requests}


@pytest.mark.parametrize("mode", ["wb", "w"])
@pytest.mark.parametrize("compression", [None, "gzip", "bz2"])
def test_an_exception_stores_nothing(
    fs: CareflowFileSystem, server: B2Server, mode: str, compression: str | None
) -> None:
    content = LARGE if mode == "wb" else "x" * len(LARGE)
    with pytest.raises(InterruptedWorkError):
        write_and_fail(fs, "broken", content, mode, compression=compression)
    assert not fs.exists("broken")
    assert not left_over(server)


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_a_file_that_is_dropped_is_not_stored(
    fs: CareflowFileSystem, compression: str | None
) -> None:
    with pytest.warns(ResourceWarning, match="dropped was not closed"):
        write_and_drop(fs, "dropped", compression)
    assert not fs.exists("dropped")


def test_discarded_it_stores_nothing(fs: CareflowFileSystem, server: B2Server) -> None:
    file = fs.open("discarded", "wb")
    file.write(LARGE)
    file.discard()
    file.discard()
    file.close()
    assert not fs.exists("discarded")
    assert not left_over(server)


def test_a_closed_file_takes_no_more(fs: CareflowFileSystem) -> None:
    with fs.open("closed", "wb") as file:
        file.write(b"1")
    file.close()
    for data in (b"2", LARGE):
        with pytest.raises(ValueError, match=r"write mode|closed"):
            file.write(data)
    assert fs.cat_file("closed") == b"1"


def test_a_transaction_stores_all_or_nothing(fs: CareflowFileSystem, server: B2Server) -> None:
    with fs.transaction:
        for name in ("t/1", "t/2"):
            with fs.open(name, "wb") as file:
                file.write(LARGE)
        assert fs.find("t") == []
    assert fs.find("t") == ["t/1", "t/2"]
    with pytest.raises(InterruptedWorkError):
        write_in_failed_transaction(fs, "t/3")
    assert fs.find("t") == ["t/1", "t/2"]
    assert not left_over(server)


def test_many_files_are_open_at_once(fs: CareflowFileSystem) -> None:
    # Their parts are more than the memory of all transfers.
    files = [fs.open(f"open/{n}", "wb") for n in range(12)]
    for _ in range(3):
        for file in files:
            file.write(LARGE[: 2 * MIB])
    for file in files:
        file.close()
    assert fs.du("open") == 12 * 6 * MIB


def test_an_exclusive_file_must_be_new(fs: CareflowFileSystem) -> None:
    with fs.open("new", "xb") as file:
        file.write(b"1")
    with pytest.raises(FileExistsError):
        fs.open("new", "xb")
    with pytest.raises(FileExistsError):
        fs.pipe_file("new", b"2", mode="create")
    assert fs.cat_file("new") == b"1"


def test_a_file_that_appears_while_an_exclusive_one_is_written_is_not_replaced_in_pipe(
    fs: CareflowFileSystem, tmp_path: Path
) -> None:
    (tmp_path / "x").write_bytes(b"2")
    fs.pipe("there", b"1")
    with pytest.raises(FileExistsError):
        fs.put_file(tmp_path / "x", "there", mode="create")
    assert fs.cat_file("there") == b"1"


@pytest.mark.parametrize("size", [0, 5, 6 * MIB])
def test_a_file_is_appended_to_and_keeps_its_type_and_metadata(
    fs: CareflowFileSystem, size: int
) -> None:
    options: Any = {"content_type": "text/x-log", "metadata": {"call": "CA1"}}
    fs.pipe_file("log", LARGE[:size], **options)
    with fs.open("log", "ab") as file:
        assert file.tell() == size
        file.write(b"more")
    assert fs.cat_file("log") == LARGE[:size] + b"more"
    assert fs.info("log")["ContentType"] == "text/x-log"
    assert fs.metadata("log") == {"call": "CA1"}
    with fs.open("none yet", "a") as file:
        file.write("first")
    assert fs.cat_file("none yet") == b"first"


def test_a_file_is_stored_with_options(fs: CareflowFileSystem, tmp_path: Path) -> None:
    options: Any = {"content_type": "audio/x-test", "metadata": {"a": "b"}}
    with fs.open("1", "wb", **options) as file:
        file.write(b"1")
    fs.pipe_file("2", b"1", **options)
    (tmp_path / "x").write_bytes(b"1")
    fs.put_file(tmp_path / "x", "3", **options)
    for path in ("1", "2", "3"):
        assert fs.info(path)["ContentType"] == "audio/x-test"
        assert fs.metadata(path) == {"a": "b"}
    for store in (fs.open, fs.pipe_file):
        with pytest.raises(TypeError, match="colour"):
            store("4", "wb", colour="red")


def test_files_are_uploaded_with_progress(fs: CareflowFileSystem, tmp_path: Path) -> None:
    (tmp_path / "tree/b").mkdir(parents=True)
    (tmp_path / "tree/1").write_bytes(LARGE)
    (tmp_path / "tree/b/2").write_bytes(b"2")
    callback = Callback()
    fs.put_file(tmp_path / "tree/1", "one", callback=callback)
    assert (callback.size, callback.value) == (len(LARGE), len(LARGE))
    fs.put(str(tmp_path / "tree"), "careflow://up", recursive=True)
    assert fs.find("up") == ["up/1", "up/b/2"]


def test_touch_makes_an_empty_file(fs: CareflowFileSystem) -> None:
    fs.touch("touched")
    assert fs.info("touched")["size"] == 0
    fs.pipe("touched", b"1")
    with pytest.raises(NotImplementedError):
        fs.touch("touched", truncate=False)
    fs.touch("other", truncate=False)
    assert fs.exists("other")


def test_the_server_copies_and_moves(fs: CareflowFileSystem, server: B2Server) -> None:
    fs.pipe({"a/1": b"1", "a/b/2": b"2"})
    fs.cp("a/1", "c")
    assert fs.cat_file("c") == b"1"
    before = len(server.requests)
    fs.mv("a", "d", recursive=True)
    assert not {"GetObject", "PutObject"} & {each.operation for each in server.requests[before:]}
    assert fs.find("") == ["c", "d/1", "d/b/2"]
    with pytest.raises(FileNotFoundError):
        fs.cp("missing", "e")


def test_a_move_to_a_depth_keeps_what_is_deeper(fs: CareflowFileSystem) -> None:
    fs.pipe({"a/0": b"0", "a/1": b"1", "a/b/2": b"2"})
    fs.mv("a", "z", recursive=True, maxdepth=1)
    assert fs.find("") == ["a/b/2", "z/0", "z/1"]


def test_directories_need_not_be_made(fs: CareflowFileSystem) -> None:
    fs.mkdir("a/b")
    fs.makedirs("a/b/c", exist_ok=True)
    assert not fs.exists("a")
    fs.pipe("a/b/1", b"")
    with pytest.raises(OSError, match="not empty"):
        fs.rmdir("a/b")
    with pytest.raises(FileNotFoundError):
        fs.rmdir("x")


def test_files_are_removed_a_thousand_at_once(fs: CareflowFileSystem, server: B2Server) -> None:
    fs.pipe({f"many/{n}/{m}": b"" for n in range(3) for m in range(3)})
    fs.pipe({"many/0-other": b"", "other": b""})
    before = len(server.requests)
    fs.rm("many/0", recursive=True)
    operations = [each.operation for each in server.requests[before:]]
    assert operations.count("DeleteObjects") == 1
    assert len(operations) <= 4
    fs.rm(["many/1/0", "many/1/1"])
    fs.rm("many/2/[01]")
    assert fs.find("many") == ["many/0-other", "many/1/2", "many/2/2"]
    fs.rm("many", recursive=True, maxdepth=1)
    assert fs.find("many") == ["many/1/2", "many/2/2"]
    fs.rm_file("many/1/2")
    fs.rm("many", recursive=True)
    assert fs.find("") == ["other"]


def test_what_cannot_be_removed_is_an_error(fs: CareflowFileSystem) -> None:
    fs.pipe("a/b", b"")
    with pytest.raises(FileNotFoundError):
        fs.rm("missing")
    with pytest.raises(FileNotFoundError):
        fs.rm("missing*")
    with pytest.raises(IsADirectoryError):
        fs.rm("a")
    with pytest.raises(ValueError, match="everything in the bucket"):
        fs.rm("careflow://", recursive=True)
    assert fs.exists("a/b")
    # As the error advises.
    fs.rm(fs.ls("", detail=False), recursive=True)
    assert fs.find("") == []


@pytest.mark.integration
def test_given_a_real_server_when_a_write_fails_then_nothing_is_stored(
    seaweed_fs: CareflowFileSystem,
) -> None:
    with pytest.raises(InterruptedWorkError):
        write_and_fail(seaweed_fs, "broken", LARGE)
    assert not seaweed_fs.exists("broken")
    with seaweed_fs.transaction, seaweed_fs.open("whole", "wb") as file:
        file.write(LARGE)
    assert seaweed_fs.cat_file("whole") == LARGE
    with pytest.raises(FileExistsError):
        seaweed_fs.open("whole", "xb")
    seaweed_fs.mv("whole", "moved")
    assert seaweed_fs.find("") == ["moved"]
