"""A multipart upload that ends in one of two ways: completed, or aborted."""

from __future__ import annotations

import asyncio
import logging
import re

from careflow_storage.errors import (
    ChecksumMismatchError,
    NoSuchKeyError,
    NoSuchUploadError,
    NotSupportedError,
    PreconditionFailedError,
    StorageError,
)
from careflow_storage.models import Checksum, ChecksumAlgorithm
from careflow_storage.s3.requests import Stored
from careflow_storage.transfer.checksums import composite, request_headers, verify_stored
from careflow_storage.transfer.engine import Engine
from careflow_storage.transfer.mark import MARK_HEADER, UploadMark
from careflow_storage.transfer.parts import Part, PartSizes, check_size
from careflow_storage.transfer.progress import Meter
from careflow_storage.transfer.reading import PartReader
from careflow_storage.transfer.tasks import task_group

logger = logging.getLogger("careflow_storage")

# Who cancels waits for the clean-up: some workers grant one second, then the process dies.
_ABORT_SECONDS_WHEN_CANCELLED = 0.8
_ABORT_SECONDS = 15.0
_ABORT_ROUNDS = 3
_COMPOSITE_MD5 = re.compile(r"([0-9a-f]{32})-(\d+)")


class MultipartUpload:
    """Sends the parts of one object, at most ``transfer_concurrency`` at a time.

    Memory: that many parts, within the shared budget. Requests: one per part and two more.
    """

    def __init__(
        self,
        engine: Engine,
        key: str,
        headers: dict[str, str],
        reader: PartReader,
        sizes: PartSizes,
        meter: Meter,
        *,
        algorithm: ChecksumAlgorithm,
        conditional: bool,
    ) -> None:
        self.size = 0
        self._engine = engine
        self._key = key
        self._mark = UploadMark.new(sizes)
        self._headers = {**headers, MARK_HEADER: str(self._mark)}
        self._reader = reader
        self._sizes = sizes
        self._meter = meter
        self._algorithm = algorithm
        self._conditional = conditional
        self._sent: dict[int, tuple[Stored, bytes]] = {}
        self._held: set[Part] = set()

    @property
    def parts(self) -> int:
        """How many parts were sent."""
        return len(self._sent)

    async def run(self, first: Part, declared: int | None) -> tuple[Stored, Checksum]:
        """Send ``first`` and what follows it, and complete; abort on anything else.

        The upload is begun in a task of its own: when this one is cancelled meanwhile, the
        server may have begun it all the same, and its ID is needed to abort it.
        """
        self._held.add(first)
        creation: asyncio.Task[str] | None = None
        try:
            await self._engine.control.prepare()
            creation = asyncio.create_task(
                self._engine.control.create_multipart_upload(
                    self._key, self._headers, self._algorithm
                )
            )
            upload_id = await asyncio.shield(creation)
            await self._send_parts(upload_id, first, declared)
            return await self._complete(upload_id)
        except BaseException as error:
            try:
                await self._release_all()
            finally:
                if creation is not None:
                    await self._abandon(creation, error)
            raise

    async def _send_parts(self, upload_id: str, first: Part, declared: int | None) -> None:
        window = asyncio.Semaphore(self._engine.settings.transfer_concurrency)
        async with task_group() as group:
            number, part = 1, first
            await window.acquire()
            while part.size:
                self.size += part.size
                check_size(declared, self.size, ended=False, key=self._key)
                group.create_task(self._send(upload_id, number, part, window))
                number += 1
                await window.acquire()
                part = await self._reader.read(self._sizes.size_of(number))
                self._held.add(part)
        await self._release_all()
        check_size(declared, self.size, ended=True, key=self._key)

    async def _send(
        self, upload_id: str, number: int, part: Part, window: asyncio.Semaphore
    ) -> None:
        threads = self._engine.threads
        try:
            digest = await part.digest(self._algorithm, threads)
            check, payload_hash = request_headers(self._algorithm, digest)
            meter = self._meter.part()
            stored = await self._engine.requests.upload_part(
                self._key,
                upload_id,
                number,
                part.payload(),
                check,
                payload_hash=payload_hash,
                on_sent=meter.reach,
            )
            meter.reach(part.size)
            verify_stored(self._algorithm, digest, stored)
            self._sent[number] = stored, digest
        finally:
            self._held.discard(part)
            await part.release()
            window.release()

    async def _release_all(self) -> None:
        """Free what no part's task frees: one cancelled before its first step frees nothing."""
        try:
            while self._held:
                await self._held.pop().release()
        finally:
            if self._held:
                await self._release_all()

    async def _complete(self, upload_id: str) -> tuple[Stored, Checksum]:
        sent = [self._sent[number] for number in sorted(self._sent)]
        checksum = composite(self._algorithm, [digest for _, digest in sent])
        try:
            stored = await self._engine.control.complete_multipart_upload(
                self._key,
                upload_id,
                [(stored.etag, digest) for stored, digest in sent],
                self._algorithm,
                unless_exists=self._conditional,
            )
        except NotSupportedError:
            if not self._conditional:
                raise
            self._conditional = False
            return await self._complete(upload_id)
        except StorageError as error:
            stored = await self._completed_anyway(error)
        self._verify(stored, checksum)
        return stored, checksum

    async def _completed_anyway(self, error: StorageError) -> Stored:
        """After a lost answer, look whether the server did its work; else raise ``error``."""
        lost = error.retryable or isinstance(error, NoSuchUploadError | PreconditionFailedError)
        if lost:
            try:
                head = await self._engine.requests.head_object(self._key)
            except NoSuchKeyError:
                raise error from None
            except StorageError as second:
                error.add_note(f"Whether the upload was completed is unknown: {second}")
                raise error from second
            if head.upload_mark == str(self._mark):
                return Stored(head.file.etag, head.file.version_id, {})
        raise error

    def _verify(self, stored: Stored, checksum: Checksum) -> None:
        etag = _COMPOSITE_MD5.fullmatch(stored.etag)
        parts_are_md5 = all(part.etag == digest.hex() for part, digest in self._sent.values())
        if self._algorithm != "md5" or etag is None or not parts_are_md5:
            return
        if (etag[1], int(etag[2])) != (checksum.value, checksum.parts):
            raise ChecksumMismatchError(
                "The server put other parts together than were sent.",
                operation="CompleteMultipartUpload",
                key=self._key,
            )

    async def _abandon(self, creation: asyncio.Task[str], error: BaseException) -> None:
        """Abort within a time budget, whoever cancels meanwhile; tell if it failed."""
        cancelled = isinstance(error, asyncio.CancelledError)
        loop = asyncio.get_running_loop()
        end = loop.time() + (_ABORT_SECONDS_WHEN_CANCELLED if cancelled else _ABORT_SECONDS)
        abort = asyncio.create_task(self._abort_until_gone(creation))
        interrupted: asyncio.CancelledError | None = None
        while not abort.done() and loop.time() < end:
            try:
                await asyncio.wait({abort}, timeout=end - loop.time())
            except asyncio.CancelledError as again:
                interrupted = again
                end = min(end, loop.time() + _ABORT_SECONDS_WHEN_CANCELLED)
        in_time = abort.done()
        if not in_time or abort.cancelled() or abort.exception() is not None:
            self._tell_unfinished(creation, error)
        if not in_time:
            abort.cancel()
            creation.cancel()
            await asyncio.wait({abort, creation})
        if interrupted is not None and not cancelled:
            raise interrupted from error

    async def _abort_until_gone(self, creation: asyncio.Task[str]) -> None:
        try:
            upload_id = await creation
        except StorageError:
            return
        # A part in flight can land after an abort: only NoSuchUpload proves that none did.
        for _ in range(_ABORT_ROUNDS):
            try:
                await self._engine.control.abort_multipart_upload(self._key, upload_id)
            except NoSuchUploadError:
                return

    def _tell_unfinished(self, creation: asyncio.Task[str], error: BaseException) -> None:
        known = creation.done() and not creation.cancelled() and creation.exception() is None
        upload_id = creation.result() if known else None
        if isinstance(error, StorageError):
            error.unfinished_upload_id = upload_id
        text = f"The multipart upload {upload_id or '(ID unknown)'} could not be aborted."
        error.add_note(f"{text} Its parts are stored and billed until it is.")
        logger.warning(
            "%s key=%r", text, self._key, extra={"key": self._key, "upload_id": upload_id}
        )
