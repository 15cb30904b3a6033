"""One run of a job, from its first shard to its report."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Sequence

from careflow_storage._log_fields import log_fields
from careflow_storage._uninterrupted import clean_up_to_end
from careflow_storage.errors import (
    FileLockedError,
    InvalidInputError,
    NoSuchKeyError,
    StorageError,
)
from careflow_storage.jobs._records.records import JobRecords
from careflow_storage.jobs._records.uploads import UploadRecords
from careflow_storage.jobs._run.queue import ShardQueue
from careflow_storage.jobs._run.ranges import KeySpace, tasks_of_keys, tasks_of_ranges
from careflow_storage.jobs._run.totals import Totals
from careflow_storage.jobs._shard.storages import Role
from careflow_storage.jobs.engines.local import LocalEngine
from careflow_storage.jobs.engines.protocol import Engine
from careflow_storage.jobs.errors import JobError, WorkerLostError
from careflow_storage.jobs.models import AnyJob, CopyJob, KeyRange
from careflow_storage.jobs.results import (
    JobProgressCallback,
    JobReport,
    ObjectError,
    ShardResult,
    ShardTask,
)
from careflow_storage.storage import BackblazeStorage

logger = logging.getLogger("careflow_storage")

_SECONDS_TO_STOP = 5.0
# A job stops when the objects of this many shards are refused in succession.
_REFUSED_SHARDS = 3
# The number of shards in succession, in which workers have died, that stops it, too.
_LOST_SHARDS = 3


class JobRun:
    """Runs what is left of a job on an engine, and keeps its totals.

    Args:
        engine: Where the shards run. Default: `LocalEngine`.
        totals: What earlier runs have done.
        keys: The sorted keys of the job's ``keys_file``, if it has one.
    """

    def __init__(
        self,
        job: AnyJob,
        engine: Engine | None,
        totals: Totals,
        storages: dict[Role, BackblazeStorage],
        *,
        keys: Sequence[str] | None,
        progress: JobProgressCallback | None,
    ) -> None:
        engine = LocalEngine() if engine is None else engine
        self._records_storage = list(storages.values())[-1]
        self._records = JobRecords(self._records_storage, job.job_id)
        self._job = job
        self._engine = engine
        self._totals = totals
        self._keys = keys
        self._progress = progress
        self._refused = 0
        self._lost: WorkerLostError | None = None
        self._lost_shards = 0
        self._space = KeySpace(next(iter(storages.values())), job)
        self._queue = ShardQueue(
            engine,
            job.rate,
            self._space.split,
            on_result=self._add,
            on_lost=self._leave_out,
            on_progress=self._report_progress,
        )

    async def plan(self) -> JobReport:
        """Count what the job would do. Changes and records nothing."""
        await self._run_shards(dry_run=True)
        return self._totals.report("planned")

    async def run(self) -> JobReport:
        """Run to the end; store the report.

        Raises:
            StorageError: Something that concerns all objects. The report says that the job has
                stopped.
        """
        try:
            await self._run_shards(dry_run=False)
            await self._abort_uploads()
        except BaseException as error:
            # A mistake in the job that shows before its first result is nothing to continue.
            if self._totals.shards or not isinstance(error, InvalidInputError):
                error.add_note(f"The job {self._job.job_id} has stopped; resume_job continues it.")
                await clean_up_to_end(self._save_stopped(error))
            raise
        report = self._totals.report("stopped" if self._lost else "finished", self._lost)
        await self._records.save_report(report)
        return report

    async def _run_shards(self, *, dry_run: bool) -> None:
        async with self._engine:
            tasks = await self._tasks()
            try:
                await self._queue.run(
                    task.model_copy(update={"dry_run": dry_run}) for task in tasks
                )
            except asyncio.CancelledError:
                await self._report_progress()
                raise
            await self._report_progress()

    async def _abort_uploads(self) -> None:
        """Abort what killed workers and failed copies have left: this job's uploads only."""
        if isinstance(self._job, CopyJob):
            uploads = UploadRecords(self._records_storage, self._job.job_id)
            self._totals.add_detail("uploads_aborted", await uploads.abort_left())

    async def _tasks(self) -> list[ShardTask]:
        parts = self._totals.unfinished(KeyRange())
        if self._keys is not None:
            tasks = tasks_of_keys(self._job, self._keys, parts)
        else:
            parts = await self._space.first_parts(parts, self._engine.capacity)
            tasks = tasks_of_ranges(self._job, parts)
        for shard_id, result in self._totals.to_retry.items():
            if result.error_file is not None:
                keys = [error.key for error in await self._records.load_errors(result.error_file)]
                tasks.append(
                    ShardTask(
                        job=self._job,
                        range=result.finished,
                        keys=tuple(sorted(set(keys))),
                        retry_of=shard_id,
                    )
                )
        return tasks

    async def _leave_out(self, task: ShardTask, error: WorkerLostError) -> list[ShardTask]:
        """Leave out a shard that no worker survives; return what comes behind it.

        Raises:
            WorkerLostError: No shard has succeeded in between: the shards are not to blame.
        """
        self._lost_shards += 1
        if self._lost_shards == _LOST_SHARDS:
            raise error
        end = None if task.keys is not None else await self._space.end_of_shard(task.range)
        keys = task.range if end is None else KeyRange(after=task.range.after, until=end)
        self._lost = error
        self._totals.add_lost(keys)
        logger.warning(
            "job %s: a shard is left out: %s",
            self._job.job_id,
            error,
            extra=log_fields("shard_left_out", error, job_id=self._job.job_id),
        )
        if end is None:
            return []
        rest = KeyRange(after=end, until=task.range.until)
        return [task.model_copy(update={"range": rest})]

    def _add(self, result: ShardResult) -> None:
        self._lost_shards = 0
        self._totals.add(result)
        refused = result.objects == result.skipped == 0 and all(map(_is_refusal, result.errors))
        self._refused = self._refused + len(result.errors) if refused else 0
        if self._refused >= _REFUSED_SHARDS * self._job.shard_keys:
            last = result.errors[-1]
            raise JobError(
                f"The server has refused {self._refused} objects in succession. "
                f"The last error was {last.kind}: {last.message}",
                key=last.key,
                code=last.code,
                status=last.status,
                retryable=last.retryable,
                hint="Remove the cause, then resume the job: it tries these objects again.",
            )

    async def _report_progress(self) -> None:
        if self._progress is None:
            return
        engine = self._engine
        progress = self._totals.progress(
            self._queue.running,
            len(self._queue.waiting),
            engine._outcomes() if isinstance(engine, LocalEngine) else (),
        )
        result = self._progress(progress)
        if inspect.isawaitable(result):
            await result

    async def _save_stopped(self, error: BaseException) -> None:
        report = self._totals.report("stopped", error)
        try:
            async with asyncio.timeout(_SECONDS_TO_STOP):
                await self._records.save_report(report)
        except (StorageError, TimeoutError) as second:
            logger.warning(
                "The report of the job %s was not stored: %s",
                self._job.job_id,
                second,
                extra=log_fields("report_not_stored", second, job_id=self._job.job_id),
            )


def _is_refusal(error: ObjectError) -> bool:
    """Whether the server may refuse all objects for the same reason."""
    if error.kind in (FileLockedError.__name__, NoSuchKeyError.__name__):
        return False
    return error.status is not None or error.retryable
