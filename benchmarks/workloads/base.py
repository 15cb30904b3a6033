"""What all workloads share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks.measure import Section, measured
from benchmarks.model import Job, Sample

TRANSFER_PROBE_S = 0.001
SMALL_PROBE_S = 0.005

Sections = dict[str, Sample]

_INTERFACES = Path("/proc/net/dev")


class Workload:
    """``warm`` is called once, then ``run``. The base has nothing to warm up."""

    def __init__(self, job: Job) -> None:
        self.job = job

    async def warm(self) -> None:
        return

    async def run(self) -> Sections:
        raise NotImplementedError

    @asynccontextmanager
    async def watched(self, probe_interval_s: float | None) -> AsyncIterator[Section]:
        """Measure what runs inside and, where the job asks, the bytes that it moved."""
        before = wire_bytes() if self.job.count_wire else None
        async with measured(probe_interval_s) as section:
            yield section
        after = wire_bytes() if self.job.count_wire else None
        if before is not None and after is not None:
            section.samples[-1] = with_extra(section.sample, wire_bytes=after - before)


def with_extra(sample: Sample, **numbers: float) -> Sample:
    """The sample with what only its workload measures."""
    return replace(sample, extra={**sample.extra, **numbers})


def wire_bytes() -> int | None:
    """All bytes that the loopback interface has sent, both ways, packet headers included."""
    try:
        lines = _INTERFACES.read_text().splitlines()
    except FileNotFoundError:
        return None
    for line in lines:
        name, _, numbers = line.partition(":")
        if name.strip() == "lo":
            return int(numbers.split()[8])
    return None


async def at_once(workers: int, count: int, call: Callable[[int], Awaitable[int]]) -> int:
    """Make ``count`` calls, ``workers`` of them at a time; give the sum of what they return."""
    numbers = iter(range(count))
    total = 0

    async def work() -> None:
        nonlocal total
        for number in numbers:
            result = await call(number)
            total += result  # not in one line: that would read the total before the await

    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(work())
    return total
