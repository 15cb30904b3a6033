"""The folders of local servers: who uses one, and what in it is the server's."""

from __future__ import annotations

import errno
import re
import shutil
import sys
from pathlib import Path
from typing import IO

if sys.platform != "win32":
    import fcntl

_LOCK = ".careflow-lock"
_FOLDER = "seaweedfs"
_MASTER_FOLDER = re.compile(r"m\d{5}")


class DirectoryLock:
    """Says that a directory is in use, as long as we or the server live.

    The server inherits the open file, so a lock is free only when both are gone. (Windows has
    no such lock: there the server's own database refuses a second user.)
    """

    def __init__(self, directory: Path, *, create: bool = True) -> None:
        """Take the lock.

        Raises:
            BlockingIOError: Another server holds it.
            FileNotFoundError: There is no lock, and ``create`` is false.
        """
        path = directory / _LOCK
        self._file: IO[bytes] = path.open("ab" if create else "rb")
        if sys.platform != "win32":
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BaseException:
                self._file.close()
                raise

    def fileno(self) -> int:
        """The descriptor to hand down to the server."""
        return self._file.fileno()

    def release(self) -> None:
        """Let go of it; it stays taken while the server holds it."""
        self._file.close()


def open_data_directory(place: Path) -> tuple[Path, DirectoryLock]:
    """Return the folder for a server's data below ``place``, and the lock on it.

    The folder is the server's own: only in one that carries our lock is anything removed.
    Earlier releases kept the data in ``place`` itself; such a directory is used as it is.

    Raises:
        BlockingIOError: Another server uses it.
        FileExistsError: ``place`` has a folder of that name which no server made.
        OSError: It cannot be made or used.
    """
    place.mkdir(parents=True, exist_ok=True)
    if (place / _LOCK).is_file():
        folder = place
    else:
        folder = place / _FOLDER
        folder.mkdir(exist_ok=True)
        if not (folder / _LOCK).is_file() and any(folder.iterdir()):
            raise FileExistsError(
                errno.EEXIST, f"it has a folder {_FOLDER!r} that no local server made", str(folder)
            )
    lock = DirectoryLock(folder)
    try:
        _remove_leftovers(folder)
    except BaseException:
        lock.release()
        raise
    return folder, lock


def _remove_leftovers(folder: Path) -> None:
    # It holds the options of the last start, which would come back where none are given.
    (folder / "mini.options").unlink(missing_ok=True)
    for left in folder.iterdir():
        # One folder per port that the master ever had, with nothing that is needed again.
        if _MASTER_FOLDER.fullmatch(left.name) and left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)
