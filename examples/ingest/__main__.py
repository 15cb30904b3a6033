"""500 recordings, announced by webhooks twice each, fetched by two workers of which one is killed.

    pip install 'careflow-storage[fastapi,local,outbox]' uvicorn
    python -m examples.ingest [--recordings 500]      # in a checkout of the repository

Starts an S3 server, a provider that is never ready at once, the web app and two workers, all on
this machine. While they work, one worker is killed with SIGKILL and one is stopped with SIGTERM;
each is replaced. At the end every recording must be in the bucket once, byte for byte.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import hmac
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import aiohttp

from careflow_storage import BackblazeStorage
from careflow_storage.local import LocalServer
from careflow_storage.outbox import Outbox, OutboxStatus
from examples.ingest.provider import API_KEY, API_SECRET, Provider, recording

ROOT = Path(__file__).parents[2]
AUTH_TOKEN = "demo-token"  # noqa: S105 - of nothing but this example
DEADLINE = 600


class Processes:
    """The web app and the workers."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._all: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Run ``python -m`` with these arguments."""
        command = [sys.executable, "-m", *arguments]
        process = subprocess.Popen(command, env=self._environment, cwd=ROOT)  # noqa: S603
        self._all.append(process)
        return process

    def start_worker(self) -> subprocess.Popen[bytes]:
        """Run one more worker."""
        return self.start("examples.ingest.worker")

    def stop(self) -> None:
        """Stop all that are alive."""
        for process in self._all:
            process.terminate()
        for process in self._all:
            process.wait(30)


async def announce(web: str, provider: str, recordings: int) -> Counter[int]:
    """Send all webhooks, each twice; return the statuses of the responses."""
    statuses: Counter[int] = Counter()
    several = asyncio.Semaphore(20)
    url = f"{web}/twilio/recording"

    async def send(session: aiohttp.ClientSession, number: int) -> None:
        params = {
            "CallSid": f"CA{number:04}",
            "RecordingSid": f"RE{number}",
            "RecordingStatus": "completed",
            "RecordingUrl": f"{provider}/recordings/RE{number}",
            "RecordingStartTime": "Mon, 23 Nov 2026 12:00:00 +0000",
        }
        text = url + "".join(f"{name}{params[name]}" for name in sorted(params))
        digest = hmac.new(AUTH_TOKEN.encode(), text.encode(), hashlib.sha1).digest()
        headers = {"X-Twilio-Signature": base64.b64encode(digest).decode()}
        async with several, session.post(url, data=params, headers=headers) as response:
            statuses[response.status] += 1

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(send(session, n) for n in [*range(recordings)] * 2))
    return statuses


async def until_delivered(outbox: Outbox, count: int) -> OutboxStatus:
    """Wait until this number of recordings is delivered."""
    async with asyncio.timeout(DEADLINE):
        while True:
            status = await outbox.status()
            if status.delivered >= count:
                return status
            await asyncio.sleep(0.05)


async def check(storage: BackblazeStorage, recordings: int) -> dict[str, int]:
    """Compare the bucket with what the provider has."""
    expected = {f"RE{number}": recording(number) for number in range(recordings)}
    whole: Counter[str] = Counter()
    cut_off = 0
    async for version in storage.admin.list_file_versions():
        data = await storage.get_file(version.key, version_id=version.version_id, verify=False)
        sid = version.key.rpartition("-")[2].removesuffix(".wav")
        if data == expected.get(sid):
            whole[sid] += 1
        else:
            # The server keeps what has arrived of a PUT whose sender was killed. B2 does not.
            cut_off += 1
    stored = {
        file.key.rpartition("-")[2].removesuffix(".wav"): await storage.get_file(file.key)
        for file in await storage.list_files()
    }
    return {
        "files in the bucket": len(stored),
        "byte for byte": sum(stored.get(sid) == data for sid, data in expected.items()),
        "lost": len(expected.keys() - stored.keys()),
        "stored twice": sum(count > 1 for count in whole.values()),
        "uploads left over": len(await storage.list_incomplete_uploads()),
        "cut-off versions": cut_off,
    }


async def ingest(recordings: int, server: LocalServer, folder: str) -> dict[str, int]:
    """Run all of it; return the rows of the table."""
    began = time.monotonic()
    provider = Provider()
    provider_url = await provider.start()
    processes = Processes(
        os.environ
        | server.environment()
        | {
            "OUTBOX": folder,
            "TWILIO_AUTH_TOKEN": AUTH_TOKEN,
            "TWILIO_API_KEY": API_KEY,
            "TWILIO_API_SECRET": API_SECRET,
        }
    )
    try:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        async with Outbox(folder) as outbox, BackblazeStorage(server.settings()) as storage:
            processes.start(
                *("uvicorn", "--port", str(port), "--log-level", "warning"),
                "examples.ingest.web:app",
            )
            first, second = processes.start_worker(), processes.start_worker()
            await until_reachable(port)
            statuses = await announce(f"http://127.0.0.1:{port}", provider_url, recordings)
            await until_delivered(outbox, recordings // 4)
            first.send_signal(signal.SIGKILL)
            processes.start_worker()
            await until_delivered(outbox, recordings // 2)
            second.send_signal(signal.SIGTERM)
            processes.start_worker()
            status = await until_delivered(outbox, recordings)
            return {
                "recordings": recordings,
                "webhooks": statuses.total(),
                "responses 204": statuses[204],
                "workers killed": 1,
                "workers restarted": 1,
                "provider: not ready yet": provider.responses[404],
                "provider: served": provider.responses[200],
                "delivered": status.delivered,
                "dead letters": status.dead,
                **await check(storage, recordings),
                "seconds": round(time.monotonic() - began),
            }
    finally:
        processes.stop()
        await provider.stop()


async def until_reachable(port: int) -> None:
    """Wait until the web app listens."""
    async with asyncio.timeout(60):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                await writer.wait_closed()
                return


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recordings", type=int, default=500)
    recordings = parser.parse_args().recordings
    with LocalServer() as server, tempfile.TemporaryDirectory() as folder:
        rows = asyncio.run(ingest(recordings, server, f"{folder}/outbox"))
    for name, value in rows.items():
        print(f"{name:<24}{value:>8,}")
    right = rows["byte for byte"] == recordings == rows["files in the bucket"]
    return 0 if right and not rows["stored twice"] + rows["dead letters"] else 1


if __name__ == "__main__":
    sys.exit(main())
