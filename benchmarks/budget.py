"""A given time, shared out between groups by what they are expected to take."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from benchmarks.plan import Group, Scale, estimate, rounds_of


class Budget:
    """Says whether there is time for one more round. The first one is always measured."""

    def __init__(
        self,
        chosen: Sequence[Group],
        scale: Scale,
        seconds: float | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._deadline = None if seconds is None else clock() + seconds
        per_round = estimate(chosen, scale).per_round
        self._left = {
            group.name: per_round[group.name] * rounds_of(group, scale) for group in chosen
        }
        self._until = 0.0
        self._begun = 0.0

    def begin(self, group: Group) -> None:
        """A group gets its share of what is left; what it does not use is for the others."""
        self._begun = self._clock()
        if self._deadline is None:
            return
        share = self._left[group.name] / sum(self._left.values())
        del self._left[group.name]
        self._until = self._begun + share * max(0.0, self._deadline - self._begun)

    def another(self, done: int) -> bool:
        """Whether a round that takes as long as the ``done`` ones before it would fit."""
        if done == 0 or self._deadline is None:
            return True
        now = self._clock()
        return now + (now - self._begun) / done <= self._until
