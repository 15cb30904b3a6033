"""rclone, a process for each call, configured by its environment.

Verifies up: Content-MD5 of every part (over http SHA-256 in the signature, too); MD5 of the whole
file before the first, kept as metadata. Down: length; MD5 of the whole file where the metadata or
the ETag tells it, so not of what another client uploaded in parts.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.clients.processes import executable, run
from benchmarks.model import Job


class RcloneClient:
    """``copyto`` and ``lsf``."""

    def __init__(self, job: Job) -> None:
        self._bucket = f"bench:{job.endpoint.bucket}"
        self._environment = {
            "RCLONE_CONFIG": "",
            "RCLONE_CONFIG_BENCH_TYPE": "s3",
            "RCLONE_CONFIG_BENCH_PROVIDER": "Other",
            "RCLONE_CONFIG_BENCH_ENDPOINT": job.endpoint.url,
            "RCLONE_CONFIG_BENCH_REGION": job.endpoint.region,
            "RCLONE_CONFIG_BENCH_ACCESS_KEY_ID": job.endpoint.key_id,
            "RCLONE_CONFIG_BENCH_SECRET_ACCESS_KEY": job.endpoint.secret,
            "RCLONE_S3_NO_CHECK_BUCKET": "true",
        }
        if job.endpoint.ca_file is not None:
            self._environment["RCLONE_CA_CERT"] = job.endpoint.ca_file
        # rclone means bytes by B, and KiB by a number alone.
        size, streams = f"{job.tuning.part_size}B", str(job.tuning.concurrency)
        self._up = [
            *("--s3-chunk-size", size, "--s3-upload-cutoff", size),
            *("--s3-upload-concurrency", streams),
        ]
        self._down = [
            *("--multi-thread-chunk-size", size, "--multi-thread-cutoff", size),
            *("--multi-thread-streams", streams),
        ]

    async def _run(self, *arguments: str) -> bytes:
        return await run([executable("rclone"), *arguments], self._environment)

    async def upload(self, key: str, path: Path) -> None:
        await self._run(
            *("copyto", "--ignore-times", *self._up, str(path), f"{self._bucket}/{key}")
        )

    async def download(self, key: str, path: Path) -> None:
        await self._run(
            *("copyto", "--ignore-times", *self._down, f"{self._bucket}/{key}", str(path))
        )

    async def listing(self, prefix: str) -> int:
        """Prefixes are whole folders here."""
        arguments = ("lsf", "--recursive", "--files-only", "--fast-list")
        return (await self._run(*arguments, f"{self._bucket}/{prefix}")).count(b"\n")

    async def folders(self, prefix: str) -> int:
        return (await self._run("lsf", "--dirs-only", f"{self._bucket}/{prefix}")).count(b"\n")


@asynccontextmanager
async def open_client(job: Job) -> AsyncIterator[RcloneClient]:
    yield RcloneClient(job)
