"""Runs, plans and resumes jobs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

from pydantic import ValidationError

from careflow_storage._executor import in_thread
from careflow_storage.errors import InvalidInputError
from careflow_storage.jobs._records.key_files import read_keys
from careflow_storage.jobs._records.keys import is_record
from careflow_storage.jobs._records.records import JobRecords
from careflow_storage.jobs._run.checks import (
    check_apart,
    check_arguments,
    check_job,
    check_location,
)
from careflow_storage.jobs._run.job_run import JobRun
from careflow_storage.jobs._run.prepare import prepared
from careflow_storage.jobs._run.running import running
from careflow_storage.jobs._run.totals import Totals
from careflow_storage.jobs._shard.storages import Role, Storages
from careflow_storage.jobs.engines.protocol import Engine
from careflow_storage.jobs.models import (
    AnyJob,
    CopyJob,
    Location,
    VerifyJob,
    check_job_id,
    refused,
)
from careflow_storage.jobs.results import JobProgressCallback, JobReport
from careflow_storage.storage import BackblazeStorage


async def run_job(
    job: AnyJob,
    *,
    engine: Engine | None = None,
    progress: JobProgressCallback | None = None,
) -> JobReport:
    """Run a job to its end, and return its report.

    Each shard of about 1000 keys is recorded under ``jobs/{job_id}/`` when it is done. Whatever
    ends this call, `resume_job` goes on from there: nothing is lost, and nothing is done twice
    that can be seen to be done. Errors of single objects are in the report, and stop nothing.

    Costs 1 request per 1000 keys to list each location, 1 per shard to record it, what each object
    needs, and about 10 for the job. Memory does not grow with the number of objects, but for the
    keys of a ``keys_file``.

    Args:
        engine: Where the shards run. Default: `LocalEngine`, in this process.
        progress: Called with `JobProgress` after each shard, and once a second; may be async. An
            exception that it raises stops the job.

    Raises:
        InvalidInputError: The job makes no sense, such as a copy onto itself or a function that
            cannot be imported. Nothing was done or recorded.
        NotConfiguredError: Credentials of a location are missing.
        JobError: The bucket has a job with this ID, or it runs in this process already; or the
            server refuses all objects.
        StorageError: Something that concerns all objects, such as wrong credentials. The job has
            stopped, and can be resumed.
    """
    check_arguments(job, engine=engine, progress=progress)
    with running(job.job_id):
        async with Storages() as storages:
            opened = await _open(storages, job)
            totals = Totals(job, datetime.now(UTC))
            keys = await _keys_of(job, totals)
            with totals.counting(opened.by_role):
                job = await prepared(job, opened.target, totals)
                await _begin(job, opened, keys)
                run = JobRun(job, engine, totals, opened.by_role, keys=keys, progress=progress)
                try:
                    return await run.run()
                except InvalidInputError:
                    # Workers find some mistakes, such as a function that they cannot import.
                    if not totals.shards:
                        await JobRecords(opened.target, job.job_id).erase_job()
                    raise


async def plan_job(
    job: AnyJob,
    *,
    engine: Engine | None = None,
    progress: JobProgressCallback | None = None,
) -> JobReport:
    """Count what a job would do: a dry run, which changes and records nothing.

    ``objects`` and ``bytes`` of the report are those that it would work on. Lists everything that
    the job would list, at 1 request per 1000 keys. Raises what `run_job` raises.
    """
    check_arguments(job, engine=engine, progress=progress)
    async with Storages() as storages:
        opened = await _open(storages, job)
        totals = Totals(job, datetime.now(UTC))
        keys = await _keys_of(job, totals)
        with totals.counting(opened.by_role):
            job = await prepared(job, opened.target, totals)
            run = JobRun(job, engine, totals, opened.by_role, keys=keys, progress=progress)
            return await run.plan()


async def resume_job(
    job_id: str,
    location: Location,
    *,
    source: Location | None = None,
    rate: float | None = None,
    engine: Engine | None = None,
    progress: JobProgressCallback | None = None,
) -> JobReport:
    """Run what is left of a job, and try its objects with errors again.

    Costs 1 request per shard that is recorded, and what is left of the job. Make sure that no
    other process still runs the job: both would do the same work.

    Args:
        location: The bucket with the job's records, which is the target of a copy.
        source: Replaces the source of a copy or verification, for example because its file of
            credentials has moved.
        rate: Replaces the job's rate: the most requests per second at each location.

    Raises:
        InvalidInputError: ``rate`` is not a number above 0, or the job has no source.
        JobError: The job runs in this process already.
        NoSuchJobError: The bucket has no such job.
        JobVersionError: Another version of this package has begun it.
    """
    check_job_id(job_id)
    check_location("location", location)
    if source is not None:
        check_location("source", source)
    check_arguments(engine=engine, progress=progress)
    with running(job_id):
        async with Storages() as storages:
            records = JobRecords(await storages.of_records(location), job_id)
            job, started_at = await records.load_job()
            job = _changed(job, location, source, rate)
            opened = await _open(storages, job)
            totals = Totals(job, started_at)
            async for result in records.shards():
                totals.add(result)
            totals.continue_from(await records.load_report())
            with totals.counting(opened.by_role):
                keys = None if job.keys_file is None else await records.load_keys()
                await records.erase_report()
                run = JobRun(job, engine, totals, opened.by_role, keys=keys, progress=progress)
                return await run.run()


class _Opened(NamedTuple):
    """The storages of a job: that which it lists first, and that which keeps its records."""

    source: BackblazeStorage
    target: BackblazeStorage
    by_role: dict[Role, BackblazeStorage]


async def _open(storages: Storages, job: AnyJob) -> _Opened:
    """Open the locations of a job, and refuse a job that makes no sense with them."""
    by_role = dict(await storages.of_job(job, job.rate))
    opened = list(by_role.values())
    check_job(job, opened[0], opened[-1])
    return _Opened(opened[0], opened[-1], by_role)


async def _begin(job: AnyJob, opened: _Opened, keys: list[str] | None) -> None:
    """Record the job, unless it makes no sense."""
    records = JobRecords(opened.target, job.job_id)
    await records.save_job(job)
    try:
        await check_apart(job, opened.source, opened.target)
        if keys is not None:
            await records.save_keys(keys)
    except BaseException:
        await records.erase_job()
        raise


async def _keys_of(job: AnyJob, totals: Totals) -> list[str] | None:
    """Return the keys of the job's file, but those of records; the notes of the report say so."""
    if job.keys_file is None:
        return None
    keys = await in_thread(read_keys, job.keys_file)
    for key in keys:
        if not key.startswith(job.prefix):
            raise InvalidInputError(
                f"keys_file: the key {key!r} does not begin with the prefix {job.prefix!r}."
            )
    wanted = [key for key in keys if not is_record(key)]
    if left_out := len(keys) - len(wanted):
        totals.add_notes(
            [
                f"{left_out:,} of the {len(keys):,} keys in {job.keys_file} "
                f"{'is a record' if left_out == 1 else 'are records'} of jobs, on which no job "
                "works."
            ]
        )
    return wanted


def _changed(
    job: AnyJob, location: Location, source: Location | None, rate: float | None
) -> AnyJob:
    """Return the job with other locations and another rate, where they are given."""
    changes: dict[str, object] = {} if rate is None else {"rate": rate}
    if isinstance(job, CopyJob | VerifyJob):
        changes |= {"target": location, "source": source or job.source}
    elif source is not None:
        raise InvalidInputError(f"A {job.kind} job has no source.")
    else:
        changes["location"] = location
    try:
        return type(job).model_validate({**dict(job), **changes})
    except ValidationError as error:
        raise refused(type(job).__name__, error) from None
