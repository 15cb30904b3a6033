"""A bulk job that a signal stops says how to resume it, and the resumed job finishes."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from careflow_storage import BackblazeStorage
from careflow_storage.testing import B2Server
from tests.support.jobs import fill, location_of, numbered

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

COPIES = "careflow-copies"
BODIES = numbered(40)
STUCK = sorted(BODIES)[20]
PROGRAM = [sys.executable, "-W", "error", "-m", "careflow_storage.cli"]


@pytest.fixture
def files(server: B2Server, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The .env files of a source that holds one response back, and of a target."""
    server.create_bucket(COPIES)
    location_of(server.settings(), tmp_path / "old.env")
    location_of(server.settings(bucket_name=COPIES), tmp_path / "new.env")
    yield "old.env", "new.env"
    server.faults.clear()


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*PROGRAM, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "PYTHONIOENCODING": "utf-8",
        },
        # Ctrl-C in a terminal reaches all processes of the command.
        start_new_session=True,
    )


async def run_and_stop(
    server: B2Server, end: signal.Signals, *arguments: str
) -> tuple[int, str, str]:
    """Start a command, and send the signal once it waits for a response that is held back."""
    async with BackblazeStorage(server.settings()) as source:
        await fill(source, BODIES)
    # Both buckets are in one account: the server copies.
    rule = server.faults.always("CopyObject", key=re.escape(STUCK), cut="hang")
    with start(*arguments) as process:
        ended = asyncio.create_task(asyncio.to_thread(process.communicate))
        waits = asyncio.create_task(rule.fired.wait())
        try:
            await asyncio.wait({waits, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                os.killpg(process.pid, end)
            output, errors = await ended
        finally:
            waits.cancel()
            rule.release.set()
            server.faults.clear()
    assert rule.hits, errors
    return process.returncode, output, errors


@pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["one", "workers"])
@pytest.mark.parametrize(("end", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_a_stopped_copy_names_the_command_that_finishes_it(
    server: B2Server,
    files: tuple[str, str],
    end: signal.Signals,
    code: int,
    workers: tuple[str, ...],
) -> None:
    old, new = files
    returned, output, errors = await run_and_stop(
        server, end, "jobs", "copy", "--from-env", old, "--to-env", new, *workers
    )
    assert (returned, output) == (code, ""), errors
    assert errors.endswith("Interrupted.\n")
    assert "Traceback" not in errors
    resume = re.search(r"^To resume: careflow-storage (.*)$", errors, re.MULTILINE)
    assert resume is not None, errors
    assert resume[1].endswith(" ".join(["", "--to-env", new, *workers]))
    assert server.incomplete_uploads(bucket=COPIES) == []

    with start(*shlex.split(resume[1]), "--json") as resumed:
        output, errors = await asyncio.to_thread(resumed.communicate)
    assert resumed.returncode == 0, errors
    report = json.loads(output.splitlines()[-1])["report"]
    assert report["state"] == "finished"
    assert report["objects"] + report["skipped"] >= len(BODIES)
    copies = [each.key for each in server.versions(bucket=COPIES)]
    assert sorted(key for key in copies if not key.startswith("jobs/")) == sorted(BODIES)


async def test_events_end_with_the_command_that_resumes(
    server: B2Server, files: tuple[str, str]
) -> None:
    old, new = files
    returned, output, errors = await run_and_stop(
        server, signal.SIGINT, "jobs", "copy", "--from-env", old, "--to-env", new, "--json"
    )
    assert returned == 130
    events = [json.loads(line) for line in output.splitlines()]
    assert events[-1]["event"] == "stopped"
    job_id = events[0]["job_id"]
    assert events[-1]["resume"] == f"careflow-storage jobs resume {job_id} --to-env {new}"
    assert json.loads(errors)["error"]["type"] == "Interrupted"
