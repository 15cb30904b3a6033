"""Arithmetic on sets of key ranges ``(after, until]``, either end of which may be open."""

from __future__ import annotations

from collections.abc import Iterable

from careflow_storage.jobs.models import KeyRange


def merge(ranges: Iterable[KeyRange]) -> list[KeyRange]:
    """Return the same keys as the fewest ranges, in order. Adjacent and overlapping ones merge."""
    merged: list[KeyRange] = []
    for one in sorted(filter(_has_room, ranges), key=_start):
        if merged and not _precedes(merged[-1].until, one):
            if _reaches_beyond(one.until, merged[-1].until):
                merged[-1] = KeyRange(after=merged[-1].after, until=one.until)
        else:
            merged.append(one)
    return merged


def unfinished(whole: KeyRange, finished: Iterable[KeyRange]) -> list[KeyRange]:
    """Return the parts of ``whole`` that no range of ``finished`` covers, in order."""
    parts = []
    after = whole.after
    for one in merge(finished):
        until = one.after if _reaches_beyond(whole.until, one.after) else whole.until
        gap = KeyRange(after=after, until=until)
        # A range that is open below leaves no gap before it; `until` None would mean the opposite.
        if one.after is not None and _has_room(gap):
            parts.append(gap)
        if one.until is None:
            return parts
        after = max(after or "", one.until)
    rest = KeyRange(after=after, until=whole.until)
    return [*parts, rest] if _has_room(rest) else parts


def _start(one: KeyRange) -> str:
    # No key is empty, so an open start and a start after "" are the same.
    return one.after or ""


def _has_room(one: KeyRange) -> bool:
    return one.until is None or _start(one) < one.until


def _precedes(until: str | None, one: KeyRange) -> bool:
    """Return whether there is room between an end and the start of a range."""
    return until is not None and until < _start(one)


def _reaches_beyond(until: str | None, other: str | None) -> bool:
    """Return whether the first end is behind the second. An open end is behind all others."""
    return other is not None and (until is None or until > other)
