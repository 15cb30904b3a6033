"""A file lock between processes. The system releases it when the process ends."""

from __future__ import annotations

import os
import sys
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


class FileLock:
    """An exclusive lock on a file, held until `release` or the end of the process.

    A child process that inherits the descriptor also holds the lock, which is free when both
    have closed it.
    """

    def __init__(self, path: Path, *, wait: bool = False, create: bool = True) -> None:
        """Take the lock.

        Args:
            path: The file. It is created, unless ``create`` is False.
            wait: Whether to block while another process holds it.

        Raises:
            BlockingIOError: Another process holds it, and ``wait`` is False.
            FileNotFoundError: The file does not exist, and ``create`` is False.
        """
        self._file = os.open(path, os.O_RDWR | (os.O_CREAT if create else 0), 0o600)
        try:
            lock_file(self._file, wait=wait)
        except BaseException:
            os.close(self._file)
            raise

    def fileno(self) -> int:
        """Return the descriptor, to pass to a child process."""
        return self._file

    def release(self) -> None:
        """Release the lock; safe to call twice."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)


def lock_file(file: int, *, wait: bool) -> None:
    """Lock an open file. Raises the errors of `FileLock`."""
    if sys.platform == "win32":
        while True:
            try:
                msvcrt.locking(file, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
            except OSError as error:
                if not wait:
                    raise BlockingIOError(*error.args) from error
            else:
                return
    else:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
