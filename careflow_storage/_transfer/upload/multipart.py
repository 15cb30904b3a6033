"""One multipart upload, from its creation until it is completed, aborted or left for later."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from careflow_storage._log_fields import log_fields
from careflow_storage._s3.headers.encryption import key_headers_of
from careflow_storage._s3.headers.errors import explain_refused_write
from careflow_storage._s3.headers.objects import ObjectHead, StoreResult
from careflow_storage._s3.requests.control_plane import CopySource
from careflow_storage._s3.requests.multipart import BegunUpload
from careflow_storage._transfer.bodies.checksums import (
    composite,
    composite_etag,
    has_md5_etag,
    verify_stored,
)
from careflow_storage._transfer.bodies.parts import Part, PartSizes
from careflow_storage._transfer.context import TransferContext
from careflow_storage._transfer.progress import Meter
from careflow_storage._transfer.upload.completed import find_completed
from careflow_storage._transfer.upload.marker import MARKER_HEADER, UploadMarker, fingerprint_of
from careflow_storage._transfer.upload.orphans import report_orphans
from careflow_storage._uninterrupted import ignore_outcome, wait_until
from careflow_storage.errors import (
    ChecksumMismatchError,
    NoSuchUploadError,
    NotSupportedError,
    PreconditionFailedError,
    ServiceUnavailableError,
    StorageError,
)
from careflow_storage.models import Checksum, ChecksumAlgorithm

logger = logging.getLogger("careflow_storage")

# A task that is cancelled must end soon: some workers kill the process after one second.
_ABORT_SECONDS_WHEN_CANCELLED = 0.8
_ABORT_SECONDS = 15.0
_ABORT_ROUNDS = 3
_COMPOSITE_MD5 = re.compile(r"([0-9a-f]{32})-(\d+)")


@dataclass(frozen=True, slots=True)
class SentPart:
    """A part that the server has confirmed. ``digest`` is made by the upload's algorithm."""

    size: int
    etag: str
    digest: bytes


