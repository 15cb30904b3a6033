"""``careflow-storage jobs``: run, resume, list and show bulk jobs."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from careflow_storage import (
    BackblazeStorage,
    InvalidInputError,
    MissingExtraError,
    StorageError,
    jobs,
)
from careflow_storage.cli.actions.job_reports import (
    COLUMNS,
    exit_code,
    job_in_words,
    place_of,
    planned,
    print_fields,
    print_notes,
    print_plan,
    print_report,
    record_row,
    records_option,
    visited,
)
from careflow_storage.cli.ui.confirm import confirm_by_typing
from careflow_storage.cli.ui.job_table import JobTable, Total, counts
from careflow_storage.cli.ui.job_table import visited as job_visited
from careflow_storage.cli.ui.output import Output
from careflow_storage.cli.ui.spinner import waiting
from careflow_storage.jobs import AnyJob, Engine, JobProgress, JobReport, Location

_Start = Callable[[Engine, Callable[[JobProgress], None]], Awaitable[JobReport]]


@dataclass(frozen=True)
class Workers:
    """Where the shards run: in this process, in some processes, or on a Dask cluster."""

    processes: int | None = None
    dask: str | None = None

    def engine(self) -> Engine:
        """Return the engine.

        Raises:
            MissingExtraError: ``dask`` is given, and the extra ``jobs`` is not installed.
        """
        has_dask = find_spec("distributed") is not None
        if self.dask is not None:
            if not has_dask:
                raise MissingExtraError("jobs")
            return jobs.DaskEngine(self.dask)
        if self.processes is None:
            return jobs.LocalEngine()
        if has_dask:
            return jobs.DaskEngine(workers=self.processes)
        return jobs.LocalEngine(processes=self.processes)

    def words(self) -> list[str]:
        """Return them as they are typed."""
        given = {"--workers": self.processes, "--dask": self.dask}
        return [text for name, value in given.items() if value for text in (name, str(value))]


@dataclass(frozen=True)
class JobRun:
    """A job to plan, or to run. ``make`` makes it, and raises if a value is wrong."""

    make: Callable[[], AnyJob]
    workers: Workers
    dry_run: bool
    yes: bool

    async def run(self, output: Output) -> int | None:
        """Run it, after asking where needed; return the exit code."""
        job = self.make()
        with _importable_here(job):
            return await self._run(output, job)

    async def _run(self, output: Output, job: AnyJob) -> int | None:
        total = Total()
        if self.dry_run or self._asks(job):
            async with waiting(output, "Counting"):
                plan = await jobs.plan_job(job)
            if self.dry_run:
                print_plan(output, plan)
                return exit_code(plan)
            total.objects = visited(plan)
            await _confirm(output, plan)
        run = _Run(output, job, self.workers, total)
        return await run(lambda engine, show: jobs.run_job(job, engine=engine, progress=show))

    def _asks(self, job: AnyJob) -> bool:
        if self.yes:
            return False
        return job.kind == "purge" or (job.kind == "retain" and job.mode == "compliance")


async def resume_job(
    output: Output,
    job_id: str,
    location: Location,
    source: Location | None,
    workers: Workers,
    *,
    rate: float | None,
) -> int | None:
    """Continue a job; return the exit code."""
    async with waiting(output, "Reading the job's records"):
        report = await jobs.show_job(job_id, location)
    moved = {"source": source} if source is not None else {}
    moved["target" if isinstance(report.job, jobs.CopyJob | jobs.VerifyJob) else "location"] = (
        location
    )
    job = report.job.model_copy(update=moved)
    run = _Run(output, job, workers, Total(before=visited(report)), new_rate=rate)
    with _importable_here(job):
        return await run(
            lambda engine, show: jobs.resume_job(
                job_id, location, source=source, rate=rate, engine=engine, progress=show
            )
        )


@contextlib.contextmanager
def _importable_here(job: AnyJob) -> Iterator[None]:
    """Let the function of a map job be a module in the working directory, as for Python itself.

    It comes last: a file there hides no installed module.
    """
    here = str(Path.cwd())
    if job.kind != "map" or here in sys.path:
        yield
        return
    sys.path.append(here)
    try:
        yield
    finally:
        sys.path.remove(here)


async def print_jobs(output: Output, location: Location) -> None:
    """List the jobs of a bucket."""
    records = await jobs.list_jobs(location)
    output.items(records)
    if records:
        output.table(COLUMNS, map(record_row, records))
    else:
        output.note("The bucket has no records of jobs.")


async def print_job(output: Output, job_id: str, location: Location) -> None:
    """Print the report of a job."""
    async with waiting(output, "Reading the job's records"):
        report = await jobs.show_job(job_id, location)
    output.item(report)
    print_fields(output, report)


async def print_errors(output: Output, job_id: str, location: Location) -> None:
    """Print each error of a job: the key, and what happened to it."""
    report = await jobs.show_job(job_id, location)
    settings = await asyncio.to_thread(location.settings)
    async with BackblazeStorage(settings) as storage:
        for name in report.error_files:
            for line in (await storage.get_file(name)).splitlines():
                error = jobs.ObjectError.model_validate_json(line)
                output.item(error)
                output.line(f"{error.key}: {error.kind}: {error.message}")
    if not report.errors:
        output.note("The job has no errors.")


async def _confirm(output: Output, plan: JobReport) -> None:
    settings = await asyncio.to_thread(place_of(plan.job).settings)
    bucket = str(settings.bucket_name)
    place = f"below {plan.job.prefix}" if plan.job.prefix else f"in the whole bucket {bucket}"
    print_notes(output, plan)
    what = planned(plan)
    question = f"This will {what} {place}, and cannot be undone. Continue?"
    expected = bucket if plan.job.keys_file is not None else plan.job.prefix or bucket
    confirm_by_typing(output, question, expected, yes=False)


class _Run:
    """One run of a job: its table, its end, and how to resume it."""

    def __init__(
        self,
        output: Output,
        job: AnyJob,
        workers: Workers,
        total: Total,
        *,
        new_rate: float | None = None,
    ) -> None:
        self._output = output
        self._job = job
        self._workers = workers
        self._total = total
        self._rate_words = [] if new_rate is None else ["--rate", f"{new_rate:g}"]

    async def __call__(self, start: _Start) -> int | None:
        output, job = self._output, self._job
        engine = self._workers.engine()
        output.item({"event": "started", "job_id": job.job_id, "job": job})
        table = JobTable(output, job_in_words(job), self._total)
        try:
            with table.shown() as show:
                async with _counting(job, self._total):
                    report = await start(engine, show)
        except asyncio.CancelledError:
            self._print_stopped(table.last)
            raise
        except StorageError as error:
            if _can_resume(table.last, error):
                self._print_stopped(table.last)
            raise
        print_report(output, report)
        return exit_code(report)

    def _print_stopped(self, last: JobProgress | None) -> None:
        where = records_option(self._output, self._job)
        command = self._output.command(
            *("jobs", "resume", self._job.job_id),
            *(*where, *self._rate_words, *self._workers.words()),
        )
        self._output.item(
            {"event": "stopped", "job_id": self._job.job_id, "resume": command, "progress": last}
        )
        if last is not None:
            # Only this process counts objects while their shard runs.
            what = "The finished shards have" if self._workers.words() else "Stopped after"
            self._output.note(f"{what} {counts(last)}.")
        self._output.note(f"To resume: {command}")


def _can_resume(last: JobProgress | None, error: StorageError) -> bool:
    """Whether the job was recorded: it was not if it was refused, also by its first shards."""
    if last is None:
        return False
    return not isinstance(error, InvalidInputError) or job_visited(last) > 0


@contextlib.asynccontextmanager
async def _counting(job: AnyJob, total: Total) -> AsyncIterator[None]:
    """Count the objects of the job meanwhile, unless that would cost as much as the job."""
    if total.objects is not None or not _worth_counting(job):
        yield
        return
    counter = asyncio.create_task(_count(job, total))
    try:
        yield
    finally:
        counter.cancel()
        await asyncio.wait([counter])


def _worth_counting(job: AnyJob) -> bool:
    return job.kind in ("copy", "map", "retain") or (job.kind == "verify" and job.deep)


async def _count(job: AnyJob, total: Total) -> None:
    location = job.source if isinstance(job, jobs.CopyJob | jobs.VerifyJob) else job.location
    if job.keys_file is not None:
        total.objects = await asyncio.to_thread(_lines_of, job.keys_file)
        return
    # Without a number the job itself reports what is wrong.
    with contextlib.suppress(StorageError):
        settings = await asyncio.to_thread(location.settings)
        async with BackblazeStorage(settings) as storage:
            objects = 0
            async for page in storage.list_files(job.prefix).pages():
                objects += len(page)
            total.objects = objects


def _lines_of(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for line in file if line.strip())
