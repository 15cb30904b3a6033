"""Which errors end a job, and which concern one object."""

from __future__ import annotations

from typing import Final

from careflow_storage.errors import (
    AccessDeniedError,
    CapExceededError,
    FileLockedError,
    InvalidCredentialsError,
    MissingExtraError,
    NoSuchBucketError,
    NotConfiguredError,
    StorageClosedError,
    StorageError,
    WrongLoopError,
)

_CONCERN_ALL: Final = (
    CapExceededError,
    InvalidCredentialsError,
    MissingExtraError,
    NoSuchBucketError,
    NotConfiguredError,
    StorageClosedError,
    WrongLoopError,
)


def ends_job(error: StorageError, *, any_done: bool) -> bool:
    """Whether all other objects would fail in the same way.

    Args:
        any_done: Whether an object of the shard was worked on. Until then, a key that lacks a
            permission is the likely reason of a refusal.
    """
    if isinstance(error, _CONCERN_ALL):
        return True
    denied = isinstance(error, AccessDeniedError) and not isinstance(error, FileLockedError)
    return denied and not any_done
