"""Blocking work in the event loop's own threads, which end before the event loop does."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from careflow_storage.errors import StorageClosedError

T = TypeVar("T")


async def in_thread(function: Callable[..., T], *arguments: object) -> T:
    """`asyncio.to_thread`, except that `StorageClosedError` says that there are no threads left.

    So it is after ``loop.shutdown_default_executor()``, which ``asyncio.run`` awaits at its end,
    and when the interpreter exits.
    """
    call = partial(contextvars.copy_context().run, function, *arguments)
    try:
        job = asyncio.get_running_loop().run_in_executor(None, call)
    except RuntimeError as error:
        raise StorageClosedError(
            f"The program ends: {error}.", hint="Do it before the event loop is shut down."
        ) from error
    return await job
