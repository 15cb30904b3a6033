"""500 recordings, announced by webhooks twice each, fetched by two workers of which one is killed.

    pip install 'careflow-storage[arq,fastapi,local,outbox]' uvicorn
    python -m examples.ingest                    # in a checkout of the repository
    python -m examples.ingest --queue outbox     # without Redis

Starts an S3 server, Redis, a provider that is never ready at once, the web app and two workers,
all on this machine. While they work, one worker is killed with SIGKILL and one is stopped with
SIGTERM; each is replaced. At the end every recording must be in the bucket once, byte for byte.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time

from careflow_storage import BackblazeStorage
from careflow_storage.local import LocalServer
from examples.ingest.announce import AUTH_TOKEN, announce
from examples.ingest.check import check, is_right
from examples.ingest.processes import Processes, free_port, until_reachable
from examples.ingest.provider import API_KEY, API_SECRET, Provider
from examples.ingest.queues import QUEUES, Queue


async def ingest(queue: str, recordings: int, server: LocalServer, folder: str) -> dict[str, int]:
    """Run all of it; return the rows of the table."""
    began = time.monotonic()
    provider = Provider()
    provider_url = await provider.start()
    processes = Processes(
        os.environ
        | server.environment()
        | {
            "TWILIO_AUTH_TOKEN": AUTH_TOKEN,
            "TWILIO_API_KEY": API_KEY,
            "TWILIO_API_SECRET": API_SECRET,
        }
    )
    try:
        async with (
            BackblazeStorage(server.settings()) as storage,
            QUEUES[queue](processes, storage, folder) as jobs,
        ):
            rows = await announce_and_interrupt(jobs, processes, provider_url, recordings)
            return {
                **rows,
                "provider: not ready yet": provider.responses[404],
                "provider: served": provider.responses[200],
                **await check(storage, recordings),
                "seconds": round(time.monotonic() - began),
            }
    finally:
        processes.stop()
        await provider.stop()


async def announce_and_interrupt(
    jobs: Queue, processes: Processes, provider: str, recordings: int
) -> dict[str, int]:
    """Announce all recordings, and kill a worker while they are fetched."""
    port = free_port()
    processes.python("uvicorn", "--port", str(port), "--log-level", "warning", jobs.web_app)
    first, second = jobs.start_worker(), jobs.start_worker()
    await until_reachable(port)
    statuses = await announce(f"http://127.0.0.1:{port}", provider, recordings)
    await jobs.until_stored(recordings // 4)
    first.send_signal(signal.SIGKILL)
    jobs.start_worker()
    await jobs.until_stored(recordings // 2)
    second.send_signal(signal.SIGTERM)
    jobs.start_worker()
    await jobs.until_stored(recordings)
    return {
        "recordings": recordings,
        "webhooks": statuses.total(),
        "responses 204": statuses[204],
        "workers killed": 1,
        "workers restarted": 1,
        **await jobs.rows(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queue", choices=list(QUEUES), default="redis")
    parser.add_argument("--recordings", type=int, default=500)
    chosen = parser.parse_args()
    with LocalServer() as server, tempfile.TemporaryDirectory() as folder:
        rows = asyncio.run(ingest(chosen.queue, chosen.recordings, server, folder))
    for name, value in rows.items():
        print(f"{name:<30}{value:>8,}")
    return 0 if is_right(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
