"""The open storages of a worker, one for each location."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from careflow_storage._executor import in_thread
from careflow_storage.jobs.models import AnyJob, CopyJob, Location, VerifyJob
from careflow_storage.rate_limit import RateLimit
from careflow_storage.storage import BackblazeStorage

# More than one process sends. A storage without a limit would not halve its rate on SlowDown, nor
# pause as long as Retry-After asks.
_NO_LIMIT = 5000.0
# A copy holds one connection on each side, and `max_connections` is 100.
_OBJECTS_AT_ONCE = 64

Role = str
"""Which location of a job it is: ``source``, ``target`` or ``location``."""


def locations_of(job: AnyJob) -> dict[Role, Location]:
    """Return the locations of a job by role; the last one keeps the job's records."""
    if isinstance(job, CopyJob | VerifyJob):
        return {"source": job.source, "target": job.target}
    return {"location": job.location}


class Storages:
    """Opens each location once, in the event loop that uses it; closes all at the end.

    Attributes:
        slots: Limits the objects that all shards of this worker work on at once.
        differing_etags: The targets that give copies other ETags than their sources have.
    """

    def __init__(self) -> None:
        self.slots = asyncio.Semaphore(_OBJECTS_AT_ONCE)
        self.differing_etags: set[Location] = set()
        self._opened: dict[tuple[Role, Location], BackblazeStorage] = {}
        self._limits: dict[tuple[Role, Location], RateLimit] = {}
        self._opening = asyncio.Lock()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all storages."""
        await self._stack.aclose()

    async def of_job(
        self, job: AnyJob, rate: float | None = None
    ) -> Mapping[Role, BackblazeStorage]:
        """Return the storages of a job by role. ``rate`` is the limit of each from now on.

        Raises:
            NotConfiguredError: Credentials are missing on this machine.
        """
        return {
            role: await self._open(role, location, rate)
            for role, location in locations_of(job).items()
        }

    async def of_records(self, location: Location) -> BackblazeStorage:
        """Return a storage for the records of a job that is not known yet."""
        return await self._open("records", location, None)

    async def _open(self, role: Role, location: Location, rate: float | None) -> BackblazeStorage:
        where = (role, location)
        async with self._opening:
            if where not in self._opened:
                settings = await in_thread(location.settings)
                limit = RateLimit(per_second=rate or settings.rate_limit or _NO_LIMIT)
                storage = BackblazeStorage(settings, rate_limit=limit)
                self._opened[where] = await self._stack.enter_async_context(storage)
                self._limits[where] = limit
            limit = self._limits[where]
            if rate is not None and rate != limit.per_second:
                limit.per_second = rate
        return self._opened[where]
