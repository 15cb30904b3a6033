"""A Dask cluster of real processes, which tests kill."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable
from pathlib import Path
from types import TracebackType
from typing import Self, cast

from distributed import Client

# A dashboard takes a second of CPU to load, in each of them.
_LOCAL = ("--host", "127.0.0.1", "--no-dashboard")
_SCHEDULER = ("distributed.cli.dask_scheduler", "--port", "0", *_LOCAL)
_WORKER = ("distributed.cli.dask_worker", "--nthreads", "2", "--no-nanny", *_LOCAL)


class DaskProcesses:
    """A scheduler and workers, one process each. A worker that dies stays dead.

    Args:
        folder: Where their files go. Each worker's working directory is ``worker-N`` in it.
        workers: How many there are at first.
    """

    def __init__(self, folder: Path, workers: int = 2) -> None:
        self.workers: list[asyncio.subprocess.Process] = []
        self._folder = folder
        self._count = workers
        self._file = folder / "scheduler.json"
        self._scheduler: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.kill()

    @property
    def address(self) -> str:
        """The scheduler's address."""
        return str(json.loads(self._file.read_text())["address"])

    async def start(self) -> None:
        """Start a scheduler, and as many workers as at first."""
        self._file.unlink(missing_ok=True)
        self._scheduler = await self._run(self._folder, *_SCHEDULER)
        # The workers wait for the file.
        self.workers = [await self.start_worker(number) for number in range(self._count)]
        while not self._is_there():  # noqa: ASYNC110 - another process writes the file
            await asyncio.sleep(0.05)
        async with Client(self.address, asynchronous=True, set_as_default=False) as client:
            await cast("Awaitable[None]", client.wait_for_workers(self._count, timeout=60))

    async def start_worker(self, number: int) -> asyncio.subprocess.Process:
        """Start one worker in its directory, which is made if it does not exist."""
        folder = self.folder_of(number)
        folder.mkdir(exist_ok=True)
        return await self._run(folder, *_WORKER)

    def folder_of(self, number: int) -> Path:
        """Return the working directory of a worker."""
        return self._folder / f"worker-{number}"

    def kill_worker(self, number: int) -> None:
        """End a worker with SIGKILL."""
        self.workers[number].kill()

    def kill_scheduler(self) -> None:
        """End the scheduler with SIGKILL."""
        assert self._scheduler is not None
        self._scheduler.kill()

    async def kill(self) -> None:
        """End all with SIGKILL, and wait for them."""
        processes = [*self.workers, *([self._scheduler] if self._scheduler else [])]
        for process in processes:
            if process.returncode is None:
                process.kill()
        for process in processes:
            await process.wait()

    def _is_there(self) -> bool:
        try:
            return bool(self.address)
        except (OSError, ValueError):
            return False  # not there, or not written to its end

    async def _run(self, folder: Path, module: str, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module, *arguments),
            *("--scheduler-file", str(self._file), "--no-dashboard"),
            cwd=folder,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
