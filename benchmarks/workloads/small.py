"""put, get, head and delete of small objects, so and so many at once."""

from __future__ import annotations

import os

from benchmarks.clients.protocol import Objects
from benchmarks.model import MIB, Job
from benchmarks.workloads.base import SMALL_PROBE_S, Sections, Workload, at_once

_KEYS = 256
_WARM_BYTES = 64 * MIB


class Small(Workload):
    """A section for every call and number of workers: ``put x64``."""

    def __init__(self, job: Job, client: Objects) -> None:
        super().__init__(job)
        self._client = client
        self._body = os.urandom(job.size)
        # All keys are written once before: fewer where they are large.
        self._keys = min(_KEYS, max(4, _WARM_BYTES // max(1, job.size)))
        # Deletions last, since the others read what is there; each of a key of its own.
        calls = {"put": self._put, "get": self._get, "head": self._head, "delete": self._delete}
        self._calls = {
            name: call for name, call in calls.items() if not job.calls or name in job.calls
        }

    def _one_by_one(self) -> int:
        """One at once is slow and steady: fewer calls tell as much; the fewest far away."""
        usual = self.job.count // 2
        return min(usual, round(self.job.rate * self.job.seconds)) if self.job.rate else usual

    def _key(self, number: int) -> str:
        return f"{self.job.keys['prefix']}{number % self._keys:04}.webm"

    async def _put(self, number: int) -> int:
        await self._client.put(self._key(number), self._body)
        return self.job.size

    async def _get(self, number: int) -> int:
        return await self._client.get(self._key(number))

    async def _head(self, number: int) -> int:
        return await self._client.head(self._key(number))

    async def _delete(self, number: int) -> int:
        # As S3 has it, deleting what is not there succeeds, so the keys need no upload before.
        await self._client.delete(f"{self.job.keys['prefix']}gone/{number:08}.webm")
        return self.job.size

    async def warm(self) -> None:
        # Every key once, so that all of them are there to be read.
        workers = max(self.job.workers)
        await at_once(min(workers, self._keys), self._keys, self._put)
        for call in self._calls.values():
            await at_once(workers, workers, call)

    async def run(self) -> Sections:
        sections: Sections = {}
        for workers in self.job.workers:
            count = max(self.job.count, workers) if workers > 1 else self._one_by_one()
            for name, call in self._calls.items():
                async with self.watched(SMALL_PROBE_S) as section:
                    total = await at_once(workers, count, call)
                    section.ops, section.size = count, total
                if total != count * self.job.size:
                    raise RuntimeError(f"{name}: {total} bytes in {count} operations")
                sections[f"{name} x{workers}"] = section.sample
        return sections
