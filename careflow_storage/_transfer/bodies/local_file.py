"""A regular file of the caller, read by position from threads, and checked for changes."""

from __future__ import annotations

import errno
import io
import os
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from careflow_storage._local_paths import invalid_path, local_file_error
from careflow_storage._transfer.bodies.checksums import Hasher
from careflow_storage.errors import (
    BodyChangedError,
    InvalidInputError,
    InvalidPathError,
    SizeMismatchError,
    StorageError,
)

BLOCK_BYTES = 1024 * 1024
# O_NONBLOCK: do not wait for the writer of a FIFO. O_NOCTTY: do not adopt a terminal.
_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_NONBLOCK", 0)
)
_CHANGED_HINT = "Upload it when no program writes to it, or upload a copy."
# Positioned reads do not move the position of a descriptor that is shared with the caller.
_POSITIONED = hasattr(os, "preadv")


class RegularFile:
    """An open regular file, from ``start`` on. Call all methods from threads.

    Attributes:
        original: The file object of the caller that it duplicates, if there is one.
        size: The number of bytes after ``start``; None for files of /proc.
        wait_seconds: How long to wait before the first read, so that every later change alters
            the modification time.

    `close` does not wait for a read that never ends. The descriptor is closed after the last
    read, so that no read uses a reused descriptor number.
    """

    def __init__(self, descriptor: int, name: str, start: int = 0, original: Any = None) -> None:
        self.original = original
        self._descriptor = descriptor
        self._name = name
        self._shown = repr(name)
        self._start = start
        self._lock = threading.Lock()
        # Without positioned reads, one read at a time.
        self._turn = threading.Lock()
        self._readers = 0
        self._closing = False
        self._status_at_start = os.fstat(descriptor)
        self.wait_seconds: float = _seconds_until_distinct(self._status_at_start)
        self.size: int | None = max(0, self._status_at_start.st_size - start)
        if self._status_at_start.st_size == 0 and self._read(0, 1):
            self.size = None

    def read_into(self, position: int, buffer: memoryview, hasher: Hasher | None = None) -> int:
        """Fill ``buffer``; return how many bytes. Fewer than its size mean the end.

        Blocks are hashed while they are in the processor's cache.

        Raises:
            LocalFileError: The file cannot be read.
            SizeMismatchError: The size of the file changed.
            BodyChangedError: The file was modified.
        """
        filled = 0
        with self._reading():
            while filled < buffer.nbytes:
                block = buffer[filled : filled + BLOCK_BYTES]
                count = self._read_into(position + filled, block)
                if not count:
                    self.check_unchanged()
                    break
                if hasher is not None:
                    hasher.update(block[:count])
                filled += count
        return filled

    def read_at(self, position: int, size: int) -> bytes:
        """Return exactly ``size`` bytes; raise the errors of `read_into`."""
        buffer = bytearray(size)
        if self.read_into(position, memoryview(buffer)) < size:
            raise SizeMismatchError(
                f"{self._shown} ends before byte {position + size}.", hint=_CHANGED_HINT
            )
        return bytes(buffer)

    def read_block(self, position: int) -> bytes:
        """Return up to 1 MiB; no bytes at the end."""
        buffer = memoryview(bytearray(BLOCK_BYTES))
        return bytes(buffer[: self.read_into(position, buffer)])

    def check_unchanged(self) -> None:
        """Raise `SizeMismatchError` or `BodyChangedError` if the file changed after opening."""
        with self._reading():
            now = os.fstat(self._descriptor)
        was = self._status_at_start
        if now.st_size != was.st_size:
            raise SizeMismatchError(
                f"{self._shown} had {was.st_size} bytes when the upload began, and now has "
                f"{now.st_size}; nothing was stored.",
                hint=_CHANGED_HINT,
            )
        if (now.st_mtime_ns, now.st_ino, now.st_dev) != (was.st_mtime_ns, was.st_ino, was.st_dev):
            raise BodyChangedError(
                f"{self._shown} was modified while it was read; nothing was stored.",
                retryable=True,
                hint=_CHANGED_HINT,
            )

    def move_behind(self) -> None:
        """Move the position of the caller's file object to the end, as reading it does."""
        move(self.original, self._start + (self.size or 0))

    def close(self) -> None:
        """Close the file after the last running read. Safe to call twice."""
        with self._lock:
            closed, self._closing = self._closing, True
            if not closed and not self._readers:
                os.close(self._descriptor)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with self._lock:
            self._refuse_closed()
            self._readers += 1
        try:
            yield
        except OSError as error:
            if isinstance(error, StorageError):
                raise
            raise local_file_error(error, "read", self._name) from error
        finally:
            with self._lock:
                self._readers -= 1
                if self._closing and not self._readers:
                    os.close(self._descriptor)

    def _refuse_closed(self) -> None:
        if self._closing:
            raise OSError(errno.EBADF, "the upload has ended")

    def _read(self, position: int, size: int) -> bytes:
        buffer = bytearray(size)
        with self._reading():
            return bytes(buffer[: self._read_into(position, memoryview(buffer))])

    def _read_into(self, position: int, buffer: memoryview) -> int:
        # Reading stops when the upload has ended.
        self._refuse_closed()
        if _POSITIONED:
            return os.preadv(self._descriptor, [buffer], self._start + position)
        with self._turn:
            os.lseek(self._descriptor, self._start + position, os.SEEK_SET)
            data = os.read(self._descriptor, buffer.nbytes)
            buffer[: len(data)] = data
            return len(data)