class MultipartUpload:
    """One multipart upload: begin it, send its parts in any order, then complete or abandon it.

    Costs one request per part and two more. ``headers`` are the object's. With ``copied`` the
    server makes the parts from another object (see `copy`).

    Attributes:
        sent: The confirmed parts, by number.
        fingerprint: Identifies ``headers``; see `UploadMarker`.
        unfinished: If the upload was neither completed nor aborted: the sentence that reports it.
        gone: Whether the server responded that the upload does not exist (any more).
        part_refused: Whether a busy server (503) refused a part, after all retries.
    """

    def __init__(
        self,
        context: TransferContext,
        key: str,
        headers: Mapping[str, str],
        sizes: PartSizes,
        *,
        algorithm: ChecksumAlgorithm,
        conditional: bool = False,
        live_read: bool = False,
        copied: bool = False,
    ) -> None:
        self.sizes = sizes
        self.sent: dict[int, SentPart] = {}
        self._context = context
        self._key = key
        self.fingerprint = fingerprint_of(headers, algorithm)
        self.unfinished: str | None = None
        self.gone = False
        self.part_refused = False
        # On some servers (SeaweedFS) the ETag of a copied part is not its MD5. Without the part
        # sizes in the marker, downloads do not compute the ETag.
        marked_sizes = PartSizes(0, 0) if copied else sizes
        self._marker = UploadMarker.new(marked_sizes, self.fingerprint)
        self._headers = {**headers, MARKER_HEADER: str(self._marker)}
        self._algorithm = algorithm
        self._copied = copied
        self._conditional = conditional
        self._live_read = sizes.base if live_read else None
        self._creation: asyncio.Task[BegunUpload] | None = None
        self._adopted: str | None = None
        self._completed = False

    @property
    def upload_id(self) -> str | None:
        """The upload ID; None until the server has returned it."""
        creation = self._creation
        if creation is None or not creation.done() or creation.cancelled():
            return self._adopted
        return creation.result().upload_id if creation.exception() is None else None

    @property
    def headers(self) -> Mapping[str, str]:
        """The object's headers, the upload marker included."""
        return self._headers

    @property
    def size(self) -> int:
        """The number of bytes in the confirmed parts."""
        return sum(part.size for part in self.sent.values())

    async def begin(self) -> None:
        """Create the upload on the server.

        The request runs in its own task. If this task is cancelled, the server may still create
        the upload, and the ID is needed to abort it.
        """
        self._creation = asyncio.create_task(
            self._context.multipart.create(
                self._key, self._headers, self._algorithm, live_read=self._live_read
            )
        )
        started = asyncio.get_running_loop().time()
        try:
            created = await asyncio.shield(self._creation)
        except StorageError as error:
            explain_refused_write(error, self._headers)
            raise
        self._context.living.add(created.upload_id)
        if created.unsettled:
            took = asyncio.get_running_loop().time() - started
            await report_orphans(self._context, self._key, created.upload_id, took)

    def adopt(self, upload_id: str, parts: Mapping[int, SentPart]) -> None:
        """Continue an upload that an earlier run began. Replaces `begin`."""
        self._adopted = upload_id
        self.sent = dict(parts)
        self._context.living.add(upload_id)

    async def send(self, number: int, part: Part, meter: Meter) -> None:
        """Send one part and verify the response. A second part of the same number replaces it.

        The caller releases the part.
        """
        digest, headers, payload_hash = await part.request_checksum(
            self._algorithm, self._context.threads, self._headers
        )
        headers |= key_headers_of(self._headers)
        part_meter = meter.part()
        try:
            stored = await self._context.requests.upload_part(
                self._key,
                self._known_id(),
                number,
                part.payload(),
                headers,
                payload_hash=payload_hash,
                on_sent=part_meter.reach,
            )
        except NoSuchUploadError:
            self.gone = True
            raise
        except ServiceUnavailableError as error:
            self.part_refused = error.status == 503
            raise
        part_meter.reach(part.size)
        verify_stored(
            self._algorithm, digest, stored, headers, operation="UploadPart", key=self._key
        )
        self.sent[number] = SentPart(part.size, stored.etag, digest)

    async def copy(self, number: int, source: CopySource, *, start: int, end: int) -> None:
        """Let the server make one part from the bytes ``[start, end)`` of another object."""
        etag = await self._context.control.upload_part_copy(
            self._key, self._known_id(), number, source, self._headers, start=start, end=end
        )
        # The bytes were never here, so the server's ETag is all that is known about them.
        self.sent[number] = SentPart(end - start, etag, etag.encode())

    async def complete(self) -> tuple[StoreResult, Checksum]:
        """Complete the upload, and verify the ETag of the object."""
        sent = [self.sent[number] for number in sorted(self.sent)]
        checksum = composite(self._algorithm, [part.digest for part in sent])
        try:
            stored = await self._context.multipart.complete(
                self._key,
                self._known_id(),
                [(part.etag, part.digest) for part in sent],
                self._algorithm,
                unless_exists=self._conditional,
                headers=self._headers,
            )
        except NotSupportedError:
            if not self._conditional:
                raise
            self._conditional = False
            return await self.complete()
        except StorageError as error:
            etag = composite_etag([part.etag for part in sent]) if self._has_md5_etag else None
            self.gone = isinstance(error, NoSuchUploadError)
            stored = await self._completed_anyway(error, etag)
        self._completed = True
        self._forget()
        self._verify(stored, checksum)
        return stored, checksum

    @property
    def _has_md5_etag(self) -> bool:
        return has_md5_etag(self._headers)

    def _known_id(self) -> str:
        upload_id = self.upload_id
        if upload_id is None:
            raise RuntimeError("the multipart upload was not begun")
        return upload_id

    async def _completed_anyway(self, error: StorageError, etag: str | None) -> StoreResult:
        """Return the object if only the response was lost; else raise ``error``."""
        lost = error.retryable or isinstance(error, NoSuchUploadError | PreconditionFailedError)
        if not lost:
            raise error
        try:
            found = await find_completed(
                self._context.requests,
                self._key,
                self._headers,
                etag,
                lambda head: self._is_ours(head, etag),
            )
        except StorageError as second:
            error.add_note(f"Whether the upload was completed is unknown: {second}")
            raise error from second
        if found is None:
            raise error
        return StoreResult(found.file.etag, found.file.version_id, {})

    def _is_ours(self, head: ObjectHead, etag: str | None) -> bool:
        if self._adopted is not None:
            # The marker is that of the run that began it. The ETag shows that the bytes are ours.
            return etag is not None and head.file.etag == etag
        # Another run may have continued this upload with other bytes.
        same = etag is None or self._copied or head.file.etag == etag
        return same and head.upload_marker == str(self._marker)

    def _verify(self, stored: StoreResult, checksum: Checksum) -> None:
        etag = _COMPOSITE_MD5.fullmatch(stored.etag)
        parts_are_md5 = self._has_md5_etag and all(
            part.etag == part.digest.hex() for part in self.sent.values()
        )
        if self._algorithm != "md5" or etag is None or not parts_are_md5:
            return
        if (etag[1], int(etag[2])) != (checksum.value, checksum.parts):
            raise ChecksumMismatchError(
                "The server assembled the object from other parts than were sent.",
                operation="CompleteMultipartUpload",
                key=self._key,
            )

    async def abandon(self, error: BaseException) -> None:
        """Abort the upload within a time budget, even when cancelled.

        ``error`` is the reason. If the abort fails, a note of ``error`` and the log say so.
        """
        if not self._was_begun():
            return
        async with self._within_budget(error, self._abort_until_gone()) as in_time:
            if not in_time:
                text = f"The multipart upload {self._shown_id()} could not be aborted."
                self.unfinished = f"{text} Its parts are stored and billed until it is."
                self._note_unfinished(error)
                logger.warning(
                    "%s key=%r",
                    text,
                    self._key,
                    extra=log_fields("upload_left", key=self._key, upload_id=self.upload_id),
                )

    async def leave(
        self,
        error: BaseException,
        *,
        advice: str = "the same call with resume=True continues it",
    ) -> None:
        """Keep the stored parts for a later run. A note of ``error`` and the log say so.

        An upload that this run began and that has no parts is aborted.
        """
        if not self._was_begun():
            return
        if self._adopted is None and not self.sent and not self._completed:
            await self.abandon(error)
            return
        async with self._within_budget(error, self._settle()) as in_time:
            gone = self._completed or self.gone or isinstance(error, NoSuchUploadError)
            if not gone and not (in_time and self.upload_id is None):
                text = f"The multipart upload {self._shown_id()} is kept"
                self.unfinished = f"{text}: {advice}."
                self._note_unfinished(error)
                logger.info(
                    "%s. key=%r",
                    text,
                    self._key,
                    extra=log_fields("upload_left", key=self._key, upload_id=self.upload_id),
                )

    def _was_begun(self) -> bool:
        return self._creation is not None or self._adopted is not None

    def _forget(self) -> None:
        """Let other calls of this storage continue or abort the upload."""
        self._context.living.discard(self.upload_id or "")

    @asynccontextmanager
    async def _within_budget(
        self, error: BaseException, ending: Coroutine[None, None, None]
    ) -> AsyncIterator[bool]:
        """Run ``ending`` within the budget, yield whether it succeeded, then clean up."""
        cancelled = isinstance(error, asyncio.CancelledError)
        loop = asyncio.get_running_loop()
        end = loop.time() + (_ABORT_SECONDS_WHEN_CANCELLED if cancelled else _ABORT_SECONDS)
        task = asyncio.create_task(ending)
        interrupted = await wait_until(
            task,
            end,
            when_cancelled=lambda end: min(end, loop.time() + _ABORT_SECONDS_WHEN_CANCELLED),
            until=self._context.in_flight.clean_up_until,
        )
        in_time = task.done()
        try:
            yield in_time and not task.cancelled() and task.exception() is None
        finally:
            self._forget()
        if not in_time:
            running = {task} | ({self._creation} if self._creation is not None else set())
            for each in running:
                each.cancel()
            await asyncio.wait(running)
            for each in running:
                ignore_outcome(each)  # The error of the call is raised.
        if interrupted is not None and not cancelled:
            raise interrupted from error

    async def _settle(self) -> None:
        """Wait for the response with the upload ID, if the request was sent."""
        if self._creation is not None:
            with suppress(StorageError):
                await self._creation

    async def _abort_until_gone(self) -> None:
        if self._creation is not None:
            try:
                await self._creation
            except StorageError:
                return
        # A part in flight can be stored after the abort. Only NoSuchUpload proves that none was.
        for _ in range(_ABORT_ROUNDS):
            try:
                await self._context.multipart.abort(self._key, self._known_id())
            except NoSuchUploadError:
                break

    def _note_unfinished(self, error: BaseException) -> None:
        if isinstance(error, StorageError | asyncio.CancelledError):
            # A deadline or a close may turn the cancellation into an error, which takes it over.
            vars(error)["unfinished_upload_id"] = self.upload_id
        error.add_note(str(self.unfinished))

    def _shown_id(self) -> str:
        return self.upload_id or "(ID unknown)"
