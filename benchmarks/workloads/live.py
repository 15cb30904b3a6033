"""Many calls in progress: writers that each get a little at a steady pace."""

from __future__ import annotations

import asyncio
import random
import time

from benchmarks.clients.protocol import Lives
from benchmarks.model import MIB, Job
from benchmarks.workloads.base import TRANSFER_PROBE_S, Sections, Workload

_CHUNK = 16 * 1024
_EPOCH_MS = 1_750_000_000_000


class Live(Workload):
    """``count`` writers at once of ``size`` bytes each, ``rate`` MiB/s all together."""

    def __init__(self, job: Job, client: Lives) -> None:
        super().__init__(job)
        self._client = client
        self._noise = random.Random(1).randbytes(MIB)

    async def _call(self, number: int, size: int, pause: float) -> None:
        # Calls do not begin in the same moment.
        await asyncio.sleep(pause * random.random())
        key = f"recordings/CA{number:08}/{_EPOCH_MS + number}-call.webm"
        async with self._client.live(key) as writer:
            due = time.perf_counter()
            for start in range(0, size, _CHUNK):
                await writer.write(self._noise[start % MIB : start % MIB + _CHUNK])
                due += pause
                await asyncio.sleep(max(0.0, due - time.perf_counter()))

    async def warm(self) -> None:
        await self._call(99_999_999, 6 * MIB, 0.0)

    async def run(self) -> Sections:
        calls = self.job.count
        pause = _CHUNK * calls / (self.job.rate * MIB)
        async with self.watched(TRANSFER_PROBE_S) as section:
            async with asyncio.TaskGroup() as group:
                for number in range(calls):
                    group.create_task(self._call(number, self.job.size, pause))
            section.ops, section.size = calls, calls * self.job.size
        return {f"{calls:,} writers": section.sample}
