"""The data directories of local servers, and the lock on each."""

from __future__ import annotations

import errno
import re
import shutil
from pathlib import Path

from careflow_storage._file_lock import FileLock

_LOCK = ".careflow-lock"
_FOLDER = "seaweedfs"
_MASTER_FOLDER = re.compile(r"m\d{5}")


def lock_directory(directory: Path, *, create: bool = True) -> FileLock:
    """Lock a directory for as long as this process or its server lives.

    The server inherits the descriptor, so the lock is free when both have ended. (On Windows
    it is this process's alone; there the server's own database refuses a second user as well.)

    Raises:
        BlockingIOError: Another server holds the lock.
        FileNotFoundError: There is no lock file, and ``create`` is False.
    """
    return FileLock(directory / _LOCK, create=create)


def open_data_directory(place: Path) -> tuple[Path, FileLock]:
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
    lock = lock_directory(folder)
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
