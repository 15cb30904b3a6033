"""Putting a recording: its bytes and its entry are on the disk when `Enqueuer.put` returns."""

from __future__ import annotations

import hashlib
import logging
import secrets
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from careflow_storage._log_fields import log_fields
from careflow_storage._transfer.bodies.limits import NO_LIMITS, BodyLimits
from careflow_storage._transfer.bodies.parts import check_size
from careflow_storage._transfer.bodies.sources import (
    FileSource,
    MemorySource,
    Source,
    UploadBody,
    open_source,
)
from careflow_storage._transfer.threads import INLINE_BYTES, Threads
from careflow_storage._transfer.upload.options import UploadOptions
from careflow_storage._uninterrupted import clean_up_to_end, run_to_end
from careflow_storage.errors import (
    BodyChangedError,
    InvalidInputError,
    PreconditionFailedError,
    StorageError,
)
from careflow_storage.options import IfExists, ObjectOptions
from careflow_storage.outbox.errors import OutboxFullError
from careflow_storage.outbox.files import Spool, SpoolFile
from careflow_storage.outbox.models import OutboxEntry
from careflow_storage.outbox.queue import EntryQueue
from careflow_storage.protection import CustomerKey
from careflow_storage.recordings import RecordingClock, recording_key

logger: logging.Logger = logging.getLogger("careflow_storage")

_BATCH_BYTES = 1024 * 1024
_FIRST_RESERVE_BYTES = 256 * 1024
_LARGEST_RESERVE_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Name:
    """The parts of a recording's key."""

    call_id: str
    filename: str
    recorded_at: datetime | None


class Enqueuer:
    """Writes recordings to the spool and into the queue."""

    def __init__(self, queue: EntryQueue, spool: Spool, threads: Threads) -> None:
        self._queue = queue
        self._spool = spool
        self._threads = threads
        self._clock = RecordingClock()

    def key(self, name: Name) -> str:
        """Return a key for a recording; without a time of its own a new one each time."""
        epoch_ms = self._clock.epoch_ms(name.recorded_at)
        return recording_key(name.call_id, name.filename, epoch_ms)

    async def put(
        self,
        name: Name,
        key: str,
        body: UploadBody,
        options: ObjectOptions,
        *,
        if_exists: IfExists,
        size: int | None,
        limits: BodyLimits,
    ) -> OutboxEntry:
        """Store one recording, or leave nothing behind.

        First a row that says that a file is coming, then the file, then the row says that it
        is there. After a kill in between, the next process to open the outbox removes the row
        or the file.
        """
        check_storable(options, if_exists, limits)
        # A time of the outbox's own makes a key that another recording has by chance only.
        if if_exists == "return" and name.recorded_at is not None:
            earlier = await self._queue.find(key)
            if earlier is not None:
                return earlier
        entry_id = secrets.token_hex(16)
        file = self._spool.create(entry_id)
        try:
            async with open_source(body, self._threads, size=size, limits=limits) as source:
                await self._queue.reserve(entry_id, source.size or 0, options, if_exists)
                await self._threads.run(file.open)
                copy = SpoolCopy(self._queue, self._threads, source, file, entry_id)
                await copy.run()
                check_size(source.size, file.size, ended=True)
                sha256 = await self._threads.run(file.finish)
                copy.check_unchanged(sha256)
                entry = await self._accept(entry_id, name, key, file.size, sha256, if_exists)
        except BaseException:
            await clean_up_to_end(self._undo(entry_id, file))
            raise
        if entry.id != entry_id:
            await run_to_end(self._undo(entry_id, file))
        return entry

    async def _accept(
        self,
        entry_id: str,
        name: Name,
        key: str,
        size: int,
        sha256: str,
        if_exists: IfExists,
    ) -> OutboxEntry:
        while True:
            entry = await self._queue.accept(entry_id, key, size, sha256)
            if entry is not None:
                return entry
            if name.recorded_at is None:
                # Another process has put a recording of this call in the same millisecond.
                key = self.key(name)
                continue
            earlier = await self._queue.find(key)
            if earlier is None:
                continue  # it was discarded meanwhile
            if if_exists == "return" or (earlier.size, earlier.sha256) == (size, sha256):
                return earlier
            raise PreconditionFailedError(
                "The outbox has another recording of this call, time and filename.",
                status=412,
                hint="The first one stays. Give the second another time or filename.",
            )

    async def _undo(self, entry_id: str, file: SpoolFile) -> None:
        try:
            await self._threads.clean_up(file.close)
            # A file whose entry a worker has claimed stays.
            if await self._queue.forget(entry_id):
                await self._threads.clean_up(partial(self._spool.remove, entry_id))
        except (StorageError, OSError) as error:
            logger.warning(
                "Part of a recording stays in the outbox until this process ends: %s",
                error,
                extra=log_fields("file_left", error, entry_id=entry_id),
            )


