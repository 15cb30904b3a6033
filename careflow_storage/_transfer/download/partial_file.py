"""The file that a download writes before it replaces the target.

With a `Journal` it survives a failure, a cancellation, and the end of the process.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import stat
import sys
import threading
import zlib
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import IO

from careflow_storage._local_paths import local_file_error, local_file_errors
from careflow_storage._log_fields import log_fields
from careflow_storage._transfer.download.journal import Journal, open_private

logger = logging.getLogger("careflow_storage")

_MOUNT_HINT = (
    "The file is a mount of its own (Docker) and cannot be replaced: download to a file beside "
    "it, or mount its folder."
)


class PartialFile:
    """The file beside the target into which ranges are written.

    Call all methods from threads; several threads may call them at once.

    Attributes:
        journal: The ranges that are written, if the file is resumable.
    """

    def __init__(
        self, target: Path, *, identity: str | None = None, shown: Path | None = None
    ) -> None:
        """Prepare a file for ``target``.

        Args:
            identity: The object version; makes the file resumable after a failure.
            shown: The path for error messages.
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
        """Open the file, or the one that an earlier run has left."""
        with self._lock, self._errors():
            # A caller that was cancelled while this waited for a thread has discarded the file.
            if self._discarded:
                return
            if self._identity is not None:
                self._open_kept(self._identity)
            if self._file is None:
                # A file that replaces a private file is private from the start.
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
                # It may belong to another object, and be longer.
                self._file.truncate(0)
        except OSError:
            journal.close()
            return
        self.journal, self._path = journal, journal.part

    def write_at(self, position: int, data: memoryview | bytes, crc: int = 0) -> int:
        """Write ``data``; with a journal, return the CRC-32 that continues ``crc``."""
        rest = memoryview(data)
        with self._lock, self._errors():
            file = self._opened()
            file.seek(position)
            while rest:
                rest = rest[file.write(rest) :]
        return crc if self.journal is None else zlib.crc32(data, crc)

    def read_at(self, position: int, size: int) -> bytes:
        """Return up to ``size`` bytes from ``position`` on."""
        with self._lock, self._errors():
            file = self._opened()
            file.seek(position)
            return file.read(size)

    def note(self, start: int, end: int, crc: int) -> None:
        """Record in the journal, if there is one, that a range is written."""
        with self._lock, self._errors():
            self._opened()
            if self.journal is not None:
                self.journal.add(start, end, crc)

    def publish(self, size: int) -> None:
        """Replace the target with this file of ``size`` bytes, flushed to the disk."""
        with self._lock, self._errors():
            file = self._opened()
            _require_size(file, size)
            self._copy_mode(file)
            os.fsync(file.fileno())
            file.close()
            self._replace_target()
            self._file = None
            if self.journal is not None:
                self.journal.remove()
                self.journal = None

    def _replace_target(self) -> None:
        try:
            self._path.replace(self._target)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            busy = local_file_error(error, "write", self._shown, hint=_MOUNT_HINT)
            busy.retryable = False
            raise busy from error

    def _copy_mode(self, file: IO[bytes]) -> None:
        """Copy the owner and the mode of the file that it replaces."""
        if sys.platform == "win32":
            return
        replaced = _status(self._target)
        if replaced is None:
            if self.journal is not None:
                os.fchmod(file.fileno(), _mode_of_new_file(self._target))
            return
        about = os.fstat(file.fileno())
        if (about.st_uid, about.st_gid) != (replaced.st_uid, replaced.st_gid):
            # Only root may change the owner.
            with suppress(PermissionError):
                os.fchown(file.fileno(), replaced.st_uid, replaced.st_gid)
        os.fchmod(file.fileno(), replaced.st_mode & 0o777)

    def forget(self) -> None:
        """Forget all ranges, because the bytes are wrong: `discard` then removes the file."""
        with self._lock:
            if self.journal is not None:
                self.journal.ranges.clear()

    def discard(self) -> None:
        """Close the file; remove it unless a later run can resume it."""
        with self._lock:
            self._discarded = True
            try:
                self._close_and_remove()
            except OSError as error:
                # The error that led here matters more.
                logger.warning(
                    "the temporary file %s was not removed: %s",
                    self._path,
                    error,
                    extra=log_fields("file_left", error, path=str(self._path)),
                )

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
    """Return the status of the file to replace; None if there is none, or for a link."""
    try:
        about = path.lstat()
    except FileNotFoundError:
        return None
    return None if stat.S_ISLNK(about.st_mode) else about


def _require_size(file: IO[bytes], size: int) -> None:
    """Truncate bytes of an earlier run after the end; refuse a file that is too short."""
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


def _mode_of_new_file(target: Path) -> int:
    """Return the default mode of a new file. Reading the umask would change it for a moment."""
    probe = target.with_name(f".careflow-{secrets.token_hex(8)}.mode")
    with probe.open("xb") as file:
        try:
            return stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        finally:
            probe.unlink()
