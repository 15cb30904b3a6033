"""`LocalEngine`: runs shards in this process."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from careflow_storage.errors import InvalidInputError
from careflow_storage.jobs._shard.runner import run_shard
from careflow_storage.jobs._shard.storages import Storages
from careflow_storage.jobs.results import ShardResult, ShardTask


class LocalEngine:
    """Runs shards in this process, on asyncio.

    One process copies more small objects than B2 allows requests; see docs/jobs.md.

    Args:
        shards: How many shards run at once. They share the connections of one storage for each
            location, and work on 64 objects at once together.
    """

    def __init__(self, *, shards: int = 4) -> None:
        if type(shards) is not int or shards < 1:
            raise InvalidInputError(f"shards must be an int of at least 1, not {shards!r}.")
        self._shards = shards
        self._storages: Storages | None = None

    @property
    def capacity(self) -> int:
        """How many shards can run at once."""
        return self._shards

    @property
    def workers(self) -> int:
        """One: all shards share the same connections."""
        return 1

    async def __aenter__(self) -> Self:
        self._storages = Storages()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        storages, self._storages = self._storages, None
        if storages is not None:
            await storages.close()

    async def run(self, task: ShardTask) -> ShardResult:
        """Run one shard here."""
        if self._storages is None:
            raise InvalidInputError("The engine is not open.", hint="run_job opens and closes it.")
        return await run_shard(task, self._storages)
