"""Faults for chosen requests, or at random."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from random import Random
from typing import Any

from careflow_storage.errors import InvalidInputError
from careflow_storage.testing.proxy.rule import Attempt, Rule

_BUSY = {"status": 503, "code": "ServiceUnavailable", "message": "no tomes available"}
_BROKEN = {
    "status": 500,
    "code": "InternalError",
    "message": "An internal error occurred.  Please retry your upload.",
}
_KINDS: dict[str, Callable[[Random, Attempt], dict[str, Any]]] = {
    "busy": lambda dice, attempt: _BUSY,
    "slow_down": lambda dice, attempt: {"status": 503, "code": "SlowDown", "message": "Slow down"},
    "broken": lambda dice, attempt: _BROKEN,
    "reset": lambda dice, attempt: {"cut": "rst"},
    "reset_in_upload": lambda dice, attempt: {"cut": "rst", "at": ("req", _within(dice, attempt))},
    "reset_in_download": lambda dice, attempt: {
        "cut": "rst",
        "at": ("body", dice.choice((0, 100, 10_000, 100_000))),
    },
    "lost_response": lambda dice, attempt: {"cut": "rst", "at": "resp"},
    "corrupt_upload": lambda dice, attempt: {"corrupt_upload": _within(dice, attempt)},
    "corrupt_download": lambda dice, attempt: {"corrupt": dice.choice((0, 100, 10_000))},
    "short_download": lambda dice, attempt: {"short": dice.choice((0, 100, 10_000))},
}
KINDS = tuple(_KINDS)
"""Every kind of fault that `Faults.random` knows."""

COMMON = KINDS[:7]
"""Those that networks and B2 cause every day, and that a good client hides from its user."""


class Faults:
    """The rules of an emulator. The first one that applies to a request is used.

    The fields of a rule, which `next` and `always` take, are those of `Rule`. Any thread may
    call this at any time; it applies to later requests.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: list[Rule] = []
        self._chance: _Chance | None = None

    def next(self, operation: str | None = None, *, times: int = 1, **what: Any) -> Rule:
        r"""Inject a fault into the next ``times`` requests of an operation (None: of any).

        ::

            server.faults.next("UploadPart", status=503, code="SlowDown", times=3)
            server.faults.next("PutObject", key=r"\.webm$", cut="rst", at="resp")

        Returns:
            The rule. Its ``hits`` and ``fired`` show whether it was applied.
        """
        return self._add(Rule(operation=operation, times=times, **what))

    def always(self, operation: str | None = None, **what: Any) -> Rule:
        """Inject a fault into every request of an operation (None: of any) until `clear`."""
        return self._add(Rule(operation=operation, **what))

    def random(
        self,
        rate: float,
        *,
        seed: int = 0,
        kinds: Iterable[str] = COMMON,
        operations: Iterable[str] | None = None,
    ) -> None:
        """Inject one of these faults into a random share of all requests.

        The same seed injects the same faults into the same sequence of requests; the order of
        concurrent requests may vary. Rules of `next` and `always` take precedence.

        Args:
            rate: 0 to 1.
            seed: The seed of the random numbers.
            kinds: Some of `KINDS`. By default those that a good client hides from its user.
            operations: Only these; None: any.

        Raises:
            InvalidInputError: The rate is out of bounds, or there is no such kind.
        """
        wanted = tuple(kinds)
        unknown = sorted(set(wanted) - set(KINDS))
        if not 0 <= rate <= 1 or unknown or not wanted:
            raise InvalidInputError(
                f"There is no fault of kind {', '.join(unknown)}."
                if unknown
                else "rate must be 0 to 1, with at least one kind.",
                hint=f"Kinds are {', '.join(KINDS)}.",
            )
        only = None if operations is None else frozenset(operations)
        with self._lock:
            # Random faults need no secure random numbers.
            self._chance = _Chance(rate, Random(seed), wanted, only)  # noqa: S311

    def clear(self) -> None:
        """Remove all rules; hanging connections are reset, and delayed requests go on."""
        with self._lock:
            rules, self._rules, self._chance = self._rules, [], None
        for rule in rules:
            rule.release.set()

    def _choose(self, attempt: Attempt) -> Rule | None:
        """Return the rule for this request, or None."""
        with self._lock:
            for rule in self._rules:
                if rule.applies_to(attempt):
                    return rule
            return self._chance.throw(attempt) if self._chance is not None else None

    def _add(self, rule: Rule) -> Rule:
        with self._lock:
            self._rules.append(rule)
        return rule


class _Chance:
    """Random faults for a share of the requests."""

    def __init__(
        self, rate: float, dice: Random, kinds: tuple[str, ...], operations: frozenset[str] | None
    ) -> None:
        self._rate = rate
        self._dice = dice
        self._kinds = kinds
        self._operations = operations

    def throw(self, attempt: Attempt) -> Rule | None:
        if self._operations is not None and attempt.operation not in self._operations:
            return None
        if self._dice.random() >= self._rate:
            return None
        return Rule(**_KINDS[self._dice.choice(self._kinds)](self._dice, attempt))


def _within(dice: Random, attempt: Attempt) -> int:
    return dice.randrange(max(1, int(attempt.headers.get("content-length") or 0)))
