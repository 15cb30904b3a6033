"""Whether a listing goes on: a server that leads in circles must not be followed for ever."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

from careflow_storage.errors import ServerResponseError

# Servers may look at many entries that they do not show, such as delete markers, and give an
# empty page, or the folder again in whose middle they are.
_MAX_EMPTY_PAGES: Final = 100
_MAX_PAGES_OF_A_FOLDER: Final = 1000
_NEVER: Final = object()


class _Cycle:
    """Finds that values come again, in constant memory, however long the circle is.

    Brent's algorithm: one value is kept, and exchanged for the newest whenever as many more have
    come as before the last exchange.
    """

    def __init__(self) -> None:
        self._kept: object = _NEVER
        self._steps = 0
        self._limit = 1

    def closes_with(self, value: Hashable) -> bool:
        if value == self._kept:
            return True
        self._steps += 1
        if self._steps == self._limit:
            self._kept, self._steps, self._limit = value, 0, 2 * self._limit
        return False


class Progress:
    """Watches the pages of one listing, of which each must lead further."""

    def __init__(self, operation: str, bucket: str | None, key: str | None = None) -> None:
        self._operation, self._bucket, self._key = operation, bucket, key
        self._positions = _Cycle()
        self._entries = _Cycle()
        self._folder: Hashable = None
        self._idle = 0

    def go_on(
        self, position: Hashable, last: Hashable | None, folder: Hashable | None = None
    ) -> None:
        """Note where the next page begins; raise `ServerResponseError` in a circle.

        ``last`` is the last entry of the page, None if it has none. An entry comes but once.
        ``folder`` is its last common prefix, which may begin the next page, too.
        """
        if self._positions.closes_with(position):
            raise self._circle("the server gives the same page again")
        if last is not None:
            if self._entries.closes_with(last):
                raise self._circle("the server gives the same entries again")
            self._idle = 0
        elif folder is not None and folder != self._folder:
            if self._entries.closes_with((folder,)):
                raise self._circle("the server gives the same folders again")
            self._idle = 0
        else:
            self._idle += 1
            most = _MAX_EMPTY_PAGES if folder is None else _MAX_PAGES_OF_A_FOLDER
            if self._idle >= most:
                raise self._circle(f"{most} pages had nothing new")
        self._folder = folder

    def _circle(self, why: str) -> ServerResponseError:
        return ServerResponseError(
            f"The listing does not go on: {why}.",
            operation=self._operation,
            bucket=self._bucket,
            key=self._key,
        )
