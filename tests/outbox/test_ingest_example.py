"""The ingest example runs as its text says, with fewer recordings."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.integration,
    pytest.mark.skipif(sys.platform == "win32", reason="it has no SIGKILL"),
]

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("queue", ["redis", "outbox"])
def test_every_recording_arrives_once_although_workers_are_killed(queue: str) -> None:
    if queue == "redis" and shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    finished = subprocess.run(
        [sys.executable, "-m", "examples.ingest", "--queue", queue, "--recordings", "40"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    rows = dict(line.rsplit(None, 1) for line in finished.stdout.splitlines())
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert (rows["responses 204"], rows["byte for byte"], rows["lost"]) == ("80", "40", "0")
    assert "Traceback" not in finished.stderr
