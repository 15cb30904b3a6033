"""The bytes of one recording: collected into parts, uploaded as they fill, stored at the end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from careflow_storage._log_fields import log_fields
from careflow_storage._s3.headers.objects import StoreResult
from careflow_storage._s3.responses.lengths import MAX_PARTS
from careflow_storage._transfer.bodies.checksums import verify_stored
from careflow_storage._transfer.bodies.growing_part import GATHER_BYTES, GrowingPart
from careflow_storage._transfer.bodies.parts import MIB, MemoryBody, Part, PartSizes
from careflow_storage._transfer.context import TransferContext
from careflow_storage._transfer.copy import PARTIAL_HEADER, erase_unmarked, mark_partial
from careflow_storage._transfer.live.flusher import Flusher
from careflow_storage._transfer.live.part_queue import PartQueue
from careflow_storage._transfer.progress import ProgressCallback, metered
from careflow_storage._transfer.upload.existing import refuse_existing
from careflow_storage._transfer.upload.multipart import MultipartUpload
from careflow_storage._transfer.upload.options import UploadOptions
from careflow_storage._transfer.upload.result import upload_result
from careflow_storage._transfer.upload.single_put import put_new_object, put_object
from careflow_storage._uninterrupted import wait_out
from careflow_storage.content_types import detect_content_type
from careflow_storage.errors import InvalidInputError, StorageError
from careflow_storage.models import Checksum, UploadResult

logger = logging.getLogger("careflow_storage")

# Each flush sends the current part again from its start. S3's smallest part size keeps that cheap.
_FLUSHED_PART_BYTES = 5 * MIB


class LiveUpload:
    """Uploads the bytes of one recording; a short one is a single PUT.

    With ``keeps``, bytes that the server has not confirmed stay available (`unconfirmed`,
    `growing`) until `release`.

    Attributes:
        lock: Held while a task appends, stores or releases.
        written: How many bytes were appended.
        result: The stored recording; None before `store` has succeeded.
        growing: The part that is being filled.
        queue: The parts of the multipart upload; None until the first part is full or flushed.
    """

    def __init__(
        self,
        context: TransferContext,
        key: str,
        options: UploadOptions,
        *,
        name: str,
        keeps: bool,
        flush_interval: float | None,
        live_read: bool,
        progress: ProgressCallback | None,
    ) -> None:
        part_size = context.settings.part_size
        if flush_interval is not None:
            part_size = min(part_size, _FLUSHED_PART_BYTES)
        self.key = key
        self.name = name
        self.lock = asyncio.Lock()
        self.written = 0
        self.result: UploadResult | None = None
        self.growing: GrowingPart | None = None
        self.queue: PartQueue | None = None
        self._sizes = PartSizes(part_size, 0 if live_read else None)
        self._context = context
        self._headers = options.headers(context.settings.endpoint)
        self._encryption = options.encryption
        self._algorithm = options.algorithm
        # B2 responds with 501 to If-None-Match.
        self._conditional = not options.replaces and not context.settings.is_b2
        self._keeps = keeps
        self._live_read = live_read
        self._progress = progress
        self._number = 1
        self._unsent: Part | None = None
        self._flusher: Flusher | None = None
        if flush_interval is not None:
            self._flusher = Flusher(key, flush_interval, self._part_to_flush, self._begun_queue)

    @property
    def upload_id(self) -> str | None:
        """The ID of the multipart upload, if there is one."""
        return self.queue.upload.upload_id if self.queue is not None else None

    @property
    def unfinished_upload_id(self) -> str | None:
        """The ID of the multipart upload, if it was neither completed nor aborted."""
        left = self.queue is not None and self.queue.upload.unfinished is not None
        return self.upload_id if left else None

    @property
    def confirmed(self) -> int:
        """How many bytes the server has confirmed, flushed bytes included."""
        if self.result is not None:
            return self.result.size
        return self.queue.upload.size if self.queue is not None else 0

    @property
    def unconfirmed(self) -> list[Part]:
        """With ``keeps``: the finished parts from the first unconfirmed one on, in order."""
        queued = self.queue.unconfirmed if self.queue is not None else []
        return queued if self._unsent is None else [*queued, self._unsent]

    @property
    def part_is_full(self) -> bool:
        """Whether the growing part must be queued before more bytes are appended."""
        growing = self.growing
        return growing is not None and growing.size == self._sizes.size_of(self._number)

    async def refuse_existing(self) -> None:
        """Raise `PreconditionFailedError` if the key exists. 1 HEAD."""
        await refuse_existing(self._context, self.key, self._headers)

    async def append(self, data: memoryview) -> int:
        """Append the first bytes of ``data`` to the growing part; return how many.

        At most 32 KiB, and no more than the part has room for. `written` is exact even after a
        cancellation.
        """
        growing = self.growing or self._new_part()
        before = growing.size
        room = self._sizes.size_of(self._number) - before
        try:
            await growing.write(data[: min(room, GATHER_BYTES)])
        finally:
            self.written += growing.size - before
        return growing.size - before

    async def queue_part(self, growing: GrowingPart) -> None:
        """End the growing part and queue it for sending."""
        part = await growing.finish()
        self.growing = None
        self._begun_queue(part.head).put(self._number, part, after=self._running_flush())
        self._number += 1

    def start_flushing(self) -> None:
        """Start the flush timer, if a flush interval is set."""
        if self._flusher is not None:
            self._flusher.start()

    def stop_flushing(self) -> None:
        """Start no further flush; one that is running continues."""
        if self._flusher is not None:
            self._flusher.stop()

    async def store(self, partial_headers: Mapping[str, str] | None) -> None:
        """Upload the rest and store the recording; `result` holds what is stored.

        With ``partial_headers`` the recording is marked as partial, and these headers are added.
        An empty partial recording is not stored.
        """
        async with self.lock:
            if flush := self._running_flush():
                await asyncio.wait({flush})
            queue = self.queue
            if queue is None or not queue.has_upload:
                await self._put(partial_headers)
                return
            if self.growing is not None and self.growing.size:
                await self.queue_part(self.growing)
            await queue.finish()
            await self._complete(queue.upload, partial_headers)

    async def stop(self) -> None:
        """Cancel the running flush and all parts that are being sent."""
        if flush := self._running_flush():
            flush.cancel()
            await wait_out(flush)
        if self.queue is not None:
            await self.queue.stop()

    async def release(self) -> None:
        """Free the memory and disk space of all bytes, after `stop`."""
        unsent, self._unsent = self._unsent, None
        if unsent is not None:
            await unsent.release()
        if self.growing is not None:
            await self.growing.discard()
        if self.queue is not None:
            await self.queue.release()

    def _new_part(self) -> GrowingPart:
        if self._number > MAX_PARTS:
            raise InvalidInputError(
                f"A recording can have at most {MAX_PARTS} parts.",
                key=self.key,
                hint="With live_read parts do not grow: raise BACKBLAZE_PART_SIZE.",
            )
        context = self._context
        # A flush reads the part while it grows. Only bytes on the disk stay in place meanwhile.
        budget = context.budget if self._flusher is None else None
        size = self._sizes.size_of(self._number)
        self.growing = GrowingPart(context.threads, context.spool, budget=budget, capacity=size)
        return self.growing

    def _begun_queue(self, head: bytes) -> PartQueue:
        if self.queue is None:
            self._set_content_type(head)
            upload = MultipartUpload(
                self._context,
                self.key,
                self._headers,
                self._sizes,
                algorithm=self._algorithm,
                conditional=self._conditional,
                live_read=self._live_read,
            )
            concurrency = self._context.settings.transfer_concurrency
            self.queue = PartQueue(upload, self._progress, concurrency, keeps=self._keeps)
        return self.queue

    def _set_content_type(self, head: bytes) -> None:
        if "content-type" not in self._headers:
            self._headers["content-type"] = detect_content_type(self.name, head)

    def _part_to_flush(self) -> tuple[int, GrowingPart] | None:
        return None if self.growing is None else (self._number, self.growing)

    def _running_flush(self) -> asyncio.Task[None] | None:
        return self._flusher.running if self._flusher is not None else None

    async def _complete(
        self, upload: MultipartUpload, partial_headers: Mapping[str, str] | None
    ) -> None:
        stored, checksum = await upload.complete()
        # Stored from here on, and complete until a copy has marked it as partial.
        self.result = upload_result(
            self._context,
            self.key,
            stored,
            size=upload.size,
            parts=len(upload.sent),
            content_type=self._headers["content-type"],
            checksum=checksum,
        )
        if partial_headers is not None:
            headers = {**upload.headers, **partial_headers}
            await self._mark_partial(self.result, stored, headers)

    async def _mark_partial(
        self, result: UploadResult, stored: StoreResult, headers: Mapping[str, str]
    ) -> None:
        context, key = self._context, self.key
        try:
            marked = await mark_partial(
                context, key, stored, result.size, headers, encryption=self._encryption
            )
        except StorageError as error:
            logger.warning("%s", error, extra=log_fields("recording_unmarked", error, key=key))
            raise
        changed = {"etag": marked.etag, "version_id": marked.version_id, "partial": True}
        self.result = result.model_copy(update=changed)
        await erase_unmarked(context, key, stored, marked)

    async def _put(self, partial_headers: Mapping[str, str] | None) -> None:
        partial = partial_headers is not None
        growing = self.growing
        part = await growing.finish() if growing is not None else Part(MemoryBody(b""), b"")
        self.growing = None
        try:
            if partial and not part.size:
                return
            self._set_content_type(part.head)
            headers = dict(self._headers)
            if partial_headers is not None:
                headers |= {PARTIAL_HEADER: "true", **partial_headers}
            self.result = await self._put_part(part, headers, partial=partial)
        except BaseException:
            if self._keeps:
                self._unsent, part = part, part.borrowed()
            raise
        finally:
            await part.release()

    async def _put_part(
        self, part: Part, headers: dict[str, str], *, partial: bool
    ) -> UploadResult:
        context, algorithm, key = self._context, self._algorithm, self.key
        digest, check, payload_hash = await part.request_checksum(
            algorithm, context.threads, headers
        )
        headers = {**headers, **check}
        async with metered(self._progress, part.size) as meter:
            put = put_new_object if self._conditional else put_object
            stored = await put(context, key, part, headers, meter, payload_hash=payload_hash)
        verify_stored(algorithm, digest, stored, headers, operation="PutObject", key=key)
        return upload_result(
            context,
            key,
            stored,
            size=self.written,
            parts=1,
            content_type=headers["content-type"],
            checksum=Checksum(algorithm=algorithm, value=digest.hex()),
            partial=partial,
        )
