"""The file that a download writes before it takes the place of its target.

With a journal it outlives a failure, a cancellation, or the process. The journal tells which
ranges are written, each with the CRC-32 of its bytes. A line is written after its range's
bytes. Nothing is flushed to the disk before the end: a killed process loses nothing that it has
written, and whatever a power failure has left is found out by the CRC-32s.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import secrets
import stat
import sys
import threading
import zlib
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import IO, Self

from careflow_storage._local_paths import local_file_error, local_file_errors

if sys.platform != "win32":
    import fcntl

logger = logging.getLogger("careflow_storage")

_LINE = re.compile(rb"(\d{1,14}) (\d{1,14}) ([0-9a-f]{8})\n")
_LOCK_TRIES = 3
_MOUNT_HINT = (
    "The file is a mount of its own (Docker), which no file can take the place of: download beside "
    "it, or mount its folder."
)


class Journal:
    """Which ranges of a partial file are there. Its lock makes this run the only one.

    Attributes:
        part: The partial file that belongs to it.
        ranges: The CRC-32 of each range that is written, by start and end.
    """

    def __init__(self, path: Path, file: IO[bytes], part: Path) -> None:
        self.part = part
        self.ranges: dict[tuple[int, int], int] = {}
        self._path = path
        self._file = file

    @classmethod
    def take(cls, target: Path, identity: str) -> Self | None:
        """Open the journal of this target; its ranges count if they are of the same object.

        None when another run holds it, or where files cannot be locked (Windows), or when its
        name is taken by what is not ours.
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
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
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
            # It was the journal of a run that has just ended and removed it.
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
        # A line that was cut short must not swallow the next one.
        self._file.seek(position)
        self._file.truncate()

    def add(self, start: int, end: int, crc: int) -> None:
        """Note that this range is written."""
        self._file.write(b"%d %d %08x\n" % (start, end, crc))
        self.ranges[start, end] = crc

    def close(self) -> None:
        """Let go of it; the next run finds it."""
        self._file.close()

    def remove(self) -> None:
        """Remove it and the partial file: nothing of them is of use any more."""
        self.part.unlink(missing_ok=True)
        self._path.unlink(missing_ok=True)
        self._file.close()


