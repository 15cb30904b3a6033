"""The errors of browser uploads, each with the HTTP status that fits it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from careflow_storage.errors import FileTooLargeError as FileTooLargeError
from careflow_storage.errors import InvalidInputError, StorageError


class FileTypeError(InvalidInputError):
    """The policy does not allow files of this type. HTTP: 415."""


class InvalidTicketError(InvalidInputError):
    """The ticket is forged or damaged, or belongs to another subject. HTTP: 403."""


class ExpiredTicketError(InvalidTicketError):
    """The ticket has expired. HTTP: 403."""


class UploadIncompleteError(StorageError):
    """The bucket does not hold the whole file yet. HTTP: 409.

    Attributes:
        missing: The numbers of the parts to send again: they are missing, have the wrong size,
            or are not those that the browser reported. The upload goes on.
    """

    def __init__(self, message: str, *, missing: Sequence[int] = (), **fields: Any) -> None:
        super().__init__(message, **fields)
        self.missing: tuple[int, ...] = tuple(missing)


class UploadMismatchError(StorageError):
    """The stored file is not the announced one; it has been erased. HTTP: 409."""
