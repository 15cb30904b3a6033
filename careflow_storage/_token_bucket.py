"""The arithmetic of a rate limit. No clock of its own: each call gets the time, in seconds."""

from __future__ import annotations

from typing import Final

# The responses to requests of the old rate arrive for about so long.
_SECONDS_BETWEEN_HALVINGS: Final = 1.0
_SECONDS_TO_GROW_BACK: Final = 60.0
_LEAST_SHARE: Final = 1 / 64


class TokenBucket:
    """Holds up to ``burst`` tokens and gains ``per_second`` a second; a request takes one.

    `halve` lowers the rate, once a second at most. It then grows back evenly: from zero to all of
    it would take a minute.
    """

    def __init__(self, per_second: float, burst: float, now: float) -> None:
        self.per_second = per_second
        self.burst = burst
        self._rate = per_second
        self._tokens = float(burst)
        self._updated = now
        self._next_halving = now

    def rate(self, now: float) -> float:
        """Return the tokens per second that it gains at the moment."""
        self._advance(now)
        return self._rate

    def take(self, now: float) -> float:
        """Take a token and return 0; if there is none, return the seconds until there is one."""
        self._advance(now)
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return 0.0
        # The rate only grows meanwhile.
        return (1.0 - self._tokens) / self._rate

    def give_back(self) -> None:
        """Return a token that was not used."""
        self._tokens = min(self.burst, self._tokens + 1.0)

    def halve(self, now: float) -> None:
        """Halve the rate and drop the tokens, unless that was done within the last second."""
        self._advance(now)
        if now >= self._next_halving:
            self._rate = max(self._rate / 2, self.per_second * _LEAST_SHARE)
            self._tokens = 0.0
            self._next_halving = now + _SECONDS_BETWEEN_HALVINGS

    def change(self, per_second: float, burst: float, now: float) -> None:
        """Set another rate; one that was halved stays so, in proportion."""
        self._advance(now)
        self._rate *= per_second / self.per_second
        self.per_second, self.burst = per_second, burst
        self._tokens = min(self._tokens, burst)

    def _advance(self, now: float) -> None:
        elapsed, full = now - self._updated, self.per_second
        if elapsed <= 0.0:
            return
        self._updated = now
        gained = 0.0
        if self._rate < full:
            growth = full / _SECONDS_TO_GROW_BACK
            growing = min(elapsed, (full - self._rate) / growth)
            gained = growing * (self._rate + growth * growing / 2)
            self._rate = full if growing < elapsed else min(full, self._rate + growth * growing)
            elapsed -= growing
        self._tokens = min(self.burst, self._tokens + gained + full * elapsed)
