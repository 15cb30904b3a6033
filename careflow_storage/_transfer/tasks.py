"""Groups of tasks, and waiting for the end of one, whoever cancels meanwhile."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any


@asynccontextmanager
async def task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """`asyncio.TaskGroup` whose first failure comes out as itself.

    A caller whose iterator raised ``ValueError`` catches ``ValueError``, and one whose iterator
    raised a group catches that group. Failures beside the first are told in its notes.
    """
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as failures:
        # These are what the tasks raised: a group among them is the caller's own.
        first, *others = map(raised_by_task, failures.exceptions)
        for other in others:
            first.add_note(f"Another task failed too: {other!r}")
        raise first from first.__cause__


_OWN = "_careflow_storage_own"


class _TaskCancelledError(Exception):
    """A `CancelledError` that a task of a group raised although its task was not cancelled."""

    def __init__(self, error: asyncio.CancelledError) -> None:
        super().__init__()
        self.error = error
        # Further out `asyncio.TaskGroup` may have cancelled that task, too, because of it.
        vars(error)[_OWN] = True


@contextmanager
def cancellation_as_failure() -> Iterator[None]:
    """Let a `CancelledError` raised here end the `task_group` of this task, and come out of it.

    For the caller's own code, which may have awaited something that was cancelled:
    `asyncio.TaskGroup` takes no notice of that.
    """
    task = asyncio.current_task()
    was = task.cancelling() if task is not None else 0
    try:
        yield
    except asyncio.CancelledError as error:
        if task is not None and task.cancelling() > was and _OWN not in vars(error):
            raise
        raise _TaskCancelledError(error) from error


def raised_by_task(error: BaseException) -> BaseException:
    """Return what the task raised itself, within `cancellation_as_failure`."""
    return error.error if isinstance(error, _TaskCancelledError) else error


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
