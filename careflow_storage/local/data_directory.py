"""The data directory of a local server, and the lock on it."""

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
    """Lock a directory until this process and its server have ended.

    The server inherits the descriptor and holds the lock as well, except on Windows. There, the
    server's own database refuses a second server.

    Raises:
        BlockingIOError: Another server holds the lock.
        FileNotFoundError: There is no lock file, and ``create`` is False.
    """
    return FileLock(directory / _LOCK, create=create)


def open_data_directory(place: Path) -> tuple[Path, FileLock]:
    """Return the folder below ``place`` for a server's data, and the lock on the folder.

    Removes files only in a folder that contains a local server's lock file. Earlier releases
    stored the data in ``place`` itself; if its lock file is there, ``place`` is the folder.

    Raises:
        BlockingIOError: Another server uses the folder.
        FileExistsError: The folder exists, but no local server created it.
        OSError: The folder cannot be created or used.
    """
    place.mkdir(parents=True, exist_ok=True)
    if (place / _LOCK).is_file():
        folder = place
    else:
        folder = place / _FOLDER
        folder.mkdir(exist_ok=True)
        if not (folder / _LOCK).is_file() and any(folder.iterdir()):
            raise FileExistsError(
                errno.EEXIST, f"no local server created its folder {_FOLDER!r}", str(folder)
            )
    lock = lock_directory(folder)
    try:
        _remove_leftovers(folder)
    except BaseException:
        lock.release()
        raise
    return folder, lock


def _remove_leftovers(folder: Path) -> None:
    # The options of the last start, which apply again wherever this start sets none.
    (folder / "mini.options").unlink(missing_ok=True)
    for left in folder.iterdir():
        # The master makes a folder for each port that it uses, and does not read it again.
        if _MASTER_FOLDER.fullmatch(left.name) and left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)
