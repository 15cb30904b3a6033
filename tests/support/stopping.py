"""Calls that stand still in the middle, and what must be true after their storage was closed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from careflow_storage import BackblazeStorage, StorageSettings
from careflow_storage.testing.proxy.rule import Rule
from careflow_storage.testing.server import B2Server
from tests.support.bodies import noise

PART = 64 * 1024
LONG = noise(3 * PART + 7)
SHORT = LONG[:1000]
THERE = "there"


def small_parts(settings: StorageSettings) -> StorageSettings:
    """The same, with parts far below what servers outside of tests allow."""
    small = settings.model_copy(
        update={"multipart_threshold": PART, "transfer_concurrency": 2, "retry_max_delay": 60.0}
    )
    small.__dict__.update(part_size=PART)
    return small


@dataclass
class World:
    """A storage on the emulator, and the moment in which a call stands still.

    Attributes:
        still: Set when the call has come to its middle.
        go_on: Lets what is idle in its own code go on.
    """

    storage: BackblazeStorage
    server: B2Server
    folder: Path
    still: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    def stall(self, operation: str, **what: Any) -> Rule:
        """Let these requests hang, or do ``what``, and the first of them set ``still``."""
        rule = self.server.faults.always(operation, **(what or {"cut": "hang"}))

        async def wait() -> None:
            await rule.fired.wait()
            self.still.set()

        self._watch = asyncio.create_task(wait())
        return rule

    async def idle(self) -> None:
        """Stand still in code of one's own."""
        self.still.set()
        await self.go_on.wait()


Begin = Callable[[World], Awaitable[Any]]


@dataclass(frozen=True)
class StoppedCall:
    """A call that stands still.

    ``kept`` is what must be stored of it afterwards, as a partial recording. ``idle`` ones wait
    in the user's code: closing does not cancel them, their next use of the storage fails.
    """

    begin: Begin
    kept: bytes | None = None
    idle: bool = False


async def _endless(world: World) -> AsyncIterator[bytes]:
    yield LONG
    await world.idle()
    yield LONG


async def _upload(world: World, body: Any, stalled: str, **what: Any) -> None:
    world.stall(stalled, **what)
    await world.storage.upload_file("new", body)


async def _upload_path(world: World) -> None:
    path = world.folder / "source"
    path.write_bytes(LONG)
    await _upload(world, path, "UploadPart", cut="hang", path="partNumber=2")


async def _record(world: World, data: bytes, on_error: Any, **options: Any) -> None:
    async with world.storage.open_recording(
        "CA1", "call.webm", on_error=on_error, **options
    ) as writer:
        await writer.write(data)
        await world.idle()
        await writer.write(data)


async def _record_stalled(world: World) -> None:
    """The parts stand still, and so does the writer, who waits for room."""
    world.stall("UploadPart")
    async with world.storage.open_recording("CA1", "call.webm") as writer:
        while True:
            await writer.write(LONG)


async def _download(world: World) -> None:
    world.stall("GetObject", cut="hang", at=("body", 1000))
    await world.storage.download_file(THERE, world.folder / "file")


async def _get(world: World) -> None:
    world.stall("GetObject", cut="hang", at=("body", 1000))
    await world.storage.get_file(THERE)


async def _stream_stalled(world: World) -> None:
    world.stall("GetObject", cut="hang", at=("body", 1000))
    async with world.storage.stream_file(THERE) as stream:
        async for _ in stream:
            pass


async def _stream_idle(world: World) -> None:
    async with world.storage.stream_file(THERE) as stream:
        async for _ in stream:
            await world.idle()


async def _serve_stalled(world: World) -> None:
    world.stall("GetObject", cut="hang", at=("body", 1000))
    async with (await world.storage.serve_file(THERE)).body as body:
        async for _ in body:
            pass


async def _serve_idle(world: World) -> None:
    async with (await world.storage.serve_file(THERE)).body as body:
        async for _ in body:
            await world.idle()


async def _reader_idle(world: World) -> None:
    async with await world.storage.open_file(THERE) as reader:
        await reader.read(10)
        await world.idle()
        await reader.seek(100_000)
        await reader.read(10)


async def _reader_stalled(world: World) -> None:
    async with await world.storage.open_file(THERE) as reader:
        world.stall("GetObject")
        await reader.read(10)


async def _list(world: World) -> None:
    world.stall("ListObjectsV2")
    await world.storage.list_files()


async def _list_idle(world: World) -> None:
    async for _ in world.storage.list_files():
        await world.idle()
    await world.storage.list_files()


async def _head(world: World) -> None:
    world.stall("HeadObject")
    await world.storage.get_file_metadata(THERE)


async def _purge(world: World) -> None:
    world.stall("ListObjectVersions")
    await world.storage.purge_file(THERE)


async def _retry(world: World) -> None:
    """Between two attempts."""
    world.stall("HeadObject", status=503, retry_after=30)
    await world.storage.file_exists(THERE)


STOPPED: dict[str, StoppedCall] = {
    "put": StoppedCall(lambda world: _upload(world, SHORT, "PutObject")),
    "upload, in parts": StoppedCall(
        lambda world: _upload(world, LONG, "UploadPart", cut="hang", path="partNumber=2")
    ),
    "upload, beginning": StoppedCall(
        lambda world: _upload(world, LONG, "CreateMultipartUpload", delay=0.3)
    ),
    "upload, completing": StoppedCall(
        lambda world: _upload(world, LONG, "CompleteMultipartUpload")
    ),
    "upload, slow generator": StoppedCall(
        lambda world: world.storage.upload_file("new", _endless(world))
    ),
    "upload, path": StoppedCall(_upload_path),
    "recording, short, abort": StoppedCall(lambda world: _record(world, SHORT, "abort"), idle=True),
    "recording, long, abort": StoppedCall(lambda world: _record(world, LONG, "abort"), idle=True),
    "recording, short, keep": StoppedCall(
        lambda world: _record(world, SHORT, "keep"), kept=SHORT, idle=True
    ),
    "recording, long, keep": StoppedCall(
        lambda world: _record(world, LONG, "keep"), kept=LONG, idle=True
    ),
    "recording, flushed, keep": StoppedCall(
        lambda world: _record(world, LONG, "keep", flush_interval=0.01), kept=LONG, idle=True
    ),
    "recording, stalled, abort": StoppedCall(_record_stalled, idle=True),
    "download": StoppedCall(_download),
    "get": StoppedCall(_get),
    "stream, stalled": StoppedCall(_stream_stalled),
    "stream, idle": StoppedCall(_stream_idle, idle=True),
    "serve, stalled": StoppedCall(_serve_stalled),
    "serve, idle": StoppedCall(_serve_idle, idle=True),
    "reader, stalled": StoppedCall(_reader_stalled),
    "reader, idle": StoppedCall(_reader_idle, idle=True),
    "listing": StoppedCall(_list),
    "listing, idle": StoppedCall(_list_idle, idle=True),
    "head": StoppedCall(_head),
    "retry": StoppedCall(_retry),
    "purge": StoppedCall(_purge),
}
