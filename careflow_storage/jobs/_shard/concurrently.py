"""Many small pieces of work, some at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from careflow_storage._transfer.tasks import task_group

T = TypeVar("T")


async def gather_some(work: Iterable[Callable[[], Awaitable[T]]], at_once: int = 16) -> list[T]:
    """Do all of the work, ``at_once`` pieces at a time; return the results in order.

    The first exception cancels the rest and is raised.
    """
    results: dict[int, T] = {}
    waiting = enumerate(work)

    async def do() -> None:
        for at, start in waiting:
            results[at] = await start()

    async with task_group() as group:
        for _ in range(at_once):
            group.create_task(do())
    return [results[at] for at in range(len(results))]
