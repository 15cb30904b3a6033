"""`LocalEngine`: runs shards in this process, or in several processes of this machine."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from careflow_storage.errors import InvalidInputError
from careflow_storage.jobs._shard.outcome import ShardOutcome
from careflow_storage.jobs._shard.runner import run_shard
from careflow_storage.jobs._shard.storages import Storages
from careflow_storage.jobs.engines._processes.pool import ProcessPool
from careflow_storage.jobs.results import ShardResult, ShardTask


class LocalEngine:
    """Runs shards in this process on asyncio, or in several processes of this machine.

    One process copies more small objects than B2 allows requests; see docs/jobs.md. More processes
    are for functions of a `MapJob` that need the processor.

    Args:
        shards: How many shards run at once in this process. They share the connections of one
            storage for each location, and work on 64 objects at once together.
        processes: How many processes to run shards in, one at a time in each. Each has its own
            connections, and reads the credentials itself. One that dies is replaced, and its shard
            runs again, three times at most. None: this process.
    """

    def __init__(self, *, shards: int = 4, processes: int | None = None) -> None:
        for name, number in (("shards", shards), ("processes", processes)):
            if number is not None and (type(number) is not int or number < 1):
                raise InvalidInputError(f"{name} must be an int of at least 1, not {number!r}.")
        self._shards = shards
        self._processes = processes
        self._place: _ThisProcess | ProcessPool | None = None

    @property
    def capacity(self) -> int:
        """How many shards can run at once."""
        return self._processes or self._shards

    @property
    def workers(self) -> int:
        """The number of processes. All shards in one share the same connections."""
        return self._processes or 1

    async def __aenter__(self) -> Self:
        """Open it for one job; `run_job` does so.

        Raises:
            InvalidInputError: Another job uses it.
        """
        if self._place is not None:
            raise InvalidInputError(
                "Another job uses this engine.", hint="Make an engine for each job that runs."
            )
        self._place = ProcessPool(self._processes) if self._processes else _ThisProcess()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        place, self._place = self._place, None
        if place is not None:
            await place.close()

    async def run(self, task: ShardTask) -> ShardResult:
        """Run one shard.

        Raises:
            StorageError: Something that concerns the whole job.
            WorkerLostError: The shard ended three processes.
        """
        if self._place is None:
            raise InvalidInputError("The engine is not open.", hint="run_job opens and closes it.")
        return await self._place.run(task)

    def _outcomes(self) -> list[ShardOutcome]:
        """Return what the shards that run in this process have done so far."""
        return list(self._place.outcomes) if isinstance(self._place, _ThisProcess) else []


class _ThisProcess:
    """Runs shards in this event loop.

    Attributes:
        outcomes: Of the shards that have no result yet.
    """

    def __init__(self) -> None:
        self.outcomes: list[ShardOutcome] = []
        self._storages = Storages()

    async def run(self, task: ShardTask) -> ShardResult:
        outcome = ShardOutcome()
        self.outcomes.append(outcome)
        # An exception ends the job: what the shard has done until then still counts.
        result = await run_shard(task, self._storages, outcome)
        self.outcomes.remove(outcome)
        return result

    async def close(self) -> None:
        await self._storages.close()
