"""Hands the shards of a job to an engine, and splits what they hand back."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable

from careflow_storage._transfer.tasks import task_group
from careflow_storage.jobs.engines.protocol import Engine
from careflow_storage.jobs.errors import WorkerLostError
from careflow_storage.jobs.models import KeyRange
from careflow_storage.jobs.results import ShardResult, ShardTask

# Workers come and go while all shards run.
_SECONDS_BETWEEN_CHECKS = 1.0

Split = Callable[[KeyRange, int], Awaitable[list[KeyRange]]]
"""Splits a range where its keys are, into at most that many parts."""


class ShardQueue:
    """Runs shards until none is left, as many at once as the engine can.

    A shard that does not reach the end of its range hands back the rest. If workers are idle, the
    rest is split among them. Otherwise it waits as a whole.

    Args:
        rate: The most requests per second at each location, shared among the workers.
        on_result: Called with the result of each shard.
        on_lost: Called with a shard that no worker survives; returns what is to run in its place.
        on_progress: Called after each result, and once a second.

    Attributes:
        waiting: The shards that wait for a worker.
        running: The number of shards in workers.
    """

    def __init__(
        self,
        engine: Engine,
        rate: float | None,
        split: Split,
        *,
        on_result: Callable[[ShardResult], None],
        on_lost: Callable[[ShardTask, WorkerLostError], Awaitable[list[ShardTask]]],
        on_progress: Callable[[], Awaitable[None]],
    ) -> None:
        self.waiting: deque[ShardTask] = deque()
        self.running = 0
        self._engine = engine
        self._rate = rate
        self._split = split
        self._on_result = on_result
        self._on_lost = on_lost
        self._on_progress = on_progress
        # Each ends with the shards that it adds.
        self._tasks: set[asyncio.Task[list[ShardTask]]] = set()

    async def run(self, tasks: Iterable[ShardTask]) -> None:
        """Run the shards and all that follow from them. The first error cancels all others."""
        self.waiting.extend(tasks)
        async with task_group() as group:
            while self.waiting or self._tasks:
                while self.waiting and self.running < self._engine.capacity:
                    self.running += 1
                    work = self._run_one(self.waiting.popleft())
                    self._tasks.add(group.create_task(work))
                await self._wait()
                await self._on_progress()

    async def _wait(self) -> None:
        if not self._tasks:
            # The engine has no worker at this moment.
            await asyncio.sleep(_SECONDS_BETWEEN_CHECKS)
            return
        done, self._tasks = await asyncio.wait(
            self._tasks, timeout=_SECONDS_BETWEEN_CHECKS, return_when=asyncio.FIRST_COMPLETED
        )
        for task in done:
            # The group raises what a task has raised.
            if not task.cancelled() and task.exception() is None:
                self.waiting.extend(task.result())

    async def _run_one(self, task: ShardTask) -> list[ShardTask]:
        rate = None if self._rate is None else self._rate / max(1, self._engine.workers)
        try:
            result = await self._engine.run(task.model_copy(update={"rate": rate}))
        except WorkerLostError as error:
            return await self._on_lost(task, error)
        finally:
            self.running -= 1
        self._on_result(result)
        if result.rest is None or result.rest.after == result.rest.until:
            return []
        idle = self._engine.capacity - self.running - len(self.waiting)
        parts = await self._split(result.rest, max(1, idle))
        return [task.model_copy(update={"range": part}) for part in parts]
