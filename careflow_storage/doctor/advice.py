"""Commands in advice, quoted so that a shell can run them as they are."""

from __future__ import annotations

from shlex import quote


def command(*words: str) -> str:
    """Write a command between backticks, its words quoted for a shell."""
    return f"`careflow-storage {' '.join(map(quote, words))}`"
