"""The errors of a storage, as callers of file systems expect them."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from careflow_storage.errors import (
    AccessDeniedError,
    ConnectionFailedError,
    InvalidCredentialsError,
    InvalidInputError,
    MissingExtraError,
    NoSuchBucketError,
    NoSuchKeyError,
    NotConfiguredError,
    NotSupportedError,
    PreconditionFailedError,
    StorageClosedError,
    StorageError,
    StorageTimeoutError,
)

_ERRNO: tuple[tuple[type[StorageError], int], ...] = (
    (NoSuchKeyError, errno.ENOENT),
    (NoSuchBucketError, errno.ENOENT),
    (AccessDeniedError, errno.EACCES),
    (InvalidCredentialsError, errno.EACCES),
    (StorageTimeoutError, errno.ETIMEDOUT),
    (NotSupportedError, errno.ENOTSUP),
)
# No file is at fault, or they are what callers expect already.
_UNCHANGED = (InvalidInputError, MissingExtraError, NotConfiguredError, StorageClosedError)


@contextmanager
def os_errors(path: str, *, exclusive: bool = False) -> Iterator[None]:
    """Raise the `OSError` that fits, with the `StorageError` as its cause.

    ``exclusive``: whether a failed precondition means that the file exists.
    """
    try:
        yield
    except StorageError as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # a local file
        if isinstance(error, _UNCHANGED):
            raise
        raise _os_error(error, path, exclusive=exclusive) from error


def _os_error(error: StorageError, path: str, *, exclusive: bool) -> OSError:
    message = str(error)
    if isinstance(error, ConnectionFailedError):
        # There is no number for all the ways in which a connection fails.
        return ConnectionError(errno.ECONNABORTED, message, path)
    if isinstance(error, PreconditionFailedError):
        return OSError(errno.EEXIST if exclusive else errno.EBUSY, message, path)
    for kind, number in _ERRNO:
        if isinstance(error, kind):
            return OSError(number, message, path)
    return OSError(errno.EIO, message, path)


def not_found(path: str) -> FileNotFoundError:
    """Return the error for a path that is neither a file nor a directory."""
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)


def is_a_directory(path: str) -> IsADirectoryError:
    """Return the error for a directory where a file is needed."""
    return IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
