"""Retention and legal hold of many files: extended, never shortened unless asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from careflow_storage import (
    AccessDeniedError,
    BackblazeStorage,
    CustomerKey,
    InvalidInputError,
    Retention,
    StorageSettings,
)
from careflow_storage.jobs import Location, RetainJob, plan_job, run_job
from careflow_storage.testing import B2Server
from tests.jobs.conftest import MakeEngine
from tests.support.jobs import location_of

pytest_plugins = ["careflow_storage.testing.plugin"]

NOW = datetime.now(UTC).replace(microsecond=0)
SOON, LATER, LATEST = (NOW + timedelta(days=days) for days in (10, 20, 30))


class Place:
    """A bucket with object lock: its location, and an open storage."""

    def __init__(self, storage: BackblazeStorage, location: Location) -> None:
        self.storage = storage
        self.location = location

    def job(self, **options: Any) -> RetainJob:
        return RetainJob(location=self.location, **options)

    async def lock_of(self, key: str) -> tuple[str, datetime] | None:
        found = (await self.storage.get_file_metadata(key)).retention
        return None if found is None else (found.mode, found.retain_until)


@pytest.fixture(
    params=["b2_settings", pytest.param("seaweed_settings", marks=pytest.mark.integration)]
)
async def both(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    """A bucket on B2's emulator, then on a real server."""
    async for place in opened(request.getfixturevalue(request.param), tmp_path):
        yield place


@pytest.fixture
async def place(b2_settings: StorageSettings, tmp_path: Path) -> AsyncIterator[Place]:
    async for place in opened(b2_settings, tmp_path):
        yield place


async def opened(settings: StorageSettings, folder: Path) -> AsyncIterator[Place]:
    async with BackblazeStorage(settings) as storage:
        await storage.admin.set_object_lock()
        yield Place(storage, location_of(settings, folder / "place.env"))


async def test_files_are_locked_until_a_time(both: Place, make_engine: MakeEngine) -> None:
    for key in ("calls/a", "calls/b", "other"):
        await both.storage.upload_file(key, b"body")

    job = both.job(prefix="calls/", mode="governance", until=LATER)
    report = await run_job(job, engine=make_engine())

    assert [await both.lock_of(key) for key in ("calls/a", "calls/b", "other")] == [
        ("governance", LATER),
        ("governance", LATER),
        None,
    ]
    assert (report.objects, report.skipped, report.details) == (2, 0, {"retentions_set": 2})
    assert report.bytes == 8


async def test_what_agrees_is_skipped_at_one_request_each(both: Place) -> None:
    await both.storage.upload_file("a", b"body")
    await run_job(both.job(days=30))

    report = await run_job(both.job(days=30))

    assert (report.objects, report.skipped) == (0, 1)
    assert "PutObjectRetention" not in report.requests["location"]
    plan = await plan_job(both.job(days=30))
    assert plan.requests["location"]["HeadObject"] == 1


@pytest.mark.integration
async def test_a_change_of_the_lock_does_not_move_its_end(
    seaweed_settings: StorageSettings, tmp_path: Path
) -> None:
    """A HEAD of SeaweedFS has the time at which the lock was changed, a listing has not."""
    async for place in opened(seaweed_settings, tmp_path):
        await place.storage.upload_file("a", b"body")
        await run_job(place.job(days=30))
        lock = await place.lock_of("a")
        stored = (await place.storage.get_file_metadata("a")).last_modified
        while (await place.storage.get_file_metadata("a")).last_modified == stored:
            await place.storage.admin.set_legal_hold("a", True)

        report = await run_job(place.job(days=30))

        assert (report.objects, report.skipped) == (0, 1)
        assert await place.lock_of("a") == lock


async def test_days_count_from_the_upload(place: Place) -> None:
    await place.storage.upload_file("a", b"body")
    stored = (await place.storage.get_file_metadata("a")).last_modified
    await run_job(place.job(days=7))
    assert await place.lock_of("a") == ("governance", stored + timedelta(days=7))


BEFORE: Mapping[str, Retention | None] = {
    "none": None,
    "short": Retention(mode="governance", retain_until=SOON),
    "long": Retention(mode="governance", retain_until=LATEST),
    "short-compliance": Retention(mode="compliance", retain_until=SOON),
    "long-compliance": Retention(mode="compliance", retain_until=LATEST),
}


