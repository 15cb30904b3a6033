"""Objects that fail, vanish or are refused: the report says so, and the rest goes on."""

from __future__ import annotations

import asyncio

import pytest

from careflow_storage import AccessDeniedError, StorageError
from careflow_storage.jobs import JobError, JobProgress, LocalEngine, resume_job, run_job, show_job
from careflow_storage.testing import B2Server
from tests.jobs.conftest import TARGET, MakeEngine
from tests.support.jobs import Buckets, errors_of, fill, numbered

KEY = "recordings/CA0007/call.webm"
FAULTS = [
    pytest.param("GetObject", {"status": 403, "code": "AccessDenied"}, "AccessDeniedError"),
    pytest.param("GetObject", {"status": 404, "code": "NoSuchKey"}, "NoSuchKeyError"),
    pytest.param("GetObject", {"corrupt": 0}, "ChecksumMismatchError"),
    pytest.param("PutObject", {"status": 403, "code": "AccessDenied"}, "AccessDeniedError"),
    pytest.param("PutObject", {"status": 503, "code": "SlowDown"}, "ServiceUnavailableError"),
    pytest.param("PutObject", {"status": 500, "code": "InternalError"}, "ServiceUnavailableError"),
    pytest.param("PutObject", {"status": 400, "code": "InvalidRequest"}, "TransferError"),
    pytest.param("PutObject", {"cut": "rst"}, "ConnectionFailedError"),
]


@pytest.mark.parametrize(("operation", "fault", "kind"), FAULTS)
async def test_one_object_fails_and_a_resume_copies_it(
    buckets: Buckets,
    server: B2Server,
    make_engine: MakeEngine,
    operation: str,
    fault: dict[str, object],
    kind: str,
) -> None:
    bodies = numbered(12)
    await fill(buckets.source_storage, bodies)
    server.faults.always(operation, key=KEY, **fault)
    job = buckets.copy()

    report = await run_job(job, engine=make_engine())

    assert (report.state, report.objects, report.error_kinds) == ("finished", 11, {kind: 1})
    [error] = await errors_of(buckets.target_storage, report)
    assert (error.key, error.kind) == (KEY, kind)
    assert "secret" not in error.message

    server.faults.clear()
    again = await resume_job(job.job_id, buckets.target, engine=make_engine())

    assert (again.state, again.objects, again.errors) == ("finished", 12, 0)
    assert await buckets.copies() == bodies
    assert server.incomplete_uploads() == []


async def test_a_key_that_the_target_refuses_is_listed(buckets: Buckets) -> None:
    await fill(buckets.source_storage, {"a/" + "k" * 1000: b"long", "a/short": b"fits"})

    report = await run_job(buckets.copy("a/", target_prefix="much-longer-prefix/" * 3))

    [error] = await errors_of(buckets.target_storage, report)
    assert (error.key, error.kind) == ("a/" + "k" * 1000, "InvalidInputError")
    assert report.objects == 1


async def test_objects_are_replaced_kept_or_reported_as_the_job_says(buckets: Buckets) -> None:
    bodies = numbered(4)
    keys = list(bodies)
    await fill(buckets.source_storage, bodies)
    await fill(buckets.target_storage, {keys[1]: b"different", keys[2]: b"!"})

    kept = await run_job(buckets.copy(if_exists="return"))
    reported = await run_job(buckets.copy(if_exists="error"))
    replaced = await run_job(buckets.copy(if_exists="replace"))

    assert (kept.objects, kept.skipped, kept.errors) == (2, 2, 0)
    assert (reported.objects, reported.skipped, reported.errors) == (0, 2, 2)
    assert reported.error_kinds == {"PreconditionFailedError": 2}
    assert (replaced.objects, replaced.skipped, replaced.errors) == (2, 2, 0)
    assert await buckets.copies() == bodies


async def test_a_target_that_refuses_everything_stops_the_job(
    buckets: Buckets, server: B2Server
) -> None:
    bodies = numbered(40)
    await fill(buckets.source_storage, bodies)
    server.faults.always("PutObject", key="^recordings/", status=403, code="AccessDenied")
    job = buckets.copy(shard_keys=10)

    with pytest.raises(JobError, match=r"refused \d+ objects in succession"):
        await run_job(job)

    stopped = await show_job(job.job_id, buckets.target)
    assert (stopped.state, stopped.objects) == ("stopped", 0)
    assert stopped.stopped_by is not None
    server.faults.clear()
    report = await resume_job(job.job_id, buckets.target)
    assert (report.state, report.objects, report.errors) == ("finished", 40, 0)
    assert await buckets.copies() == bodies


