"""Progress callbacks: their counts never decrease, and their exceptions are never swallowed."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from careflow_storage._in_flight import help_call
from careflow_storage._transfer.tasks import cancellation_as_failure, task_group
from careflow_storage.errors import InvalidInputError
from careflow_storage.models import Progress

ProgressCallback = Callable[[Progress], Awaitable[None] | None]
"""Called with the progress of a transfer; a function or a coroutine function."""


class Meter:
    """Counts the bytes of one transfer. A part that is sent again is not counted twice."""

    def __init__(self, total: int | None) -> None:
        self.total = total
        self.transferred = 0
        self.finished = False
        self.moved = asyncio.Event()
        self._position = 0

    def add(self, count: int) -> None:
        """Count bytes that were transferred for the first time in this run."""
        self._position += count
        if self._position > self.transferred:
            self.transferred = self._position
            self.moved.set()

    def restart(self) -> None:
        """Restart the transfer; report nothing until it is past the last reported count."""
        self._position = 0

    def part(self) -> PartMeter:
        """Return the counter of one part."""
        return PartMeter(self)


class PartMeter:
    """Counts the bytes of one part over all its attempts."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._reached = 0

    def reach(self, position: int) -> None:
        """Report how many bytes the running attempt has sent; only new bytes count."""
        if position > self._reached:
            self._meter.add(position - self._reached)
            self._reached = position


def check_progress(callback: object) -> None:
    """Raise `InvalidInputError` unless this can be called, or is None."""
    if callback is not None and not callable(callback):
        raise InvalidInputError(f"progress must be a function, not {type(callback).__name__}.")


@asynccontextmanager
async def metered(callback: ProgressCallback | None, total: int | None) -> AsyncIterator[Meter]:
    """Yield a meter; a separate task passes its counts to ``callback``.

    A slow callback is called less often: one call may cover several counts, and calls never
    overlap. An exception of the callback ends the transfer and is raised from it. The last call
    has the final count.
    """
    check_progress(callback)
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
    reported: int | None = None
    finished = False
    while not finished:
        await meter.moved.wait()
        meter.moved.clear()
        finished = meter.finished
        if meter.transferred != reported:
            reported = meter.transferred
            with cancellation_as_failure():
                outcome = callback(Progress(transferred=reported, total=meter.total))
                if inspect.isawaitable(outcome):
                    await outcome
