"""Checks of local paths, and the errors of local files."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from careflow_storage.errors import (
    InvalidInputError,
    InvalidPathError,
    LocalFileError,
    StorageError,
)

# Temporary conditions: the same call may succeed later.
_TEMPORARY = frozenset(
    getattr(errno, name)
    for name in (
        *("EAGAIN", "EBUSY", "EDQUOT", "EINTR", "EIO", "EMFILE", "ENFILE", "ENOMEM", "ENOSPC"),
        *("ESTALE", "ETIMEDOUT"),
    )
    if hasattr(errno, name)
)
_SPACE_HINT = "Free some space on the disk, or choose another disk."
_PERMISSION_HINT = "Check the permissions of the file and of its folder."
_HINTS = {
    errno.ENOSPC: _SPACE_HINT,
    getattr(errno, "EDQUOT", errno.ENOSPC): _SPACE_HINT,
    errno.EFBIG: "The file system, or a limit of this process, does not allow files of this size.",
    errno.EACCES: _PERMISSION_HINT,
    errno.EPERM: _PERMISSION_HINT,
    errno.EROFS: "The file system is mounted read-only.",
    errno.EIO: "The disk or the network mount failed: see the system log.",
    errno.EMFILE: "This process has too many open files: raise its limit (ulimit -n).",
    errno.ENFILE: "The system has too many open files.",
    errno.ENAMETOOLONG: "Most file systems allow at most 255 bytes in a name.",
}


def as_path(given: str | os.PathLike[str], name: str = "path") -> Path:
    """Convert the argument ``name`` to a path, and check it.

    Raises:
        InvalidInputError: The argument is neither a str nor a Path.
        InvalidPathError: The system does not allow the name.
    """
    try:
        path = Path(given)
    except TypeError:
        raise InvalidInputError(
            f"{name} must be a str or a Path, not {type(given).__name__}."
        ) from None
    try:
        encoded = os.fsencode(path)
    except UnicodeEncodeError:
        encoded = b"\0"
    if b"\0" in encoded:
        raise invalid_path(
            f"{str(path)!r} has a character that is not allowed in a file name.", path, errno.EINVAL
        )
    return path


def local_file_error(
    error: OSError,
    action: str,
    path: str | os.PathLike[str] | None = None,
    *,
    error_class: type[LocalFileError] = LocalFileError,
    hint: str | None = None,
) -> LocalFileError:
    """Return the `LocalFileError` for an OSError that made ``action`` ("write") fail.

    ``path`` is the file that the caller passed; None: the file name in the error.
    """
    name = os.fspath(path) if path is not None else _name_of(error)
    reason = error.strerror or str(error) or type(error).__name__
    what = repr(name) if name is not None else "the file"
    return error_class(
        f"Cannot {action} {what}: {reason}.",
        errno=error.errno,
        strerror=error.strerror,
        filename=name,
        retryable=error.errno in _TEMPORARY,
        hint=hint or _HINTS.get(error.errno or 0),
    )


@contextmanager
def local_file_errors(
    action: str,
    path: str | os.PathLike[str] | None = None,
    *,
    error_class: type[LocalFileError] = LocalFileError,
    hint: str | None = None,
) -> Iterator[None]:
    """Convert every OSError in the block to a `LocalFileError` (``error_class``).

    Does not convert a `StorageError`, even one that is also an OSError.
    """
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        raise local_file_error(error, action, path, error_class=error_class, hint=hint) from error


def invalid_path(
    reason: str, path: str | os.PathLike[str], number: int, *, hint: str | None = None
) -> InvalidPathError:
    """Return an `InvalidPathError`; ``number`` is the errno that the system would raise."""
    return InvalidPathError(
        reason, errno=number, strerror=os.strerror(number), filename=os.fspath(path), hint=hint
    )


def _name_of(error: OSError) -> str | None:
    name = error.filename
    return os.fsdecode(name) if isinstance(name, str | bytes) else None
