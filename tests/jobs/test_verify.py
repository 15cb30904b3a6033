from __future__ import annotations

from typing import Any

import pytest

from careflow_storage.jobs import JobReport, ObjectError, resume_job, run_job
from tests.jobs.conftest import MakeEngine
from tests.support.jobs import Buckets, errors_of, fill, numbered


async def found(buckets: Buckets, report: JobReport) -> dict[str, str]:
    errors = await errors_of(buckets.target_storage, report)
    return {error.key: error.kind for error in errors}


async def test_finds_what_is_missing_on_either_side_and_what_differs(
    buckets: Buckets, make_engine: MakeEngine
) -> None:
    bodies = numbered(12)
    keys = list(bodies)
    await fill(buckets.source_storage, bodies)
    changed = bodies | {keys[2]: b"x" * len(bodies[keys[2]]), keys[5]: b"longer than that"}
    del changed[keys[0]], changed[keys[11]]
    await fill(buckets.target_storage, changed | {"recordings/zz": b"extra", "elsewhere": b""})

    report = await run_job(buckets.verify(), engine=make_engine())

    assert await found(buckets, report) == {
        keys[0]: "MissingOnTarget",
        keys[2]: "ContentDiffers",
        keys[5]: "SizeDiffers",
        keys[11]: "MissingOnTarget",
        "recordings/zz": "MissingOnSource",
    }
    assert (report.state, report.objects, report.errors) == ("finished", 8, 5)
    assert report.error_kinds == {
        "MissingOnTarget": 2,
        "ContentDiffers": 1,
        "SizeDiffers": 1,
        "MissingOnSource": 1,
    }


async def test_equal_buckets_cost_one_listing_of_each_side(buckets: Buckets) -> None:
    await fill(buckets.source_storage, numbered(30))
    await fill(buckets.target_storage, numbered(30))

    report = await run_job(buckets.verify(shard_keys=1000))

    assert (report.objects, report.errors) == (30, 0)
    assert report.requests["source"]["ListObjectsV2"] == 2
    assert report.requests["target"]["ListObjectsV2"] == 1


async def test_under_another_prefix(buckets: Buckets) -> None:
    await fill(buckets.source_storage, numbered(7))
    await fill(buckets.target_storage, numbered(7, "moved/"))

    report = await run_job(buckets.verify(target_prefix="moved/"))

    assert (report.objects, report.errors) == (7, 0)


async def test_deep_compares_bytes_where_sizes_and_etags_agree(buckets: Buckets) -> None:
    bodies = {"recordings/same": b"a" * 300_000, "recordings/empty": b""}
    await fill(buckets.source_storage, bodies)
    await fill(buckets.target_storage, bodies)

    report = await run_job(buckets.verify(deep=True))

    assert (report.objects, report.bytes, report.errors) == (2, 300_000, 0)
    assert report.requests["source"]["GetObject"] == 2


async def test_a_file_of_keys_is_verified_one_by_one(buckets: Buckets, tmp_path: Any) -> None:
    bodies = numbered(9)
    keys = list(bodies)
    await fill(buckets.source_storage, bodies)
    await fill(buckets.target_storage, bodies | {keys[3]: b"other size"})
    file = tmp_path / "keys.txt"
    file.write_text("\n".join([*keys[2:5], "recordings/none"]))

    report = await run_job(buckets.verify(keys_file=file, shard_keys=2))

    assert await found(buckets, report) == {
        keys[3]: "SizeDiffers",
        "recordings/none": "MissingOnSource",
    }
    assert report.objects == 2


async def test_the_errors_of_a_verification_are_what_a_copy_has_to_do(
    buckets: Buckets, tmp_path: Any
) -> None:
    bodies = numbered(10)
    await fill(buckets.source_storage, bodies)
    await fill(buckets.target_storage, dict(list(bodies.items())[:6]))
    verified = await run_job(buckets.verify(shard_keys=100))
    [error_file] = verified.error_files
    file = tmp_path / "errors.jsonl"
    await buckets.target_storage.download_file(error_file, file)

    copied = await run_job(buckets.copy(keys_file=file))
    again = await resume_job(verified.job.job_id, buckets.target)

    assert copied.objects == 4
    assert await buckets.copies() == bodies
    assert (again.state, again.objects, again.errors) == ("finished", 10, 0)


@pytest.mark.parametrize("deep", [False, True])
async def test_an_error_of_one_object_is_in_the_report(
    buckets: Buckets, deep: bool, server: Any
) -> None:
    await fill(buckets.source_storage, {"recordings/a": b"1", "recordings/b": b"2"})
    await fill(buckets.target_storage, {"recordings/a": b"1", "recordings/b": b"3"})
    server.faults.always(key="^recordings/b", status=403, code="AccessDenied")

    report = await run_job(buckets.verify(deep=deep))

    [error] = await errors_of(buckets.target_storage, report)
    assert isinstance(error, ObjectError)
    assert (error.key, error.kind, error.status) == ("recordings/b", "AccessDeniedError", 403)
    assert report.objects == 1
