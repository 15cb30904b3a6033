"""Random histories are purged: what is chosen goes, and nothing that was hidden is shown."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from random import Random
from typing import Literal

import pytest

from careflow_storage import BackblazeStorage, Retention, StorageSettings
from careflow_storage._s3.requests import versions as version_listing
from careflow_storage.admin import FileVersion
from careflow_storage.jobs import PurgeJob, plan_job, run_job
from tests.support.jobs import location_of

pytest_plugins = ["careflow_storage.testing.plugin"]

Versions = Literal["all", "noncurrent", "current"]
LOCK = Retention(mode="governance", retain_until=datetime.now(UTC) + timedelta(days=30))


@pytest.fixture
async def storage(b2_settings: StorageSettings) -> AsyncIterator[BackblazeStorage]:
    async with BackblazeStorage(b2_settings) as opened:
        await opened.admin.set_object_lock()
        yield opened


async def make_histories(storage: BackblazeStorage, dice: Random) -> set[str]:
    """Store, lock and hide at random; return the IDs of the locked versions."""
    locked = set()
    for number in range(10):
        key = f"calls/{number}"
        for _ in range(dice.randint(1, 5)):
            if dice.random() < 0.35:
                await storage.delete_file(key)
                continue
            lock = LOCK if dice.random() < 0.25 else None
            stored = await storage.upload_file(key, b"body", retention=lock)
            if lock is not None:
                locked.add(str(stored.version_id))
    return locked


def left_of(history: list[FileVersion], versions: Versions, locked: set[str]) -> list[str]:
    """The versions of a key, the newest first, that a purge should leave."""

    def is_chosen(version: FileVersion) -> bool:
        if versions == "current":
            return version.is_latest and not version.delete_marker
        return versions == "all" or not version.is_latest

    stays = [
        version
        for version in history
        if not version.delete_marker and (not is_chosen(version) or version.version_id in locked)
    ]
    markers = [version for version in history if version.delete_marker and is_chosen(version)]
    kept = markers[:1] if stays else []
    return [
        str(version.version_id)
        for version in history
        if version in stays or version in kept or not is_chosen(version)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("versions", ["all", "noncurrent", "current"])
@pytest.mark.parametrize("seed", range(4))
async def test_random_histories(
    storage: BackblazeStorage,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    versions: Versions,
    seed: int,
) -> None:
    dice = Random(seed)
    locked = await make_histories(storage, dice)
    before = await storage.admin.list_file_versions("calls/")
    visible = {file.key for file in await storage.list_files("calls/")}
    histories = [list(group) for _, group in groupby(before, lambda version: version.key)]
    expected = [left for history in histories for left in left_of(history, versions, locked)]
    monkeypatch.setattr(version_listing, "PAGE_VERSIONS", dice.choice([1, 2, 3, 1000]))
    job = PurgeJob(
        location=location_of(storage.settings, tmp_path / "place.env"),
        prefix="calls/",
        versions=versions,
        shard_keys=dice.choice([1, 2, 1000]),
    )

    plan = await plan_job(job)
    report = await run_job(job)

    after = await storage.admin.list_file_versions("calls/")
    assert [str(version.version_id) for version in after] == expected
    assert {file.key for file in await storage.list_files("calls/")} <= visible
    assert (plan.objects, plan.bytes, plan.skipped) == (
        report.objects,
        report.bytes,
        report.skipped,
    )
    assert plan.details == report.details
    assert len(before) - len(after) == report.details.get("versions", 0) + report.details.get(
        "delete_markers", 0
    )