class SpoolCopy:
    """Copies a body to a spool file, in batches."""

    def __init__(
        self,
        queue: EntryQueue,
        threads: Threads,
        source: Source,
        file: SpoolFile,
        entry_id: str,
    ) -> None:
        self._queue = queue
        self._threads = threads
        self._source = source
        self._file = file
        self._entry_id = entry_id
        self._reserved = source.size or 0
        self._batch = bytearray()
        self._sha256: str | None = None

    def check_unchanged(self, written: str) -> None:
        """Raise `BodyChangedError` if the body was changed while it was copied."""
        if self._sha256 is not None and self._sha256 != written:
            raise BodyChangedError(
                "The body was changed while it was written to the disk; nothing was kept.",
                retryable=True,
                hint="Leave the memory alone until the call returns, or pass bytes.",
            )

    async def run(self) -> None:
        """Copy the whole body."""
        source = self._source
        if isinstance(source, FileSource):
            buffer = memoryview(bytearray(_BATCH_BYTES))
            while count := await source.read_into(buffer):
                await self._write(buffer[:count])
        elif isinstance(source, MemorySource):
            if not source.immutable:
                # The caller may change the buffer between two batches.
                self._sha256 = await self._threads.run(_sha256_of, source.view)
            while piece := source.take(_BATCH_BYTES):
                await self._write(piece)
        else:
            while piece := await source.next_piece(_BATCH_BYTES):
                # A chunk of a live call is too small for a write of its own.
                self._batch += piece
                if len(self._batch) >= INLINE_BYTES:
                    await self._flush()
            await self._flush()

    async def _flush(self) -> None:
        batch, self._batch = self._batch, bytearray()
        await self._write(memoryview(batch))

    async def _write(self, data: memoryview) -> None:
        if self._source.size is None:
            await self._make_room(data.nbytes)
        else:
            # Refuse a body that is too long before it fills the disk.
            check_size(self._source.size, self._file.size + data.nbytes, ended=False)
        await self._threads.run(self._file.write, data)

    async def _make_room(self, more: int) -> None:
        missing = self._file.size + more - self._reserved
        if missing <= 0:
            return
        # In growing steps, since each costs a write to the database.
        step = min(max(_FIRST_RESERVE_BYTES, self._reserved), _LARGEST_RESERVE_BYTES)
        for amount in (max(missing, step), missing):
            try:
                await self._queue.reserve_more(self._entry_id, amount)
            except OutboxFullError:
                if amount == missing:
                    raise
            else:
                self._reserved += amount
                return


def check_storable(
    options: ObjectOptions, if_exists: IfExists | None = None, limits: BodyLimits = NO_LIMITS
) -> None:
    """Refuse options with which the recording can never be delivered."""
    if isinstance(options.get("encryption"), CustomerKey):
        raise InvalidInputError(
            "encryption: the outbox takes no CustomerKey.",
            hint="It would have to write the key to its database, in the clear. Use 'SSE-B2', or "
            "upload_recording() with the key.",
        )
    UploadOptions(**options, if_exists=if_exists, limits=limits).headers()


def _sha256_of(data: memoryview) -> str:
    return hashlib.sha256(data).hexdigest()
