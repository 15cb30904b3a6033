"""A worker that stores recordings: one storage per process, shared by all its tasks.

    pip install 'careflow-storage[taskiq]'
    python examples/worker.py [recording.webm]

The broker is in memory, so this runs without a server. Replace it by a real one (Redis, RabbitMQ,
NATS) and start the worker: nothing else changes. Needs the BACKBLAZE_* variables.

    taskiq worker --app-dir examples --wait-tasks-timeout 20 --shutdown-timeout 15 worker:broker

At shutdown the worker waits 20 seconds for its tasks. Then their uploads are aborted, and the
tasks are sent to the broker again, for another worker.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path

from taskiq import InMemoryBroker, TaskiqDepends

from careflow_storage import BackblazeStorage, UploadResult
from careflow_storage.integrations.taskiq import (
    get_storage,
    install,
    schedule_abort_stale_uploads,
)

GREETING = Path(__file__).parent.parent / "tests" / "data" / "greeting.webm"
STORAGE = TaskiqDepends(get_storage)

broker = InMemoryBroker()
install(broker)
schedule_abort_stale_uploads(broker)


@broker.task
async def store_recording(
    call_id: str, path: str, recorded_at: datetime, storage: BackblazeStorage = STORAGE
) -> UploadResult:
    """Store a file. A second run finds it by its key, since the time is an argument."""
    file = Path(path)
    return await storage.upload_recording(
        call_id, file, file.name, recorded_at=recorded_at, if_exists="return"
    )


async def main(path: Path) -> None:
    await broker.startup()
    try:
        task = await store_recording.kiq("CA123", str(path), datetime.now(UTC))
        result = await task.wait_result(timeout=60)
        result.raise_for_error()
        print(f"stored {result.return_value.key}: {result.return_value.size} bytes")
    finally:
        await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]) if len(sys.argv) > 1 else GREETING))