def open_path(path: os.PathLike[str] | os.PathLike[bytes]) -> RegularFile:
    """Open a regular file. Its kind is checked before and after opening.

    Raises:
        InvalidPathError: The file cannot be opened.
        InvalidInputError: It is not a regular file, or not a path.
    """
    try:
        name = os.fspath(path)
        shown = os.fsdecode(name)
    except (TypeError, UnicodeError) as error:
        raise InvalidInputError(f"The path cannot be read: {error}.") from error
    try:
        _check_kind(os.stat(name), shown)  # noqa: PTH116 - it may be bytes
        descriptor = os.open(name, _FLAGS)
    except StorageError:
        raise
    except OSError as error:
        raise local_file_error(error, "read", shown, error_class=InvalidPathError) from error
    except ValueError as error:
        # A NUL, or a character outside the encoding of the file system.
        raise InvalidInputError(f"{shown!r} cannot be a path: {error}.") from error
    return _opened(descriptor, shown)


def open_copy(file: Any) -> RegularFile | None:
    """Duplicate the regular file of a file object; None if it is not certain to be one.

    Only classes of the standard library are accepted: for example, ``fileno()`` of a GzipFile is
    that of the compressed file. The position of the file object does not move.

    Raises:
        InvalidInputError: The file is closed, not open for reading, or at its end.
    """
    file = _unwrapped(file)
    raw = file.raw if type(file) in (io.BufferedReader, io.BufferedRandom) else file
    if type(raw) is not io.FileIO or not _POSITIONED:
        return None
    try:
        if not stat.S_ISREG(os.fstat(raw.fileno()).st_mode):
            return None
        if file.writable():
            file.flush()
        start = file.tell()
        descriptor = os.dup(raw.fileno())
    except OSError as error:
        raise local_file_error(error, "read", error_class=InvalidPathError) from error
    name = raw.name if isinstance(raw.name, str) else "the file"
    opened = _opened(descriptor, name, start, file)
    try:
        refuse_end(start, opened.size)
    except BaseException:
        opened.close()
        raise
    return opened


def snapshot_of(file: Any) -> memoryview | None:
    """Return the bytes of a `BytesIO` from its position on; None for another file.

    Python copies the bytes only if the file is modified later.
    """
    file = _unwrapped(file)
    if type(file) is not io.BytesIO:
        return None
    whole, start = memoryview(file.getvalue()), file.tell()
    refuse_end(start, max(0, whole.nbytes - start))
    return whole[start:]


def move(file: Any, position: int) -> None:
    """Move the position of a file object, unless the caller has closed it."""
    with suppress(ValueError):
        file.seek(position)


def refuse_end(start: int, following: int | None) -> None:
    """Refuse a file that is at its end: usually it was just written, or already uploaded."""
    if start > 0 and following == 0:
        raise InvalidInputError(
            f"The file is at its end (byte {start}); nothing would be stored.",
            hint="A file is read from its current position. Call file.seek(0) first. To store an "
            "empty object, pass b''.",
        )


def _unwrapped(file: Any) -> Any:
    """Return the file that a wrapper of tempfile holds."""
    if type(file) is tempfile.SpooledTemporaryFile:
        return getattr(file, "_file", file)
    if type(file).__module__ == "tempfile":
        return getattr(file, "file", file)
    return file


def _opened(descriptor: int, name: str, start: int = 0, original: Any = None) -> RegularFile:
    try:
        _check_kind(os.fstat(descriptor), name)
        return RegularFile(descriptor, name, start, original)
    except BaseException:
        os.close(descriptor)
        raise


def _check_kind(about: os.stat_result, name: str) -> None:
    if stat.S_ISDIR(about.st_mode):
        raise invalid_path(f"{name!r} is a folder, not a regular file.", name, errno.EISDIR)
    if not stat.S_ISREG(about.st_mode):
        raise InvalidInputError(
            f"{name!r} is not a regular file.",
            hint="For a pipe or a device, pass the opened file: it is read to its end.",
        )


def _seconds_until_distinct(about: os.stat_result) -> float:
    """Return how long a change could still leave the modification time as it is.

    The kernel sets it from a clock that advances every few milliseconds.
    """
    clock = getattr(time, "CLOCK_REALTIME_COARSE", None)
    if clock is None:
        return 0.0
    age = time.clock_gettime(clock) - about.st_mtime_ns / 1e9
    tick = time.clock_getres(clock)
    return tick - age if 0 <= age < tick else 0.0
