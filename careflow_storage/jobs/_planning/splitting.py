"""Splitting a key range where its keys are, without knowing how they are distributed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from careflow_storage._transfer.tasks import task_group
from careflow_storage.jobs._planning.key_space import after_prefix, midpoint, shared_length
from careflow_storage.jobs.models import KeyRange

Probe = Callable[[str | None], Awaitable[str | None]]
"""Returns the n-th key after its argument, or None if there are fewer: one listing request.

n is the least number of keys that a part should have, at most 1000.
"""

_GUESSES = 1
"""Midpoints that are tried before the search for the keys' common prefix, which costs more."""

_MORE_GUESSES = 4
"""Midpoints that are tried behind that prefix before an uneven split is taken."""


async def split_rest(rest: KeyRange, probe: Probe, parts: int) -> list[KeyRange]:
    """Split a range into at most ``parts`` adjacent ranges, each with at least n keys.

    The parts cover exactly ``rest``. A range in which no place is found that leaves n keys on
    either side comes back whole, which costs 3 probes if it has less than 2 n keys. A split costs
    one or two probes where the keys are spread out, and about ten where they share a long prefix;
    the probes of different parts run concurrently. The parts hold similar numbers of keys only if
    the keys are spread evenly: split the rest of a large part again.

    Args:
        rest: What to split.
        probe: Finds the n-th key after another one, of those that the job concerns.
        parts: How many ranges to make, at most.
    """
    if parts < 2:
        return [rest]
    first = await probe(rest.after)
    if first is None or (rest.until is not None and first > rest.until):
        return [rest]
    pieces = [_Piece(rest.after, rest.until, first, rest.until)]
    while len(pieces) < parts:
        divisible = [piece for piece in pieces if not piece.whole]
        if not divisible:
            break
        divisible.sort(key=lambda piece: piece.spread, reverse=True)
        widest = divisible[0].spread[0]
        # Only the widest: their halves may still be wider than the others.
        chosen = [one for one in divisible if one.spread[0] == widest][: parts - len(pieces)]
        async with task_group() as group:
            tasks = [group.create_task(_Halving(piece, probe).run()) for piece in chosen]
        halves = dict(zip(chosen, (task.result() for task in tasks), strict=True))
        pieces = [piece for piece in pieces if piece not in halves]
        pieces += [half for found in halves.values() for half in found]
    return [
        KeyRange(after=piece.after, until=piece.until)
        for piece in sorted(pieces, key=lambda piece: piece.low)
    ]


@dataclass(frozen=True, slots=True)
class _Piece:
    """A range; its n-th key; where its keys end, but for less than n; whether it stays whole."""

    after: str | None
    until: str | None
    low: str
    end: str | None
    whole: bool = False

    @property
    def spread(self) -> tuple[int, int]:
        """Return how far apart the keys can be; a greater value is farther.

        A shorter prefix that they share counts first, then the distance of the characters behind.
        """
        if self.end is None:
            return (1, 0)
        shared = shared_length(self.low, self.end)
        first, end = (ord(key[shared : shared + 1] or "\0") for key in (self.low, self.end))
        return -shared, end - first


class _Halving:
    """The search for a place to split one piece at.

    A place is good if n keys are behind it, since the first n are before it. If there are fewer,
    the place is the new end of the keys.
    """

    def __init__(self, piece: _Piece, probe: Probe) -> None:
        self._piece = piece
        self._probe = probe
        self._low = piece.low
        self._end = piece.end
        self._uneven: tuple[str, str] | None = None

    async def run(self) -> list[_Piece]:
        """Return the two halves, or the piece as one that stays whole."""
        found = await self._guess(_GUESSES)
        if found is None and await self._key_behind(self._low):
            await self._find_common_prefix()
            found = await self._guess(_MORE_GUESSES) or self._uneven
        if found is None:
            return [replace(self._piece, end=self._end, whole=True)]
        place, key = found
        return [
            _Piece(self._piece.after, place, self._piece.low, place),
            _Piece(place, self._piece.until, key, self._end),
        ]

    async def _guess(self, times: int) -> tuple[str, str] | None:
        for _ in range(times):
            place = midpoint(self._low, self._end)
            if place is None:
                return None
            if key := await self._key_behind(place):
                return place, key
        return None

    async def _find_common_prefix(self) -> None:
        """Move the end to where the prefix that all keys share ends, by a binary search."""
        shorter, longer = 0, len(self._low)
        while shorter < longer:
            length = (shorter + longer) // 2
            place = after_prefix(self._low[: length + 1])
            if place is None or (self._end is not None and place >= self._end):
                shorter = length + 1
            elif key := await self._key_behind(place):
                self._uneven = place, key
                longer = length
            else:
                shorter = length + 1
        if self._uneven is None and (key := await self._key_behind(self._low)):
            # It is a prefix of all keys behind it, as the placeholder of a folder is.
            self._uneven = self._low, key
            self._low = key

    async def _key_behind(self, place: str) -> str | None:
        """Return the n-th key behind a place. If there is none, the place is the new end."""
        key = await self._probe(place)
        if key is None or (self._piece.until is not None and key > self._piece.until):
            self._end = place
            return None
        return key
