"""Clocks, memory and the event-loop probe of a client process. Standard library only."""

from __future__ import annotations

import asyncio
import gc
import re
import resource
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.model import Sample

_STATUS = Path("/proc/self/status")


@dataclass(frozen=True, slots=True)
class Usage:
    """The resources that this process, its threads and its finished children have used."""

    user_s: float
    system_s: float
    preempted: int
    children_s: float

    @classmethod
    def now(cls) -> Usage:
        own = resource.getrusage(resource.RUSAGE_SELF)
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return cls(
            user_s=own.ru_utime + children.ru_utime,
            system_s=own.ru_stime + children.ru_stime,
            preempted=own.ru_nivcsw + children.ru_nivcsw,
            children_s=children.ru_utime + children.ru_stime,
        )


def cpu_seconds() -> float:
    """Return user and system seconds so far, of all threads and finished children."""
    usage = Usage.now()
    return usage.user_s + usage.system_s


def largest_child_mib() -> float:
    """Return the peak resident memory of the largest finished child; it cannot be reset.

    Never less than this process had when it started that one: between the two system calls
    that start a program the kernel counts its parent's memory as its own.
    """
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def _status_mib(name: str) -> float | None:
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found.group(1)) / 1024 if found else None


def rss_mib() -> float:
    """Return resident memory, or the peak so far where the system reports no more."""
    now = _status_mib("VmRSS")
    return peak_rss_mib() if now is None else now


def peak_rss_mib() -> float:
    """Return the peak of resident memory since the start or the last reset."""
    peak = _status_mib("VmHWM")
    if peak is not None:
        return peak
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def reset_peak_rss() -> bool:
    """Reset the peak to the memory in use now. Return False where the kernel refuses."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


class LoopProbe:
    """A task that sleeps for an interval again and again and records how late it wakes.

    The lateness is what any other task of the loop, a request handler say, would have waited.
    A wake-up is never less than a fraction of a millisecond late, since the selector counts in
    whole milliseconds.
    """

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._late: list[float] = []
        self._task: asyncio.Task[None] | None = None

    async def _run(self) -> None:
        interval, note, clock = self._interval_s, self._late.append, time.perf_counter
        while True:
            start = clock()
            await asyncio.sleep(interval)
            note(clock() - start - interval)

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run())
        await asyncio.sleep(0)

    async def stop(self) -> None:
        # One more turn, so that a block which ends just now is still noted.
        await asyncio.sleep(2 * self._interval_s)
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def quantile_ms(self, share: float) -> float | None:
        if not self._late:
            return None
        ordered = sorted(self._late)
        return 1000 * max(0.0, ordered[min(len(ordered) - 1, int(share * len(ordered)))])


@dataclass(slots=True)
class Section:
    """Filled in by the measured code (``ops``, ``size``) and by :func:`measured` (``sample``)."""

    ops: int = 0
    size: int = 0
    samples: list[Sample] = field(default_factory=list)

    @property
    def sample(self) -> Sample:
        return self.samples[-1]


@asynccontextmanager
async def measured(probe_interval_s: float | None) -> AsyncIterator[Section]:
    """Measure what runs inside: wall, CPU, peak memory and, with an interval, loop lag.

    Where it runs processes and waits for them, their CPU is in it, and the peak is this
    process's and the largest other's together. That is what a client takes that is a program.
    """
    section = Section()
    probe = LoopProbe(probe_interval_s) if probe_interval_s else None
    gc.collect()
    reset_peak_rss()
    base = rss_mib()
    if probe is not None:
        await probe.start()
    before, wall = Usage.now(), time.perf_counter()
    yield section
    wall, after = time.perf_counter() - wall, Usage.now()
    peak = peak_rss_mib()
    if after.children_s > before.children_s:
        peak += largest_child_mib()
    if probe is not None:
        await probe.stop()
    section.samples.append(
        Sample(
            wall_s=wall,
            user_s=after.user_s - before.user_s,
            system_s=after.system_s - before.system_s,
            ops=section.ops,
            size=section.size,
            base_rss_mib=base,
            peak_rss_mib=peak,
            lag_p50_ms=probe.quantile_ms(0.5) if probe else None,
            lag_p99_ms=probe.quantile_ms(0.99) if probe else None,
            lag_max_ms=probe.quantile_ms(1.0) if probe else None,
            preempted=after.preempted - before.preempted,
        )
    )
