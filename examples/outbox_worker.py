"""A worker that delivers from an outbox, and a command that puts recordings into it.

    pip install 'careflow-storage[outbox]'
    python examples/outbox_worker.py put FOLDER recording.webm   # safe on disk, no network
    python examples/outbox_worker.py run FOLDER                  # deliver until Ctrl-C or SIGTERM
    python examples/outbox_worker.py drain FOLDER                # deliver everything, then end
    python examples/outbox_worker.py status FOLDER               # one line of JSON

Any number of them can run at the same time: they share the folder. Only `run` and `drain` need the
BACKBLAZE_* variables.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from pathlib import Path

from careflow_storage import BackblazeStorage
from careflow_storage.outbox import Outbox

MAX_BYTES = 10 * 1024**3


async def put(folder: str, *paths: str) -> None:
    async with Outbox(folder, max_bytes=MAX_BYTES) as outbox:
        for path in map(Path, paths):
            entry = await outbox.put_recording("CA123", path, path.name)
            print(f"safe: {entry.key}")


async def run(folder: str) -> None:
    async with BackblazeStorage() as storage, Outbox(folder, storage) as outbox:
        delivering = asyncio.create_task(outbox.run())
        # A delivery in progress is released, and the next worker delivers it.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, delivering.cancel)
        print("delivering", flush=True)
        await asyncio.wait({delivering})
        if not delivering.cancelled():
            delivering.result()  # raises its error


async def drain(folder: str) -> None:
    async with BackblazeStorage() as storage, Outbox(folder, storage) as outbox:
        async with asyncio.timeout(600):
            status = await outbox.drain()
        print(f"{status.delivered} delivered, {status.dead} given up")


async def status(folder: str) -> None:
    async with Outbox(folder, max_bytes=MAX_BYTES) as outbox:
        print((await outbox.status()).model_dump_json())


def main() -> None:
    logging.basicConfig(level=logging.WARNING)
    commands = {"put": put, "run": run, "drain": drain, "status": status}
    if len(sys.argv) < 3 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    asyncio.run(commands[sys.argv[1]](*sys.argv[2:]))


if __name__ == "__main__":
    main()
