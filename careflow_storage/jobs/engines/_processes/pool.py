"""Child processes that run shards, started when they are needed and replaced when they die."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from careflow_storage._uninterrupted import clean_up_to_end
from careflow_storage.errors import StorageError
from careflow_storage.jobs.engines._processes.messages import (
    ERROR,
    HEAD,
    READY,
    RESULT,
    TASK,
    frame,
    load_error,
)
from careflow_storage.jobs.errors import WorkerLostError
from careflow_storage.jobs.results import ShardResult, ShardTask

_START: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.stdin.buffer.readline()); "
    "from careflow_storage.jobs.engines._processes.child import main; main()"
)
_MOST_DEATHS: Final = 3
# Longer than a child takes to end itself.
_GRACE_SECONDS: Final = 15.0


class ProcessPool:
    """Runs up to ``size`` shards at once, each in a process of its own.

    Each process has its own event loop, and its own storages, which read the environment and the
    files of the job's locations. The tasks go through a pipe, so that no command line shows
    them. A process ends by itself when its parent does.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._idle: list[_Child] = []
        self._places = asyncio.Semaphore(size)

    async def run(self, task: ShardTask) -> ShardResult:
        """Run a shard in a free process. One that dies is replaced, and the shard runs again.

        Raises:
            WorkerLostError: The shard ended three processes in a row.
            StorageError: The shard's own error.
        """
        payload = task.model_dump_json().encode()
        async with self._places:
            code: int | None = None
            for _ in range(_MOST_DEATHS):
                async with self._child() as child:
                    result = await child.run(payload)
                    if result is not None:
                        return result
                    code = await child.end()
        raise WorkerLostError(
            f"The shard ended {_MOST_DEATHS} worker processes in a row ({_how(code)}).",
            hint="An object of the shard may need more memory than there is, or crash a library.",
        )

    async def close(self) -> None:
        """End all processes that are idle; those that run shards end with them."""
        children, self._idle = self._idle, []
        async with asyncio.TaskGroup() as group:
            for child in children:
                group.create_task(child.end())

    @asynccontextmanager
    async def _child(self) -> AsyncIterator[_Child]:
        """Lend a process; keep it unless it has ended or is in the middle of a shard."""
        child = self._idle.pop() if self._idle else await _Child.start()
        try:
            yield child
        finally:
            if child.is_ready:
                self._idle.append(child)
            else:
                await clean_up_to_end(child.end())


class _Child:
    def __init__(self, process: Process) -> None:
        self._process = process
        self.is_ready = False

    @classmethod
    async def start(cls) -> _Child:
        """Start a process and wait until it can take a shard."""
        if not sys.executable or getattr(sys, "frozen", False):
            raise StorageError("There is no Python interpreter to start a worker process with.")
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-c", _START),
                stdin=PIPE,
                stdout=PIPE,
                # Ctrl-C in a terminal must not reach it: this process ends it.
                start_new_session=True,
            )
        except OSError as error:
            raise StorageError(
                f"A worker process could not be started: {error.strerror}.", retryable=True
            ) from error
        child = cls(process)
        try:
            message = await child._exchange(json.dumps(_import_path()).encode() + b"\n")
            if message is None or message[0] != READY:
                code = await child.end()
                raise StorageError(f"A worker process ended before it was ready ({_how(code)}).")
        except BaseException:
            await clean_up_to_end(child.end())
            raise
        child.is_ready = True
        return child

    async def run(self, payload: bytes) -> ShardResult | None:
        """Run a shard and return its result; None if the process died."""
        self.is_ready = False
        message = await self._exchange(frame(TASK, payload))
        if message is None:
            return None
        self.is_ready = True
        kind, content = message
        if kind == RESULT:
            return ShardResult.model_validate_json(content)
        if kind == ERROR:
            raise load_error(content)
        raise RuntimeError(f"A worker process failed:\n{content.decode()}")

    async def end(self) -> int:
        """Let the process clean up and end, or kill it; return its exit code."""
        self.is_ready = False
        process, pipe = self._process, self._process.stdin
        assert pipe is not None  # noqa: S101 - PIPE
        pipe.close()
        try:
            async with asyncio.timeout(_GRACE_SECONDS):
                return await process.wait()
        except TimeoutError:
            process.kill()
            return await process.wait()

    async def _exchange(self, message: bytes) -> tuple[bytes, bytes] | None:
        """Send a message and return the next one of the child; None if it has ended."""
        assert self._process.stdin is not None  # noqa: S101 - PIPE
        assert self._process.stdout is not None  # noqa: S101 - PIPE
        try:
            self._process.stdin.write(message)
            await self._process.stdin.drain()
            kind, length = HEAD.unpack(await self._process.stdout.readexactly(HEAD.size))
            return kind, await self._process.stdout.readexactly(length)
        except (ConnectionError, asyncio.IncompleteReadError):
            return None


def _import_path() -> list[str]:
    """Return absolute paths: the same modules, wherever the child looks for them."""
    return [os.path.abspath(entry) for entry in sys.path]  # noqa: PTH100 - strings


def _how(code: int | None) -> str:
    if code is None or code >= 0:
        return f"exit code {code}"
    return f"signal {-code}"
