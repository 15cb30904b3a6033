"""A worker that stores recordings: one storage per process, shared by all its tasks.

    pip install taskiq
    python examples/worker.py [recording.webm]

The broker is in memory, so this runs without a server. Replace it by a real one (Redis, RabbitMQ,
NATS) and start the worker: nothing else changes. Needs the BACKBLAZE_* variables.

    taskiq worker --app-dir examples --wait-tasks-timeout 20 --shutdown-timeout 10 worker:broker

At shutdown the worker waits 20 seconds for its tasks. Then they are cancelled, their uploads are
aborted when the storage closes, and the broker gives the tasks to another worker.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

from taskiq import InMemoryBroker, TaskiqEvents, TaskiqState

from careflow_storage import BackblazeStorage, UploadResult

GREETING = Path(__file__).parent.parent / "tests" / "data" / "greeting.webm"

broker = InMemoryBroker()


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def open_storage(state: TaskiqState) -> None:
    state.opened = AsyncExitStack()
    state.storage = await state.opened.enter_async_context(BackblazeStorage())


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def close_storage(state: TaskiqState) -> None:
    # Cancels running tasks, and allows 5 seconds for their clean-up: less than --shutdown-timeout.
    await state.opened.aclose()


@broker.task
async def store_recording(call_id: str, path: str, recorded_at: datetime) -> UploadResult:
    """Store a file. A second run writes the same key, since the time is an argument."""
    storage: BackblazeStorage = broker.state.storage
    file = Path(path)
    return await storage.upload_recording(call_id, file, file.name, recorded_at=recorded_at)


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
