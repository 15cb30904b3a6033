"""Targets of downloads, the files that they replace, and errors of the disk."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import pickle
import stat
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from careflow_storage import (
    BackblazeStorage,
    InvalidInputError,
    InvalidPathError,
    LocalFileError,
    StorageError,
    StorageSettings,
)
from careflow_storage.testing.proxy.proxy import FaultProxy
from tests.support.behind_proxy import NOTHING_HELD, PART, held, storage_behind
from tests.support.bodies import noise

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="modes and links of POSIX")

DATA = noise(3 * PART)


@pytest.fixture
async def storage(proxy: FaultProxy, settings: StorageSettings) -> AsyncIterator[BackblazeStorage]:
    """With `DATA` under "a", in several parts."""
    async with storage_behind(proxy, settings) as opened:
        await opened.upload_file("a", DATA)
        proxy.clear()
        yield opened
        assert held(opened) == NOTHING_HELD


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def tree(folder: Path) -> dict[str, bytes | str]:
    """All files below a folder, hidden ones included; for a link, its target."""
    return {
        str(path.relative_to(folder)): (
            str(path.readlink()) if path.is_symlink() else path.read_bytes()
        )
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


class TestWhatIsThere:
    @pytest.mark.parametrize("resume", [False, True])
    @pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o660, 0o755])
    async def test_given_a_file_when_it_is_replaced_then_its_mode_stays(
        self, storage: BackblazeStorage, tmp_path: Path, mode: int, resume: bool
    ) -> None:
        target = tmp_path / "out"
        target.write_bytes(b"old")
        target.chmod(mode)
        await storage.download_file("a", target, resume=resume)
        assert mode_of(target) == mode
        assert tree(tmp_path) == {"out": DATA}

    @pytest.mark.parametrize("resume", [False, True])
    async def test_given_no_file_then_the_new_one_has_the_default_mode(
        self, storage: BackblazeStorage, tmp_path: Path, resume: bool
    ) -> None:
        (tmp_path / "any").write_bytes(b"")
        await storage.download_file("a", tmp_path / "out", resume=resume)
        assert mode_of(tmp_path / "out") == mode_of(tmp_path / "any")

    async def test_given_a_private_file_then_its_new_bytes_are_private_all_the_time(
        self, storage: BackblazeStorage, tmp_path: Path
    ) -> None:
        target = tmp_path / "out"
        target.write_bytes(b"old")
        target.chmod(0o600)
        modes: set[int] = set()

        def look(_: Any) -> None:
            modes.update(mode_of(path) for path in tmp_path.iterdir())

        await storage.download_file("a", target, progress=look)
        assert modes == {0o600}

    @pytest.mark.parametrize("resume", [False, True])
    async def test_given_a_link_then_it_is_replaced_and_its_file_stays(
        self, storage: BackblazeStorage, tmp_path: Path, resume: bool
    ) -> None:
        for folder in ("here", "there"):
            (tmp_path / folder).mkdir()
        (tmp_path / "there" / "file").write_bytes(b"old")
        (tmp_path / "here" / "link").symlink_to("../there/file")
        result = await storage.download_file("a", tmp_path / "here" / "link", resume=resume)
        assert result.path == tmp_path / "here" / "link"
        assert tree(tmp_path) == {"there/file": b"old", "here/link": DATA}

    async def test_given_a_link_to_no_file_then_it_is_replaced(
        self, storage: BackblazeStorage, tmp_path: Path
    ) -> None:
        (tmp_path / "link").symlink_to("file")
        await storage.download_file("a", tmp_path / "link")
        assert tree(tmp_path) == {"link": DATA}

    async def test_given_a_link_among_its_folders_then_it_is_followed(
        self, storage: BackblazeStorage, tmp_path: Path
    ) -> None:
        (tmp_path / "there").mkdir()
        (tmp_path / "here").symlink_to("there")
        await storage.download_file("a", tmp_path / "here" / "out")
        assert tree(tmp_path) == {"here": "there", "there/out": DATA}

    async def test_given_a_hard_link_then_its_other_name_keeps_the_old_bytes(
        self, storage: BackblazeStorage, tmp_path: Path
    ) -> None:
        (tmp_path / "one").write_bytes(b"old")
        (tmp_path / "two").hardlink_to(tmp_path / "one")
        await storage.download_file("a", tmp_path / "one")
        assert tree(tmp_path) == {"one": DATA, "two": b"old"}


def fifo(folder: Path) -> Path:
    os.mkfifo(folder / "fifo")
    return folder / "fifo"


def link_to(name: str, target: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).symlink_to(target)
        return folder / name

    return make


def below_a_file(folder: Path) -> Path:
    (folder / "file").write_bytes(b"precious")
    return folder / "file" / "out"


BAD_TARGETS: dict[str, tuple[Callable[[Path], Path | str], int]] = {
    "a folder": (lambda folder: folder, errno.EISDIR),
    "the current folder": (lambda _: "", errno.EISDIR),
    "a name with a slash": (lambda folder: f"{folder}/out/", errno.EISDIR),
    "a missing folder": (lambda folder: folder / "no" / "out", errno.ENOENT),
    "below a file": (below_a_file, errno.ENOTDIR),
    "256 bytes": (lambda folder: folder / ("a" * 256), errno.ENAMETOOLONG),
    "256 bytes of a folder": (lambda folder: folder / ("a" * 256) / "out", errno.ENAMETOOLONG),
    "5,000 bytes": (lambda folder: folder / "/".join(["a" * 100] * 50), errno.ENAMETOOLONG),
    "NUL": (lambda folder: f"{folder}/a\0b", errno.EINVAL),
    "a lone surrogate": (lambda folder: f"{folder}/a\ud800b", errno.EINVAL),
    "null device": (lambda _: Path("/dev/null"), errno.EINVAL),
    "full device": (lambda _: Path("/dev/full"), errno.EINVAL),
    "stdout": (lambda _: Path("/dev/stdout"), errno.EINVAL),
    "a descriptor": (lambda _: "/dev/fd/1", errno.EINVAL),
    "a fifo": (fifo, errno.EINVAL),
    "a link to a folder": (link_to("link", "."), errno.EISDIR),
    "a link to itself": (link_to("link", "link"), errno.ELOOP),
    "a link to a device": (link_to("link", "/dev/null"), errno.EINVAL),
}


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("name", BAD_TARGETS)
async def test_given_an_impossible_target_then_it_is_refused_before_any_request(
    storage: BackblazeStorage, proxy: FaultProxy, tmp_path: Path, name: str, resume: bool
) -> None:
    make, number = BAD_TARGETS[name]
    target = make(tmp_path)
    before = tree(tmp_path)
    with pytest.raises(InvalidPathError) as caught:
        await storage.download_file("a", target, resume=resume)
    error = caught.value
    assert isinstance(error, OSError)
    assert isinstance(error, InvalidInputError)
    assert (error.errno, error.filename) == (number, str(Path(target)))
    assert proxy.log == []
    assert tree(tmp_path) == before


@contextlib.contextmanager
def as_nobody() -> Iterator[Path]:
    """Run without the rights of root; yield a folder that all users may write to."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            yield folder
        finally:
            os.seteuid(user)