@pytest.mark.parametrize(
    ("options", "after", "refused"),
    [
        pytest.param(
            {"mode": "governance"},
            {
                "none": ("governance", LATER),
                "short": ("governance", LATER),
                "long": ("governance", LATEST),
                "short-compliance": ("compliance", SOON),
                "long-compliance": ("compliance", LATEST),
            },
            ["short-compliance"],
            id="governance",
        ),
        pytest.param(
            {"mode": "compliance"},
            {
                "none": ("compliance", LATER),
                "short": ("compliance", LATER),
                "long": ("compliance", LATEST),
                "short-compliance": ("compliance", LATER),
                "long-compliance": ("compliance", LATEST),
            },
            [],
            id="compliance",
        ),
        pytest.param(
            {"mode": "governance", "bypass_governance": True},
            {
                "none": ("governance", LATER),
                "short": ("governance", LATER),
                "long": ("governance", LATER),
                "short-compliance": ("compliance", SOON),
                "long-compliance": ("compliance", LATEST),
            },
            ["short-compliance"],
            id="bypass",
        ),
    ],
)
async def test_a_lock_is_extended_and_never_weakened_unless_asked(
    place: Place,
    options: dict[str, Any],
    after: dict[str, tuple[str, datetime]],
    refused: list[str],
) -> None:
    for key, retention in BEFORE.items():
        await place.storage.upload_file(key, b"body", retention=retention)

    report = await run_job(place.job(until=LATER, **options))

    assert {key: await place.lock_of(key) for key in BEFORE} == after
    assert report.errors == len(refused)
    assert report.error_kinds == ({"FileLockedError": 1} if refused else {})


async def test_legal_hold_is_set_and_removed_and_leaves_the_retention(both: Place) -> None:
    retention = Retention(mode="governance", retain_until=LATER)
    await both.storage.upload_file("a", b"body", retention=retention)
    await both.storage.upload_file("b", b"body")

    report = await run_job(both.job(legal_hold=True))
    assert report.details == {"legal_holds_set": 2}
    for key in ("a", "b"):
        assert (await both.storage.get_file_metadata(key)).legal_hold
    assert (await run_job(both.job(legal_hold=True))).skipped == 2

    report = await run_job(both.job(legal_hold=False))
    assert report.details == {"legal_holds_removed": 2}
    assert await both.lock_of("a") == ("governance", LATER)
    assert await both.lock_of("b") is None


async def test_a_plan_counts_and_changes_nothing(place: Place) -> None:
    await place.storage.upload_file("a", b"body")
    plan = await plan_job(place.job(days=1, legal_hold=True))
    assert plan.details == {"retentions_set": 1, "legal_holds_set": 1}
    assert await place.lock_of("a") is None


async def test_given_keys(place: Place, tmp_path: Path) -> None:
    for key in ("a", "b", "c"):
        await place.storage.upload_file(key, b"body")
    keys = tmp_path / "keys.jsonl"
    keys.write_text('{"key": "a"}\n{"key": "gone", "kind": "NoSuchKeyError"}\n')

    report = await run_job(place.job(until=LATER, keys_file=keys))

    assert report.objects == 1
    assert report.error_kinds == {"NoSuchKeyError": 1}
    assert [await place.lock_of(key) for key in "abc"] == [("governance", LATER), None, None]


async def test_a_file_with_a_customers_key_is_locked_too(place: Place) -> None:
    await place.storage.upload_file("a", b"body", encryption=CustomerKey.generate())
    report = await run_job(place.job(until=LATER, legal_hold=True))
    assert report.objects == 1
    assert await place.storage.admin.get_retention("a") == Retention(
        mode="governance", retain_until=LATER
    )
    assert (await run_job(place.job(until=LATER, legal_hold=True))).skipped == 1


# --- refusals ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "server",
    ["b2_settings", pytest.param("seaweed_settings", marks=pytest.mark.integration)],
)
async def test_a_bucket_without_object_lock_is_refused_before_the_first_file(
    request: pytest.FixtureRequest, tmp_path: Path, server: str
) -> None:
    settings: StorageSettings = request.getfixturevalue(server)
    async with BackblazeStorage(settings) as storage:
        await storage.upload_file("a", b"body")
        job = RetainJob(location=location_of(settings, tmp_path / "place.env"), days=1)
        for run in (plan_job, run_job):
            with pytest.raises(InvalidInputError, match="cannot lock"):
                await run(job)
        assert [file.key for file in await storage.list_files()] == ["a"]


async def test_a_time_in_the_past_is_refused(place: Place) -> None:
    with pytest.raises(InvalidInputError, match="not in the future"):
        await run_job(place.job(until=NOW - timedelta(days=1)))


async def test_a_key_that_may_not_lock_stops_the_job(
    place: Place, b2_server: B2Server, tmp_path: Path
) -> None:
    await place.storage.upload_file("a", b"body")
    key = b2_server.create_key(capabilities={"listBuckets", "listFiles", "readFiles", "writeFiles"})
    location = location_of(b2_server.settings(key=key, _env_file=None), tmp_path / "few.env")
    with pytest.raises(AccessDeniedError, match="writeFileRetentions"):
        await run_job(RetainJob(location=location, days=1))
    assert await place.lock_of("a") is None


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"until": LATER, "days": 3},
        {"until": datetime(2090, 1, 1)},  # noqa: DTZ001 - it is refused
        {"days": 0},
        {"legal_hold": True, "bypass_governance": True},
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match="RetainJob"):
        RetainJob(**options)
