"""A download to a file: parallel ranges, verified, and the file appears whole or not at all."""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import IO

from careflow_storage.errors import InvalidInputError
from careflow_storage.models import DownloadResult
from careflow_storage.s3.requests import ObjectHead
from careflow_storage.transfer.engine import Engine
from careflow_storage.transfer.progress import Meter, ProgressCallback, metered
from careflow_storage.transfer.stream import FileStream
from careflow_storage.transfer.tasks import task_group
from careflow_storage.transfer.verify import EtagHasher, Verified, check_digests, part_ends

_WRITE_BYTES = 1024 * 1024
# A range holds what it is about to write and what it is reading meanwhile.
_RANGE_MEMORY = 2 * _WRITE_BYTES


async def download(
    engine: Engine,
    key: str,
    target: str | os.PathLike[str],
    *,
    version_id: str | None,
    verify: bool,
    progress: ProgressCallback | None,
) -> DownloadResult:
    """Write the object ``key`` to ``target``; an existing file is replaced at the end."""
    path = _checked_path(target)
    await engine.threads.run(_check_target, path)
    head = await engine.requests.head_object(key, version_id=version_id)
    async with (
        metered(progress, head.file.size) as meter,
        _temporary_file(engine, path) as file,
    ):
        verified = await _Download(engine, head, file, meter, verify=verify).run()
        await engine.threads.run(file.publish, path)
    return DownloadResult(
        key=key,
        path=path,
        size=head.file.size,
        etag=head.file.etag,
        version_id=head.file.version_id,
        content_type=head.file.content_type,
        verified=verified,
    )


def _checked_path(target: str | os.PathLike[str]) -> Path:
    try:
        return Path(target)
    except TypeError:
        raise InvalidInputError(
            f"path must be a str or a Path, not {type(target).__name__}."
        ) from None


def _check_target(path: Path) -> None:
    if path.is_dir():
        raise InvalidInputError(f"{str(path)!r} is a folder; give the name of a file.")
    if not path.parent.is_dir():
        raise InvalidInputError(f"The folder {str(path.parent)!r} does not exist.")


class _TemporaryFile:
    """The file beside the target that ranges are written into, each at its place."""

    def __init__(self, path: Path) -> None:
        self.path = path.with_name(f".careflow-{secrets.token_hex(8)}.part")
        self._file: IO[bytes] | None = None
        self._discarded = False
        self._lock = threading.Lock()

    def open(self) -> None:
        with self._lock:
            # Who was cancelled while this waited for a thread has discarded the file already.
            if not self._discarded:
                self._file = self.path.open("xb+", buffering=0)

    def write_at(self, position: int, chunks: list[bytes]) -> None:
        with self._lock:
            file = self._opened()
            file.seek(position)
            for chunk in chunks:
                view = memoryview(chunk)
                while view:
                    view = view[file.write(view) :]

    def read_at(self, position: int, size: int) -> bytes:
        with self._lock:
            file = self._opened()
            file.seek(position)
            return file.read(size)

    def publish(self, path: Path) -> None:
        with self._lock:
            file = self._opened()
            os.fsync(file.fileno())
            file.close()
            self.path.replace(path)

    def discard(self) -> None:
        with self._lock:
            self._discarded = True
            if self._file is not None:
                self._file.close()
                self.path.unlink(missing_ok=True)

    def _opened(self) -> IO[bytes]:
        if self._file is None or self._discarded:
            raise ValueError("the temporary file is not open")
        return self._file


@asynccontextmanager
async def _temporary_file(engine: Engine, path: Path) -> AsyncIterator[_TemporaryFile]:
    file = _TemporaryFile(path)
    try:
        await engine.threads.run(file.open)
        yield file
    finally:
        await engine.threads.clean_up(file.discard)


class _Download:
    def __init__(
        self, engine: Engine, head: ObjectHead, file: _TemporaryFile, meter: Meter, *, verify: bool
    ) -> None:
        self._engine = engine
        self._object = head.file
        self._file = file
        self._meter = meter
        self._ends = self._hashed_ends(head) if verify else []

    def _hashed_ends(self, head: ObjectHead) -> list[int]:
        return part_ends(head.file.size, head.file.etag, head.headers, head.upload_mark)

    async def run(self) -> Verified:
        """Fetch all ranges; a multipart object by its own parts, so that each can be hashed."""
        size = self._object.size
        composite = len(self._ends) > 1
        ends = self._ends if composite else _even_ends(size, self._engine.settings.part_size)
        window = asyncio.Semaphore(self._engine.settings.transfer_concurrency)
        tasks: list[asyncio.Task[list[bytes]]] = []
        start = 0
        async with task_group() as group:
            for end in ends:
                await window.acquire()
                tasks.append(group.create_task(self._fetch(start, end, window, hashed=composite)))
                start = end
        if composite:
            digests = [digest for task in tasks for digest in task.result()]
        else:
            digests = await self._hash_file() if self._ends else []
        return check_digests(self._object.etag, digests, key=self._object.key)

    async def _fetch(
        self, start: int, end: int, window: asyncio.Semaphore, *, hashed: bool
    ) -> list[bytes]:
        engine = self._engine
        share = await engine.budget.acquire(_RANGE_MEMORY)
        hasher = EtagHasher([end - start] if hashed else [], engine.threads)
        stream = FileStream(
            engine,
            self._object.key,
            start=start,
            end=end,
            version_id=self._object.version_id,
            if_match=self._object.etag,
        )
        position, batch, batched = start, list[bytes](), 0
        try:
            # Closed here and now: left to the garbage collector it would need another task.
            async with aclosing(aiter(stream)) as chunks:
                async for chunk in chunks:
                    await hasher.update(chunk)
                    batch.append(chunk)
                    batched += len(chunk)
                    self._meter.add(len(chunk))
                    if batched >= _WRITE_BYTES:
                        await engine.threads.run(self._file.write_at, position, batch)
                        position, batch, batched = position + batched, [], 0
            await engine.threads.run(self._file.write_at, position, batch)
            return await hasher.digests()
        finally:
            # First what needs no waiting: a second cancellation may cut the waiting short.
            engine.budget.release(share)
            window.release()
            await stream.aclose()
            await hasher.aclose()

    async def _hash_file(self) -> list[bytes]:
        hasher = EtagHasher(self._ends, self._engine.threads)
        try:
            for position in range(0, self._object.size, _WRITE_BYTES):
                await hasher.update(
                    await self._engine.threads.run(self._file.read_at, position, _WRITE_BYTES)
                )
            return await hasher.digests()
        finally:
            await hasher.aclose()


def _even_ends(size: int, step: int) -> list[int]:
    return [*range(step, size, step), size] if size else []
