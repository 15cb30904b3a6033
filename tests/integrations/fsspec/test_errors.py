"""Failures are the errors of a file system, and the storage's error is their cause."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest

from careflow_storage import (
    AccessDeniedError,
    ConnectionFailedError,
    FileLockedError,
    InvalidCredentialsError,
    InvalidInputError,
    InvalidPathError,
    NoSuchBucketError,
    NoSuchKeyError,
    NotConfiguredError,
    NotSupportedError,
    PreconditionFailedError,
    ServiceUnavailableError,
    StorageError,
    StorageTimeoutError,
    TransferError,
)
from careflow_storage.integrations.fsspec import CareflowFileSystem
from careflow_storage.integrations.fsspec.errors import os_errors
from careflow_storage.testing import B2Server

READS: dict[str, Callable[[CareflowFileSystem], Any]] = {
    "cat": lambda fs: fs.cat_file("missing"),
    "cat_range": lambda fs: fs.cat_file("missing", start=5, end=10),
    "open": lambda fs: fs.open("missing"),
    "info": lambda fs: fs.info("missing"),
    "ls": lambda fs: fs.ls("missing"),
    "get": lambda fs: fs.get_file("missing", "there"),
    "cp": lambda fs: fs.cp_file("missing", "there"),
    "rm": lambda fs: fs.rm("missing"),
    "modified": lambda fs: fs.modified("missing"),
    "metadata": lambda fs: fs.metadata("missing"),
    "mv": lambda fs: fs.mv("missing", "there"),
}


@pytest.mark.parametrize("call", READS.values(), ids=READS)
def test_what_is_missing_is_not_found(
    fs: CareflowFileSystem, call: Callable[[CareflowFileSystem], Any]
) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        call(fs)
    assert caught.value.errno == errno.ENOENT
    assert caught.value.filename == "missing"
    assert not isinstance(caught.value, StorageError)


@pytest.mark.parametrize(
    "call", [READS[name] for name in ("cat", "open", "info", "ls", "metadata")]
)
def test_without_permission_it_is_a_permission_error(
    server: B2Server,
    fs: CareflowFileSystem,
    call: Callable[[CareflowFileSystem], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fs.pipe("missing", b"it is there")
    key = server.create_key(capabilities=["writeFiles"])
    monkeypatch.setenv("BACKBLAZE_KEY_ID", key.key_id)
    monkeypatch.setenv("BACKBLAZE_APPLICATION_KEY", key.application_key)
    denied = CareflowFileSystem(skip_instance_cache=True)
    with pytest.raises(PermissionError) as caught:
        call(denied)
    assert isinstance(caught.value.__cause__, AccessDeniedError)
    # A file that the key may not read is not a missing one.
    for look in (denied.exists, denied.isfile, denied.isdir):
        with pytest.raises(PermissionError):
            look("missing")
    denied.close()


def test_an_outage_is_not_a_missing_file(server: B2Server, fs: CareflowFileSystem) -> None:
    fs.pipe("there", b"1")
    server.faults.always(status=503)
    for look in (fs.exists, fs.isfile, fs.isdir, fs.info, fs.ls, fs.find, fs.cat_file, fs.open):
        with pytest.raises(OSError, match="there") as caught:
            look("there")
        assert caught.value.errno == errno.EIO
        assert isinstance(caught.value.__cause__, ServiceUnavailableError)
    with pytest.raises(OSError, match="new") as caught, fs.open("new", "wb") as file:
        file.write(b"1")
    assert isinstance(caught.value.__cause__, ServiceUnavailableError)
    assert file.closed
    server.faults.clear()
    assert not fs.exists("new")


def test_a_missing_file_is_told_from_a_hidden_one_without_the_right_to_list_buckets(
    server: B2Server, fs: CareflowFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    # B2 responds with 403 for a missing file then.
    key = server.create_key(capabilities=["listFiles", "readFiles", "writeFiles"])
    monkeypatch.setenv("BACKBLAZE_KEY_ID", key.key_id)
    monkeypatch.setenv("BACKBLAZE_APPLICATION_KEY", key.application_key)
    limited = CareflowFileSystem(skip_instance_cache=True)
    limited.pipe("a/b", b"1")
    assert limited.exists("a/b")
    assert limited.isdir("a")
    assert not limited.exists("b")
    limited.close()


def test_a_file_that_cannot_be_removed_is_an_error_and_the_others_are_removed(
    server: B2Server, fs: CareflowFileSystem
) -> None:
    fs.pipe({"a/1": b"", "a/2": b""})
    key = server.create_key(capabilities=["listFiles", "listBuckets", "readFiles"])
    reader = CareflowFileSystem(skip_instance_cache=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BACKBLAZE_KEY_ID", key.key_id)
        patch.setenv("BACKBLAZE_APPLICATION_KEY", key.application_key)
        with pytest.raises(PermissionError) as caught:
            reader.rm("a", recursive=True)
    assert isinstance(caught.value.__cause__, AccessDeniedError)
    reader.close()
    assert fs.find("a") == ["a/1", "a/2"]


def test_bad_paths_are_refused_before_any_request(server: B2Server, fs: CareflowFileSystem) -> None:
    for path in ("a/../b", "a\x00b", "x" * 2000):
        for call in (fs.cat_file, fs.info, fs.open, fs.rm_file):
            with pytest.raises(InvalidInputError):
                call(path)
        with pytest.raises(InvalidInputError):
            fs.pipe_file(path, b"1")
        with pytest.raises(InvalidInputError):
            fs.open(path, "wb")
    with pytest.raises(InvalidInputError, match="mode"):
        fs.open("a", "r+b")
    assert not server.requests


def test_without_settings_it_says_which_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    fs = CareflowFileSystem(skip_instance_cache=True)
    with pytest.raises(NotConfiguredError, match="BACKBLAZE_KEY_ID"):
        fs.exists("a")
    with pytest.raises(InvalidInputError, match=r"missing\.env"):
        CareflowFileSystem(env_file="missing.env").ls("")


MAPPED: list[tuple[StorageError, type[Exception], int | None]] = [
    (NoSuchKeyError("m"), FileNotFoundError, errno.ENOENT),
    (NoSuchBucketError("m"), FileNotFoundError, errno.ENOENT),
    (AccessDeniedError("m"), PermissionError, errno.EACCES),
    (FileLockedError("m"), PermissionError, errno.EACCES),
    (InvalidCredentialsError("m"), PermissionError, errno.EACCES),
    (StorageTimeoutError("m"), TimeoutError, errno.ETIMEDOUT),
    (ConnectionFailedError("m"), ConnectionError, errno.ECONNABORTED),
    (PreconditionFailedError("m"), OSError, errno.EBUSY),
    (NotSupportedError("m"), OSError, errno.ENOTSUP),
    (ServiceUnavailableError("m"), OSError, errno.EIO),
    (TransferError("m"), OSError, errno.EIO),
]


@pytest.mark.parametrize(("error", "kind", "number"), MAPPED)
def test_each_error_has_its_kind(error: StorageError, kind: type[OSError], number: int) -> None:
    with pytest.raises(kind) as caught, os_errors("path"):
        raise error
    assert caught.value.errno == number
    assert caught.value.filename == "path"
    assert caught.value.__cause__ is error


def test_what_is_there_already_is_a_file_exists_error() -> None:
    with pytest.raises(FileExistsError), os_errors("path", exclusive=True):
        raise PreconditionFailedError("m")


@pytest.mark.parametrize(
    "error",
    [
        InvalidInputError("m"),
        NotConfiguredError(("BACKBLAZE_KEY_ID",)),
        InvalidPathError("m", errno=errno.ENOSPC, filename="x"),
    ],
)
def test_errors_of_the_caller_are_unchanged(error: StorageError) -> None:
    with pytest.raises(type(error)) as caught, os_errors("path"):
        raise error
    assert caught.value is error


def test_a_server_that_does_not_respond_is_a_timeout(
    server: B2Server, fs: CareflowFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACKBLAZE_IDLE_TIMEOUT", "0.05")
    monkeypatch.setenv("BACKBLAZE_RETRY_ATTEMPTS", "1")
    server.faults.always("GetObject", delay=1.0)
    hasty = CareflowFileSystem(skip_instance_cache=True)
    with pytest.raises(TimeoutError) as caught:
        hasty.cat_file("a")
    causes: list[BaseException | None] = [caught.value]
    while causes[-1] is not None:
        causes.append(causes[-1].__cause__)
    assert any(isinstance(each, StorageTimeoutError) for each in causes)
    hasty.close()
