"""The exit codes of all commands."""

from __future__ import annotations

FAILED = 1
"""The operation failed, or a check did not pass."""
WRONG_USE = 2
"""An argument or a setting is missing or wrong; nothing was sent."""
NOT_FOUND = 3
"""The file, version, upload, bucket or job does not exist."""
NOT_ALLOWED = 4
"""The key is wrong, or lacks a capability."""
OVER_LIMIT = 5
"""Usage exceeds a limit that was given."""
INTERRUPTED = 130
"""Ctrl-C, after cleaning up. SIGTERM is 143: 128 and the signal's number."""

EXIT_CODES: tuple[tuple[str, str], ...] = (
    ("0", "Success. Also if the reader of the output, such as head, closes the pipe."),
    ("1", "Failure, also of some of several files; or you declined."),
    ("2", "An argument or a setting is missing or wrong. Nothing was changed."),
    ("3", "The file, version, upload, bucket, job or key does not exist."),
    ("4", "The application key is wrong, or lacks a permission."),
    ("5", "A threshold is exceeded."),
    ("130", "Ctrl-C. Transfers were cleaned up."),
    ("143, 129", "SIGTERM, or a closed terminal. Transfers were cleaned up."),
)
"""Each code and its meaning, for people."""
