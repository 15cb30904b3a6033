"""The errors of the outbox itself."""

from __future__ import annotations

from careflow_storage.errors import StorageError


class OutboxError(StorageError):
    """The outbox's folder or database cannot be used. ``retryable`` if it is only busy."""


class CredentialsError(OutboxError):
    """The outbox lacks the credentials that an entry names, or they cannot be sent.

    The entry stays queued, however long, until an outbox with the credentials fetches it.
    """


class SpoolDamagedError(StorageError):
    """The bytes on the disk are not those that were put."""


class OutboxFullError(OutboxError):
    """``max_bytes`` is reached or the disk is full. Nothing was kept."""
