"""A worker that stores recordings: one storage per process, shared by all its tasks.

    pip install taskiq
    python examples/worker.py [recording.webm]

The broker here lives in memory, so this runs as it stands. Put a real one in its place
(Redis, RabbitMQ, NATS) and start it: nothing else changes. Needs the BACKBLAZE_* variables.

    taskiq worker --app-dir examples --wait-tasks-timeout 20 --shutdown-timeout 10 worker:broker

At its end it waits 20 seconds for its tasks. What then still runs is cancelled, and aborted when
the storage closes; the broker gives it to another worker.
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
    # Cancels what still runs, and gives its clean-up 5 seconds: less than the shutdown may take.
    await state.opened.aclose()


@broker.task
async def store_recording(call_id: str, path: str, recorded_at: datetime) -> UploadResult:
    """Store a file. Run twice it writes the same key again, since its time is an argument."""
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
