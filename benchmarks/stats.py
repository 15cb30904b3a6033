"""The few statistics that the tables need."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle of some measurements, and the least and the greatest."""

    middle: float
    least: float
    greatest: float
    count: int


def spread(values: Sequence[float]) -> Spread | None:
    """None where nothing was measured."""
    if not values:
        return None
    return Spread(median(values), min(values), max(values), len(values))


def ratio(theirs: float | None, ours: float | None) -> float | None:
    """Theirs divided by ours: more than 1 means that ours needs less."""
    if theirs is None or ours is None or ours <= 0:
        return None
    return theirs / ours


def percentile(values: Sequence[float], share: float) -> float:
    """The least value that is no less than this share of all values (nearest rank)."""
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
        """More than allocators and caches explain: 2 MiB, or 3% of a large process."""
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
