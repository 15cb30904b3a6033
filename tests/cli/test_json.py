"""--json of all commands: JSON Lines, with one object for a result and one for each of a list."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from careflow_storage import BackblazeStorage
from careflow_storage.testing import B2Server
from tests.cli.test_docs import PAGE, names_of
from tests.support.command import COMMAND, Command
from tests.support.jobs import location_of

ORIGIN = "https://app.example"
# Each command, in an order in which it finds something to do, and how many objects it prints.
# {job}, {key}, {new}, {upload} and {other} are IDs that lines before have printed.
LINES = (
    ("upload a.wav b.wav", 2),
    ("upload - --key stdin.wav --dry-run", 1),
    ("download a.wav got.wav", 1),
    ("download --prefix b folder", 1),
    ("ls", 3),
    ("ls nothing/", 0),
    ("ls --tree", 2),
    ("info a.wav", 1),
    ("exists a.wav", 1),
    ("exists nothing", 1),
    ("url a.wav", 1),
    ("cp a.wav c.wav", 1),
    ("mv c.wav d.wav", 1),
    ("rm a.wav b.wav", 2),
    ("rm --prefix d --yes", 1),
    ("versions", 9),
    ("versions nothing/", 0),
    ("restore a.wav", 1),
    ("rm d.wav --all-versions --yes", 1),
    ("uploads list", 2),
    ("uploads keep r/live.wav {upload}", 1),
    ("uploads abort r/other.wav {other} --yes", 1),
    ("uploads list", 0),
    ("buckets create careflow-copies", 1),
    ("buckets list", 2),
    ("buckets info", 1),
    ("buckets encryption", 1),
    ("jobs copy --prefix r/ --from-env {env} --to-env copies.env", None),
    ("jobs verify --prefix r/ --from-env {env} --to-env copies.env", None),
    ("jobs retain --prefix nothing/ --days 1", None),
    ("jobs map tests.support.job_functions:touch --prefix r/", None),
    ("jobs purge --prefix gone/ --yes", None),
    ("jobs resume {job} --to-env copies.env", None),
    ("jobs list --to-env copies.env", 2),
    ("jobs show {job} --to-env copies.env", 1),
    ("jobs show {job} --to-env copies.env --errors", 0),
    ("buckets create careflow-empty", 1),
    ("buckets delete careflow-empty --confirm careflow-empty", 1),
    ("cors show", 0),
    (f"cors allow {ORIGIN}", 1),
    (f"cors allow {ORIGIN} --name second", 2),
    ("cors show", 2),
    ("cors set {cors} --yes", 2),
    (f"cors check {ORIGIN}", 1),
    ("cors remove second --yes", 1),
    ("cors remove second --yes", 1),
    ("lifecycle show", 0),
    ("lifecycle expire --prefix one/", 1),
    ("lifecycle expire --prefix two/", 2),
    ("lifecycle set {lifecycle} --yes", 2),
    ("lifecycle show", 2),
    ("lifecycle remove two/ --yes", 1),
    ("lock show", 1),
    ("lock enable --yes", 1),
    ("lock retain a.wav --for 1d", 1),
    ("lock status a.wav", 1),
    ("lock release a.wav --yes", 1),
    ("lock hold a.wav off", 1),
    ("keys create prod --preset app --env-file new.env", 1),
    ("keys list", 2),
    ("keys rotate {key} --env-file new.env --yes", 1),
    ("keys finish {new} --yes", 1),
    ("keys delete {new} --yes", 1),
    ("usage", 1),
    ("doctor", 1),
    ("migrate env", 1),
    ("migrate check", 1),
    ("config", 1),
    ("sample new.webm", 1),
)
# They start the embedded server; `cat` writes the bytes of a file.
TESTED_ELSEWHERE = {"demo", "serve-local", "cat"}


async def fill(server: B2Server) -> None:
    async with BackblazeStorage(server.settings()) as storage:
        await storage.upload_file("r/call.wav", b"sound")
        await storage.admin.set_object_lock()
        client = await storage.client()
        for key in ("r/live.wav", "r/other.wav"):
            begun = await client.create_multipart_upload(Bucket=server.bucket, Key=key)
            await client.upload_part(
                Bucket=server.bucket,
                Key=key,
                UploadId=begun["UploadId"],
                PartNumber=1,
                Body=b"voice",
            )


def test_every_command_is_run_and_in_the_table_of_the_page() -> None:
    names = {
        name.removeprefix("careflow-storage ") for name in names_of(COMMAND, "careflow-storage")
    }
    run = {name for name in names for line, _ in LINES if f"{line} ".startswith(f"{name} ")}
    assert run | TESTED_ELSEWHERE == names
    page = PAGE.read_text(encoding="utf-8")
    table = page.partition("| Command | Each line |")[2].partition("\n\n")[0]
    listed = re.findall(r"`([^`]+)`", "".join(line.split("|")[1] for line in table.split("\n")[2:]))
    assert sorted(listed) == sorted(names)


@pytest.mark.slow
async def test_stdout_has_one_object_on_each_line(
    server: B2Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    await fill(server)
    Path("a.wav").write_bytes(b"one")  # noqa: ASYNC240 - a small file of the test
    Path("b.wav").write_bytes(b"two")  # noqa: ASYNC240 - a small file of the test
    location_of(server.settings(bucket_name="careflow-copies"), tmp_path / "copies.env")
    location_of(server.settings(), tmp_path / "bucket.env")
    command = Command(server.settings())
    known = {"env": "bucket.env", "cors": "cors.jsonl", "lifecycle": "lifecycle.jsonl"}
    for line, count in LINES:
        ran = await command(*line.format(**known).split(), "--json", stdin="")
        assert ran.code in (0, 1, 3), (line, ran.err)
        items = ran.items
        assert all(isinstance(each, dict) for each in items), line
        assert count is None or len(items) == count, (line, ran.out, ran.err)
        for error in ran.err.splitlines():
            assert isinstance(json.loads(error), dict), line
        if line.startswith("jobs copy"):
            known["job"] = items[0]["job_id"]
        elif line == "uploads list" and items:
            known["upload"], known["other"] = (each["upload_id"] for each in items)
        elif line.startswith("keys create"):
            known["key"] = items[0]["key_id"]
        elif line.startswith("keys rotate"):
            known["new"] = items[0]["new_key_id"]
        for kind in ("cors", "lifecycle"):
            # What a command has printed is what `set` reads.
            if line.startswith(kind) and count == 2:
                (tmp_path / known[kind]).write_text(ran.out)
