"""Groups of tasks, and waiting for the end of one, whoever cancels meanwhile."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any


@asynccontextmanager
async def task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """`asyncio.TaskGroup` whose first failure comes out as itself.

    A caller whose iterator raised ``ValueError`` catches ``ValueError``. Failures beside the
    first are told in its notes.
    """
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as failures:
        first, *others = _leaves(failures)
        for other in others:
            first.add_note(f"Another task failed too: {other!r}")
        raise first from first.__cause__


async def wait_out(*tasks: asyncio.Future[Any] | None) -> asyncio.CancelledError | None:
    """Wait for the end of these tasks, whoever cancels; return the last cancellation.

    For tasks that end soon: whoever calls this owns it to raise what is returned.
    """
    interrupted: asyncio.CancelledError | None = None
    while running := [task for task in tasks if task is not None and not task.done()]:
        try:
            await asyncio.wait(running)
        except asyncio.CancelledError as error:
            interrupted = error
    return interrupted


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


async def finish(
    task: asyncio.Task[None],
    seconds: float,
    *,
    cancelled: bool,
    until: Callable[[float], float] = lambda end: end,
) -> asyncio.CancelledError | None:
    """Wait for the end of ``task``, with a deadline from the first cancellation on.

    ``cancelled`` says that it has come already; a second one ends it. ``until`` makes of that
    deadline the one that counts, which may move meanwhile. Returns the last cancellation that
    came meanwhile, for the caller to raise.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds if cancelled else math.inf
    interrupted: asyncio.CancelledError | None = None
    while not task.done() and loop.time() < until(end):
        left = until(end) - loop.time()
        try:
            await asyncio.wait({task}, timeout=None if left == math.inf else left)
        except asyncio.CancelledError as again:
            interrupted = again
            end = loop.time() + (seconds if end == math.inf else 0.0)
    task.cancel()
    last = await wait_out(task)
    return last if last is not None else interrupted
