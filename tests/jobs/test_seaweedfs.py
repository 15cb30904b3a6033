"""Copies and verifications between two real servers."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from careflow_storage import BackblazeStorage, ServerResponseError, StorageSettings
from careflow_storage.jobs import plan_job, resume_job, run_job
from careflow_storage.local import LocalServer
from tests.jobs.conftest import MakeEngine
from tests.support.bodies import MIB
from tests.support.jobs import Buckets, errors_of, fill, location_of, numbered

pytestmark = pytest.mark.integration
PARTS = {"part_size": 5 * MIB, "multipart_threshold": 5 * MIB}


@pytest.fixture(scope="module")
def other_server() -> Iterator[LocalServer]:
    with LocalServer(key_id="other-key-id") as server:
        yield server


@pytest.fixture
async def two_servers(
    seaweed_settings: StorageSettings, other_server: LocalServer, tmp_path: Path
) -> AsyncIterator[Buckets]:
    other_server.create_bucket(f"{seaweed_settings.bucket_name}-copies")
    target = other_server.settings(
        bucket_name=f"{seaweed_settings.bucket_name}-copies", retry_base_delay=0.001, **PARTS
    )
    async with BackblazeStorage(seaweed_settings) as first, BackblazeStorage(target) as second:
        yield Buckets(
            location_of(seaweed_settings, tmp_path / "source.env"),
            location_of(target, tmp_path / "target.env"),
            first,
            second,
        )


async def test_everything_is_copied_and_verified_and_then_skipped(
    two_servers: Buckets, make_engine: MakeEngine
) -> None:
    bodies = numbered(40) | {"recordings/CA9999/long.wav": os.urandom(12 * MIB)}
    await fill(two_servers.source_storage, bodies)
    job = two_servers.copy()
    plan = await plan_job(two_servers.copy(), engine=make_engine())

    first = await run_job(job, engine=make_engine())
    second = await run_job(two_servers.copy(), engine=make_engine())
    resumed = await resume_job(job.job_id, two_servers.target, engine=make_engine())
    verified = await run_job(two_servers.verify(), engine=make_engine())
    deep = await run_job(two_servers.verify(deep=True), engine=make_engine())

    size = sum(map(len, bodies.values()))
    assert (plan.objects, plan.bytes) == (first.objects, first.bytes) == (41, size)
    assert (second.objects, second.skipped, second.errors) == (0, 41, 0)
    assert (resumed.objects, resumed.errors) == (41, 0)
    assert (verified.objects, verified.errors) == (deep.objects, deep.errors) == (41, 0)
    assert await two_servers.copies() == bodies
    assert await two_servers.target_storage.list_incomplete_uploads() == []


async def test_no_range_begins_with_the_name_of_a_folder(two_servers: Buckets) -> None:
    # Behind such a name SeaweedFS lists nothing of the folder, and the order looks right.
    bodies = {f"calls/{number}/a": b"%d" % number for number in range(30)}
    await fill(two_servers.source_storage, bodies)

    plans = [await plan_job(two_servers.copy("calls/", shard_keys=1)) for _ in range(3)]

    assert [plan.objects for plan in plans] == [30, 30, 30]


async def test_bytes_that_differ_are_found_where_sizes_agree(two_servers: Buckets) -> None:
    long = os.urandom(6 * MIB)
    damaged = bytearray(long)
    damaged[5 * MIB + 7] ^= 1
    await fill(two_servers.source_storage, {"recordings/a": b"1234", "recordings/long": long})
    await fill(
        two_servers.target_storage, {"recordings/a": b"1235", "recordings/long": bytes(damaged)}
    )

    quick = await run_job(two_servers.verify())
    deep = await run_job(two_servers.verify(deep=True))

    found = await errors_of(two_servers.target_storage, quick)
    assert [error.kind for error in found] == ["ContentDiffers", "NotComparable"]
    found = await errors_of(two_servers.target_storage, deep)
    assert [error.kind for error in found] == ["ContentDiffers", "ContentDiffers"]
    assert str(5 * MIB + 7) in found[1].message


async def test_keys_that_the_server_lists_in_another_order_stop_the_job(
    two_servers: Buckets,
) -> None:
    # A folder of SeaweedFS comes before keys that have "-" in the place of "/".
    await fill(two_servers.source_storage, {"calls/a/1": b"1", "calls/a-1": b"2", "calls/b": b"3"})

    with pytest.raises(ServerResponseError, match="range of keys"):
        await run_job(two_servers.copy("calls/", shard_keys=1))