async def test_given_a_read_only_folder_or_file_then_it_is_refused_before_any_request(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    with as_nobody() as folder:
        (folder / "closed").mkdir(mode=0o555)
        (folder / "file").write_bytes(b"precious")
        (folder / "file").chmod(0o444)
        for target in (folder / "closed" / "out", folder / "file"):
            with pytest.raises(InvalidPathError) as caught:
                await storage.download_file("a", target)
            assert caught.value.errno == errno.EACCES
        assert proxy.log == []
        assert tree(folder) == {"file": b"precious"}


class _FailingFile(io.FileIO):
    """A disk that fails after its first block."""

    number = 0

    def write(self, data: Any, /) -> int:
        if self.tell() >= PART:
            raise OSError(self.number, os.strerror(self.number))
        return super().write(data)


@contextlib.contextmanager
def failing_writes(number: int) -> Iterator[None]:
    def open_failing(descriptor: int, *_: Any, **__: Any) -> _FailingFile:
        file = _FailingFile(descriptor, "rb+")
        file.number = number
        return file

    with mock.patch("os.fdopen", open_failing):
        yield


def failing_sync(number: int) -> contextlib.AbstractContextManager[Any]:
    return mock.patch("os.fsync", side_effect=OSError(number, os.strerror(number)))


def failing_open(number: int) -> contextlib.AbstractContextManager[Any]:
    real = os.open

    def fail(path: Any, *arguments: Any, **more: Any) -> int:
        if Path(path).name.startswith(".careflow-"):
            raise OSError(number, os.strerror(number), path)
        return real(path, *arguments, **more)

    return mock.patch("os.open", fail)


DISK_FAULTS: dict[str, Callable[[int], contextlib.AbstractContextManager[Any]]] = {
    "write": failing_writes,
    "fsync": failing_sync,
    "open": failing_open,
}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("where", DISK_FAULTS)
async def test_given_a_disk_that_fails_then_the_error_is_typed_and_the_old_file_stays(
    storage: BackblazeStorage, tmp_path: Path, where: str, number: int
) -> None:
    target = tmp_path / "out"
    target.write_bytes(b"old")
    with DISK_FAULTS[where](number), pytest.raises(LocalFileError) as caught:
        await storage.download_file("a", target)
    for error in (caught.value, pickle.loads(pickle.dumps(caught.value))):  # noqa: S301
        assert isinstance(error, StorageError)
        assert isinstance(error, OSError)
        assert (error.errno, error.filename) == (number, str(target))
        assert os.strerror(number) in str(error)
    assert caught.value.retryable is (number != errno.EROFS)
    assert tree(tmp_path) == {"out": b"old"}
    await storage.download_file("a", target)
    assert tree(tmp_path) == {"out": DATA}


async def test_given_a_full_disk_when_resumed_then_what_was_written_is_kept(
    storage: BackblazeStorage, tmp_path: Path
) -> None:
    target = tmp_path / "out"
    with failing_writes(errno.ENOSPC), pytest.raises(LocalFileError):
        await storage.download_file("a", target, resume=True)
    assert not target.exists()
    result = await storage.download_file("a", target, resume=True)
    assert result.reused == PART
    assert tree(tmp_path) == {"out": DATA}


async def test_given_a_limit_of_the_file_size_then_the_error_is_typed(
    storage: BackblazeStorage, tmp_path: Path
) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (PART, before[1]))
    try:
        with pytest.raises(LocalFileError) as caught:
            await storage.download_file("a", tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.errno == errno.EFBIG
    assert tree(tmp_path) == {}


async def test_given_a_longer_file_of_an_earlier_run_then_nothing_of_it_stays(
    storage: BackblazeStorage, tmp_path: Path
) -> None:
    await storage.upload_file("b", b"short")
    target = tmp_path / "out"
    with failing_writes(errno.ENOSPC), pytest.raises(LocalFileError):
        await storage.download_file("a", target, resume=True)
    await storage.download_file("b", target, resume=True)
    assert tree(tmp_path) == {"out": b"short"}


async def test_given_a_file_that_is_a_mount_when_it_is_replaced_then_the_hint_says_so(
    storage: BackblazeStorage, tmp_path: Path
) -> None:
    target = tmp_path / "mounted.wav"
    target.write_bytes(b"before")
    replace = Path.replace

    def refused(self: Path, other: Path) -> Path:
        if Path(other).name == target.name:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(self), None, str(other))
        return replace(self, other)

    with mock.patch.object(Path, "replace", refused), pytest.raises(LocalFileError) as told:
        await storage.download_file("a", target)
    assert (told.value.errno, told.value.retryable) == (errno.EBUSY, False)
    assert repr(str(target)) in told.value.message
    assert "mount of its own (Docker)" in (told.value.hint or "")
    assert "beside it" in (told.value.hint or "")
    assert tree(tmp_path) == {"mounted.wav": b"before"}
