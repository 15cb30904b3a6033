"""Random keys, interruptions and losses: each key is worked on exactly once."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import hypothesis.strategies as st
from hypothesis import given

from careflow_storage.jobs import KeyRange, PurgeJob, ShardResult, ShardTask, WorkerLostError
from careflow_storage.jobs._planning.splitting import split_rest
from careflow_storage.jobs._run.queue import ShardQueue
from careflow_storage.jobs._run.ranges import tasks_of_keys
from careflow_storage.jobs._run.totals import Totals
from careflow_storage.jobs._shard.context import ShardSpan

KEYS = st.lists(
    st.text(st.sampled_from("abz/0é\U0001f600"), min_size=1, max_size=6), unique=True, max_size=60
).map(sorted)


class InterruptedJobError(Exception):
    pass


@dataclass
class MemoryEngine:
    """Works on sorted keys in memory, and fails at one of its shards."""

    keys: Sequence[str]
    shard_keys: int
    capacity: int
    fails_at: int | None
    results: list[ShardResult] = field(default_factory=list)
    started: int = 0
    workers: int = 1

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass

    def within(self, keys: KeyRange) -> list[str]:
        first = 0 if keys.after is None else bisect_right(self.keys, keys.after)
        end = len(self.keys) if keys.until is None else bisect_right(self.keys, keys.until)
        return list(self.keys[first:end])

    async def run(self, task: ShardTask) -> ShardResult:
        self.started += 1
        if self.started == self.fails_at:
            raise InterruptedJobError
        await asyncio.sleep(0)
        span, inside = ShardSpan(task.range, None), self.within(task.range)
        if task.keys is None and len(inside) >= self.shard_keys:
            # As a real shard, which does not know what comes behind its last key.
            inside = inside[: self.shard_keys]
            span = ShardSpan.up_to(task.range, inside[-1])
        result = ShardResult(
            job_id=task.job.job_id,
            shard_id=str(len(self.results)),
            finished=span.finished,
            rest=span.rest,
            objects=len(inside),
        )
        self.results.append(result)
        return result


def run(engine: MemoryEngine, tasks: list[ShardTask]) -> None:
    async def probe(after: str | None) -> str | None:
        return next(iter(engine.within(KeyRange(after=after))), None)

    async def split(rest: KeyRange, parts: int) -> list[KeyRange]:
        return await split_rest(rest, probe, parts)

    async def no_progress() -> None:
        pass

    async def no_loss(task: ShardTask, error: WorkerLostError) -> list[ShardTask]:
        raise error

    async def main() -> None:
        queue = ShardQueue(
            *(engine, None, split),
            on_result=lambda _: None,
            on_lost=no_loss,
            on_progress=no_progress,
        )
        await queue.run(tasks)

    try:
        asyncio.run(main())
    except InterruptedJobError:
        assert engine.fails_at is not None


def worked_on(engine: MemoryEngine, results: Sequence[ShardResult]) -> Counter[str]:
    return Counter(key for result in results for key in engine.within(result.finished))


@given(
    keys=KEYS,
    shard_keys=st.integers(1, 7),
    capacities=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    fails_at=st.none() | st.integers(1, 12),
    from_file=st.booleans(),
    data=st.data(),
)
def test_a_resume_after_any_subset_of_shards_works_on_every_key_once(
    keys: list[str],
    shard_keys: int,
    capacities: tuple[int, int],
    fails_at: int | None,
    from_file: bool,
    data: st.DataObject,
) -> None:
    job = PurgeJob(shard_keys=shard_keys)

    def tasks(parts: list[KeyRange]) -> list[ShardTask]:
        if from_file:
            return tasks_of_keys(job, keys, parts)
        return [ShardTask(job=job, range=part) for part in parts]

    first = MemoryEngine(keys, shard_keys, capacities[0], fails_at)
    run(first, tasks([KeyRange()]))
    kept = [result for result in first.results if data.draw(st.booleans())]
    if fails_at is None:
        assert worked_on(first, first.results) == Counter(keys)

    totals = Totals(job, datetime.now(UTC))
    for result in data.draw(st.permutations(kept)):
        totals.add(result)
    second = MemoryEngine(keys, shard_keys, capacities[1], None)
    run(second, tasks(totals.unfinished(KeyRange())))

    assert worked_on(first, kept) + worked_on(second, second.results) == Counter(keys)
    for result in second.results:
        totals.add(result)
    assert totals.report("finished").objects == len(keys)
