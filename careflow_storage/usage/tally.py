"""Add up by folder, call and month, in memory that does not grow with the number of files."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from careflow_storage.usage.models import Stored

# Numbers and bytes of files, hidden versions, delete markers and unfinished uploads. Lists,
# because they are updated millions of times.
_FIELDS = (
    *("files", "bytes", "hidden_versions", "hidden_bytes"),
    *("delete_markers", "marker_bytes", "unfinished_uploads", "unfinished_bytes"),
)
FILE, HIDDEN, MARKER, UNFINISHED = 0, 2, 4, 6
Tally = list[int]


def new_tally() -> Tally:
    return [0] * len(_FIELDS)


def add(total: Tally, other: Tally) -> None:
    for index, count in enumerate(other):
        total[index] += count


def stored(tally: Tally) -> Stored:
    counted = dict(zip(_FIELDS, tally, strict=True))
    del counted["marker_bytes"]
    return Stored(**counted)


def _billed(tally: Tally) -> int:
    return tally[FILE + 1] + tally[HIDDEN + 1] + tally[UNFINISHED + 1]


class Groups:
    """Tallies of groups that follow one another, because keys are sorted.

    Keeps only the open groups and the ``top`` groups with the most billed bytes. A group is
    finished when a whole page has no entry of it: servers put delete markers at the end of a
    page, and some sort slashes differently.

    Args:
        ahead: Tallies from before the first page: those of unfinished uploads.
    """

    def __init__(self, top: int, ahead: Mapping[str, Tally]) -> None:
        self.count: int = 0
        self._top = top
        self._ahead = dict(ahead)
        self._open: dict[str, Tally] = {}
        self._best: list[tuple[int, int, str, Tally]] = []

    def page(self, tallies: Mapping[str, Tally]) -> None:
        """Add the tallies of one page."""
        goes_on = {name: self._open.pop(name) for name in tallies.keys() & self._open.keys()}
        for name, tally in self._open.items():
            self._finish(name, tally)
        self._open = {}
        for name, tally in tallies.items():
            if (before := goes_on.get(name)) is not None:
                add(tally, before)
            self._open[name] = tally

    def finish(self) -> dict[str, Stored]:
        """Return the largest groups; of equal ones the first comes first."""
        self.page({})
        for name, tally in sorted(self._ahead.items()):
            self._finish(name, tally, alone=True)
        return {name: stored(tally) for _, _, name, tally in sorted(self._best, reverse=True)}

    def _finish(self, name: str, tally: Tally, *, alone: bool = False) -> None:
        if not alone and (ahead := self._ahead.pop(name, None)) is not None:
            add(tally, ahead)
        self.count += 1
        entry = (_billed(tally), -self.count, name, tally)
        if len(self._best) < self._top:
            heapq.heappush(self._best, entry)
        else:
            heapq.heappushpop(self._best, entry)


class Months:
    """Tallies by month of upload."""

    def __init__(self) -> None:
        self._months: dict[tuple[int, int], Tally] = {}

    def of(self, moment: datetime) -> Tally:
        month = (moment.year, moment.month)
        tally = self._months.get(month)
        if tally is None:
            tally = self._months[month] = new_tally()
        return tally

    def finish(self) -> dict[str, Stored]:
        return {
            f"{year:04}-{month:02}": stored(tally)
            for (year, month), tally in sorted(self._months.items())
        }

    def total(self) -> Stored:
        total = new_tally()
        for tally in self._months.values():
            add(total, tally)
        return stored(total)


def folder_of(key: str, prefix: str) -> str:
    """Return the folder of a key directly below the prefix, or the prefix if it is in none."""
    end = key.find("/", len(prefix))
    return prefix if end < 0 else key[: end + 1]


def call_of(key: str) -> str | None:
    """Return the ID of the call that a key (``recordings/{call_id}/...``) belongs to."""
    if not key.startswith("recordings/"):
        return None
    end = key.find("/", 11)
    return key[11:end] if end > 11 else None


def grouped(
    rows: Iterable[tuple[str, int, int]], name_of: Callable[[str], str | None]
) -> dict[str, Tally]:
    """Add up rows of key, kind and bytes by what ``name_of`` calls each key's group."""
    groups: dict[str, Tally] = {}
    for key, kind, size in rows:
        name = name_of(key)
        if name is None:
            continue
        tally = groups.get(name)
        if tally is None:
            tally = groups[name] = new_tally()
        tally[kind] += 1
        tally[kind + 1] += size
    return groups
