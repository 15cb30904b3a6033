"""Large objects: from a file, to a file, from a stream of unknown length."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

from benchmarks.clients.protocol import Streams, Transfers
from benchmarks.model import MIB, Job
from benchmarks.workloads.base import TRANSFER_PROBE_S, Sections, Workload

_CHUNK = 256 * 1024
_WARM = 24 * MIB + 4099  # with a last part that is not whole, as streams have it


class Upload(Workload):
    def __init__(self, job: Job, client: Transfers) -> None:
        super().__init__(job)
        self._client = client

    async def warm(self) -> None:
        await self._client.upload(self.job.keys["warm"], Path(self.job.paths["warm"]))

    async def run(self) -> Sections:
        async with self.watched(TRANSFER_PROBE_S) as section:
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
        async with self.watched(TRANSFER_PROBE_S) as section:
            await self._client.download(self.job.keys["main"], Path(self.job.paths["main"]))
            section.ops, section.size = 1, self.job.size
        return {"download": section.sample}


class Stream(Workload):
    """The chunks cost nothing to make, so that the client alone is measured."""

    def __init__(self, job: Job, client: Streams) -> None:
        super().__init__(job)
        self._client = client
        # Shorter than a part by a little, so that chunks and parts do not end together.
        self._noise = memoryview(os.urandom(4 * MIB + 4099))

    async def _chunks(self, size: int) -> AsyncIterator[bytes]:
        start, left = 0, size
        while left > 0:
            chunk = bytes(self._noise[start : start + min(_CHUNK, left)])
            yield chunk
            left -= len(chunk)
            start = (start + len(chunk)) % len(self._noise)

    async def warm(self) -> None:
        await self._client.upload_stream(self.job.keys["warm"], self._chunks(_WARM))

    async def run(self) -> Sections:
        async with self.watched(TRANSFER_PROBE_S) as section:
            await self._client.upload_stream(self.job.keys["main"], self._chunks(self.job.size))
            section.ops, section.size = 1, self.job.size
        return {"stream": section.sample}
