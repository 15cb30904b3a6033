"""Listings of all keys, flat and by folder."""

from __future__ import annotations

from benchmarks.clients.protocol import Lists, ListsFolders
from benchmarks.model import Job
from benchmarks.workloads.base import SMALL_PROBE_S, Sections, Workload


class Listing(Workload):
    """``size`` is how many keys are expected, ``count`` how many common prefixes.

    The delimited listing is left out where the client has none.
    """

    def __init__(self, job: Job, client: Lists, by_folder: ListsFolders | None) -> None:
        super().__init__(job)
        self._client = client
        self._by_folder = by_folder if job.count else None

    async def warm(self) -> None:
        await self._client.listing(self.job.keys["warm"])

    async def run(self) -> Sections:
        sections: Sections = {}
        async with self.watched(SMALL_PROBE_S) as section:
            section.ops = await self._client.listing(self.job.keys["prefix"])
        _expect(section.ops, self.job.size, "keys")
        sections["flat"] = section.sample
        if self._by_folder is not None:
            async with self.watched(SMALL_PROBE_S) as section:
                section.ops = await self._by_folder.folders(self.job.keys["prefix"])
            _expect(section.ops, self.job.count, "common prefixes")
            sections["delimited"] = section.sample
        return sections


def _expect(found: int, expected: int, what: str) -> None:
    if found != expected:
        raise RuntimeError(f"listed {found} {what}, not {expected}")
