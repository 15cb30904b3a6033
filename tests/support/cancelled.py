"""Cancellation at every moment: at the n-th wait, at the n-th request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from careflow_storage.testing.proxy.proxy import Attempt, FaultProxy


class Steps:
    """Runs a coroutine and calls ``then`` when it waits for the ``number``-th time."""

    def __init__(
        self, coroutine: Coroutine[Any, Any, Any], number: int, then: Callable[[], Any]
    ) -> None:
        self._coroutine = coroutine
        self._left = number
        self._then = then

    def __await__(self) -> Generator[Any, Any, Any]:
        error: BaseException | None = None
        while True:
            try:
                waited_for = (
                    self._coroutine.send(None) if error is None else self._coroutine.throw(error)
                )
            except StopIteration as end:
                return end.value
            self._left -= 1
            if self._left == 0:
                self._then()
            try:
                yield waited_for
                error = None
            except BaseException as thrown:  # noqa: BLE001 - handed on into the coroutine
                error = thrown


async def cancelled_at_step(coroutine: Coroutine[Any, Any, Any], number: int) -> bool:
    """Cancel when it waits for the n-th time; False when it has ended before."""

    async def run() -> None:
        await Steps(coroutine, number, lambda: loop.call_soon(task.cancel))

    loop = asyncio.get_running_loop()
    task = asyncio.create_task(run())
    try:
        await task
    except asyncio.CancelledError:
        return True
    return False


async def cancelled_at_request(
    proxy: FaultProxy, coroutine: Coroutine[Any, Any, Any], number: int
) -> bool:
    """Cancel when the n-th request has come over the wire; False when it ended before."""
    left = number

    def cancel(_: Attempt) -> bool:
        nonlocal left
        left -= 1
        if left == 0:
            task.cancel()
        return False

    proxy.clear()
    proxy.add(when=cancel)
    task = asyncio.create_task(coroutine)
    try:
        await task
    except asyncio.CancelledError:
        return True
    finally:
        proxy.clear()
    return False
