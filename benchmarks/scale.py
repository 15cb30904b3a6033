"""``python -m benchmarks.scale``: jobs over up to a billion keys, without a server.

The queue and the planner of `careflow_storage.jobs` run as they are. Their keys are computed
(`benchmarks.key_distributions`), and their time is virtual (`benchmarks.virtual_time`): a request
takes as long as ``--latency`` says, and the server takes no more of them than ``--rate``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.charts import Bar, Bars, Chart
from benchmarks.key_distributions import DISTRIBUTIONS, Keys
from benchmarks.places import say
from benchmarks.report import table
from benchmarks.virtual_time import run_in_virtual_time
from careflow_storage.jobs._planning.splitting import split_rest
from careflow_storage.jobs._run.queue import ShardQueue
from careflow_storage.jobs.errors import WorkerLostError
from careflow_storage.jobs.models import KeyRange, Location, VerifyJob
from careflow_storage.jobs.results import ShardResult, ShardTask

_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Limits:
    """What the server and the job allow: the shards at once, requests per second, seconds."""

    ways: int
    rate: float
    latency: float
    shard_keys: int


@dataclass(slots=True)
class Outcome:
    """What a verification of all keys took. ``busy`` adds up the seconds of all workers."""

    distribution: str
    keys: int
    ways: int
    shards: int = 0
    empty: int = 0
    small: int = 0
    probes: int = 0
    requests: int = 0
    busy: float = 0.0
    seconds: float = 0.0
    real_seconds: float = 0.0

    @property
    def idle(self) -> float:
        """The share of the workers' time in which they had nothing to do."""
        return 1 - self.busy / (self.seconds * self.ways)

    def least_requests(self, limits: Limits) -> int:
        """Return one for each page, and one for each shard, if all of them were full."""
        return -(-self.keys // _PAGE) + -(-self.keys // limits.shard_keys)

    def copy_seconds(self, limits: Limits) -> float:
        """How long copying small objects takes: on the target, one PUT more for each."""
        return (self.requests + self.keys) / limits.rate


class SimulatedEngine:
    """An `Engine` of a bucket and workers that do not exist."""

    def __init__(self, keys: Keys, limits: Limits, outcome: Outcome) -> None:
        self.capacity = limits.ways
        self.workers = limits.ways
        self._keys = keys
        self._limits = limits
        self._outcome = outcome
        self._free = 0.0
        # Where ranges begin and end, so that they are not searched again.
        self._places: dict[str | None, int] = {None: 0}
        self._ends: dict[str | None, int] = {None: len(keys)}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return None

    async def run(self, task: ShardTask) -> ShardResult:
        """List a range, and record the shard: a page for every 1000 keys, and one PUT."""
        started = asyncio.get_running_loop().time()
        after, until = task.range.after, task.range.until
        begin = self._places.pop(after, None)
        begin = self._keys.up_to(after) if begin is None else begin
        end = self._ends.get(until)
        if end is None:
            end = self._ends[until] = self._keys.up_to(until)
        count = min(end - begin, self._limits.shard_keys)
        for _ in range(max(1, -(-count // _PAGE)) + 1):
            await self._request()
        self._outcome.shards += 1
        self._outcome.empty += count == 0
        self._outcome.small += 0 < count < self._limits.shard_keys // 10
        self._outcome.busy += asyncio.get_running_loop().time() - started
        finished, rest = task.range, None
        if count < end - begin:
            last = self._keys[begin + count - 1]
            self._places[last] = begin + count
            finished, rest = KeyRange(after=after, until=last), KeyRange(after=last, until=until)
        else:
            self._ends.pop(until, None)
        return ShardResult(
            job_id=task.job.job_id,
            shard_id=str(self._outcome.shards),
            finished=finished,
            rest=rest,
            objects=count,
        )

    async def probe(self, after: str | None) -> str | None:
        """Return the last key of the page after another key, or None if there is no full page."""
        self._outcome.probes += 1
        await self._request()
        place = self._keys.up_to(after) + _PAGE - 1
        return self._keys[place] if place < len(self._keys) else None

    async def _request(self) -> None:
        """Wait for the server's permission, then for its response."""
        self._outcome.requests += 1
        now = asyncio.get_running_loop().time()
        self._free = max(self._free, now) + 1 / self._limits.rate
        await asyncio.sleep(self._free - now + self._limits.latency)


async def _no_worker_is_lost(task: ShardTask, error: WorkerLostError) -> list[ShardTask]:
    raise error


async def _no_progress() -> None:
    return None


async def _run(keys: Keys, limits: Limits, outcome: Outcome) -> int:
    visited = 0

    def add(result: ShardResult) -> None:
        nonlocal visited
        visited += result.objects

    engine = SimulatedEngine(keys, limits, outcome)
    queue = ShardQueue(
        engine,
        None,
        lambda rest, parts: split_rest(rest, engine.probe, parts),
        on_result=add,
        on_lost=_no_worker_is_lost,
        on_progress=_no_progress,
    )
    job = VerifyJob(source=Location(bucket="source"), target=Location(bucket="target"))
    await queue.run([ShardTask(job=job)])
    return visited


def simulate(distribution: str, total: int, limits: Limits) -> Outcome:
    """Verify all keys of a distribution.

    Raises:
        RuntimeError: The planner has left out keys, or visited some twice.
    """
    outcome = Outcome(distribution, total, limits.ways)
    started = time.monotonic()
    visited, outcome.seconds = run_in_virtual_time(
        _run(Keys(DISTRIBUTIONS[distribution], total), limits, outcome)
    )
    outcome.real_seconds = time.monotonic() - started
    if visited != total:
        raise RuntimeError(f"{distribution}: {visited} of {total} keys were visited.")
    return outcome


def rows(outcomes: Sequence[Outcome], limits: Limits) -> list[list[str]]:
    """Return the table: numbers of the simulation, and what follows from its requests."""
    return [
        [
            one.distribution,
            f"{one.shards:,}",
            f"{one.empty:,}",
            f"{one.small:,}",
            f"{one.probes:,}",
            f"{one.idle:.1%}",
            f"{one.requests:,}",
            f"{one.seconds / 3600:.2f}",
            f"{one.copy_seconds(limits) / 3600:,.1f}",
        ]
        for one in outcomes
    ]


def chart(files: Sequence[Path]) -> Chart:
    """Return how many more requests each run sent than a planner that knows all keys would."""
    panels = []
    for file in files:
        found = json.loads(file.read_text(encoding="utf-8"))
        outcomes = [Outcome(**one) for one in found["outcomes"]]
        limits = Limits(**found["limits"])
        more = [100 * (one.requests / one.least_requests(limits) - 1) for one in outcomes]
        title = f"{outcomes[0].keys:,} keys, {limits.shard_keys:,} per shard"
        bars = [
            Bar(one.distribution, round(value, 1), "base")
            for one, value in zip(outcomes, more, strict=True)
        ]
        panels.append(Bars(title, 1, bars, "%"))
    return Chart(
        "What it costs to find out where the keys are",
        "Requests of a verification, more than if all keys were known before.",
        panels,
    )


HEADS = (
    *("Keys", "Shards", "Empty", "Small", "Probes", "Idle", "Requests"),
    *("Verify, hours", "Copy, hours"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.scale")
    parser.add_argument("--keys", type=float, nargs="+", default=[1e7], help="1e7 1e9")
    parser.add_argument("--distributions", nargs="+", default=list(DISTRIBUTIONS))
    parser.add_argument("--ways", type=int, default=50, help="shards at once")
    parser.add_argument("--rate", type=float, default=500, help="requests per second")
    parser.add_argument("--latency", type=float, default=0.1, help="seconds of a request")
    parser.add_argument("--shard-keys", type=int, default=1000)
    parser.add_argument("--out", type=Path, help="a JSON file for the numbers")
    parser.add_argument("--chart", type=Path, nargs="+", help="a folder, and files of --out")
    arguments = parser.parse_args()
    if arguments.chart:
        say(f"wrote {chart(arguments.chart[1:]).write(arguments.chart[0], 'jobs-scale')}")
        return
    limits = Limits(arguments.ways, arguments.rate, arguments.latency, arguments.shard_keys)
    done = []
    for total in arguments.keys:
        outcomes = []
        for name in arguments.distributions:
            outcomes.append(simulate(name, int(total), limits))
            say(f"{name}, {int(total):,} keys: {outcomes[-1].real_seconds:.0f} s of computing")
        print(f"\n{int(total):,} keys, {limits.ways} shards at once:\n")
        print(table(HEADS, rows(outcomes, limits)))
        done += outcomes
    if arguments.out:
        text = json.dumps({"limits": asdict(limits), "outcomes": [asdict(one) for one in done]})
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
