"""Progress callbacks: cumulative, never falling, their exceptions never swallowed."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from careflow_storage._in_flight import help_call
from careflow_storage._transfer.tasks import cancellation_as_failure, task_group
from careflow_storage.models import Progress

ProgressCallback = Callable[[Progress], Awaitable[None] | None]


class Meter:
    """Counts the bytes of one transfer; a part that is sent again is not counted twice."""

    def __init__(self, total: int | None) -> None:
        self.total = total
        self.transferred = 0
        self.finished = False
        self.moved = asyncio.Event()
        self._position = 0

    def add(self, count: int) -> None:
        """Count bytes that moved for the first time in this run."""
        self._position += count
        if self._position > self.transferred:
            self.transferred = self._position
            self.moved.set()

    def restart(self) -> None:
        """Begin the whole transfer anew: nothing is told until it is past what was told."""
        self._position = 0

    def part(self) -> PartMeter:
        """Return the counter of one part."""
        return PartMeter(self)


class PartMeter:
    """Counts one part's bytes through all its attempts."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._reached = 0

    def reach(self, position: int) -> None:
        """Tell how far the running attempt is; only what is new is counted."""
        if position > self._reached:
            self._meter.add(position - self._reached)
            self._reached = position


@asynccontextmanager
async def metered(callback: ProgressCallback | None, total: int | None) -> AsyncIterator[Meter]:
    """Give a meter whose counts reach ``callback``, from a task of its own.

    Several counts may come as one call: the callback is never called again before it has
    returned, so a slow one makes fewer calls, not a queue. What it raises ends the transfer
    and comes out of it. The last call tells the final count.
    """
    meter = Meter(total)
    if callback is None:
        yield meter
        return
    async with task_group() as group:
        group.create_task(_report(callback, meter))
        yield meter
        meter.finished = True
        meter.moved.set()


async def _report(callback: ProgressCallback, meter: Meter) -> None:
    help_call()
    told: int | None = None
    finished = False
    while not finished:
        await meter.moved.wait()
        meter.moved.clear()
        finished = meter.finished
        if meter.transferred != told:
            told = meter.transferred
            with cancellation_as_failure():
                outcome = callback(Progress(transferred=told, total=meter.total))
                if inspect.isawaitable(outcome):
                    await outcome
