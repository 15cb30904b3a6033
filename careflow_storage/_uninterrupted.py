"""Work that must reach its end although its task is cancelled."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

T = TypeVar("T")


async def run_to_end(work: Awaitable[T]) -> T:
    """Await ``work`` to its end and return its result. A cancellation is raised afterwards."""
    task = asyncio.ensure_future(work)
    interrupted = await wait_out(task)
    if interrupted is None:
        return task.result()
    ignore_outcome(task)  # The cancellation is raised in its place.
    raise interrupted


async def clean_up_to_end(work: Awaitable[T]) -> T:
    """Await ``work`` to its end and return its result. Cancellations are dropped.

    For the clean-up of a call that failed or was cancelled, and raises that afterwards.
    """
    task = asyncio.ensure_future(work)
    await wait_out(task)
    return task.result()


def ignore_outcome(task: asyncio.Future[Any]) -> None:
    """Keep asyncio from reporting the exception of a done task as never retrieved."""
    if not task.cancelled():
        task.exception()


async def wait_out(*tasks: asyncio.Future[Any] | None) -> asyncio.CancelledError | None:
    """Wait for the end of these tasks, even when cancelled; return the last cancellation.

    For tasks that end soon. The caller must raise the cancellation.
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
    """Wait for the end of ``task``; from the first cancellation on for ``seconds`` more.

    A second cancellation ends the wait at once. The task is then cancelled and waited out.

    Args:
        cancelled: Whether the first cancellation has arrived already.
        until: Returns the deadline that applies in place of this one. It may change meanwhile.

    Returns:
        The last cancellation, which the caller must raise.
    """
    now = asyncio.get_running_loop().time
    interrupted = await wait_until(
        task,
        now() + seconds if cancelled else math.inf,
        when_cancelled=lambda end: now() + (seconds if end == math.inf else 0.0),
        until=until,
    )
    task.cancel()
    last = await wait_out(task)
    return last if last is not None else interrupted


async def wait_until(
    task: asyncio.Future[Any],
    end: float,
    *,
    when_cancelled: Callable[[float], float],
    until: Callable[[float], float],
) -> asyncio.CancelledError | None:
    """Wait for the end of ``task``, but not beyond ``until(end)``; return the last cancellation.

    ``end`` is a time of the event loop's clock. ``when_cancelled`` returns the new one after each
    cancellation.
    """
    loop = asyncio.get_running_loop()
    interrupted: asyncio.CancelledError | None = None
    while not task.done() and loop.time() < until(end):
        left = until(end) - loop.time()
        try:
            await asyncio.wait({task}, timeout=None if left == math.inf else left)
        except asyncio.CancelledError as again:
            interrupted = again
            end = when_cancelled(end)
    return interrupted
