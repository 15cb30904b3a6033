"""Calls the function of a map job for each object of a shard."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Final

from careflow_storage.errors import StorageError
from careflow_storage.jobs._records.records import JobRecords
from careflow_storage.jobs._shard.concurrently import gather_some
from careflow_storage.jobs._shard.context import ShardContext, ShardSpan
from careflow_storage.jobs._shard.files import FilesOfShard
from careflow_storage.jobs._shard.map_functions import MapFunction, as_json, describe, load_function
from careflow_storage.jobs.models import MapJob
from careflow_storage.jobs.results import ObjectError
from careflow_storage.models import FileInfo

BLOCKING_SECONDS: Final = 1.0
"""A function that holds the event loop for longer is noted."""


async def map_shard(context: ShardContext) -> ShardSpan:
    """Call the job's function for the objects of a shard, and store what it returns."""
    task, job = context.task, context.task.job
    assert isinstance(job, MapJob)  # noqa: S101 - for type checkers
    storage = context.storages["location"]
    function = await storage._context().threads.run(load_function, job.function)
    files = FilesOfShard(context)
    mapping = _Mapping(context, job, function)
    async for page in files.pages():
        if task.dry_run:
            mapping.count(page)
        else:
            await gather_some((partial(mapping.call, file) for file in page), job.concurrency)
    if mapping.values:
        records = JobRecords(storage, job.job_id)
        context.outcome.value_file = await records.save_values(context.shard_id, mapping.values)
    return files.span


class _Mapping:
    """Calls a function for objects, and counts.

    Attributes:
        values: What the function returned, as JSON, by key; nothing where it returned None.
    """

    def __init__(self, context: ShardContext, job: MapJob, function: MapFunction) -> None:
        self._storage = context.storages["location"]
        self._job = job
        self._function = function
        self._context = context
        self._outcome = context.outcome
        self._slowest = 0.0
        self.values: dict[str, str] = {}

    def count(self, files: Sequence[FileInfo]) -> None:
        """Count objects as done."""
        for file in files:
            self._outcome.objects += 1
            self._outcome.bytes += file.size
            self._outcome.note_time(file.last_modified)

    async def call(self, file: FileInfo) -> None:
        """Call the function for one object; report what it raises."""
        call = self._function.start(self._storage, file)
        scope = asyncio.timeout(self._job.timeout)
        try:
            async with scope:
                value = await call
            if value is not None:
                self.values[file.key] = as_json(value)
        except StorageError as error:
            self._context.add_error(file.key, error)
        except asyncio.CancelledError as error:
            if _is_cancelled():
                raise
            self._fail(file.key, error)
        # Code of the caller, which may raise anything. sys.exit() is to end no worker.
        except (Exception, SystemExit) as error:  # noqa: BLE001
            self._fail(file.key, self._timed_out() if scope.expired() else error)
        else:
            self.count([file])
        finally:
            self._note(file.key, call.longest)

    def _timed_out(self) -> TimeoutError:
        return TimeoutError(f"It took longer than {self._job.timeout} seconds.")

    def _fail(self, key: str, error: BaseException) -> None:
        self._outcome.errors.append(
            ObjectError(key=key, kind=type(error).__name__, message=describe(error))
        )

    def _note(self, key: str, seconds: float) -> None:
        if seconds < BLOCKING_SECONDS:
            return
        self._outcome.count("blocked_loop")
        if seconds > self._slowest:
            self._slowest = seconds
            self._outcome.notes[:] = [
                f"{self._function.name} blocked the event loop for {seconds:.1f} s at {key!r}: "
                "nothing else of the worker ran meanwhile. Await asyncio.to_thread(...) for what "
                "blocks."
            ]


def _is_cancelled() -> bool:
    """Whether this task was cancelled, and not only something that the function awaited."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
