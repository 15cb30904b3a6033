from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from careflow_storage import InvalidInputError, NotConfiguredError
from careflow_storage.jobs import (
    AnyJob,
    CopyJob,
    Location,
    MapJob,
    PurgeJob,
    RetainJob,
    VerifyJob,
)

HERE, THERE = Location(), Location(env_file=Path("other.env"), bucket="copies")
JOBS: list[AnyJob] = [
    CopyJob(source=HERE, target=THERE, prefix="recordings/", rate=400),
    VerifyJob(source=HERE, target=THERE, deep=True),
    PurgeJob(prefix="old/"),
    RetainJob(days=30),
    MapJob(function="careflow_storage.media:make_seekable"),
]


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.kind)
def test_a_job_is_json_in_both_directions(job: AnyJob) -> None:
    adapter: TypeAdapter[AnyJob] = TypeAdapter(AnyJob)

    assert adapter.validate_json(adapter.dump_json(job)) == job


def test_ids_of_jobs_differ() -> None:
    assert len({PurgeJob().job_id for _ in range(100)}) == 100


@pytest.mark.parametrize(
    "bad",
    [
        {"rate": 0},
        {"rate": -1},
        {"rate": float("inf")},
        {"rate": float("nan")},
        {"job_id": "../../other"},
        {"job_id": ""},
        {"shard_keys": 0},
        {"shard_bytes": 0},
        {"prefix": "a\x00b"},
        {"prefix": "a" * 1025},
        {"prefix": "\ud800"},
        {"version": 2},
        {"no_such_option": True},
    ],
    ids=repr,
)
def test_bad_values_are_refused_by_name(bad: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match=next(iter(bad))):
        PurgeJob(**bad)


def test_a_location_reads_its_file_and_ignores_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("BACKBLAZE_KEY_ID", "BACKBLAZE_BUCKET_NAME", "AWS_ACCESS_KEY_ID"):
        monkeypatch.setenv(name, "of-the-environment")
    file = tmp_path / "old.env"
    file.write_text(
        "AWS_ACCESS_KEY_ID=of-the-file\nAWS_SECRET_ACCESS_KEY=secret\n"
        "BACKBLAZE_ENDPOINT=http://127.0.0.1:9000\nBACKBLAZE_BUCKET_NAME=from-here\n"
    )

    settings = Location(env_file=file).settings()

    assert (settings.key_id, settings.bucket_name) == ("of-the-file", "from-here")
    assert Location(env_file=file, bucket="another").settings().bucket_name == "another"


def test_a_location_without_credentials_names_its_file(tmp_path: Path) -> None:
    file = tmp_path / "new.env"
    file.write_text("BACKBLAZE_ENDPOINT=http://127.0.0.1:9000\n")

    with pytest.raises(NotConfiguredError, match=r"BACKBLAZE_KEY_ID.*new\.env"):
        Location(env_file=file).settings()


def test_a_file_that_does_not_exist_is_no_empty_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"nowhere\.env.*does not exist"):
        Location(env_file=tmp_path / "nowhere.env").settings()


@pytest.mark.parametrize(
    ("kind", "bad"),
    [
        (PurgeJob, {"older_than": 365}),
        (PurgeJob, {"older_than": "365"}),
        (PurgeJob, {"older_than": timedelta.max}),
        (PurgeJob, {"before": 0}),
        (RetainJob, {"until": 1}),
        (RetainJob, {"until": datetime.max.replace(tzinfo=UTC)}),
        (RetainJob, {"days": True}),
        (RetainJob, {"legal_hold": 1}),
        (PurgeJob, {"rate": True}),
        (PurgeJob, {"shard_keys": "5"}),
    ],
    ids=repr,
)
def test_numbers_are_no_times_and_no_booleans(kind: Any, bad: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match=next(iter(bad))):
        kind(**bad)


def test_jobs_with_times_are_json_in_both_directions() -> None:
    adapter: TypeAdapter[AnyJob] = TypeAdapter(AnyJob)
    when = datetime(2030, 1, 1, tzinfo=UTC)
    jobs = (PurgeJob(older_than=timedelta(days=365), before=when), RetainJob(until=when))

    assert [adapter.validate_json(adapter.dump_json(job)) for job in jobs] == list(jobs)


def test_a_job_takes_one_function() -> None:
    make: Any = MapJob
    with pytest.raises(TypeError, match="positional argument"):
        make("a:b", "c:d")
    with pytest.raises(TypeError, match="multiple values"):
        make("a:b", function="c:d")
    for bad in (None, 1, ""):
        with pytest.raises(InvalidInputError, match="function"):
            make(bad)


def test_a_retention_without_values_is_refused() -> None:
    retention: Any = {}
    with pytest.raises(InvalidInputError, match="retention"):
        CopyJob(source=HERE, target=THERE, retention=retention)
