"""s5cmd, a process for each call.

Verifies up: Content-MD5 and SHA-256 (in the signature) of every part, over https too. Down:
nothing but that each range is as long as its response said.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.clients.processes import executable, run
from benchmarks.model import MIB, Job


class S5cmdClient:
    """``cp`` and ``ls``."""

    def __init__(self, job: Job) -> None:
        self._bucket = f"s3://{job.endpoint.bucket}"
        self._endpoint = job.endpoint.url
        self._environment = {
            "AWS_ACCESS_KEY_ID": job.endpoint.key_id,
            "AWS_SECRET_ACCESS_KEY": job.endpoint.secret,
            "AWS_REGION": job.endpoint.region,
        }
        if job.endpoint.ca_file is not None:
            self._environment["AWS_CA_BUNDLE"] = job.endpoint.ca_file
        self._parts = [
            *("--part-size", str(job.tuning.part_size // MIB)),
            *("--concurrency", str(job.tuning.concurrency)),
        ]

    async def _run(self, *arguments: str) -> bytes:
        command = [executable("s5cmd"), "--endpoint-url", self._endpoint, *arguments]
        return await run(command, self._environment)

    async def upload(self, key: str, path: Path) -> None:
        await self._run("cp", *self._parts, str(path), f"{self._bucket}/{key}")

    async def download(self, key: str, path: Path) -> None:
        await self._run("cp", *self._parts, f"{self._bucket}/{key}", str(path))

    async def listing(self, prefix: str) -> int:
        return (await self._run("ls", f"{self._bucket}/{prefix}*")).count(b"\n")

    async def folders(self, prefix: str) -> int:
        lines = (await self._run("ls", f"{self._bucket}/{prefix}")).splitlines()
        return sum(line.split()[0] == b"DIR" for line in lines)


@asynccontextmanager
async def open_client(job: Job) -> AsyncIterator[S5cmdClient]:
    yield S5cmdClient(job)
