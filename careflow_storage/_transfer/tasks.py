"""Groups of tasks, whose first failure is raised as itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager


@asynccontextmanager
async def task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """An `asyncio.TaskGroup` that raises its first failure itself, not in a group.

    If the caller's iterator raises ``ValueError``, the caller catches ``ValueError``; if it raises
    an exception group, the caller catches that group. The notes of the first failure list the
    others.
    """
    first: BaseException | None = None
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as failures:
        # The exceptions of the tasks. A group among them was raised by the caller's code.
        first, *others = map(raised_by_task, failures.exceptions)
        for other in others:
            first.add_note(f"Another task failed too: {other!r}")
    # Outside of the handler, where the group would become its context and so hold itself: what
    # pickles contexts, as Dask does, would never end.
    if first is not None:
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
