"""Memory over many operations: whatever each of them leaves behind adds up."""

from __future__ import annotations

import gc
import os

from benchmarks.clients.protocol import Objects
from benchmarks.measure import rss_mib
from benchmarks.model import Job
from benchmarks.stats import growth
from benchmarks.workloads.base import SMALL_PROBE_S, Sections, Workload, at_once, with_extra

_MARKS = 10


class Soak(Workload):
    """``count`` operations, a quarter each of put, get, head and delete; memory ten times."""

    def __init__(self, job: Job, client: Objects) -> None:
        super().__init__(job)
        self._client = client
        self._body = os.urandom(job.size)

    async def _operation(self, number: int) -> int:
        # Every key is met once by each call, and there are always new keys, as in real life.
        prefix = self.job.keys["prefix"]
        key = f"{prefix}{number // 4:08}.webm"
        match number % 4:
            case 0:
                await self._client.put(key, self._body)
            case 1:
                await self._client.get(f"{prefix}steady/{number % 64:04}.webm")
            case 2:
                await self._client.head(f"{prefix}steady/{number % 64:04}.webm")
            case _:
                await self._client.delete(key)
        return 1

    async def _steady(self, number: int) -> int:
        await self._client.put(f"{self.job.keys['prefix']}steady/{number:04}.webm", self._body)
        return 1

    async def warm(self) -> None:
        await at_once(16, 64, self._steady)

    async def run(self) -> Sections:
        readings: list[float] = []
        step = self.job.count // _MARKS
        async with self.watched(SMALL_PROBE_S) as section:
            for _ in range(_MARKS):
                section.ops += await at_once(self.job.workers[0], step, self._operation)
                # What waits for the collector is no leak.
                gc.collect()
                readings.append(rss_mib())
        marks = {f"rss_{(i + 1) * step}": value for i, value in enumerate(readings)}
        seen = growth(readings)
        if seen is None:
            raise RuntimeError("too few readings")
        numbers = {"plateau_mib": seen.plateau, "grown_mib": seen.grown, "leaks": float(seen.leaks)}
        return {"soak": with_extra(section.sample, **marks, **numbers)}
