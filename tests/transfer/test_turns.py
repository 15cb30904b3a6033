"""Bodies and writes that never pause: other tasks run, deadlines and cancellations work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from careflow_storage import BackblazeStorage, StorageTimeoutError
from careflow_storage.outbox import Outbox
from careflow_storage.testing import B2Server

# A blocked event loop ends after this many chunks: a few seconds, and less than a part.
ENOUGH = 4_000_000


class Neighbour:
    """A task that needs the event loop, and how often it ran since the first chunk."""

    def __init__(self) -> None:
        self.turns = 0
        self.chunks = 0

    def wants_more(self) -> bool:
        """Whether the neighbour still waits to run. Called before each chunk."""
        if not self.chunks:
            self.turns = 0
        self.chunks += 1
        return self.turns < 3 and self.chunks < ENOUGH

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async def run() -> None:
            while True:
                self.turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})


class Reader:
    """An async file whose bytes are ready."""

    def __init__(self, neighbour: Neighbour, chunk: bytes) -> None:
        self._neighbour = neighbour
        self._chunk = chunk

    async def read(self, size: int = -1) -> bytes:
        return self._chunk if self._neighbour.wants_more() else b""


async def chunks(neighbour: Neighbour, chunk: bytes) -> AsyncIterator[bytes]:
    while neighbour.wants_more():
        yield chunk


def sync_chunks(neighbour: Neighbour, chunk: bytes) -> Iterator[bytes]:
    while neighbour.wants_more():
        yield chunk


BODIES: dict[str, tuple[Callable[[Neighbour, bytes], Any], bytes]] = {
    "empty chunks": (chunks, b""),
    "chunks of a byte": (chunks, b"x"),
    "reads of a byte": (Reader, b"x"),
    "sync chunks of a byte": (sync_chunks, b"x"),
    "sync empty chunks": (sync_chunks, b""),
}


@pytest.fixture
async def storage() -> AsyncIterator[BackblazeStorage]:
    with B2Server() as server:
        async with BackblazeStorage(server.settings()) as opened:
            yield opened


@pytest.mark.parametrize("kind", BODIES)
async def test_other_tasks_run_while_a_body_never_pauses(
    storage: BackblazeStorage, kind: str
) -> None:
    make, chunk = BODIES[kind]
    neighbour = Neighbour()
    async with neighbour.running():
        await storage.upload_file("key", make(neighbour, chunk))
    assert neighbour.chunks < ENOUGH
    assert await storage.get_file("key") == chunk * (neighbour.chunks - 1)


@pytest.mark.parametrize("kind", ["empty chunks", "reads of a byte"])
async def test_other_tasks_run_while_the_outbox_copies(tmp_path: Path, kind: str) -> None:
    make, chunk = BODIES[kind]
    neighbour = Neighbour()
    async with Outbox(tmp_path / "outbox") as outbox, neighbour.running():
        entry = await outbox.put_recording("CA1", make(neighbour, chunk), "call.wav")
    assert entry.size == len(chunk) * (neighbour.chunks - 1)
    assert neighbour.chunks < ENOUGH


@pytest.mark.parametrize("chunk", [b"", b"x"], ids=["nothing", "a byte"])
async def test_other_tasks_run_while_a_recording_is_written(
    storage: BackblazeStorage, chunk: bytes
) -> None:
    neighbour = Neighbour()
    async with neighbour.running(), storage.open_recording("CA1", "call.wav") as writer:
        while neighbour.wants_more():
            await writer.write(chunk)
    assert neighbour.chunks < ENOUGH
    assert await storage.get_file(writer.key) == chunk * (neighbour.chunks - 1)


async def without_end(begun: asyncio.Event) -> AsyncIterator[bytes]:
    """Yield empty chunks; fail after many of them, which only a blocked event loop reaches."""
    begun.set()
    for _ in range(5 * ENOUGH):
        yield b""
    raise AssertionError("neither a deadline nor a cancellation has ended it")


async def test_a_deadline_ends_a_body_of_empty_chunks(storage: BackblazeStorage) -> None:
    with pytest.raises(StorageTimeoutError):
        await storage.upload_file("key", without_end(asyncio.Event()), timeout=0.05)


async def test_a_cancellation_ends_a_body_of_empty_chunks(storage: BackblazeStorage) -> None:
    begun = asyncio.Event()
    upload = asyncio.create_task(storage.upload_file("key", without_end(begun)))
    await begun.wait()
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload


async def test_after_a_cancelled_write_bytes_written_is_exact(storage: BackblazeStorage) -> None:
    begun, taken = asyncio.Event(), 0

    async def write() -> None:
        nonlocal taken
        begun.set()
        for _ in range(ENOUGH):
            await writer.write(b"x")
            taken += 1

    async with storage.open_recording("CA1", "call.wav") as writer:
        writing = asyncio.create_task(write())
        await begun.wait()
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        assert writer.bytes_written == taken
    assert await storage.get_file(writer.key) == b"x" * taken
