"""The errors of `careflow_storage.media`."""

from __future__ import annotations

from careflow_storage.errors import StorageError


class UnsupportedMediaError(StorageError):
    """The file is no audio or video that can be read. HTTP: 415.

    It has another format, is damaged, or needs more time or memory than a file of its size may
    use. The same file fails again.
    """


class MediaProcessError(StorageError):
    """The child process that opens media could not be started, or failed by itself. HTTP: 500."""
