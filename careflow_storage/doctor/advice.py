"""Commands as advice names them: safe to be typed as they stand."""

from __future__ import annotations

from shlex import quote


def command(*words: str) -> str:
    """Write a command between backticks, its words quoted for a shell."""
    return f"`careflow-storage {' '.join(map(quote, words))}`"
