"""Bulk jobs by the command: copy, verify, purge, retain, map, list, show, resume."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from careflow_storage import BackblazeStorage
from careflow_storage.jobs import Location
from careflow_storage.testing import B2Server
from tests.support.command import Command, Ran
from tests.support.jobs import fill, location_of, numbered

COPIES = "careflow-copies"
KEYS = sorted(numbered(12))


@pytest.fixture
def old(server: B2Server, tmp_path: Path) -> Path:
    """The .env file of the source."""
    return path_of(location_of(server.settings(), tmp_path / "old.env"))


@pytest.fixture
def new(server: B2Server, tmp_path: Path) -> Path:
    """The .env file of the target."""
    server.create_bucket(COPIES)
    return path_of(location_of(server.settings(bucket_name=COPIES), tmp_path / "new.env"))


def path_of(location: Location) -> Path:
    assert location.env_file is not None
    return location.env_file


@pytest.fixture
async def source(server: B2Server) -> AsyncIterator[BackblazeStorage]:
    """The source, with twelve recordings."""
    async with BackblazeStorage(server.settings()) as storage:
        await fill(storage, numbered(12))
        yield storage


@pytest.fixture
async def target(server: B2Server, new: Path) -> AsyncIterator[BackblazeStorage]:
    async with BackblazeStorage(server.settings(bucket_name=COPIES)) as storage:
        yield storage


@pytest.fixture
def command(server: B2Server) -> Command:
    return Command(server.settings())


async def keys_in(storage: BackblazeStorage, prefix: str = "recordings/") -> list[str]:
    return [file.key for file in await storage.list_files(prefix)]


def report_of(ran: Ran) -> dict[str, object]:
    """The report in the last event."""
    report: dict[str, object] = ran.items[-1]["report"]
    return report


# --- copy and verify --------------------------------------------------------------------


@pytest.mark.usefixtures("source")
async def test_a_dry_run_says_what_would_be_copied_and_copies_nothing(
    command: Command, target: BackblazeStorage, old: Path, new: Path
) -> None:
    ran = await command("jobs", "copy", "--from-env", old, "--to-env", new, "--dry-run")
    assert (ran.code, ran.out) == (0, "Would copy 12 objects, 14 bytes.\n")
    assert await keys_in(target, "") == []


async def test_a_copy_ends_with_what_it_did_and_again_finds_nothing_to_do(
    command: Command, source: BackblazeStorage, target: BackblazeStorage, old: Path, new: Path
) -> None:
    words = ("jobs", "copy", "--from-env", old, "--to-env", new, "--prefix", "recordings/")
    ran = await command(*words)
    assert (ran.code, ran.out) == (0, "")
    assert "✓ Copied 12 objects, 14 bytes in " in ran.err
    assert "Requests: " in ran.err
    assert await keys_in(target) == await keys_in(source) == KEYS
    again = await command(*words)
    assert again.code == 0
    assert "Copied 0 objects" in again.err
    assert "; 12 needed nothing" in again.err


@pytest.mark.usefixtures("source")
async def test_the_global_options_name_the_target(
    command: Command, target: BackblazeStorage, old: Path, new: Path
) -> None:
    ran = await command("--env-file", new, "jobs", "copy", "--from-env", old)
    assert ran.code == 0, ran.err
    assert await keys_in(target) == KEYS
    other = await command("--bucket", COPIES, "jobs", "list", "--to-env", old, "--json")
    assert [each["job"]["kind"] for each in other.items] == ["copy"]


@pytest.mark.usefixtures("source", "target")
async def test_events_are_one_object_to_a_line_and_end_with_the_report(
    command: Command, old: Path, new: Path
) -> None:
    ran = await command("jobs", "copy", "--from-env", old, "--to-env", new, "--json")
    events = [each["event"] for each in ran.items]
    assert events[0] == "started"
    assert set(events[1:-1]) == {"progress"}
    assert events[-1] == "finished"
    assert {each["job_id"] for each in ran.items[:-1]} == {report_of(ran)["job"]["job_id"]}  # type: ignore[index]  # JSON
    last = ran.items[-2]
    assert (last["objects"], last["errors"], last["shards_running"]) == (12, 0, 0)
    assert report_of(ran)["objects"] == 12


@pytest.mark.usefixtures("source", "target")
async def test_objects_that_fail_are_counted_and_become_the_keys_of_another_job(
    command: Command, server: B2Server, old: Path, new: Path, tmp_path: Path
) -> None:
    (tmp_path / "keys.txt").write_text(f"{KEYS[0]}\nrecordings/gone.webm\n")
    words = ("jobs", "copy", "--from-env", old, "--to-env", new)
    ran = await command(*words, "--keys", "keys.txt")
    assert ran.code == 1
    assert "Copied 1 object, " in ran.err
    assert "1 of 2 objects failed: 1 NoSuchKeyError." in ran.err
    assert re.search(r"Errors: jobs/\S+/errors/\S+\.jsonl", ran.err)
    shown = re.search(r"To see them: careflow-storage (.*)", ran.err)
    assert shown is not None
    errors = await command(*shlex.split(shown[1]), "--json")
    assert errors.code == 0
    assert errors.json["key"] == "recordings/gone.webm"
    (tmp_path / "failed.jsonl").write_text(errors.out)
    async with BackblazeStorage(server.settings()) as storage:
        await storage.upload_file("recordings/gone.webm", b"back")
    again = await command(*words, "--keys", "failed.jsonl", "--json")
    assert (again.code, report_of(again)["objects"]) == (0, 1)


async def test_a_difference_is_an_error_of_a_verification(
    command: Command, source: BackblazeStorage, target: BackblazeStorage, old: Path, new: Path
) -> None:
    await fill(target, {**numbered(11), KEYS[0]: b"other"})
    ran = await command("jobs", "verify", "--from-env", old, "--to-env", new)
    assert ran.code == 1
    assert "2 of 12 objects differ: " in ran.err
    shown = re.search(r"To see them: careflow-storage (.*)", ran.err)
    assert shown is not None
    listed = await command(*shlex.split(shown[1]))
    assert [line.partition(": ")[0] for line in sorted(listed.lines)] == [KEYS[0], KEYS[11]]
    await fill(target, numbered(12))
    assert (await command("jobs", "verify", "--from-env", old, "--to-env", new)).code == 0


@pytest.mark.usefixtures("source")
async def test_two_servers_on_one_host_are_two_places(
    command: Command, server: B2Server, old: Path, tmp_path: Path
) -> None:
    async with B2Server(bucket=server.bucket) as second:
        new = path_of(location_of(second.settings(), tmp_path / "second.env"))
        ran = await command("jobs", "copy", "--from-env", old, "--to-env", new)
        assert ran.code == 0, ran.err
        async with BackblazeStorage(second.settings()) as storage:
            assert await keys_in(storage) == KEYS


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "The source equals the target"),
        (("--rate", "0"), "rate: Input should be greater than 0"),
        (("--to-prefix", "copies/", "--keys", "no-such-file"), "no-such-file"),
        (("--from-env", "no-such.env"), "no-such.env"),
    ],
)
async def test_what_makes_no_sense_is_refused_before_anything_is_stored(
    command: Command, server: B2Server, options: tuple[str, ...], message: str
) -> None:
    ran = await command("jobs", "copy", "--prefix", "recordings/", *options)
    assert ran.code == 2
    assert message in " ".join(ran.err.split())
    assert "To resume" not in ran.err
    assert server.versions() == []


async def test_two_kinds_of_workers_are_refused(command: Command, old: Path) -> None:
    ran = await command("jobs", "copy", "--from-env", old, "--workers", 2, "--dask", "tcp://x:1")
    assert ran.code == 2
    assert "either --workers or --dask" in ran.err


@pytest.mark.usefixtures("source")
async def test_without_its_extra_a_cluster_is_one_error_with_the_install_line(
    command: Command,
    target: BackblazeStorage,
    old: Path,
    new: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    ran = await command(
        "jobs", "copy", "--from-env", old, "--to-env", new, "--dask", "tcp://127.0.0.1:1"
    )
    assert ran.code == 1
    assert 'pip install "careflow-storage[jobs]"' in ran.err
    assert await keys_in(target, "") == []


# --- purge, retain, map -----------------------------------------------------------------


async def test_a_purge_counts_and_asks_to_type_the_prefix(
    command: Command, source: BackblazeStorage
) -> None:
    words = ("jobs", "purge", "--prefix", "recordings/CA0001/")
    planned = await command(*words, "--dry-run")
    assert planned.code == 0
    assert planned.out.startswith("Would erase 1 object, 1 byte")
    declined = await command(*words, stdin="y\n")
    assert declined.code == 1
    assert "erase 1 object, 1 byte" in declined.err
    assert "below recordings/CA0001/, and cannot be undone" in declined.err
    assert await keys_in(source) == KEYS
    agreed = await command(*words, stdin="recordings/CA0001/\n")
    assert agreed.code == 0, agreed.err
    assert "✓ Erased 1 object" in agreed.err
    assert await keys_in(source) == [key for key in KEYS if "CA0001" not in key]


async def test_a_purge_of_everything_asks_for_the_bucket_and_json_cannot_ask(
    command: Command, server: B2Server, source: BackblazeStorage
) -> None:
    refused = await command("jobs", "purge", "--json")
    assert refused.code == 2
    assert "--json cannot ask" in refused.error["message"]
    declined = await command("jobs", "purge", stdin="\n")
    assert f"type {server.bucket}" in declined.err
    assert f"in the whole bucket {server.bucket}" in declined.err
    assert await keys_in(source) == KEYS
    done = await command("jobs", "purge", "--json", "--yes")
    assert (done.code, report_of(done)["objects"]) == (0, 12)
    assert await keys_in(source) == []


async def test_compliance_asks_and_governance_does_not(
    command: Command, source: BackblazeStorage
) -> None:
    await source.admin.set_object_lock()
    words = ("jobs", "retain", "--prefix", "recordings/CA0001/", "--days", 30)
    declined = await command(*words, "--mode", "compliance", stdin="no\n")
    assert declined.code == 1
    assert "cannot be undone" in declined.err
    (key,) = await keys_in(source, "recordings/CA0001/")
    assert await source.admin.get_retention(key) is None
    done = await command(*words)
    assert done.code == 0, done.err
    assert "✓ Changed the lock of 1 object" in done.err
    retention = await source.admin.get_retention(key)
    assert retention is not None
    assert retention.mode == "governance"


@pytest.mark.usefixtures("source")
async def test_a_function_is_called_for_each_object(command: Command) -> None:
    ran = await command("jobs", "map", "tests.support.job_functions:touch", "--json")
    assert (ran.code, report_of(ran)["objects"]) == (0, 12)
    for function in ("no.such.module:function", "os:nope"):
        missing = await command("jobs", "map", function)
        assert missing.code == 2
        assert function in missing.err
        assert "To resume" not in missing.err
    assert len((await command("jobs", "list", "--json")).items) == 1


@pytest.mark.usefixtures("source")
async def test_a_function_in_the_working_directory_is_found(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "async def function(storage, file):\n    return file.size\n"
    await asyncio.to_thread(Path("functions_here.py").write_text, text)
    before = list(sys.path)
    ran = await command("jobs", "map", "functions_here:function", "--json")
    monkeypatch.delitem(sys.modules, "functions_here")
    assert (ran.code, report_of(ran)["objects"]) == (0, 12)
    assert sys.path == before


# --- what is recorded -------------------------------------------------------------------


@pytest.mark.usefixtures("source", "target")
async def test_a_job_is_listed_and_shown(command: Command, old: Path, new: Path) -> None:
    empty = await command("jobs", "list", "--to-env", new)
    assert "no records of jobs" in empty.err
    ran = await command("jobs", "copy", "--from-env", old, "--to-env", new, "--json")
    job_id = ran.items[0]["job_id"]
    listed = await command("jobs", "list", "--to-env", new)
    assert listed.lines[0].split() == ["job", "kind", "state", "objects", "errors"]
    assert listed.lines[1].split() == [job_id, "copy", "finished", "12", "0"]
    shown = await command("jobs", "show", job_id, "--to-env", new)
    fields = dict(re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in shown.lines)
    assert (fields["state"], fields["objects"], fields["errors"]) == ("finished", "12", "0")
    document = await command("jobs", "show", job_id, "--to-env", new, "--json")
    assert document.json == report_of(ran)
    none = await command("jobs", "show", job_id, "--to-env", new, "--errors")
    assert (none.code, none.out) == (0, "")


@pytest.mark.usefixtures("source", "target")
async def test_a_resume_has_another_rate_if_it_is_given(
    command: Command, old: Path, new: Path
) -> None:
    words = ("jobs", "copy", "--from-env", old, "--to-env", new, "--rate", "500", "--json")
    job_id = (await command(*words)).items[0]["job_id"]
    resume = ("jobs", "resume", job_id, "--to-env", new, "--json")
    for options, rate in (((), 500), (("--rate", "700"), 700)):
        ran = await command(*resume, *options)
        assert ran.code == 0, ran.err
        assert ran.items[-1]["report"]["job"]["rate"] == rate
    refused = await command(*resume, "--rate", "0")
    assert (refused.code, refused.error["type"]) == (2, "InvalidInputError")


@pytest.mark.parametrize("words", [("show",), ("show", "--errors"), ("resume",)])
async def test_an_unknown_job_does_not_exist(command: Command, words: tuple[str, ...]) -> None:
    ran = await command("jobs", words[0], "20260131T235959-0123abcd", *words[1:], "--json")
    assert ran.code == 3
    assert ran.error["type"] == "NoSuchJobError"


async def test_no_event_holds_a_secret(
    command: Command, server: B2Server, source: BackblazeStorage, old: Path, new: Path
) -> None:
    ran = await command("jobs", "copy", "--from-env", old, "--to-env", new, "--json")
    assert server.key.application_key not in ran.out + ran.err
    assert json.dumps(str(old)) in ran.out
