"""Jobs that make no sense are refused before the first object."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from careflow_storage import (
    AccessDeniedError,
    InvalidCredentialsError,
    InvalidInputError,
    LocalFileError,
    NoSuchBucketError,
    NotConfiguredError,
    StorageError,
)
from careflow_storage.jobs import (
    CopyJob,
    JobError,
    JobVersionError,
    LocalEngine,
    Location,
    NoSuchJobError,
    list_jobs,
    plan_job,
    resume_job,
    run_job,
    show_job,
)
from careflow_storage.testing import B2Server
from tests.jobs.conftest import TARGET, MakeEngine
from tests.support.jobs import Buckets, fill, location_of, numbered


def objects_read(server: B2Server) -> int:
    reads = [attempt for attempt in server.requests if attempt.operation == "GetObject"]
    return sum(attempt.key.startswith("recordings/") for attempt in reads)


async def test_a_source_that_equals_the_target(buckets: Buckets, server: B2Server) -> None:
    job = CopyJob(source=buckets.source, target=buckets.source, prefix="recordings/")

    with pytest.raises(InvalidInputError, match="source equals the target"):
        await run_job(job)
    assert server.requests == []


@pytest.mark.parametrize(
    ("prefix", "target_prefix"), [("a/", "a/b/"), ("a/b/", "a/"), ("", "copies/"), ("a/", "")]
)
async def test_a_target_inside_the_source(
    buckets: Buckets, server: B2Server, prefix: str, target_prefix: str
) -> None:
    job = CopyJob(
        source=buckets.source, target=buckets.source, prefix=prefix, target_prefix=target_prefix
    )

    with pytest.raises(InvalidInputError, match="overlap in the same bucket"):
        await run_job(job)
    assert server.requests == []


async def test_a_copy_beside_the_source_in_its_bucket_is_fine(buckets: Buckets) -> None:
    await fill(buckets.source_storage, numbered(3))
    job = CopyJob(
        source=buckets.source, target=buckets.source, prefix="recordings/", target_prefix="copies/"
    )

    report = await run_job(job)

    assert report.objects == 3
    copies = await buckets.source_storage.list_files("copies/")
    assert [file.key for file in copies] == [
        key.replace("recordings/", "copies/") for key in numbered(3)
    ]


async def test_one_bucket_under_two_names_of_its_server(
    buckets: Buckets, server: B2Server, tmp_path: Path
) -> None:
    await fill(buckets.source_storage, numbered(3))
    other_name = server.endpoint.replace("127.0.0.1", "localhost")
    target = location_of(server.settings(endpoint=other_name), tmp_path / "same.env")

    with pytest.raises(InvalidInputError, match="source equals the target"):
        await run_job(CopyJob(source=buckets.source, target=target, prefix="recordings/"))

    assert objects_read(server) == 0
    assert await list_jobs(target) == []


async def test_a_prefix_within_the_records_of_a_job(buckets: Buckets) -> None:
    job = buckets.copy()

    with pytest.raises(InvalidInputError, match="records of a job"):
        await run_job(buckets.copy(f"jobs/{job.job_id}/"))
    with pytest.raises(InvalidInputError, match="records of a job"):
        await run_job(buckets.copy(target_prefix=f"jobs/{job.job_id}/shards/"))


async def test_no_job_copies_records_of_jobs(buckets: Buckets) -> None:
    own = numbered(3) | {"jobs/notes.txt": b"of the user"}
    await fill(buckets.source_storage, own)
    back = CopyJob(source=buckets.target, target=buckets.source)
    first = await run_job(buckets.copy(""))

    second = await run_job(back)
    third = await run_job(buckets.copy(""))

    assert (first.objects, second.objects, third.objects) == (4, 0, 0)
    assert (second.skipped, third.skipped) == (4, 4)


async def test_no_copy_becomes_a_record_of_a_job(buckets: Buckets) -> None:
    await fill(buckets.source_storage, {f"x{name}": b"{}" for name in ("1", "20260131")})
    job_id = "20260131T235959-0123abcd"
    await fill(buckets.source_storage, {f"x{job_id}/job.json": b"{}"})
    job = buckets.copy("x", target_prefix="jobs/")

    plan = await plan_job(job)
    report = await run_job(job)

    for seen in (plan, report):
        assert (seen.objects, seen.error_kinds) == (2, {"InvalidInputError": 1})
    assert [record.job_id for record in await list_jobs(buckets.target)] == [job.job_id]


@pytest.mark.parametrize(
    "option",
    [
        {"content_type": "a\0b"},
        {"cache_control": "\ud800"},
        {"content_disposition": "a\r\nb"},
        {"metadata": {"a\nb": "x"}},
        {"metadata": {"name": "x" * 5000}},
    ],
    ids=lambda option: next(iter(option)),
)
async def test_headers_that_no_copy_can_have(
    buckets: Buckets, server: B2Server, option: dict[str, Any]
) -> None:
    for call in (run_job, plan_job):
        with pytest.raises(InvalidInputError, match=next(iter(option))):
            await call(buckets.copy(**option))
    assert server.requests == []


@pytest.mark.parametrize("wrong", ["text", 0, [], LocalEngine], ids=repr)
async def test_arguments_of_another_type(buckets: Buckets, server: B2Server, wrong: Any) -> None:
    job, job_id = buckets.copy(), "20260131T235959-0123abcd"
    for call in (run_job, plan_job):
        with pytest.raises(InvalidInputError, match="job must be"):
            await call(wrong)
        with pytest.raises(InvalidInputError, match="engine must be"):
            await call(job, engine=wrong)
    if not callable(wrong):
        with pytest.raises(InvalidInputError, match="progress must be"):
            await run_job(job, progress=wrong)
    for records in (
        list_jobs(wrong),
        show_job(job_id, wrong),
        resume_job(job_id, wrong),
    ):
        with pytest.raises(InvalidInputError, match="location must be"):
            await records
    with pytest.raises(InvalidInputError, match="source must be"):
        await resume_job(job_id, buckets.target, source=wrong)
    assert server.requests == []


@pytest.mark.parametrize("most", [-1, True, 1.5, "1"], ids=repr)
async def test_numbers_of_jobs_that_make_no_sense(buckets: Buckets, most: Any) -> None:
    with pytest.raises(InvalidInputError, match="max_jobs"):
        await list_jobs(buckets.target, most)


async def test_a_damaged_record_does_not_hide_other_jobs(buckets: Buckets) -> None:
    job = buckets.copy()
    await run_job(job)
    damaged = "20260131T235959-0123abcd"
    await fill(buckets.target_storage, {f"jobs/{damaged}/job.json": b"{"})

    records = await list_jobs(buckets.target)

    assert {record.job_id: record.job for record in records} == {job.job_id: job, damaged: None}


async def test_a_keys_file_that_no_system_can_open(buckets: Buckets) -> None:
    with pytest.raises(InvalidInputError, match="not allowed in a file name"):
        await run_job(buckets.copy(keys_file=Path("a\0b")))


async def test_an_engine_that_another_job_uses(buckets: Buckets, make_engine: MakeEngine) -> None:
    await fill(buckets.source_storage, numbered(3))
    engine, first = make_engine(), buckets.copy()
    async with engine:
        with pytest.raises(InvalidInputError, match="Another job uses this engine"):
            await run_job(first, engine=engine)

    # Nothing of it was recorded.
    report = await run_job(first, engine=engine)

    assert (report.state, report.objects) == ("finished", 3)


async def test_an_unknown_job_id(buckets: Buckets) -> None:
    for call in (show_job, resume_job):
        with pytest.raises(NoSuchJobError, match="no job 20260101T000000-00000000"):
            await call("20260101T000000-00000000", buckets.target)
    with pytest.raises(InvalidInputError, match="job_id"):
        await show_job("../job", buckets.target)


async def test_a_job_that_was_begun_already(buckets: Buckets) -> None:
    job = buckets.copy()
    await run_job(job)

    with pytest.raises(JobError, match=r"already.*resume_job"):
        await run_job(job)


@pytest.mark.parametrize("name", ["job.json", "shards/1.json"])
async def test_a_record_of_another_version(buckets: Buckets, name: str) -> None:
    await fill(buckets.source_storage, numbered(3))
    job = buckets.copy()
    await run_job(job)
    record = json.dumps({"version": 2, "kind": "teleport"}).encode()
    await buckets.target_storage.upload_file(f"jobs/{job.job_id}/{name}", record)

    with pytest.raises(JobVersionError, match="version 2, and this release reads 1"):
        await resume_job(job.job_id, buckets.target)
    [listed] = await list_jobs(buckets.target)
    assert listed.job_id == job.job_id


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b"{}", b'{"kind": "copy"}'], ids=repr)
async def test_a_damaged_record(buckets: Buckets, content: bytes) -> None:
    job = buckets.copy()
    await buckets.target_storage.upload_file(f"jobs/{job.job_id}/job.json", content)

    with pytest.raises(JobError, match=r"cannot be read.*job\.json"):
        await resume_job(job.job_id, buckets.target)


@pytest.mark.parametrize("side", ["source", "target"])
async def test_missing_credentials_on_one_side(
    buckets: Buckets, server: B2Server, tmp_path: Path, side: str
) -> None:
    file = tmp_path / "half.env"
    file.write_text(f"BACKBLAZE_ENDPOINT={server.endpoint}\nBACKBLAZE_BUCKET_NAME={TARGET}\n")
    job = buckets.copy().model_copy(update={side: Location(env_file=file)})

    with pytest.raises(NotConfiguredError, match=r"half\.env"):
        await run_job(job)
    assert server.requests == []


@pytest.mark.parametrize("side", ["source", "target"])
async def test_a_wrong_key_on_one_side(
    buckets: Buckets, server: B2Server, tmp_path: Path, side: str
) -> None:
    await fill(buckets.source_storage, numbered(3))
    key = server.create_key()
    server.delete_key(key)
    bucket = server.bucket if side == "source" else TARGET
    settings = server.settings(key=key, bucket_name=bucket)
    location = location_of(settings, tmp_path / "old.env")
    job = buckets.copy().model_copy(update={side: location})

    with pytest.raises(InvalidCredentialsError):
        await run_job(job)
    assert objects_read(server) == 0


@pytest.mark.parametrize("side", ["source", "target"])
async def test_a_bucket_that_does_not_exist(
    buckets: Buckets, server: B2Server, tmp_path: Path, side: str
) -> None:
    settings = server.settings(bucket_name="no-such-bucket")
    location = location_of(settings, tmp_path / "none.env")
    job = buckets.copy().model_copy(update={side: location})

    with pytest.raises(NoSuchBucketError):
        await run_job(job)


async def test_a_target_that_takes_no_files_is_refused_before_the_first_object(
    buckets: Buckets, server: B2Server, tmp_path: Path
) -> None:
    await fill(buckets.source_storage, numbered(3))
    key = server.create_key(capabilities={"listBuckets", "listFiles", "readFiles"})
    target = location_of(server.settings(key=key, bucket_name=TARGET), tmp_path / "read.env")

    with pytest.raises(AccessDeniedError):
        await run_job(buckets.copy(target=target))
    assert objects_read(server) == 0


async def test_a_clock_that_is_an_hour_off(buckets: Buckets, server: B2Server) -> None:
    await fill(buckets.source_storage, numbered(3))
    server.clock_skew = timedelta(hours=1)

    with pytest.raises(StorageError, match="clock"):
        await run_job(buckets.copy())
    assert objects_read(server) == 0


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "keys.txt"),
        (b"\xff\xfe", "UTF-8"),
        (b"\n\n", "no keys"),
        (b"recordings/a\nelsewhere/b\n", "does not begin with the prefix"),
    ],
    ids=["missing", "not-text", "empty", "outside"],
)
async def test_a_file_of_keys_that_is_none(
    buckets: Buckets, server: B2Server, tmp_path: Path, content: bytes | None, problem: str
) -> None:
    file = tmp_path / "keys.txt"
    if content is not None:
        file.write_bytes(content)

    for call in (run_job, plan_job):
        with pytest.raises((InvalidInputError, LocalFileError), match=problem):
            await call(buckets.copy(keys_file=file))
    assert server.requests == []
