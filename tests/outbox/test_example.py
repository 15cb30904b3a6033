"""The example of the outbox runs as it stands, against a real server."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from careflow_storage import BackblazeStorage, StorageSettings
from careflow_storage.local import LocalServer
from careflow_storage.outbox import Outbox

EXAMPLE = Path(__file__).parents[2] / "examples" / "outbox_worker.py"


async def run_example(*arguments: str, **environment: str) -> str:
    finished = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-W", "error", str(EXAMPLE), *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert not finished.stderr
    return str(finished.stdout)


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGTERM")
async def test_other_processes_deliver_the_recordings_of_one(
    seaweedfs: LocalServer,
    seaweed_settings: StorageSettings,
    seaweed_storage: BackblazeStorage,
    recordings: dict[str, Path],
    tmp_path: Path,
) -> None:
    folder, path = str(tmp_path / "outbox"), recordings["greeting.webm"]
    environment = seaweedfs.environment() | {
        "BACKBLAZE_BUCKET_NAME": str(seaweed_settings.bucket_name)
    }
    output = await run_example("put", folder, str(path))
    assert "1 delivered, 0 given up" in await run_example("drain", folder, **environment)
    (stored,) = await seaweed_storage.list_files("recordings/CA123/")
    assert f"safe: {stored.key}" in output
    assert await seaweed_storage.get_file(stored.key) == path.read_bytes()

    worker = await asyncio.create_subprocess_exec(
        *(sys.executable, str(EXAMPLE), "run", folder),
        env=os.environ | environment,
        stdout=subprocess.PIPE,
    )
    async with Outbox(folder) as outbox, asyncio.timeout(60):
        await outbox.put_recording("CA456", path, "again.webm")
        while (await outbox.status()).delivered < 2:  # noqa: ASYNC110 - another process does it
            await asyncio.sleep(0.05)
    worker.send_signal(signal.SIGTERM)
    await worker.communicate()
    assert worker.returncode == 0
    assert json.loads(await run_example("status", folder))["delivered"] == 2
