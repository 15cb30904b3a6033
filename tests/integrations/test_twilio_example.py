"""The example, from a webhook through kill -9 into the bucket: once, byte for byte."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from careflow_storage import BackblazeStorage, StorageSettings
from tests.support.behind_proxy import unfinished_uploads, versions
from tests.support.bodies import noise
from tests.support.twilio_media import (
    API_KEY,
    API_SECRET,
    AUTH_TOKEN,
    Recording,
    TwilioMedia,
    signed,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="it has no SIGKILL"),
]

EXAMPLES = Path(__file__).parents[2] / "examples"
PUBLIC = "https://calls.example.com"
# Twilio's host is this machine here.
SERVE = """
import sys, uvicorn
sys.path.insert(0, sys.argv[1])
from twilio_webhook import make_app
app = make_app(media_host="127.0.0.1", allow_private_addresses=True)
uvicorn.run(app, fd=int(sys.argv[2]), log_level="warning")
"""


class App:
    """The example in a process of its own, on a socket that outlives it."""

    def __init__(self, folder: Path, settings: StorageSettings) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        secret = settings.application_key
        assert secret is not None
        self._environment = os.environ | {
            "BACKBLAZE_KEY_ID": str(settings.key_id),
            "BACKBLAZE_APPLICATION_KEY": secret.get_secret_value(),
            "BACKBLAZE_BUCKET_NAME": str(settings.bucket_name),
            "BACKBLAZE_ENDPOINT": str(settings.endpoint),
            "BACKBLAZE_REGION": str(settings.region),
            "TWILIO_AUTH_TOKEN": AUTH_TOKEN,
            "TWILIO_API_KEY": API_KEY,
            "TWILIO_API_SECRET": API_SECRET,
            "PUBLIC_URL": PUBLIC,
            "OUTBOX": str(folder),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it. Requests wait in the socket until it accepts."""
        descriptor = self._listener.fileno()
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(EXAMPLES), str(descriptor)],
            env=self._environment,
            pass_fds=(descriptor,),
        )

    def end(self, by: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(by)
        return process.wait(30)

    def close(self) -> None:
        self.end(signal.SIGKILL)
        self._listener.close()


@pytest.fixture
async def media() -> AsyncIterator[TwilioMedia]:
    async with TwilioMedia() as server:
        yield server


@asynccontextmanager
async def running(folder: Path, settings: StorageSettings) -> AsyncIterator[App]:
    app = App(folder, settings)
    app.start()
    try:
        yield app
    finally:
        await asyncio.to_thread(app.close)


async def announce(client: httpx.AsyncClient, params: dict[str, str]) -> None:
    headers = signed(f"{PUBLIC}/twilio/recording", params)
    headers["Content-Type"] = "application/x-www-form-urlencoded"
    response = await client.post("/twilio/recording", content=urlencode(params), headers=headers)
    assert (response.status_code, response.text) == (204, "")


async def until_delivered(client: httpx.AsyncClient, count: int) -> dict[str, Any]:
    async with asyncio.timeout(60):
        while True:
            status: dict[str, Any] = (await client.get("/health")).json()
            if status["delivered"] == count:
                return status
            await asyncio.sleep(0.05)


async def test_a_process_killed_in_mid_fetch_loses_nothing_and_stores_nothing_twice(
    tmp_path: Path, settings: StorageSettings, storage: BackblazeStorage, media: TwilioMedia
) -> None:
    sid, data = "RE" + "5" * 32, noise(700_000)
    recording = Recording({"wav": data}, stall=asyncio.Event())
    media.recordings[sid] = recording
    async with (
        running(tmp_path / "outbox", settings) as app,
        httpx.AsyncClient(base_url=app.url, trust_env=False, timeout=60) as client,
    ):
        await announce(client, media.callback(sid))
        await asyncio.wait_for(recording.half_sent.wait(), 60)
        assert await asyncio.to_thread(app.end, signal.SIGKILL) == -signal.SIGKILL
        assert await storage.list_files() == []
        # Twilio has no response for the second webhook, and none of the media for a while.
        recording.faults += ["404", "503"]
        assert recording.stall is not None
        recording.stall.set()
        app.start()
        await announce(client, media.callback(sid))
        status = await until_delivered(client, 1)
        assert (status["pending"], status["dead"], status["bytes"]) == (0, 0, 0)
        assert await asyncio.to_thread(app.end, signal.SIGTERM) in (0, -signal.SIGTERM)
    (stored,) = await storage.list_files()
    assert stored.key.endswith(f"-{sid}.wav")
    assert await storage.get_file(stored.key) == data
    assert await versions(storage, stored.key) == (1, 0)
    assert await unfinished_uploads(storage) == []
    assert not list((tmp_path / "outbox" / "spool").iterdir())


async def test_many_announced_at_once_each_arrive_once(
    tmp_path: Path, settings: StorageSettings, storage: BackblazeStorage, media: TwilioMedia
) -> None:
    bodies = {f"RE{number:032x}": noise(20_000 + number) for number in range(30)}
    for sid, data in bodies.items():
        media.recordings[sid] = Recording({"wav": data}, faults=["404", "429"], redirect=302)
    async with (
        running(tmp_path / "outbox", settings) as app,
        httpx.AsyncClient(base_url=app.url, trust_env=False, timeout=60) as client,
    ):
        hooks = [announce(client, media.callback(sid)) for sid in (*bodies, *bodies)]
        await asyncio.gather(*hooks)
        await until_delivered(client, len(bodies))
    files = await storage.list_files()
    found = {file.key.rpartition("-")[2].removesuffix(".wav"): file for file in files}
    assert found.keys() == bodies.keys()
    for sid, file in found.items():
        assert await storage.get_file(file.key) == bodies[sid]
        assert media.recordings[sid].served == 1
        assert await versions(storage, file.key) == (1, 0)