@pytest.mark.parametrize("cap", ["storage", "download"])
async def test_a_cap_of_the_account_stops_the_job(
    buckets: Buckets, server: B2Server, cap: str
) -> None:
    await fill(buckets.source_storage, numbered(20))
    job = buckets.copy()

    def use_up(progress: JobProgress) -> None:
        if progress.objects:
            server.capped = [cap]

    with pytest.raises(StorageError, match="resume_job continues it"):
        await run_job(job, engine=LocalEngine(shards=1), progress=use_up)
    server.capped = []

    report = await resume_job(job.job_id, buckets.target)
    assert report.objects + report.skipped == 20
    assert report.errors == 0


async def test_a_cancelled_job_goes_on_where_it_was(
    buckets: Buckets, server: B2Server, make_engine: MakeEngine
) -> None:
    bodies = numbered(30)
    await fill(buckets.source_storage, bodies)
    job = buckets.copy(shard_keys=3)
    hanging = server.faults.next("PutObject", key="CA0025", cut="hang")

    task = asyncio.create_task(run_job(job, engine=make_engine()))
    await hanging.fired.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    server.faults.clear()

    stopped = await show_job(job.job_id, buckets.target)
    assert (stopped.state, stopped.stopped_by) == ("stopped", "CancelledError")
    report = await resume_job(job.job_id, buckets.target, engine=make_engine())
    assert (report.state, report.errors) == ("finished", 0)
    assert report.objects + report.skipped == 30
    assert await buckets.copies() == bodies
    versions = [version.key for version in server.versions(bucket=TARGET)]
    assert sorted(key for key in versions if key.startswith("recordings/")) == list(bodies)


async def test_storms_of_slow_down_end_well(buckets: Buckets, server: B2Server) -> None:
    bodies = numbered(20)
    await fill(buckets.source_storage, bodies)
    server.faults.random(0.3, kinds=("slow_down", "busy", "reset", "lost_response"))

    report = await run_job(buckets.copy())

    server.faults.clear()
    assert (report.state, report.errors) == ("finished", 0)
    assert await buckets.copies() == bodies


async def test_an_exception_of_the_progress_stops_the_job(buckets: Buckets) -> None:
    await fill(buckets.source_storage, numbered(20))
    job = buckets.copy()

    async def fail(progress: JobProgress) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await run_job(job, progress=fail)

    assert (await show_job(job.job_id, buckets.target)).stopped_by == "ZeroDivisionError"
    report = await resume_job(job.job_id, buckets.target)
    assert report.objects + report.skipped == 20


async def test_a_listing_that_fails_stops_the_job_with_its_own_error(
    buckets: Buckets, server: B2Server
) -> None:
    await fill(buckets.source_storage, numbered(30))
    refused = server.faults.next(
        "ListObjectsV2", path="max-keys=5&", status=403, code="AccessDenied", times=100
    )
    job = buckets.copy()

    with pytest.raises(AccessDeniedError, match="resume_job continues it"):
        await run_job(job)

    assert refused.hits
    server.faults.clear()
    assert (await resume_job(job.job_id, buckets.target)).objects == 30


async def test_a_long_pause_that_the_server_asks_for_is_kept(
    buckets: Buckets, server: B2Server
) -> None:
    # Longer than `retry_max_delay`: without the job's rate limit the object would fail.
    await fill(buckets.source_storage, numbered(8))
    server.faults.next(
        "PutObject", key="^recordings/", status=503, code="SlowDown", retry_after=1, times=3
    )

    report = await run_job(buckets.copy())

    assert (report.objects, report.errors) == (8, 0)


async def test_a_source_that_vanishes_in_mid_copy(buckets: Buckets, server: B2Server) -> None:
    body = bytes(range(256)) * 2000
    await fill(buckets.source_storage, numbered(6) | {"recordings/gone": body})
    cut = server.faults.next("GetObject", key="gone", cut="hang", at=("body", 100_000))
    job = buckets.copy()

    task = asyncio.create_task(run_job(job))
    await cut.fired.wait()
    await buckets.source_storage.purge_file("recordings/gone")
    server.faults.clear()
    report = await task

    [error] = await errors_of(buckets.target_storage, report)
    assert (error.key, error.kind) == ("recordings/gone", "NoSuchKeyError")
    assert report.objects == 6
    assert await buckets.copies() == numbered(6)
