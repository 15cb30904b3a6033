"""Runs of a job: one at a time, counted while they run, and without a record if they make none."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from careflow_storage import BackblazeStorage, InvalidInputError
from careflow_storage.jobs import (
    JobError,
    JobProgress,
    LocalEngine,
    PurgeJob,
    list_jobs,
    plan_job,
    resume_job,
    run_job,
    show_job,
)
from careflow_storage.testing import B2Server
from tests.jobs.conftest import MakeEngine
from tests.jobs.test_map import Place
from tests.support import map_functions
from tests.support.jobs import fill, numbered


@pytest.fixture
async def place(server: B2Server, tmp_path: Path) -> AsyncIterator[Place]:
    async with BackblazeStorage(server.settings()) as storage:
        await fill(storage, numbered(6))
        yield Place(storage, tmp_path / "place.env")


async def test_one_job_runs_once_at_a_time_in_a_process(place: Place) -> None:
    job = place.job("nothing")
    first, second = await asyncio.gather(run_job(job), run_job(job), return_exceptions=True)
    assert isinstance(second, JobError)
    assert "runs in this process already" in str(second)
    assert not isinstance(first, BaseException)
    assert first.objects == 6
    # When it has ended, its record refuses it, as it does in other processes.
    with pytest.raises(JobError, match="has a job"):
        await run_job(job)
    again = await asyncio.gather(
        *(resume_job(job.job_id, place.location) for _ in range(2)), return_exceptions=True
    )
    assert sorted(isinstance(each, JobError) for each in again) == [False, True]


async def test_objects_count_when_they_are_done_not_when_their_shard_is(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last progress of a job that is cancelled within its only shard."""
    reached = asyncio.Event()
    monkeypatch.setattr(map_functions, "reached", reached)
    seen: list[JobProgress] = []
    job = place.job("three_then_wait", concurrency=1)
    run = asyncio.create_task(run_job(job, progress=seen.append))
    await reached.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert (seen[-1].objects, seen[-1].shards_finished) == (3, 0)
    # The shard is not recorded: a resume does its objects again.
    assert (await show_job(job.job_id, place.location)).objects == 0


async def test_progress_never_falls(place: Place) -> None:
    seen: list[JobProgress] = []
    job = place.job("nothing", shard_keys=2)
    await run_job(job, progress=seen.append)
    counts = [each.objects for each in seen]
    assert counts == sorted(counts)
    assert counts[-1] == 6


@pytest.mark.parametrize("function", ["os:nope", "no.such.module:f", "os:getcwd"])
async def test_a_function_that_no_worker_can_call_leaves_no_record(
    place: Place, make_engine: MakeEngine, function: str
) -> None:
    job = place.job("nothing").model_copy(update={"function": function})
    with pytest.raises(InvalidInputError, match=function):
        await run_job(job, engine=make_engine())
    assert await list_jobs(place.location) == []
    assert await place.storage.list_files("jobs/") == []
    # The same job can run when the mistake is mended.
    mended = job.model_copy(update={"function": place.job("nothing").function})
    assert (await run_job(mended, engine=make_engine())).objects == 6


async def test_a_resume_has_the_rate_that_it_is_given(place: Place) -> None:
    job = place.job("nothing", rate=50.0)
    await run_job(job)
    assert (await resume_job(job.job_id, place.location)).job.rate == 50.0
    report = await resume_job(job.job_id, place.location, rate=7.0, engine=LocalEngine())
    assert report.job.rate == 7.0
    with pytest.raises(InvalidInputError, match="rate"):
        await resume_job(job.job_id, place.location, rate=0.0)


@pytest.mark.parametrize(
    ("keys", "note"),
    [
        (["jobs/20260131T235959-0123abcd/job.json"], "1 of the 1 keys in .* is a record of jobs"),
        (["jobs/20260131T235959-0123abcd/job.json"] * 2 + ["a", "b"], "1 of the 3 keys"),
        (
            [f"jobs/20260131T235959-0123abcd/{name}" for name in "ab"],
            "2 of the 2 keys in .* are records",
        ),
    ],
)
async def test_keys_that_are_records_of_jobs_are_left_out_and_the_report_says_so(
    place: Place, tmp_path: Path, keys: list[str], note: str
) -> None:
    file = tmp_path / "keys.txt"
    file.write_text("\n".join(keys))
    job = PurgeJob(location=place.location, keys_file=file)
    for report in (await plan_job(job), await run_job(job)):
        assert report.objects == 0
        (found,) = report.notes
        assert re.search(note, found)
