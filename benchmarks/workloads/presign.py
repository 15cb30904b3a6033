"""Presigned URLs: one, as a web handler asks for it, and many in one call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from benchmarks.clients.protocol import Signs
from benchmarks.model import Job
from benchmarks.workloads.base import SMALL_PROBE_S, Sections, Workload

_SINGLES = 100


class Presign(Workload):
    """``workers`` holds how many URLs each call signs; ``seconds`` is how long calls repeat."""

    def __init__(self, job: Job, client: Signs) -> None:
        super().__init__(job)
        self._client = client
        self._keys = [
            f"recordings/CA{number:032x}/{1_700_000_000_000 + number}-call.webm"
            for number in range(max(_SINGLES, *job.workers))
        ]

    async def _turn(self, count: int) -> int:
        """One page, or a hundred single ones; then the loop gets a turn, as in an app.

        So loop lag is what one call holds it up.
        """
        if count == 1:
            signed = len(await self._one_by_one(min(_SINGLES, len(self._keys))))
        else:
            signed = len(await self._page(count))
        await asyncio.sleep(0)
        return signed

    async def _one_by_one(self, count: int) -> Sequence[str]:
        return [await self._client.sign(key) for key in self._keys[:count]]

    async def _page(self, count: int) -> Sequence[str]:
        return await self._client.sign_many(self._keys[:count])

    async def warm(self) -> None:
        count = min(100, len(self._keys))
        for urls in (await self._one_by_one(count), await self._page(count)):
            if len(set(urls)) != count:
                raise RuntimeError("not one URL per key")

    async def run(self) -> Sections:
        sections: Sections = {}
        for count in self.job.workers:
            async with self.watched(SMALL_PROBE_S) as section:
                end = time.perf_counter() + self.job.seconds
                while section.ops == 0 or time.perf_counter() < end:
                    signed = await self._turn(count)
                    section.ops += signed
            sections[f"{count:,} URLs"] = section.sample
        return sections
