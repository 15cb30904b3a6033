"""The two ways from a webhook to a worker: Redis, and an outbox on this machine's disk."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from arq import ArqRedis, create_pool
from arq.connections import RedisSettings
from arq.constants import default_queue_name

from careflow_storage import BackblazeStorage
from careflow_storage.outbox import Outbox
from examples.ingest.processes import Processes, free_port, until_reachable

DEADLINE = 600


class Queue(Protocol):
    """What the example needs of either."""

    web_app: str

    def start_worker(self) -> subprocess.Popen[bytes]:
        """Run one more worker."""
        ...

    async def until_stored(self, count: int) -> None:
        """Wait until this number of recordings is in the bucket, and no more work is left of it."""
        ...

    async def rows(self) -> dict[str, int]:
        """Return the rows of the table that are about the queue."""
        ...


class RedisQueue:
    """arq's jobs in Redis, for workers on any number of machines."""

    web_app = "examples.ingest.redis_web:app"

    def __init__(self, processes: Processes, redis: ArqRedis, storage: BackblazeStorage) -> None:
        self._processes = processes
        self._redis = redis
        self._storage = storage

    def start_worker(self) -> subprocess.Popen[bytes]:
        """Run one more worker."""
        return self._processes.python("examples.ingest.redis_worker")

    async def until_stored(self, count: int) -> None:
        """Wait until this number of recordings is in the bucket, and their jobs are done."""
        async with asyncio.timeout(DEADLINE):
            while len(await self._storage.list_files()) < count:  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.05)

    async def rows(self) -> dict[str, int]:
        """Wait for the jobs that are left, and count."""
        async with asyncio.timeout(DEADLINE):
            while await self._redis.zcard(default_queue_name):  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.1)
        results = await self._redis.all_job_results()
        return {
            "jobs": len(results),
            "runs of them": sum(result.job_try for result in results),
            "jobs that failed": sum(not result.success for result in results),
        }


class OutboxQueue:
    """An outbox on this machine's disk, without a server."""

    web_app = "examples.ingest.outbox_web:app"

    def __init__(self, processes: Processes, outbox: Outbox) -> None:
        self._processes = processes
        self._outbox = outbox

    def start_worker(self) -> subprocess.Popen[bytes]:
        """Run one more worker."""
        return self._processes.python("examples.ingest.outbox_worker")

    async def until_stored(self, count: int) -> None:
        """Wait until this number of recordings is delivered."""
        async with asyncio.timeout(DEADLINE):
            while (await self._outbox.status()).delivered < count:  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.05)

    async def rows(self) -> dict[str, int]:
        """Return the counts of the outbox."""
        status = await self._outbox.status()
        return {"delivered": status.delivered, "dead letters": status.dead}


@asynccontextmanager
async def redis_queue(
    processes: Processes, storage: BackblazeStorage, folder: str
) -> AsyncIterator[Queue]:
    """Run a Redis."""
    port = free_port()
    processes.environment["REDIS"] = url = processes.redis(folder, port)
    await until_reachable(port)
    redis = await create_pool(RedisSettings.from_dsn(url))
    try:
        yield RedisQueue(processes, redis, storage)
    finally:
        await redis.aclose()


@asynccontextmanager
async def outbox_queue(
    processes: Processes, storage: BackblazeStorage, folder: str
) -> AsyncIterator[Queue]:
    """Open an outbox."""
    processes.environment["OUTBOX"] = path = f"{folder}/outbox"
    async with Outbox(path) as outbox:
        yield OutboxQueue(processes, outbox)


QUEUES = {"redis": redis_queue, "outbox": outbox_queue}
