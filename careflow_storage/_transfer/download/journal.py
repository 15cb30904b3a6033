"""The journal of a partial download: which ranges of the file are written.

Each line has the start, the end and the CRC-32 of a range, and is written after its bytes. Nothing
is flushed to the disk before the end. A killed process loses nothing that it has written; damage
after a power failure is detected by the CRC-32s.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import sys
from pathlib import Path
from typing import IO, Self

from careflow_storage._file_lock import lock_file

_LINE = re.compile(rb"(\d{1,14}) (\d{1,14}) ([0-9a-f]{8})\n")
_LOCK_TRIES = 3


class Journal:
    """Lists the ranges of a partial file. Its lock excludes other runs.

    Attributes:
        part: The path of the partial file.
        ranges: The CRC-32 of each range that is written, by start and end.
    """

    def __init__(self, path: Path, file: IO[bytes], part: Path) -> None:
        self.part = part
        self.ranges: dict[tuple[int, int], int] = {}
        self._path = path
        self._file = file

    @classmethod
    def take(cls, target: Path, identity: str) -> Self | None:
        """Open and lock the journal of ``target``; discard ranges of another object.

        Returns None if another run holds the lock, if files cannot be locked (Windows), or if the
        file at its path is not ours.
        """
        if sys.platform == "win32":
            return None
        name = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]
        path = target.with_name(f".careflow-{name}.journal")
        for _ in range(_LOCK_TRIES):
            try:
                file = open_private(path)
            except OSError:
                return None
            try:
                lock_file(file.fileno(), wait=False)
                if _is_at(file, path):
                    journal = cls(path, file, target.with_name(f".careflow-{name}.part"))
                    journal._read(identity)
                    return journal
            except BlockingIOError:
                file.close()
                return None
            except BaseException:
                file.close()
                raise
            # Another run has just ended and removed this journal.
            file.close()
        return None

    def _read(self, identity: str) -> None:
        head = f"careflow-storage 1 {hashlib.sha256(identity.encode()).hexdigest()}\n".encode()
        found = self._file.read()
        if not found.startswith(head):
            self._file.seek(0)
            self._file.truncate()
            self._file.write(head)
            return
        position = len(head)
        while line := _LINE.match(found, position):
            self.ranges[int(line[1]), int(line[2])] = int(line[3], 16)
            position = line.end()
        # Remove a truncated last line: the next line would be appended to it.
        self._file.seek(position)
        self._file.truncate()

    def add(self, start: int, end: int, crc: int) -> None:
        """Record that this range is written."""
        self._file.write(b"%d %d %08x\n" % (start, end, crc))
        self.ranges[start, end] = crc

    def close(self) -> None:
        """Unlock the journal and leave it for the next run."""
        self._file.close()

    def remove(self) -> None:
        """Remove the journal and the partial file."""
        self.part.unlink(missing_ok=True)
        self._path.unlink(missing_ok=True)
        self._file.close()


def open_private(path: Path) -> IO[bytes]:
    """Open or create a file that only this user can read.

    Raises:
        OSError: It is a link, not a regular file, another user's, or writable by others.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.fdopen(os.open(path, flags, 0o600), "rb+", buffering=0)
    about = os.fstat(file.fileno())
    ours = stat.S_ISREG(about.st_mode) and about.st_uid == os.geteuid() and about.st_nlink == 1
    if not ours or about.st_mode & 0o022:
        file.close()
        raise PermissionError(f"{str(path)!r} is not a private file of this user.")
    # A run that was killed while publishing may have set the final mode.
    os.fchmod(file.fileno(), 0o600)
    return file


def _is_at(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    except FileNotFoundError:
        return False
