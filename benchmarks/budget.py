"""A time budget, divided between groups by their expected durations."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from benchmarks.plan import Group, Scale, estimate, rounds_of


class Budget:
    """Decides whether there is time for one more round. The first one always runs."""

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
        """Start a group with its share of the remaining time. Unused time goes to the others."""
        self._begun = self._clock()
        if self._deadline is None:
            return
        share = self._left[group.name] / sum(self._left.values())
        del self._left[group.name]
        self._until = self._begun + share * max(0.0, self._deadline - self._begun)

    def another(self, done: int) -> bool:
        """Return whether another round fits, if it takes as long as the ``done`` ones."""
        if done == 0 or self._deadline is None:
            return True
        now = self._clock()
        return now + (now - self._begun) / done <= self._until
