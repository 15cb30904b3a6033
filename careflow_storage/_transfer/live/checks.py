"""The checks of the arguments of `RecordingWriter`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from careflow_storage._s3.deadline import is_duration
from careflow_storage._transfer.bodies.buffers import view_of
from careflow_storage._transfer.upload.options import UploadOptions
from careflow_storage.errors import InvalidInputError

if TYPE_CHECKING:
    from typing_extensions import Buffer

OnError = Literal["abort", "keep"]
"""What happens to a recording that an error cut off: abort the upload, or keep what arrived."""


def check_modes(on_error: str, flush_interval: float | None, live_read: bool) -> None:
    """Refuse a mode that does not exist, and modes that exclude each other."""
    if on_error not in get_args(OnError):
        raise InvalidInputError(f"on_error must be 'abort' or 'keep', not {on_error!r}.")
    if flush_interval is None:
        return
    if not is_duration(flush_interval):
        raise InvalidInputError(
            f"flush_interval must be a number of seconds above 0, not {flush_interval!r}."
        )
    if live_read:
        raise InvalidInputError(
            "flush_interval cannot be combined with live_read.",
            hint="Live Read needs parts of equal size, but a flush sends an unfinished part.",
        )


def check_if_exists(options: UploadOptions) -> None:
    """Refuse to return an existing object instead of a recording that is being made."""
    options.check_if_exists()
    if options.return_existing:
        raise InvalidInputError(
            "A live recording takes no if_exists='return'.",
            hint="Its bytes exist only once, and would be lost. Use 'error', or check "
            "file_exists() before the call.",
        )


def checked_reason(reason: object) -> str:
    """Return the reason of `RecordingWriter.mark_partial`; refuse one that is no text."""
    if not isinstance(reason, str) or not reason:
        raise InvalidInputError(
            f"reason must be a non-empty str, not {reason!r}.", method="mark_partial"
        )
    return reason


def checked_folder(path: str | os.PathLike[str] | None) -> Path | None:
    """Return the folder; refuse one that does not exist."""
    if path is None:
        return None
    folder = Path(path)
    if not folder.is_dir():
        raise InvalidInputError(f"keep_dir must be an existing folder, not {str(path)!r}.")
    return folder


def checked_view(data: Buffer) -> memoryview:
    """Return the bytes to write; refuse everything else."""
    view = view_of(data)
    if view is None:
        raise InvalidInputError(f"write() takes bytes, not {type(data).__name__}.", method="write")
    return view
