"""The exceptions of the child process."""

from __future__ import annotations


class UnsupportedError(Exception):
    """The bytes cannot be used. The parent raises `UnsupportedMediaError` with this text."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class ParentGoneError(Exception):
    """The parent process has ended, or has closed the pipe."""