class PartialFile:
    """The file beside the target that ranges are written into, each at its place.

    Its methods are for threads; they may be called from several at once.
    """

    def __init__(
        self, target: Path, *, identity: str | None = None, shown: Path | None = None
    ) -> None:
        """``identity`` says what is downloaded, for a file that shall outlive a failure.

        ``shown`` is what errors call the target.
        """
        self.journal: Journal | None = None
        self._shown = shown or target
        self._target = target
        self._identity = identity
        self._path = target.with_name(f".careflow-{secrets.token_hex(8)}.part")
        self._file: IO[bytes] | None = None
        self._discarded = False
        self._lock = threading.Lock()

    def open(self) -> None:
        """Open it, or what an earlier run has left of it."""
        with self._lock, self._errors():
            # Who was cancelled while this waited for a thread has discarded the file already.
            if self._discarded:
                return
            if self._identity is not None:
                self._open_kept(self._identity)
            if self._file is None:
                # What is to replace a private file is private from the start.
                mode = 0o666 if _status(self._target) is None else 0o600
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)
                flags |= getattr(os, "O_BINARY", 0)
                self._file = os.fdopen(os.open(self._path, flags, mode), "rb+", buffering=0)

    def _open_kept(self, identity: str) -> None:
        journal = Journal.take(self._target, identity)
        if journal is None:
            return
        try:
            self._file = _open_or_replace(journal.part)
            if not journal.ranges:
                # Perhaps of another object, and longer.
                self._file.truncate(0)
        except OSError:
            journal.close()
            return
        self.journal, self._path = journal, journal.part

    def write_at(self, position: int, data: memoryview | bytes, crc: int = 0) -> int:
        """Write it; return the CRC-32 of what ``crc`` stands for and it, if that is kept."""
        rest = memoryview(data)
        with self._lock, self._errors():
            file = self._opened()
            file.seek(position)
            while rest:
                rest = rest[file.write(rest) :]
        return crc if self.journal is None else zlib.crc32(data, crc)

    def read_at(self, position: int, size: int) -> bytes:
        """Read from anywhere."""
        with self._lock, self._errors():
            file = self._opened()
            file.seek(position)
            return file.read(size)

    def note(self, start: int, end: int, crc: int) -> None:
        """Tell the journal, if there is one, that a range is written."""
        with self._lock, self._errors():
            self._opened()
            if self.journal is not None:
                self.journal.add(start, end, crc)

    def publish(self, size: int) -> None:
        """Let it take the place of the target, with ``size`` bytes, on the disk for good."""
        with self._lock, self._errors():
            file = self._opened()
            _require_size(file, size)
            self._take_over_mode(file)
            os.fsync(file.fileno())
            file.close()
            self._take_place()
            self._file = None
            if self.journal is not None:
                self.journal.remove()
                self.journal = None

    def _take_place(self) -> None:
        try:
            self._path.replace(self._target)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            busy = local_file_error(error, "write", self._shown, hint=_MOUNT_HINT)
            busy.retryable = False
            raise busy from error

    def _take_over_mode(self, file: IO[bytes]) -> None:
        """Give it the owner and the mode of the file that it replaces."""
        if sys.platform == "win32":
            return
        replaced = _status(self._target)
        if replaced is None:
            if self.journal is not None:
                os.fchmod(file.fileno(), _mode_of_new_file(self._target))
            return
        about = os.fstat(file.fileno())
        if (about.st_uid, about.st_gid) != (replaced.st_uid, replaced.st_gid):
            # Only root may give files away.
            with suppress(PermissionError):
                os.fchown(file.fileno(), replaced.st_uid, replaced.st_gid)
        os.fchmod(file.fileno(), replaced.st_mode & 0o777)

    def forget(self) -> None:
        """Let nothing outlive the failure: these bytes are wrong."""
        with self._lock:
            if self.journal is not None:
                self.journal.ranges.clear()

    def discard(self) -> None:
        """Close it; remove it, unless a later run can go on with it."""
        with self._lock:
            self._discarded = True
            try:
                self._close_and_remove()
            except OSError as error:
                # What brought us here matters more.
                logger.warning("the temporary file %s was not removed: %s", self._path, error)

    def _close_and_remove(self) -> None:
        try:
            if self._file is not None:
                self._file.close()
        finally:
            if self.journal is None:
                if self._file is not None:
                    self._path.unlink(missing_ok=True)
            elif self.journal.ranges:
                self.journal.close()
            else:
                self.journal.remove()

    def _errors(self) -> AbstractContextManager[None]:
        return local_file_errors("write", self._shown)

    def _opened(self) -> IO[bytes]:
        if self._file is None or self._discarded:
            raise ValueError("the temporary file is not open")
        return self._file


def _status(path: Path) -> os.stat_result | None:
    """Return what is known of the file that is replaced; None without one, or for a link."""
    try:
        about = path.lstat()
    except FileNotFoundError:
        return None
    return None if stat.S_ISLNK(about.st_mode) else about


def _require_size(file: IO[bytes], size: int) -> None:
    """Cut off what an earlier run has left behind the end; refuse a file that is too short."""
    found = os.fstat(file.fileno()).st_size
    if found > size:
        file.truncate(size)
    elif found < size:
        raise OSError(errno.EIO, f"it has {found} of {size} bytes")


def _open_or_replace(path: Path) -> IO[bytes]:
    try:
        return open_private(path)
    except OSError:
        path.unlink()
        return open_private(path)


def open_private(path: Path) -> IO[bytes]:
    """Open a file for reading and writing that nobody else can read or has prepared for us.

    Raises:
        OSError: It is a link, no regular file, another user's, or others may write to it.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.fdopen(os.open(path, flags, 0o600), "rb+", buffering=0)
    about = os.fstat(file.fileno())
    ours = stat.S_ISREG(about.st_mode) and about.st_uid == os.geteuid() and about.st_nlink == 1
    if not ours or about.st_mode & 0o022:
        file.close()
        raise PermissionError(f"{str(path)!r} is not a private file of this user.")
    # A run that was killed while it published the file had given it its final mode.
    os.fchmod(file.fileno(), 0o600)
    return file


def _is_at(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    except FileNotFoundError:
        return False


def _mode_of_new_file(target: Path) -> int:
    """The mode that any new file gets here: the umask cannot be asked for without a change."""
    probe = target.with_name(f".careflow-{secrets.token_hex(8)}.mode")
    with probe.open("xb") as file:
        try:
            return stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        finally:
            probe.unlink()
