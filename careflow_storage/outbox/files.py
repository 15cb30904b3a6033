"""The spool folder: one file for each recording that is not delivered yet."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shlex
import stat
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from careflow_storage.outbox.database import FULL_HINT
from careflow_storage.outbox.errors import OutboxError, OutboxFullError, SpoolDamagedError

_READ_BYTES = 1024 * 1024
_PART = ".part"
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_ENTRY_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Digests:
    """The length of a spool file, its SHA-256 in hex, and the MD5 of each part."""

    size: int
    sha256: str
    parts: list[bytes]


class Spool:
    """Files by the ID of their entry. Call the methods in threads.

    A file is named ``<id>.part`` while it is written, and ``<id>`` when its bytes are on the disk.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, entry_id: str) -> Path:
        """Return the path of an entry's bytes.

        Raises:
            SpoolDamagedError: The ID is not one of the outbox, and could lead out of the folder.
        """
        if not _ENTRY_ID.fullmatch(entry_id):
            raise SpoolDamagedError(
                f"The outbox made no entry with the ID {entry_id!r}.",
                hint="Another program has changed the outbox's database.",
            )
        return self._folder / entry_id

    def create(self, entry_id: str) -> SpoolFile:
        """Return a file to write. It is made by its ``open``."""
        return SpoolFile(self._folder, entry_id)

    def remove(self, entry_id: str) -> None:
        """Delete a file, if it exists. Files that the outbox did not make stay."""
        if _ENTRY_ID.fullmatch(entry_id):
            for name in (entry_id, entry_id + _PART):
                (self._folder / name).unlink(missing_ok=True)

    def ids(self) -> set[str]:
        """Return the IDs of the entries that have a file, finished or not."""
        names = {name.removesuffix(_PART) for name in os.listdir(self._folder)}  # noqa: PTH208
        return {name for name in names if _ENTRY_ID.fullmatch(name)}

    def digests(self, entry_id: str, ends: Sequence[int]) -> Digests:
        """Read a file once and hash it: as a whole, and each part that ends in ``ends``."""
        whole, parts, position = hashlib.sha256(), list[bytes](), 0
        buffer = memoryview(bytearray(_READ_BYTES))
        with FileIO(self.path(entry_id), "rb", opener=_not_a_link) as file:
            for end in ends:
                part = hashlib.md5(usedforsecurity=False)
                while position < end:
                    count = file.readinto(buffer[: min(_READ_BYTES, end - position)])
                    if not count:
                        break
                    whole.update(buffer[:count])
                    part.update(buffer[:count])
                    position += count
                parts.append(part.digest())
            # Bytes beyond the end of the entry are damage, too.
            position += len(file.read(1))
        return Digests(position, whole.hexdigest(), parts)


class SpoolFile:
    """A file that is being written. Call its methods in threads, one at a time."""

    def __init__(self, folder: Path, entry_id: str) -> None:
        self._folder = folder
        self._final = folder / entry_id
        self._path = folder / (entry_id + _PART)
        self._hash = hashlib.sha256()
        self.size: int = 0
        self._file: FileIO | None = None
        self._closed = False
        self._lock = threading.Lock()

    def open(self) -> None:
        """Make the file."""
        with _explaining(), self._lock:
            # A cancellation may have closed it while this waited for a thread.
            if not self._closed:
                self._file = FileIO(self._path, "xb", opener=_private)

    def write(self, data: memoryview | bytearray) -> None:
        """Append bytes."""
        view = memoryview(data)
        with _explaining(), self._lock:
            file = self._opened()
            self._hash.update(view)
            self.size += view.nbytes
            while view:
                view = view[file.write(view) :]

    def finish(self) -> str:
        """Flush bytes and name to the disk; return the SHA-256 in hex.

        First the bytes, then the final name, then the folder: fsync(2),
        "does not necessarily ensure that the entry in the directory has also reached disk".
        """
        with _explaining(), self._lock:
            file = self._opened()
            sync_file(file.fileno())
            file.close()
            self._path.rename(self._final)
            sync_folder(self._folder)
            return self._hash.hexdigest()

    def close(self) -> None:
        """Close the file. It stays on the disk."""
        with self._lock:
            self._closed = True
            if self._file is not None:
                self._file.close()

    def _opened(self) -> FileIO:
        if self._file is None or self._closed:
            raise ValueError("the spool file is not open")
        return self._file


class _explaining:  # noqa: N801 - used as a function
    """Raise an `OutboxError` for an error of the disk."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, OSError):
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise OutboxFullError("The disk is full.", hint=FULL_HINT) from error
            raise OutboxError(f"The spool cannot be written: {error}.") from error


def make_folder(path: Path) -> None:
    """Make a folder that only this user can read, and flush its name to the disk.

    Raises:
        OutboxError: It or a parent is a file. Or it exists and other users can write to it, who
            could plant recordings.
    """
    missing = [path, *path.parents]
    for folder in reversed([each for each in missing if not each.is_dir()]):
        if folder.exists() and not folder.is_dir():
            raise OutboxError(
                f"The outbox's folder {str(path)!r} cannot be used: {str(folder)!r} is a file."
            )
        # Another process may make it at this moment.
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        sync_folder(folder.parent)
    if sys.platform == "win32":
        return
    about = path.stat()
    if about.st_uid not in (os.geteuid(), 0) or about.st_mode & _WRITABLE_BY_OTHERS:
        raise OutboxError(
            f"Other users may write to the outbox's folder {str(path)!r}.",
            hint=f"Name a folder that does not exist yet: the outbox makes it for this user alone. "
            f"Or run: chmod go-w {shlex.quote(str(path))}",
        )


def make_private(path: Path) -> None:
    """Make a file that only this user can read and write, or restrict an existing one to that."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600))
    # SQLite makes its other files with the mode of the database.
    for each in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm", "-journal"))):
        with suppress(FileNotFoundError):
            if stat.S_IMODE(each.stat().st_mode) & 0o077:
                each.chmod(0o600)


def sync_file(descriptor: int) -> None:
    """Flush a file's bytes to the disk."""
    if sys.platform == "darwin":
        import fcntl

        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fsync(descriptor)


def sync_folder(path: Path) -> None:
    """Flush a folder's names to the disk. Windows does so by itself."""
    if sys.platform != "win32":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            sync_file(descriptor)
        finally:
            os.close(descriptor)


def _not_a_link(name: str, flags: int) -> int:
    return os.open(name, flags | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0))


def _private(name: str, flags: int) -> int:
    return os.open(name, flags | getattr(os, "O_CLOEXEC", 0), 0o600)
