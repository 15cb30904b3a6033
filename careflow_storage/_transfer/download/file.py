"""Downloads to a file: parallel ranges, verified, and published only when complete."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import zlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

from careflow_storage._in_flight import help_call
from careflow_storage._log_fields import log_fields
from careflow_storage._s3.headers.encryption import key_headers
from careflow_storage._s3.headers.objects import ObjectHead
from careflow_storage._transfer.bodies.memory import reserved_memory
from careflow_storage._transfer.bodies.parts import even_ends
from careflow_storage._transfer.context import TransferContext
from careflow_storage._transfer.download.partial_file import PartialFile
from careflow_storage._transfer.download.stream import FileStream
from careflow_storage._transfer.download.target import LocalTarget
from careflow_storage._transfer.download.verify import (
    EtagHasher,
    Verified,
    part_ends,
    verify_digests,
)
from careflow_storage._transfer.progress import Meter, ProgressCallback, metered
from careflow_storage._transfer.tasks import task_group
from careflow_storage._transfer.threads import Threads
from careflow_storage._uninterrupted import ignore_outcome, wait_out
from careflow_storage.errors import ChecksumMismatchError
from careflow_storage.models import DownloadResult
from careflow_storage.protection import CustomerKey

logger = logging.getLogger("careflow_storage")


async def download(
    context: TransferContext,
    key: str,
    target: str | os.PathLike[str],
    *,
    version_id: str | None,
    verify: bool,
    progress: ProgressCallback | None,
    resume: bool = False,
    encryption: CustomerKey | None = None,
) -> DownloadResult:
    """Download the object ``key`` to ``target``; replace an existing file at the end.

    The file gets the mode of the file that it replaces, or the default mode of a new file. A
    symbolic link at ``target`` is replaced, not followed.

    With ``resume``, the bytes written before a failure stay in two files beside the target. The
    next call for the same version of the object fetches only the missing ranges.
    """
    place = await context.threads.run(LocalTarget.checked, target)
    head = await context.requests.head_object(
        key, version_id=version_id, headers=key_headers(encryption)
    )
    identity = _identity(context, head) if resume else None
    async with (
        metered(progress, head.file.size) as meter,
        _partial_file(context, place, identity) as file,
    ):
        run = _Download(context, head, file, meter, verify=verify, encryption=encryption)
        try:
            verified = await run.run()
        except ChecksumMismatchError:
            await context.threads.run(file.forget)
            raise
        await context.threads.run(file.publish, head.file.size)
    return DownloadResult(
        key=key,
        path=place.path,
        size=head.file.size,
        etag=head.file.etag,
        version_id=head.file.version_id,
        content_type=head.file.content_type,
        verified=verified,
        reused=run.reused,
    )


def _identity(context: TransferContext, head: ObjectHead) -> str:
    """Return the identity of the object version; only bytes with the same identity are combined."""
    file, bucket = head.file, context.settings.bucket_name
    return json.dumps([bucket, file.key, file.version_id, file.etag, file.size])


@asynccontextmanager
async def _partial_file(
    context: TransferContext, place: LocalTarget, identity: str | None
) -> AsyncIterator[PartialFile]:
    file = PartialFile(place.file, identity=identity, shown=place.path)
    try:
        await context.threads.run(file.open)
        if identity is not None and file.journal is None:
            logger.info(
                "Not resuming: another process is writing %r, or its partial file is not ours.",
                place.path.name,
                extra=log_fields("download_not_resumed"),
            )
        yield file
    finally:
        await context.threads.clean_up(file.discard)


class _Download:
    """Downloads the ranges of one object into a `PartialFile`.

    Attributes:
        reused: How many bytes an earlier run had written.
    """

    def __init__(
        self,
        context: TransferContext,
        head: ObjectHead,
        file: PartialFile,
        meter: Meter,
        *,
        verify: bool,
        encryption: CustomerKey | None,
    ) -> None:
        self._context = context
        self._head = head
        self._object = head.file
        self._file = file
        self._meter = meter
        self._encryption = encryption
        self.reused = 0
        self._ends = self._hashed_ends(head) if verify else []

    def _hashed_ends(self, head: ObjectHead) -> list[int]:
        return part_ends(head.file.size, head.file.etag, head.headers, head.upload_marker)

    async def run(self) -> Verified:
        """Fetch all ranges: those of its parts, if the object has several, to hash each of them."""
        size = self._object.size
        composite = len(self._ends) > 1
        ends = self._ends if composite else even_ends(size, self._context.settings.part_size)
        window = asyncio.Semaphore(self._context.settings.transfer_concurrency)
        tasks: list[asyncio.Task[list[bytes]]] = []
        start = 0
        async with task_group() as group:
            for end in ends:
                await window.acquire()
                task = group.create_task(self._get(start, end, window, hashed=composite))
                if composite:
                    tasks.append(task)
                start = end
        if composite:
            digests = [digest for task in tasks for digest in task.result()]
        else:
            digests = await self._hash_file() if self._ends else []
        return await verify_digests(self._context.requests, self._head, digests)

    async def _get(
        self, start: int, end: int, window: asyncio.Semaphore, *, hashed: bool
    ) -> list[bytes]:
        """Get the range ``[start, end)`` into the file; return its MD5 if ``hashed``."""
        help_call()
        try:
            async with reserved_memory(self._context.budget, RANGE_MEMORY) as memory:
                written = await self._written_before(start, end, hashed=hashed)
                if written is None:
                    return await self._fetch(start, end, memory, hashed=hashed)
                return written
        finally:
            window.release()

    async def _written_before(self, start: int, end: int, *, hashed: bool) -> list[bytes] | None:
        """Return the MD5 of a range that an earlier run wrote; None if it is missing or damaged."""
        journal, threads = self._file.journal, self._context.threads
        expected = None if journal is None else journal.ranges.get((start, end))
        if expected is None:
            return None
        hasher, crc = EtagHasher([end - start] if hashed else [], threads), 0
        try:
            for position in range(start, end, BLOCK_BYTES):
                size = min(BLOCK_BYTES, end - position)
                chunk = await threads.run(self._file.read_at, position, size)
                crc = await threads.run(zlib.crc32, chunk, crc)
                await hasher.update(chunk)
            if crc != expected:
                return None
            self.reused += end - start
            self._meter.add(end - start)
            return await hasher.digests()
        finally:
            await hasher.aclose()

    async def _fetch(
        self, start: int, end: int, memory: memoryview, *, hashed: bool
    ) -> list[bytes]:
        context = self._context
        store = RangeStore(self._file, context.threads, memory, start, hashed=hashed)
        stream = FileStream(
            context,
            self._object.key,
            start=start,
            end=end,
            head=self._head,
            encryption=self._encryption,
        )
        try:
            await store.fill_from(stream._into(store.free), self._meter)
        finally:
            await stream.aclose()
        await context.threads.run(self._file.note, start, end, store.crc)
        return store.digests

    async def _hash_file(self) -> list[bytes]:
        hasher = EtagHasher(self._ends, self._context.threads)
        try:
            for position in range(0, self._object.size, BLOCK_BYTES):
                size = min(BLOCK_BYTES, self._object.size - position)
                await hasher.update(
                    await self._context.threads.run(self._file.read_at, position, size)
                )
            return await hasher.digests()
        finally:
            await hasher.aclose()


BLOCK_BYTES = 1024 * 1024
RANGE_MEMORY = 2 * BLOCK_BYTES


class RangeStore:
    """Writes the blocks of one range to the file, in a thread.

    ``memory`` has `RANGE_MEMORY` bytes, used as two buffers: while one is written, the other is
    filled.

    Attributes:
        crc: The CRC-32 of all bytes written so far.
    """

    def __init__(
        self, file: PartialFile, threads: Threads, memory: memoryview, start: int, *, hashed: bool
    ) -> None:
        self.crc = 0
        self._file = file
        self._threads = threads
        self._buffers = [memory[:BLOCK_BYTES], memory[BLOCK_BYTES:RANGE_MEMORY]]
        self._position = start
        self._hash = hashlib.md5(usedforsecurity=False) if hashed else None
        self._job: asyncio.Task[None] | None = None

    @property
    def digests(self) -> list[bytes]:
        """The MD5 of all bytes written so far, if ``hashed``."""
        return [self._hash.digest()] if self._hash is not None else []

    async def free(self) -> memoryview:
        """Return the buffer that is not being written to the file."""
        return self._buffers[0]

    async def fill_from(self, blocks: AsyncGenerator[memoryview | bytes], meter: Meter) -> None:
        """Write all blocks, which are in buffers that `free` has returned."""
        try:
            async with aclosing(blocks):
                async for block in blocks:
                    await self._finish_write()
                    meter.add(len(block))
                    self._buffers.reverse()
                    self._job = asyncio.create_task(self._threads.run(self._write, block))
            await self._finish_write()
        finally:
            # Another range may get the buffers after this.
            interrupted = await wait_out(self._job)
            if self._job is not None:
                ignore_outcome(self._job)  # Another error is raised already.
            if interrupted is not None:
                raise interrupted

    async def _finish_write(self) -> None:
        job, self._job = self._job, None
        if job is not None:
            await job

    def _write(self, block: memoryview | bytes) -> None:
        if self._hash is not None:
            self._hash.update(block)
        self.crc = self._file.write_at(self._position, block, self.crc)
        self._position += len(block)
