"""The recordings of the listings. None is stored: each is computed from its number.

Keys are those of careflow-storage, ``recordings/CA<32 hex>/<epoch ms>-call.webm``, fifty to a
call's folder, numbered in byte order. So a page is a range of numbers, and a continuation token
is the number of the first key that it has not shown.
"""

from __future__ import annotations

import functools
import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple

PER_FOLDER: Final = 50
_ROOT: Final = b"recordings/"
_EPOCH_MS: Final = 1_750_000_000_000
_FOLDER_MS: Final = 60_000
_KEY_MS: Final = 1_013


class Entry(NamedTuple):
    """A key in a listing."""

    key: bytes
    modified_ms: int


@dataclass(frozen=True, slots=True)
class Page:
    """Keys and common prefixes; ``following`` is the number of the next page, if any."""

    entries: list[Entry]
    prefixes: list[bytes]
    following: int | None


class Recordings:
    """``count`` recordings."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._folders = -(-count // PER_FOLDER)

    def __len__(self) -> int:
        return self.count

    def key(self, number: int) -> bytes:
        folder, place = divmod(number, PER_FOLDER)
        return b"%b%d-call.webm" % (self._folder(folder), _moment(folder, place))

    def number_after(self, key: bytes) -> int:
        """Return the number of the first key after this one, which need not exist."""
        return bisect_right(range(self.count), key, key=self.key)

    def page(self, prefix: bytes, delimiter: bytes, begin: int, most: int) -> Page:
        """Return the page from number ``begin`` on, below a prefix."""
        begin = max(begin, self.number_of(prefix))
        end = self.number_of(prefix + b"\xff")
        if delimiter:
            return self._grouped(prefix, delimiter, range(begin, end), most)
        stop = min(begin + most, end)
        entries = list(self._entries(begin, stop)) if begin < stop else []
        return Page(entries, [], stop if stop < end else None)

    def number_of(self, key: bytes) -> int:
        """Return the number of this key or, if it does not exist, of the first after it."""
        return bisect_left(range(self.count), key, key=self.key)

    def _entries(self, begin: int, stop: int) -> Iterator[Entry]:
        for folder in range(begin // PER_FOLDER, (stop - 1) // PER_FOLDER + 1):
            path, first = self._folder(folder), folder * PER_FOLDER
            for number in range(max(begin, first), min(stop, first + PER_FOLDER)):
                moment = _moment(folder, number - first)
                yield Entry(b"%b%d-call.webm" % (path, moment), moment)

    def _grouped(self, prefix: bytes, delimiter: bytes, numbers: range, most: int) -> Page:
        entries: list[Entry] = []
        prefixes: list[bytes] = []
        number = numbers.start
        while number < numbers.stop and len(entries) + len(prefixes) < most:
            key = self.key(number)
            at = key.find(delimiter, len(prefix))
            if at < 0:
                entries.extend(self._entries(number, number + 1))
                number += 1
            else:
                common = key[: at + len(delimiter)]
                prefixes.append(common)
                number = self._behind(common, number)
        return Page(entries, prefixes, number if number < numbers.stop else None)

    def _behind(self, common: bytes, number: int) -> int:
        """Return the number of the first key that does not begin like this one."""
        following = min((number // PER_FOLDER + 1) * PER_FOLDER, self.count)
        if not self._begins(following, common) and self._begins(following - 1, common):
            return following  # a folder, as in nearly all requests
        return self.number_of(common + b"\xff")

    def _begins(self, number: int, common: bytes) -> bool:
        return number < self.count and self.key(number).startswith(common)

    def _folder(self, folder: int) -> bytes:
        # The first digits grow with the number and fill the range; the others are arbitrary.
        first = (folder << 32) // self._folders
        rest = hashlib.sha256(b"%d" % folder).hexdigest()[:24].encode()
        return b"%bCA%08x%b/" % (_ROOT, first, rest)


def _moment(folder: int, place: int) -> int:
    return _EPOCH_MS + folder * _FOLDER_MS + place * _KEY_MS


def iso_time(milliseconds: int) -> bytes:
    """Return a time as listings have it, to the second."""
    minute, second = divmod(milliseconds // 1000, 60)
    return b"%b:%02d.000Z" % (_minute(minute), second)


@functools.lru_cache(maxsize=1024)
def _minute(minute: int) -> bytes:
    # Formatting a time takes longer than the rest of an entry, and those of a folder are close.
    return datetime.fromtimestamp(minute * 60, UTC).strftime("%FT%H:%M").encode()
