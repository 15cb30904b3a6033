"""A simulated network: round trips and bandwidth, made of timers.

The model. A response's first byte leaves one round trip after the last byte of its request was
taken in; so does a ``100 Continue``. The first response on a connection waits for one round trip
more, which is TCP's handshake, or for two more, with that of TLS 1.3. In either direction a
connection moves one window per round trip, the first window at once. All connections together
move ``--mbit`` in each direction, in the order in which they come.

What it leaves out: slow start and every other move of congestion control, loss, jitter, the
bytes of headers, TCP and TLS, the round trips of names and of closing, resumed TLS sessions.
What the kernel buffers on loopback has left the client before it was taken in here, so a client
sees its first megabytes gone sooner than on a real line, and the response as late as there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

PIECE: Final = 64 * 1024
"""The most bytes that leave at once where bandwidth is limited."""

# Event loops wake in whole milliseconds, so less than half of one is no wait.
_TICK_S: Final = 0.001
_LATENESS_S: Final = 0.005

now: Final = time.monotonic


class Bucket:
    """A token bucket: a rate, and the burst after a pause."""

    __slots__ = ("_at", "_burst_s", "_per_byte")

    def __init__(self, rate: float, burst: float) -> None:
        self._per_byte = 1 / rate
        self._burst_s = burst / rate
        self._at = 0.0

    def take(self, size: int, moment: float) -> float:
        """Take ``size`` bytes; return the moment from which they may move."""
        self._at = max(self._at, moment - self._burst_s) + size * self._per_byte
        return self._at


@dataclass(frozen=True, slots=True)
class Network:
    """The limits that all connections share. 0 means no limit."""

    rtt_s: float
    window: int
    arriving: Bucket | None
    leaving: Bucket | None

    @classmethod
    def of(cls, rtt_ms: float, mbit: float, window_mib: float) -> Network | None:
        """Return the network of these options; None without any delay or limit."""
        if rtt_ms <= 0 and mbit <= 0:
            return None
        rate = mbit * 1e6 / 8
        # A timer that is late must not cost bandwidth.
        burst = max(PIECE, rate * _LATENESS_S)
        arriving, leaving = (Bucket(rate, burst) if rate > 0 else None for _ in range(2))
        return cls(rtt_ms / 1000, round(window_mib * 1024 * 1024), arriving, leaving)


class Line:
    """One connection's share of the network."""

    __slots__ = ("_arriving", "_leaving", "_network", "_owed")

    def __init__(self, network: Network, *, tls: bool) -> None:
        rate = network.window / network.rtt_s if network.rtt_s > 0 else 0
        own = [Bucket(rate, network.window) if rate > 0 else None for _ in range(2)]
        self._network = network
        self._arriving = [bucket for bucket in (own[0], network.arriving) if bucket]
        self._leaving = [bucket for bucket in (own[1], network.leaving) if bucket]
        self._owed = network.rtt_s * (2 if tls else 1)

    def response_at(self, taken_in: float) -> float:
        """Return when the first byte of the response to a complete request arrives."""
        due = max(taken_in, now()) + self._network.rtt_s + self._owed
        self._owed = 0.0
        return due

    def arrived(self, size: int) -> float:
        """Return when this many more bytes have come over the line."""
        moment = now()
        return max((bucket.take(size, moment) for bucket in self._arriving), default=moment)

    def leaves(self, size: int) -> float:
        """Return when this many more bytes may go."""
        moment = now()
        return max((bucket.take(size, moment) for bucket in self._leaving), default=moment)


def is_due(moment: float) -> bool:
    return moment - now() < _TICK_S / 2


class Alarm:
    """Calls once, never too early: event loops may be early by their resolution."""

    __slots__ = ("_call", "_loop", "_moment", "_timer")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, moment: float, call: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._call = call
        self._moment = moment
        self._timer = loop.call_later(max(_TICK_S, moment - now()), self._ring)

    def cancel(self) -> None:
        self._timer.cancel()

    def _ring(self) -> None:
        early = self._moment - now()
        if early > 0:
            self._timer = self._loop.call_later(max(_TICK_S, early), self._ring)
        else:
            self._call()
