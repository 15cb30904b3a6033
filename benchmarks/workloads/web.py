"""Requests of a web app while a large upload runs in the same process.

Arrivals are scheduled at a fixed rate, whatever the client does, and a latency counts from the
scheduled moment: a request that a blocked loop has not even begun waits, too.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Protocol, runtime_checkable

from benchmarks.clients.protocol import Objects, Signs, Transfers
from benchmarks.model import MIB, Job
from benchmarks.stats import percentile
from benchmarks.workloads.base import TRANSFER_PROBE_S, Sections, Workload, at_once, with_extra

_UPLOAD = 2 * MIB
_EVERY = 20  # one request of so many is an upload: 5%


@runtime_checkable
class AppClient(Transfers, Objects, Signs, Protocol):
    """All that the web app uses."""


class Web(Workload):
    """``rate`` requests per second for ``seconds``; the large upload begins anew when it ends."""

    def __init__(self, job: Job, client: AppClient) -> None:
        super().__init__(job)
        self._client = client
        self._body = os.urandom(_UPLOAD)
        self._small_s: list[float] = []
        self._upload_s: list[float] = []
        self._stored = 0

    async def _head(self, number: int) -> int:
        return await self._client.head(f"{self.job.keys['prefix']}{number % 64:04}.webm")

    async def _put(self, number: int) -> int:
        await self._client.put(f"{self.job.keys['prefix']}{number % 64:04}.webm", self._body)
        return _UPLOAD

    async def warm(self) -> None:
        await self._client.upload(self.job.keys["warm"], Path(self.job.paths["warm"]))
        for call in (self._put, self._head):
            await at_once(16, 64, call)
        await self._client.sign(self.job.keys["main"])

    async def _request(self, number: int, due: float) -> None:
        if number % _EVERY == _EVERY - 1:
            await self._put(number)
            self._upload_s.append(time.perf_counter() - due)
            return
        if number % 2:
            await self._head(number)
        else:
            await self._client.sign(f"{self.job.keys['prefix']}{number % 64:04}.webm")
        self._small_s.append(time.perf_counter() - due)

    async def _beside(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self._client.upload(self.job.keys["main"], Path(self.job.paths["main"]))
            self._stored += self.job.size

    async def _arrivals(self) -> int:
        count = round(self.job.rate * self.job.seconds)
        begun = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                due = begun + number / self.job.rate
                # Never skipped: whoever is late starts all that is due at once.
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                group.create_task(self._request(number, due))
        return count

    async def run(self) -> Sections:
        stop = asyncio.Event()
        beside = asyncio.create_task(self._beside(stop))
        async with self.watched(TRANSFER_PROBE_S) as section:
            section.ops = await self._arrivals()
            section.size = self._stored
        stop.set()
        await beside  # not measured: it runs on for a time that depends on when it began
        return {"web": with_extra(section.sample, **self._latencies(section.size))}

    def _latencies(self, stored: int) -> dict[str, float]:
        small, uploads = self._small_s, self._upload_s
        return {
            "small_p50_ms": 1000 * percentile(small, 0.5),
            "small_p99_ms": 1000 * percentile(small, 0.99),
            "small_max_ms": 1000 * max(small),
            "upload_p99_ms": 1000 * percentile(uploads, 0.99),
            "beside_mib": stored / MIB,
        }
