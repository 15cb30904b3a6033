"""Lists and shows the jobs that a bucket has records of."""

from __future__ import annotations

from functools import partial

from careflow_storage.errors import InvalidInputError
from careflow_storage.jobs._records.keys import JOBS_PREFIX, is_record, job_id_at
from careflow_storage.jobs._records.records import JobRecords
from careflow_storage.jobs._run.checks import check_location
from careflow_storage.jobs._run.totals import Totals
from careflow_storage.jobs._shard.concurrently import gather_some
from careflow_storage.jobs._shard.storages import Storages
from careflow_storage.jobs.errors import JobError, NoSuchJobError
from careflow_storage.jobs.models import Location, check_job_id
from careflow_storage.jobs.results import JobRecord, JobReport


async def list_jobs(location: Location, max_jobs: int | None = None) -> list[JobRecord]:
    """Return the jobs that a bucket has records of, the newest first.

    1 request per 1000 jobs, and 3 for each that is returned, ``max_jobs`` at most. A job whose
    record cannot be read is listed by its ID alone.
    """
    check_location("location", location)
    if max_jobs is not None and (type(max_jobs) is not int or max_jobs < 0):
        raise InvalidInputError(f"max_jobs must be an int of at least 0, not {max_jobs!r:.100}.")
    async with Storages() as storages:
        storage = await storages.of_records(location)
        folder = await storage.list_folder(JOBS_PREFIX)
        ids = [job_id_at(prefix) for prefix in folder.common_prefixes if is_record(prefix)]
        ids = sorted(ids, reverse=True)[:max_jobs]

        async def read(job_id: str) -> JobRecord | None:
            records = JobRecords(storage, job_id)
            try:
                job, _ = await records.load_job()
                report = await records.load_report()
            except NoSuchJobError:
                return None  # what is left of one that was erased
            except JobError:
                return JobRecord(job_id=job_id, job=None, report=None)
            return JobRecord(job_id=job_id, job=job, report=report)

        found = await gather_some(partial(read, job_id) for job_id in ids)
        return [record for record in found if record is not None]


async def show_job(job_id: str, location: Location) -> JobReport:
    """Return the report of a job; of a job that has not stopped, what its shards have recorded.

    4 requests, and 1 per recorded shard if the job has not stopped.

    Raises:
        NoSuchJobError: The bucket has no such job.
        JobVersionError: Another version of this package has begun it.
    """
    check_job_id(job_id)
    check_location("location", location)
    async with Storages() as storages:
        records = JobRecords(await storages.of_records(location), job_id)
        job, started_at = await records.load_job()
        report = await records.load_report()
        if report is not None:
            return report
        totals = Totals(job, started_at)
        async for result in records.shards():
            totals.add(result)
        return totals.report("unfinished")
