"""Versions are erased by age and kind; what is locked, younger or hidden stays as it is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from careflow_storage import (
    AccessDeniedError,
    BackblazeStorage,
    InvalidInputError,
    Retention,
    StorageSettings,
)
from careflow_storage._s3.requests import versions as version_listing
from careflow_storage.jobs import JobReport, Location, PurgeJob, plan_job, resume_job, run_job
from careflow_storage.testing import B2Server
from tests.jobs.conftest import MakeEngine
from tests.support.jobs import location_of

pytest_plugins = ["careflow_storage.testing.plugin"]

LATER = datetime.now(UTC) + timedelta(days=30)


class Place:
    """A bucket: its location, and an open storage."""

    def __init__(self, storage: BackblazeStorage, file: Path) -> None:
        self.storage = storage
        self.location = location_of(storage.settings, file)

    def job(self, **options: Any) -> PurgeJob:
        return PurgeJob(location=self.location, **options)

    async def store(self, key: str, versions: int = 1, *, hide: bool = False) -> list[str]:
        """Store versions, the oldest first, and hide the file; return the IDs."""
        ids = [(await self.storage.upload_file(key, b"body")).version_id for _ in range(versions)]
        if hide:
            ids.append((await self.storage.delete_file(key)).version_id)
        return [str(version_id) for version_id in ids]

    async def left(self, prefix: str = "") -> list[tuple[str, str]]:
        """Key and version ID of all versions and delete markers but records of jobs."""
        versions = await self.storage.admin.list_file_versions(prefix)
        return [
            (version.key, str(version.version_id))
            for version in versions
            if not version.key.startswith("jobs/")
        ]


@pytest.fixture(
    params=["b2_settings", pytest.param("seaweed_settings", marks=pytest.mark.integration)]
)
async def both(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    """A bucket on B2's emulator, then on a real server."""
    async with BackblazeStorage(request.getfixturevalue(request.param)) as storage:
        yield Place(storage, tmp_path / "both.env")


@pytest.fixture
async def place(b2_settings: StorageSettings, tmp_path: Path) -> AsyncIterator[Place]:
    async with BackblazeStorage(b2_settings) as storage:
        yield Place(storage, tmp_path / "place.env")


def counts(report: JobReport) -> tuple[int, int, int, dict[str, int]]:
    return report.objects, report.skipped, report.errors, report.details


# --- what is erased ---------------------------------------------------------------------


async def test_all_versions_and_delete_markers_go(both: Place, make_engine: MakeEngine) -> None:
    await both.store("calls/a", 3)
    await both.store("calls/b", 2, hide=True)
    kept = await both.store("other", 2)

    report = await run_job(both.job(prefix="calls/"), engine=make_engine())

    assert await both.left() == [("other", version_id) for version_id in reversed(kept)]
    assert counts(report) == (2, 0, 0, {"versions": 5, "delete_markers": 1})
    assert report.bytes == 5 * len(b"body")
    assert report.state == "finished"


async def test_noncurrent_versions_go_and_every_file_looks_as_before(both: Place) -> None:
    *_, newest = await both.store("a", 3)
    *_, marker = await both.store("b", 2, hide=True)
    (alone,) = await both.store("c")

    report = await run_job(both.job(versions="noncurrent"))

    assert await both.left() == [("a", newest), ("b", marker), ("c", alone)]
    assert counts(report) == (2, 1, 0, {"versions": 4})


async def test_current_versions_go_and_hidden_files_stay_hidden(both: Place) -> None:
    first, *_ = await both.store("a", 2)
    one, two, marker = await both.store("b", 2, hide=True)

    report = await run_job(both.job(versions="current"))

    assert await both.left() == [("a", first), ("b", marker), ("b", two), ("b", one)]
    assert counts(report) == (1, 1, 0, {"versions": 1})


async def test_what_is_younger_than_the_age_stays(place: Place, b2_server: B2Server) -> None:
    # The server dates what is stored by its own clock, and so does the job.
    await place.store("old")
    b2_server.clock_skew = timedelta(minutes=10)
    job = place.job(older_than=timedelta(minutes=5))
    assert (await plan_job(job)).objects == 1
    b2_server.clock_skew = timedelta()

    report = await run_job(job)

    assert counts(report) == (0, 1, 0, {})
    assert len(await place.left()) == 1
    assert isinstance(report.job, PurgeJob)
    assert report.job.before is not None


async def test_a_time_in_place_of_an_age(place: Place) -> None:
    await place.store("a")
    before = datetime.now(UTC)
    report = await run_job(place.job(before=before - timedelta(hours=1)))
    assert counts(report) == (0, 1, 0, {})
    report = await run_job(place.job(before=before + timedelta(hours=1)))
    assert counts(report) == (1, 0, 0, {"versions": 1})


