"""How many requests were sent, by operation: what transaction caps and bills count."""

from __future__ import annotations

from collections import Counter


class RequestCounter:
    """Counts every attempt that goes out, retries included, since the server counts them, too."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def count(self, operation: str) -> None:
        """One more request of this S3 operation, e.g. ``PutObject``."""
        self._counts[operation] += 1

    def by_operation(self) -> dict[str, int]:
        """Return the requests so far, by operation."""
        return dict(self._counts)
