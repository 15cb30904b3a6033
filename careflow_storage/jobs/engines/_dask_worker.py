"""What `DaskEngine` runs in the workers of a cluster."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

from distributed import Worker, WorkerPlugin, get_worker
from pydantic import TypeAdapter

from careflow_storage._executor import in_thread
from careflow_storage._version import __version__
from careflow_storage.errors import StorageError
from careflow_storage.jobs._shard.runner import run_shard
from careflow_storage.jobs._shard.storages import Storages, locations_of
from careflow_storage.jobs.errors import ClusterError
from careflow_storage.jobs.models import AnyJob
from careflow_storage.jobs.results import ShardTask

_PLUGIN = "careflow-storage"
_POLL_SECONDS = 0.25
"""How often a shard asks whether its result is still wanted. It looks into a dict."""

STOPPED = ""
"""The result of a shard that this module has cancelled. Dask would log an exception."""

_JOBS: TypeAdapter[AnyJob] = TypeAdapter(AnyJob)


async def run_in_worker(task: str, key: str, version: str) -> str | StorageError:
    """Run a `ShardTask`; return its `ShardResult`, or `STOPPED`. Both are JSON.

    Returns what the caller has to raise. Dask would try to pickle a raised exception with all that
    it contains, such as an exception group that contains the exception.

    Args:
        task: The task.
        key: Its key in Dask's scheduler.
        version: The client's version of this package.
    """
    worker = get_worker()
    if problem := _version_problem(version):
        return ClusterError(f"{_name_of(worker)}: {problem}")
    shards = worker.plugins.get(_PLUGIN)
    if not isinstance(shards, _Shards):
        shards = _Shards(worker)
        await worker.plugin_add(shards)
    try:
        return await shards.run(ShardTask.model_validate_json(task), key)
    except StorageError as error:
        error.message = f"{_name_of(worker)}: {error.message}"
        error.__cause__ = error.__context__ = None
        return error.with_traceback(None)


async def check_worker(job: str, version: str, dask_worker: Worker) -> str | None:
    """Return why a worker cannot run a job, which is JSON, or None if it can."""
    problem = _version_problem(version)
    if problem is None:
        try:
            for location in locations_of(_JOBS.validate_json(job)).values():
                await in_thread(location.settings)
        except StorageError as error:
            problem = str(error)
    return problem and f"{_name_of(dask_worker)}: {problem}"


async def stop_shards(token: str, dask_worker: Worker) -> None:
    """Cancel the shards with this token in their keys, and await their end.

    If no others are left, the worker's storages are closed.
    """
    shards = dask_worker.plugins.get(_PLUGIN)
    if isinstance(shards, _Shards):
        await shards.stop(token)
        if shards.is_idle and dask_worker.plugins.get(_PLUGIN) is shards:
            await dask_worker.plugin_remove(_PLUGIN)


class _Shards(WorkerPlugin):
    """The shards that run in a worker, and the storages that they share.

    Both end with the worker, since Dask calls `teardown`.
    """

    name = _PLUGIN

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._storages = Storages()
        self._running: dict[str, asyncio.Task[Any]] = {}

    @property
    def is_idle(self) -> bool:
        return not self._running

    async def run(self, task: ShardTask, key: str) -> str:
        shard = asyncio.create_task(run_shard(task, self._storages))
        self._running[key] = shard
        try:
            while not shard.done():
                await asyncio.wait([shard], timeout=_POLL_SECONDS)
                if not self._is_wanted(key):
                    shard.cancel()
                    await asyncio.wait([shard])
            return STOPPED if shard.cancelled() else shard.result().model_dump_json()
        finally:
            shard.cancel()
            self._running.pop(key, None)

    async def stop(self, token: str = "") -> None:
        shards = {key: shard for key, shard in self._running.items() if token in key}
        for shard in shards.values():
            shard.cancel()
        if shards:
            await asyncio.wait(shards.values())
        for key in shards:
            self._running.pop(key, None)

    async def teardown(self, worker: Worker) -> None:
        await self.stop()
        await self._storages.close()

    def _is_wanted(self, key: str) -> bool:
        """Return whether a client awaits the result: not if it has cancelled it or is gone.

        Dask does not cancel a coroutine. It only notes that nothing needs its result any more.
        """
        state = self._worker.state.tasks.get(key)
        return state is not None and state.state != "cancelled"


def _version_problem(version: str) -> str | None:
    if version == __version__:
        return None
    return f"It has careflow-storage {__version__}, and the client of the job has {version}."


def _name_of(worker: Worker) -> str:
    return f"Worker {worker.address} ({socket.gethostname()}, process {os.getpid()})"
