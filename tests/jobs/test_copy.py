from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from careflow_storage import BackblazeStorage, Retention
from careflow_storage.jobs import run_job
from careflow_storage.testing import B2Server
from tests.jobs.conftest import TARGET, MakeEngine
from tests.support.bodies import MIB
from tests.support.jobs import Buckets, fill, location_of, numbered


async def test_copies_everything_below_the_prefix_and_says_how_much(
    buckets: Buckets, make_engine: MakeEngine
) -> None:
    bodies = numbered(13)
    await fill(buckets.source_storage, bodies | {"other/file": b"stays"})

    report = await run_job(buckets.copy(), engine=make_engine())

    records = await buckets.copies("jobs/")
    assert await buckets.copies("") == bodies | records
    assert report.state == "finished"
    assert (report.objects, report.skipped, report.errors) == (13, 0, 0)
    assert report.bytes == sum(map(len, bodies.values()))
    assert report.requests["source"]["GetObject"] == 13


async def test_keeps_type_metadata_and_headers_of_downloads(buckets: Buckets) -> None:
    await buckets.source_storage.upload_file(
        "recordings/a",
        b"body",
        "audio/webm",
        metadata={"agent": "Zoë", "call": "7"},
        cache_control="no-store",
        content_disposition="attachment",
    )

    await run_job(buckets.copy())

    found = await buckets.target_storage.get_file_metadata("recordings/a")
    assert found.content_type == "audio/webm"
    assert found.metadata == {"agent": "Zoë", "call": "7"}
    assert (found.cache_control, found.content_disposition) == ("no-store", "attachment")


async def test_sets_what_the_job_says_in_place_of_what_the_source_has(buckets: Buckets) -> None:
    await buckets.source_storage.upload_file(
        "recordings/a", b"body", "audio/webm", metadata={"agent": "Zoë"}, cache_control="no-store"
    )

    await run_job(
        buckets.copy(
            metadata={"moved": "yes"},
            content_type="audio/ogg",
            cache_control="private",
            content_disposition="inline",
            encryption="SSE-B2",
        )
    )

    found = await buckets.target_storage.get_file_metadata("recordings/a")
    assert (found.content_type, found.metadata) == ("audio/ogg", {"moved": "yes"})
    assert (found.cache_control, found.content_disposition) == ("private", "inline")
    assert found.encryption == "SSE-B2"


async def test_a_second_job_skips_everything_for_one_listing_of_each_side(buckets: Buckets) -> None:
    await fill(buckets.source_storage, numbered(40))
    await run_job(buckets.copy(shard_keys=1000))

    report = await run_job(buckets.copy(shard_keys=1000))

    assert (report.objects, report.skipped) == (0, 40)
    # One listing of the source finds out whether the keys fit one shard, one of the target
    # whether uploads are left.
    assert report.requests["source"]["ListObjectsV2"] == 2
    assert report.requests["target"]["ListObjectsV2"] == 2
    assert "GetObject" not in report.requests["source"]


async def test_objects_in_parts_are_found_by_their_stamp(
    buckets: Buckets, server: B2Server, tmp_path: Path
) -> None:
    body = bytes(range(256)) * (6 * MIB // 256)
    await buckets.source_storage.upload_file("recordings/long", body, "audio/wav")
    settings = server.settings(bucket_name=TARGET, part_size=5 * MIB, multipart_threshold=5 * MIB)
    target = location_of(settings, tmp_path / "parts.env")
    first = await run_job(buckets.copy(target=target))
    second = await run_job(buckets.copy(target=target))
    verified = await run_job(buckets.verify(target=target))
    deep = await run_job(buckets.verify(target=target, deep=True))

    assert (first.objects, first.bytes) == (1, len(body))
    assert (second.objects, second.skipped) == (0, 1)
    assert (verified.objects, verified.errors) == (deep.objects, deep.errors) == (1, 0)
    assert server.incomplete_uploads() == []
    assert await buckets.target_storage.list_files(f"jobs/{first.job.job_id}/uploads/") == []


async def test_the_server_copies_within_an_account(
    buckets: Buckets, server: B2Server, tmp_path: Path
) -> None:
    await fill(buckets.source_storage, numbered(6))
    target = location_of(server.settings(bucket_name=TARGET), tmp_path / "same-account.env")

    first = await run_job(buckets.copy(target=target))
    second = await run_job(buckets.copy(target=target))

    assert (first.objects, second.objects, second.skipped) == (6, 0, 6)
    assert first.requests["target"]["CopyObject"] == 6
    assert "GetObject" not in first.requests["source"]
    assert await buckets.copies() == numbered(6)


async def test_locks_are_kept_or_set_as_the_job_says(
    buckets: Buckets, server: B2Server, tmp_path: Path
) -> None:
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)
    lock = Retention(mode="governance", retain_until=until)
    places = {}
    for name in ("locked-source", "locked-target"):
        settings = server.settings(key=server.create_key(), bucket_name=name)
        async with BackblazeStorage(settings) as storage:
            await storage.admin.create_bucket(name, object_lock=True)
        places[name] = settings
    source, target = (location_of(each, tmp_path / name) for name, each in places.items())
    async with BackblazeStorage(places["locked-source"]) as storage:
        await storage.upload_file("recordings/a", b"1", retention=lock, legal_hold=True)
        await storage.upload_file("recordings/b", b"2")
    async with BackblazeStorage(places["locked-target"]) as storage:

        async def locks(prefix: str, **options: Any) -> list[Any]:
            job = buckets.copy(source=source, target=target, target_prefix=prefix, **options)
            assert (await run_job(job)).errors == 0
            found = [await storage.get_file_metadata(f"{prefix}{name}") for name in "ab"]
            return [(each.retention, each.legal_hold) for each in found]

        assert await locks("none/") == [(None, False), (None, False)]
        assert await locks("kept/", retention="keep", legal_hold="keep") == [
            (lock, True),
            (None, False),
        ]
        assert await locks("set/", retention=lock) == [(lock, False), (lock, False)]
