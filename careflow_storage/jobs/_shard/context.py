"""What the work on one shard has at hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from careflow_storage._transfer.tasks import task_group
from careflow_storage.errors import StorageError
from careflow_storage.jobs._shard.failures import ends_job
from careflow_storage.jobs._shard.outcome import ShardOutcome
from careflow_storage.jobs._shard.storages import Role
from careflow_storage.jobs.models import KeyRange, Location
from careflow_storage.jobs.results import ShardTask
from careflow_storage.storage import BackblazeStorage

T = TypeVar("T")


class ShardSpan(NamedTuple):
    """The keys that a shard is done with, and those of its range that it did not reach."""

    finished: KeyRange
    rest: KeyRange | None

    @classmethod
    def up_to(cls, whole: KeyRange, key: str) -> ShardSpan:
        """The shard has ended behind ``key``. An empty rest is none."""
        if key == whole.until:
            return cls(whole, None)
        return cls(KeyRange(after=whole.after, until=key), KeyRange(after=key, until=whole.until))


@dataclass(frozen=True, slots=True)
class ShardContext:
    """A shard's task and ID, the open storages by role, and what was done.

    Attributes:
        slots: Limits the objects that all shards of the worker work on at once.
        differing_etags: Targets, shared by all shards of the worker, that give a copy another
            ETag than that of its source.
    """

    task: ShardTask
    shard_id: str
    storages: Mapping[Role, BackblazeStorage]
    slots: asyncio.Semaphore
    differing_etags: set[Location]
    outcome: ShardOutcome

    def add_error(self, key: str, error: StorageError) -> None:
        """Add the error of an object to the outcome.

        Raises:
            StorageError: The same error, if it concerns all objects.
        """
        if ends_job(error, any_done=True):
            raise error
        self.outcome.add_error(key, error)

    async def for_each(
        self, items: AsyncGenerator[T], work: Callable[[T], Awaitable[None]]
    ) -> None:
        """Call ``work`` with each item, several at once within the worker's limit.

        The first exception ends all. ``items`` is read only as far as the work gets.
        """

        async def run(item: T) -> None:
            try:
                await work(item)
            finally:
                self.slots.release()

        async with aclosing(items), task_group() as group:
            async for item in items:
                await self.slots.acquire()
                group.create_task(run(item))