async def test_small_shards_and_pages_erase_the_same(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(version_listing, "PAGE_VERSIONS", 3)
    for number in range(12):
        await place.store(f"calls/{number:02}", 1 + number % 5, hide=number % 2 == 0)
    versions = sum(1 + number % 5 for number in range(12))

    plan = await plan_job(place.job(shard_keys=2))
    report = await run_job(place.job(shard_keys=2))

    assert await place.left() == []
    assert counts(report) == (12, 0, 0, {"versions": versions, "delete_markers": 6})
    assert counts(plan) == counts(report)
    assert report.shards > 4


@pytest.mark.integration
async def test_small_shards_on_a_real_server(
    seaweed_settings: StorageSettings, tmp_path: Path
) -> None:
    async with BackblazeStorage(seaweed_settings) as storage:
        place = Place(storage, tmp_path / "place.env")
        async with asyncio.TaskGroup() as group:
            for number in range(30):
                group.create_task(
                    place.store(f"calls/CA{number:02}/call.webm", 2, hide=number % 3 == 0)
                )

        plan = await plan_job(place.job(shard_keys=4))
        report = await run_job(place.job(shard_keys=4))

        assert await place.left() == []
        assert counts(report) == (30, 0, 0, {"versions": 60, "delete_markers": 10})
        assert counts(plan) == counts(report)


async def test_what_is_stored_after_the_listing_stays(place: Place, b2_server: B2Server) -> None:
    await place.store("a")
    rule = b2_server.faults.next("DeleteObjects", cut="hang")

    async with asyncio.TaskGroup() as group:
        job = group.create_task(run_job(place.job()))
        await rule.fired.wait()
        (newest,) = await place.store("a")
        rule.release.set()

    assert await place.left() == [("a", newest)]
    assert job.result().details == {"versions": 1}


async def test_records_of_jobs_stay(place: Place) -> None:
    await place.store("a")
    first = await run_job(place.job())
    second = await run_job(place.job())
    assert (first.objects, second.objects) == (1, 0)
    records = await place.storage.list_files("jobs/")
    assert any(first.job.job_id in record.key for record in records)


async def test_keys_of_a_file(both: Place, tmp_path: Path) -> None:
    await both.store("a", 2)
    await both.store("a/b")
    await both.store("b", 1, hide=True)
    await both.store("c")
    keys = tmp_path / "keys.txt"
    keys.write_text("b\na\nnowhere\r\n\n")

    report = await run_job(both.job(keys_file=keys))

    assert [key for key, _ in await both.left()] == ["a/b", "c"]
    assert counts(report) == (2, 0, 0, {"versions": 3, "delete_markers": 1})


async def test_a_given_key_with_more_versions_than_a_page(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(version_listing, "PAGE_VERSIONS", 3)
    await place.store("a", 8, hide=True)
    await place.store("b", 3)
    await place.store("c", 1)
    keys = tmp_path / "keys.txt"
    keys.write_text("a\nb\n")

    report = await run_job(place.job(keys_file=keys))

    assert [key for key, _ in await place.left()] == ["c"]
    assert report.details == {"versions": 11, "delete_markers": 1}


# --- the plan ---------------------------------------------------------------------------


async def test_a_plan_counts_what_the_job_would_erase_and_changes_nothing(both: Place) -> None:
    await both.store("a", 3)
    await both.store("b", 1, hide=True)
    before = await both.left()

    plan = await plan_job(both.job())

    assert await both.left() == before
    assert not await both.storage.list_files("jobs/")
    assert counts(plan) == (2, 0, 0, {"versions": 4, "delete_markers": 1})
    assert plan.bytes == 4 * len(b"body")
    assert plan.state == "planned"
    assert plan.oldest is not None
    assert plan.newest is not None
    assert plan.oldest <= plan.newest
    assert "DeleteObjects" not in plan.requests["location"]


async def test_a_thousand_versions_cost_two_requests(place: Place) -> None:
    for number in range(30):
        await place.store(f"{number:02}")
    report = await run_job(place.job())
    requests = report.requests["location"]
    assert (requests["ListObjectVersions"], requests["DeleteObjects"]) == (1, 1)


async def test_a_clock_that_differs_is_noted_before_anything_is_erased(
    place: Place, b2_server: B2Server, caplog: pytest.LogCaptureFixture
) -> None:
    b2_server.clock_skew = timedelta(minutes=-10)
    plan = await plan_job(place.job(older_than=timedelta(days=1)))
    (note,) = plan.notes
    assert "10 min ahead of the server's" in note
    assert note in caplog.text
    assert "PutObject" not in plan.requests["location"]


# --- locks ------------------------------------------------------------------------------


@pytest.fixture
async def locking(place: Place) -> Place:
    await place.storage.admin.set_object_lock()
    return place


async def lock(place: Place, key: str, version_id: str) -> None:
    retention = Retention(mode="governance", retain_until=LATER)
    await place.storage.admin.set_retention(key, retention, version_id=version_id)


async def test_a_locked_version_stays_and_is_reported(locking: Place) -> None:
    one, _, _ = await locking.store("a", 3)
    await lock(locking, "a", one)
    await locking.store("b")

    plan = await plan_job(locking.job())
    report = await run_job(locking.job())

    assert await locking.left() == [("a", one)]
    for each in (plan, report):
        assert each.details == {"versions": 3, "locked_versions": 1}
        assert each.objects == 2
    assert report.state == "finished"
    assert report.error_kinds == {"FileLockedError": 1}
    assert plan.error_kinds == {}


async def test_a_hidden_file_with_a_locked_version_stays_hidden(locking: Place) -> None:
    one, marker = await locking.store("a", 1, hide=True)
    await lock(locking, "a", one)

    report = await run_job(locking.job())

    assert await locking.left() == [("a", marker), ("a", one)]
    assert report.details == {"locked_versions": 1, "delete_markers_kept": 1}
    assert not await locking.storage.file_exists("a")


async def test_the_marker_between_two_versions_hides_the_locked_one(locking: Place) -> None:
    one, marker = await locking.store("a", 1, hide=True)
    await lock(locking, "a", one)
    await locking.store("a")

    await run_job(locking.job())

    assert await locking.left() == [("a", marker), ("a", one)]
    assert not await locking.storage.file_exists("a")


async def test_any_number_of_locked_versions_stops_nothing(locking: Place) -> None:
    """Shards in which all is refused stop a job, but not for locks."""
    for number in range(100):
        (version_id,) = await locking.store(f"{number:03}")
        await lock(locking, f"{number:03}", version_id)
    await locking.store("last")

    report = await run_job(locking.job(shard_keys=21))

    assert report.state == "finished"
    assert report.details == {"versions": 1, "locked_versions": 100}


async def test_the_file_of_errors_is_input_of_the_next_job(locking: Place, tmp_path: Path) -> None:
    (version_id,) = await locking.store("a")
    await lock(locking, "a", version_id)
    await locking.store("b")
    report = await run_job(locking.job())
    (error_file,) = report.error_files
    content = await locking.storage.get_file(error_file)
    assert [json.loads(line)["key"] for line in content.splitlines()] == ["a"]
    assert b"governance retention until" in content

    await locking.storage.admin.set_retention(
        "a", None, version_id=version_id, bypass_governance=True
    )
    (tmp_path / "errors.jsonl").write_bytes(content)
    again = await run_job(locking.job(keys_file=tmp_path / "errors.jsonl"))

    assert counts(again) == (1, 0, 0, {"versions": 1})
    assert await locking.left() == []


async def test_a_resumed_job_tries_locked_versions_again(locking: Place) -> None:
    (version_id,) = await locking.store("a")
    await lock(locking, "a", version_id)
    report = await run_job(locking.job())
    assert report.errors == 1
    await locking.storage.admin.set_retention(
        "a", None, version_id=version_id, bypass_governance=True
    )
    report = await resume_job(report.job.job_id, locking.location)
    assert report.errors == 0
    assert await locking.left() == []


# --- refusals ---------------------------------------------------------------------------


FEW = frozenset({"listBuckets", "listFiles", "readFiles", "writeFiles"})


async def test_a_key_that_may_not_erase_stops_the_job(
    place: Place, b2_server: B2Server, tmp_path: Path
) -> None:
    await place.store("a", 2)
    key = b2_server.create_key(capabilities=FEW | {"readBucketRetentions"})
    location = location_of(b2_server.settings(key=key, _env_file=None), tmp_path / "few.env")
    with pytest.raises(AccessDeniedError, match="deleteFiles"):
        await run_job(PurgeJob(location=location))
    assert len(await place.left()) == 2


async def test_a_key_that_may_neither_erase_nor_see_locks_reports_each_file(
    place: Place, b2_server: B2Server, tmp_path: Path
) -> None:
    await place.store("a", 2)
    key = b2_server.create_key(capabilities=FEW)
    location = location_of(b2_server.settings(key=key, _env_file=None), tmp_path / "few.env")
    report = await run_job(PurgeJob(location=location))
    assert report.error_kinds == {"AccessDeniedError": 2}
    assert len(await place.left()) == 2


def test_an_age_is_not_negative() -> None:
    with pytest.raises(InvalidInputError, match="older_than"):
        PurgeJob(location=Location(), older_than=timedelta(seconds=-1))
