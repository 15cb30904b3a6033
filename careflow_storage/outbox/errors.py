"""What can go wrong with the outbox itself, beside the errors of the storage."""

from __future__ import annotations

from careflow_storage.errors import StorageError


class OutboxError(StorageError):
    """The outbox's folder or database cannot be used; ``retryable`` when it is only busy."""


class SpoolDamagedError(StorageError):
    """The bytes on the disk are no longer those that were accepted."""


class OutboxFullError(OutboxError):
    """There is no room: ``max_bytes`` is reached or the disk is full. Nothing was kept."""
