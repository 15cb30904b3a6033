"""Checks of a listing: its limit, and pages that repeat."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

from careflow_storage.errors import InvalidInputError, ServerResponseError

# Servers may read many entries that they do not list, such as delete markers. They then send an
# empty page, or repeat the folder that they are reading.
_MAX_EMPTY_PAGES: Final = 100
_MAX_PAGES_OF_A_FOLDER: Final = 1000
_NEVER: Final = object()


class _RepeatDetector:
    """Detects a sequence that repeats itself, in constant memory, whatever its period.

    Brent's algorithm: keeps one value, and replaces it by the newest one after 1, 2, 4, 8, ...
    steps.
    """

    def __init__(self) -> None:
        self._kept: object = _NEVER
        self._steps = 0
        self._limit = 1

    def repeats(self, value: Hashable) -> bool:
        if value == self._kept:
            return True
        self._steps += 1
        if self._steps == self._limit:
            self._kept, self._steps, self._limit = value, 0, 2 * self._limit
        return False


class LoopDetector:
    """Raises `ServerResponseError` when the pages of one listing no longer lead further."""

    def __init__(self, operation: str, bucket: str | None, key: str | None = None) -> None:
        self._operation, self._bucket, self._key = operation, bucket, key
        self._positions = _RepeatDetector()
        self._entries = _RepeatDetector()
        self._folder: Hashable = None
        self._empty_pages = 0

    def check(
        self, position: Hashable, last: Hashable | None, folder: Hashable | None = None
    ) -> None:
        """Check one page before the next one is requested.

        Args:
            position: Where the next page begins.
            last: The last entry of the page, None if it has none. No entry comes twice.
            folder: The last common prefix of the page, which may also begin the next one.
        """
        if self._positions.repeats(position):
            raise self._loop("the server sends the same page again")
        if last is not None:
            if self._entries.repeats(last):
                raise self._loop("the server sends the same entries again")
            self._empty_pages = 0
        elif folder is not None and folder != self._folder:
            if self._entries.repeats((folder,)):
                raise self._loop("the server sends the same folders again")
            self._empty_pages = 0
        else:
            self._empty_pages += 1
            most = _MAX_EMPTY_PAGES if folder is None else _MAX_PAGES_OF_A_FOLDER
            if self._empty_pages >= most:
                raise self._loop(f"{most} pages had nothing new")
        self._folder = folder

    def _loop(self, why: str) -> ServerResponseError:
        return ServerResponseError(
            f"The listing does not end: {why}.",
            operation=self._operation,
            bucket=self._bucket,
            key=self._key,
        )


def checked_limit(limit: int | None, name: str, entries: str) -> int | None:
    """Return the most entries to list; raise `InvalidInputError` unless it is 1 or more."""
    if limit is not None and (type(limit) is not int or limit < 1):
        raise InvalidInputError(
            f"{name} must be 1 or more, not {limit!r}.", hint=f"None lists all {entries}."
        )
    return limit
