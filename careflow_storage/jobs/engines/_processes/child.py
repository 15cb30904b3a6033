"""The program of a child process: it runs one shard after another."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from io import FileIO
from typing import Final

from careflow_storage.errors import StorageError
from careflow_storage.jobs._shard.runner import run_shard
from careflow_storage.jobs._shard.storages import Storages
from careflow_storage.jobs.engines._processes.messages import (
    ERROR,
    FAULT,
    READY,
    RESULT,
    TASK,
    dump_error,
    frame,
    read_message,
)
from careflow_storage.jobs.results import ShardTask

GRACE_SECONDS: Final = 10.0
"""How long a process may clean up after its parent has closed the pipe, or has ended."""


def main() -> None:
    """Run the shards that the parent sends, until it closes the pipe or ends."""
    requests, responses = _take_pipes()
    # The parent is gone: there is no one to send a result to.
    with suppress(BrokenPipeError):
        _write(responses, frame(READY, b""))
        asyncio.run(_serve(requests, responses))


def _take_pipes() -> tuple[FileIO, int]:
    """Keep the pipes to the parent from the code of the caller, which may read and print."""
    requests, responses = FileIO(os.dup(0)), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, responses


async def _serve(requests: FileIO, responses: int) -> None:
    tasks: asyncio.Queue[bytes | None] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    arguments = (requests, loop, tasks.put_nowait)
    threading.Thread(target=_read_tasks, args=arguments, daemon=True).start()
    async with Storages() as storages:
        while (payload := await tasks.get()) is not None:
            shard = asyncio.create_task(_run(payload, storages))
            # Only the end of the pipe arrives while a shard runs.
            end = asyncio.create_task(tasks.get())
            await asyncio.wait({shard, end}, return_when=asyncio.FIRST_COMPLETED)
            if end.done():
                shard.cancel()
                await asyncio.wait({shard})
                return
            end.cancel()
            await asyncio.wait({end})
            await asyncio.to_thread(_write, responses, shard.result())


def _read_tasks(
    requests: FileIO, loop: asyncio.AbstractEventLoop, put: Callable[[bytes | None], None]
) -> None:
    while (message := read_message(requests)) is not None:
        if message[0] == TASK:
            loop.call_soon_threadsafe(put, message[1])
    # The loop is closed if the process is ending already.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(put, None)
    # A function may block the event loop without a limit.
    time.sleep(GRACE_SECONDS)
    os._exit(1)


async def _run(payload: bytes, storages: Storages) -> bytes:
    """Run a shard; return the message for the parent."""
    try:
        result = await run_shard(ShardTask.model_validate_json(payload), storages)
    except StorageError as error:
        return frame(ERROR, dump_error(error))
    # A fault of the program, which the parent raises.
    except Exception:  # noqa: BLE001
        return frame(FAULT, traceback.format_exc().encode("utf-8", "backslashreplace"))
    return frame(RESULT, result.model_dump_json().encode())


def _write(pipe: int, data: bytes) -> None:
    while data:
        data = data[os.write(pipe, data) :]
