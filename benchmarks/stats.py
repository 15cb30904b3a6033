"""The statistics of the tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, least and greatest of some values."""

    middle: float
    least: float
    greatest: float
    count: int


def spread(values: Sequence[float]) -> Spread | None:
    """Return the spread of the values, None without values."""
    if not values:
        return None
    return Spread(median(values), min(values), max(values), len(values))


def ratio(theirs: float | None, ours: float | None) -> float | None:
    """Return theirs divided by ours: above 1, ours needs less."""
    if theirs is None or ours is None or ours <= 0:
        return None
    return theirs / ours


def percentile(values: Sequence[float], share: float) -> float:
    """Return the least value that is no less than this share of all (nearest rank)."""
    if not values:
        raise ValueError("No percentile of no values.")
    ordered = sorted(values)
    rank = math.ceil(share * len(ordered))
    return ordered[min(len(ordered), max(1, rank)) - 1]


@dataclass(frozen=True, slots=True)
class Growth:
    """Memory from the first plateau to the end, in MiB."""

    plateau: float
    end: float

    @property
    def grown(self) -> float:
        return self.end - self.plateau

    @property
    def leaks(self) -> bool:
        """Return whether it is more than allocators and caches explain: 2 MiB or 3%."""
        return self.grown > max(2.0, 0.03 * self.plateau)


_STEADY = 0.01


def growth(readings: Sequence[float]) -> Growth | None:
    """Compare the end with the first reading that is hardly above the one before it.

    Where memory grows at every reading there is no plateau, and the second one stands for it:
    the first belongs to the warm-up of caches and pools.
    """
    if len(readings) < 3:
        return None
    # Not the last one: as its own plateau it would hide any growth.
    steady = (after for before, after in pairwise(readings[:-1]) if after <= before * (1 + _STEADY))
    first = next(steady, readings[1])
    return Growth(first, readings[-1])
