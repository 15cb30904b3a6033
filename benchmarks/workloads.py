"""The measured sections, run in the client's own process.

Every workload warms its client up first with the same calls it measures: connections are open,
lazy imports done. What that costs is reported apart (``ready_s``).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from benchmarks.clients.protocol import Objects, Signs, Transfers
from benchmarks.measure import measured
from benchmarks.model import Job, Sample

TRANSFER_PROBE_S = 0.001
SMALL_PROBE_S = 0.005
PRESIGN_PAGE = 1000

Sections = dict[str, Sample]


class Workload:
    """``warm`` is called once, then ``run``. The base has nothing to warm up."""

    def __init__(self, job: Job) -> None:
        self.job = job

    async def warm(self) -> None:
        return

    async def run(self) -> Sections:
        raise NotImplementedError


class Upload(Workload):
    def __init__(self, job: Job, client: Transfers) -> None:
        super().__init__(job)
        self._client = client

    async def warm(self) -> None:
        await self._client.upload(self.job.keys["warm"], Path(self.job.paths["warm"]))

    async def run(self) -> Sections:
        async with measured(TRANSFER_PROBE_S) as section:
            await self._client.upload(self.job.keys["main"], Path(self.job.paths["main"]))
            section.ops, section.size = 1, self.job.size
        return {"upload": section.sample}


class Download(Workload):
    def __init__(self, job: Job, client: Transfers) -> None:
        super().__init__(job)
        self._client = client

    async def warm(self) -> None:
        await self._client.download(self.job.keys["warm"], Path(self.job.paths["warm"]))

    async def run(self) -> Sections:
        async with measured(TRANSFER_PROBE_S) as section:
            await self._client.download(self.job.keys["main"], Path(self.job.paths["main"]))
            section.ops, section.size = 1, self.job.size
        return {"download": section.sample}


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


class Small(Workload):
    """put, get and head of small objects, ``workers`` at once."""

    def __init__(self, job: Job, client: Objects) -> None:
        super().__init__(job)
        self._client = client
        self._body = os.urandom(job.size)
        self._calls = {"put": self._put, "get": self._get, "head": self._head}

    def _key(self, number: int) -> str:
        return f"{self.job.keys['prefix']}{number % 256:04}.webm"

    async def _put(self, number: int) -> int:
        await self._client.put(self._key(number), self._body)
        return self.job.size

    async def _get(self, number: int) -> int:
        return await self._client.get(self._key(number))

    async def _head(self, number: int) -> int:
        return await self._client.head(self._key(number))

    async def warm(self) -> None:
        # Every key once, so that all of them are there to be read.
        for call in self._calls.values():
            await at_once(self.job.workers, 256, call)

    async def run(self) -> Sections:
        sections: Sections = {}
        for name, call in self._calls.items():
            async with measured(SMALL_PROBE_S) as section:
                total = await at_once(self.job.workers, self.job.count, call)
                section.ops, section.size = self.job.count, total
            if total != self.job.count * self.job.size:
                raise RuntimeError(f"{name}: {total} bytes in {self.job.count} operations")
            sections[name] = section.sample
        return sections


class Listing(Workload):
    """Listings of one page, one after another. ``size`` is the number of keys expected."""

    def __init__(self, job: Job, client: Objects) -> None:
        super().__init__(job)
        self._client = client

    async def _list(self) -> None:
        found = await self._client.listing(self.job.keys["prefix"])
        if found != self.job.size:
            raise RuntimeError(f"listed {found} keys, not {self.job.size}")

    async def warm(self) -> None:
        await self._list()

    async def run(self) -> Sections:
        async with measured(SMALL_PROBE_S) as section:
            for _ in range(self.job.count):
                await self._list()
            section.ops = self.job.count
        return {"list": section.sample}


class Presign(Workload):
    """URLs as a web handler asks for them, and by the page, for about a second each."""

    def __init__(self, job: Job, client: Signs) -> None:
        super().__init__(job)
        self._client = client
        self._keys = [
            f"recordings/CA{number:032x}/{1_700_000_000_000 + number}-call.webm"
            for number in range(PRESIGN_PAGE)
        ]

    async def _one_by_one(self) -> Sequence[str]:
        return [await self._client.sign(key) for key in self._keys]

    async def _page(self) -> Sequence[str]:
        return await self._client.sign_many(self._keys)

    async def warm(self) -> None:
        for url in (await self._one_by_one(), await self._page()):
            if len(set(url)) != len(self._keys):
                raise RuntimeError("not one URL per key")

    async def run(self) -> Sections:
        sections: Sections = {}
        for name, call in {"one": self._one_by_one, "page": self._page}.items():
            async with measured(None) as section:
                end = time.perf_counter() + self.job.count / 1000
                while time.perf_counter() < end:
                    section.ops += len(await call())
            sections[name] = section.sample
        return sections


def make_workload(job: Job, client: object) -> Workload:
    """The workload that the job names, for a client that can do it."""
    if job.workload == "upload" and isinstance(client, Transfers):
        return Upload(job, client)
    if job.workload == "download" and isinstance(client, Transfers):
        return Download(job, client)
    if job.workload == "small" and isinstance(client, Objects):
        return Small(job, client)
    if job.workload == "listing" and isinstance(client, Objects):
        return Listing(job, client)
    if job.workload == "presign" and isinstance(client, Signs):
        return Presign(job, client)
    raise ValueError(f"{job.client} takes no part in {job.workload}")
