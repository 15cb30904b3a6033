"""A user's function is called for each file; what it returns and raises is kept."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from careflow_storage import BackblazeStorage, InvalidCredentialsError, InvalidInputError
from careflow_storage.jobs import JobReport, Location, MapJob, plan_job, resume_job, run_job
from careflow_storage.jobs._shard import map as map_shard
from careflow_storage.media import probe
from careflow_storage.testing import B2Server
from tests.jobs.conftest import MakeEngine
from tests.support.jobs import fill, location_of, numbered

FUNCTIONS = "tests.support.map_functions"


class Place:
    """A bucket: its location, and an open storage."""

    def __init__(self, storage: BackblazeStorage, file: Path) -> None:
        self.storage = storage
        self.location = location_of(storage.settings, file)

    def job(self, function: str, **options: Any) -> MapJob:
        return MapJob(f"{FUNCTIONS}:{function}", location=self.location, **options)

    async def values(self, report: JobReport) -> dict[str, Any]:
        """What the function returned, by key."""
        found = {}
        for file in report.value_files:
            for line in (await self.storage.get_file(file)).splitlines():
                entry = json.loads(line)
                found[entry["key"]] = entry["value"]
        return found


@pytest.fixture
async def place(server: B2Server, tmp_path: Path) -> AsyncIterator[Place]:
    async with BackblazeStorage(server.settings()) as storage:
        yield Place(storage, tmp_path / "place.env")


async def test_each_file_once_and_what_is_returned_is_stored(
    place: Place, make_engine: MakeEngine
) -> None:
    bodies = numbered(23)
    await fill(place.storage, bodies | {"other": b""})

    job = place.job("size", prefix="recordings/", shard_keys=5)
    report = await run_job(job, engine=make_engine())

    assert (report.objects, report.skipped, report.errors) == (23, 0, 0)
    assert report.bytes == sum(map(len, bodies.values()))
    assert await place.values(report) == {key: {"size": len(body)} for key, body in bodies.items()}
    # The files of values are records: no other job works on them.
    assert (await plan_job(place.job("nothing"))).objects == 24


async def test_a_function_that_takes_the_key_and_returns_a_model(place: Place) -> None:
    await place.storage.upload_file("a", b"body")
    (value,) = (await place.values(await run_job(place.job("metadata")))).values()
    assert (value["key"], value["size"]) == ("a", 4)


@pytest.mark.parametrize("function", ["by_key", "an_object"])
async def test_a_function_without_annotations_and_an_object(place: Place, function: str) -> None:
    await place.storage.upload_file("ä", b"body")
    assert await place.values(await run_job(place.job(function))) == {"ä": "ä"}


async def test_none_is_not_stored(place: Place) -> None:
    await place.storage.upload_file("a", b"body")
    report = await run_job(place.job("nothing"))
    assert (report.objects, report.value_files) == (1, [])


async def test_make_seekable_as_it_is(place: Place, recordings: dict[str, Path]) -> None:
    await place.storage.upload_file("calls/1.webm", recordings["greeting.webm"].read_bytes())
    await place.storage.upload_file("calls/2.webm", b"no media")

    job = MapJob("careflow_storage.media:make_seekable", location=place.location, prefix="calls/")
    report = await run_job(job)

    assert (report.objects, report.error_kinds) == (1, {"UnsupportedMediaError": 1})
    assert (await probe(place.storage, "calls/1.webm")).seekable


async def test_what_a_function_raises_or_returns_is_in_the_report(place: Place) -> None:
    kinds = {
        "value": "ValueError",
        "missing": "NoSuchKeyError",
        "exit": "SystemExit",
        "cancelled": "CancelledError",
        "object": "ValueError",
        "infinite": "ValueError",
        "large": "ValueError",
        "good": None,
    }
    await fill(place.storage, dict.fromkeys(kinds, b""))

    report = await run_job(place.job("fails_for_some"))

    assert (report.state, report.objects, report.errors) == ("finished", 1, 7)
    (error_file,) = report.error_files
    errors = [json.loads(line) for line in (await place.storage.get_file(error_file)).splitlines()]
    assert {error["key"]: error["kind"] for error in errors} == {
        key: kind for key, kind in kinds.items() if kind
    }
    messages = {error["key"]: error["message"] for error in errors}
    assert "secret" not in messages["value"]
    assert "not JSON" in messages["object"]
    assert "65536 are allowed" in messages["large"]


async def test_a_function_that_does_not_end_in_time_is_an_error_of_its_file(place: Place) -> None:
    await fill(place.storage, {"a": b""})
    report = await run_job(place.job("endless", timeout=0.1))
    assert (report.state, report.error_kinds) == ("finished", {"TimeoutError": 1})


async def test_a_resumed_job_calls_it_again_where_it_failed(place: Place) -> None:
    await fill(place.storage, {"missing": b"", "good": b""})
    report = await run_job(place.job("fails_for_some"))
    assert report.errors == 1
    again = await resume_job(report.job.job_id, place.location)
    assert (again.state, again.errors) == ("finished", 1)


async def test_an_error_that_concerns_all_files_stops_the_job(place: Place) -> None:
    await place.storage.upload_file("a", b"body")
    with pytest.raises(InvalidCredentialsError):
        await run_job(place.job("refused"))


async def test_a_function_that_blocks_the_event_loop_is_noted(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(place.storage, numbered(3))
    monkeypatch.setattr(map_shard, "BLOCKING_SECONDS", 0.01)
    report = await run_job(place.job("blocks"))
    assert report.objects == 3
    assert report.details["blocked_loop"] == 3
    (note,) = report.notes
    blocked = r"blocks blocked the event loop for \d+\.\d s at 'recordings/"
    assert re.match(re.escape(f"{FUNCTIONS}:") + blocked, note)


async def test_a_plan_counts_and_calls_nothing(place: Place) -> None:
    await fill(place.storage, numbered(3))
    plan = await plan_job(place.job("refused"))
    assert (plan.objects, plan.errors) == (3, 0)


@pytest.mark.parametrize("run", [plan_job, run_job])
@pytest.mark.parametrize(
    ("function", "why"),
    [
        ("no.such.module:function", "No module named 'no'"),
        (f"{FUNCTIONS}:missing", "has no attribute 'missing'"),
        (f"{FUNCTIONS}:NOT_CALLABLE", "not an async function"),
        (f"{FUNCTIONS}:not_async", "not an async function"),
        (f"{FUNCTIONS}:one_argument", "too many positional arguments"),
        ("tests.support.exits:function", "SystemExit"),
    ],
)
async def test_a_function_that_cannot_be_called_is_refused(
    place: Place, function: str, why: str, run: Callable[..., Any]
) -> None:
    await place.storage.upload_file("a", b"body")
    with pytest.raises(InvalidInputError, match=why):
        await run(MapJob(function, location=place.location))


@pytest.mark.parametrize("function", ["", "module", "module:", ":f", "a b:c", "a.b:c()", "a:b:c"])
def test_the_name_of_a_function_is_checked(function: str) -> None:
    with pytest.raises(InvalidInputError, match=r"package\.module:function"):
        MapJob(function)


@pytest.mark.parametrize("options", [{"concurrency": 0}, {"timeout": 0}, {"timeout": float("nan")}])
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match="MapJob"):
        MapJob("a:b", location=Location(), **options)
