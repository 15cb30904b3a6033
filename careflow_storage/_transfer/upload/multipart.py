"""A multipart upload, from its upload ID to one of two ends: completed, or aborted."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass

from careflow_storage._s3.headers.encryption import key_headers_of
from careflow_storage._s3.headers.errors import refusals_explained
from careflow_storage._s3.headers.objects import ObjectHead, StoreResult
from careflow_storage._s3.requests.control_plane import CopySource
from careflow_storage._s3.requests.multipart import Creation
from careflow_storage._s3.requests.versions import versions_of_key
from careflow_storage._transfer.bodies.checksums import (
    composite,
    composite_etag,
    has_md5_etag,
    verify_stored,
)
from careflow_storage._transfer.bodies.parts import Part, PartSizes
from careflow_storage._transfer.context import TransferContext
from careflow_storage._transfer.progress import Meter
from careflow_storage._transfer.upload.marker import MARKER_HEADER, UploadMarker, fingerprint_of
from careflow_storage._transfer.upload.orphans import report_orphans
from careflow_storage._uninterrupted import wait_until
from careflow_storage.errors import (
    ChecksumMismatchError,
    NoSuchKeyError,
    NoSuchUploadError,
    NotSupportedError,
    PreconditionFailedError,
    ServiceUnavailableError,
    StorageError,
)
from careflow_storage.models import Checksum, ChecksumAlgorithm

logger = logging.getLogger("careflow_storage")

# Who cancels waits for the clean-up: some workers grant one second, then the process dies.
_ABORT_SECONDS_WHEN_CANCELLED = 0.8
_ABORT_SECONDS = 15.0
_ABORT_ROUNDS = 3
# Of a key with more versions than that, ours is among the newest.
_VERSIONS_LOOKED_AT = 100
_COMPOSITE_MD5 = re.compile(r"([0-9a-f]{32})-(\d+)")


@dataclass(frozen=True, slots=True)
class SentPart:
    """A part that the server has confirmed; ``digest`` is by the upload's algorithm."""

    size: int
    etag: str
    digest: bytes


class MultipartUpload:
    """One multipart upload: begin it, send its parts in any order, then complete or abandon it.

    ``headers`` are the object's. ``copied``: the parts are made by `copy`, not sent.
    Requests: one per part and two more.

    Attributes:
        sent: The parts that the server has confirmed, by their number.
        fingerprint: Stands for ``headers``; see `UploadMarker`.
        unfinished: The note about it when it was neither completed nor aborted.
        gone: Whether the server said that it has no such upload (any more).
        part_refused: Whether a busy server (503) has refused a part, after all retries.
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
        # The ETag of a part that the server copied is not its MD5 everywhere (SeaweedFS's is not):
        # downloads must not expect an ETag by its size.
        verifiable = PartSizes(0, 0) if copied else sizes
        self._marker = UploadMarker.new(verifiable, self.fingerprint)
        self._headers = {**headers, MARKER_HEADER: str(self._marker)}
        self._algorithm = algorithm
        self._copied = copied
        self._conditional = conditional
        self._live_read = sizes.base if live_read else None
        self._creation: asyncio.Task[Creation] | None = None
        self._adopted: str | None = None
        self._completed = False

    @property
    def upload_id(self) -> str | None:
        """The server's ID of it, None before the server has returned it."""
        creation = self._creation
        if creation is None or not creation.done() or creation.cancelled():
            return self._adopted
        return creation.result().upload_id if creation.exception() is None else None

    @property
    def headers(self) -> Mapping[str, str]:
        """The object's headers, its mark included."""
        return self._headers

    @property
    def size(self) -> int:
        """How many bytes the confirmed parts have."""
        return sum(part.size for part in self.sent.values())

    async def begin(self) -> None:
        """Ask for the upload ID.

        This happens in a task of its own: when this one is cancelled meanwhile, the server may
        have begun the upload all the same, and its ID is needed to abort it.
        """
        self._creation = asyncio.create_task(
            self._context.multipart.create(
                self._key, self._headers, self._algorithm, live_read=self._live_read
            )
        )
        started = asyncio.get_running_loop().time()
        with refusals_explained(self._headers):
            created = await asyncio.shield(self._creation)
        self._context.living.add(created.upload_id)
        if created.unsettled:
            took = asyncio.get_running_loop().time() - started
            await report_orphans(self._context, self._key, created.upload_id, took)

    def adopt(self, upload_id: str, parts: Mapping[int, SentPart]) -> None:
        """Continue an upload that another run has begun, instead of `begin`."""
        self._adopted = upload_id
        self.sent = dict(parts)
        self._context.living.add(upload_id)

    async def send(self, number: int, part: Part, meter: Meter) -> None:
        """Send one part and hold the response to it; the same number again replaces it.

        The part stays the caller's, who releases it.
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
        """Make one part of the bytes ``[start, end)`` of another object, on the server."""
        etag = await self._context.control.upload_part_copy(
            self._key, self._known_id(), number, source, self._headers, start=start, end=end
        )
        # The bytes were copied on the server: only its response describes them.
        self.sent[number] = SentPart(end - start, etag, etag.encode())

    async def complete(self) -> tuple[StoreResult, Checksum]:
        """Complete the object, and verify what the server made of the parts."""
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
            found = await self._find_completed(etag)
        except StorageError as second:
            error.add_note(f"Whether the upload was completed is unknown: {second}")
            raise error from second
        if found is None:
            raise error
        return StoreResult(found.file.etag, found.file.version_id, {})

    async def _find_completed(self, etag: str | None) -> ObjectHead | None:
        requests, key_headers = self._context.requests, key_headers_of(self._headers)
        try:
            newest = await requests.head_object(self._key, headers=key_headers)
            if self._is_ours(newest, etag):
                return newest
            if newest.file.version_id is None:
                return None
        except NoSuchKeyError:
            pass  # It may be hidden: look at the versions.
        # Another client may have written or hidden the key right after us.
        try:
            for version in await self._versions(etag):
                head = await requests.head_object(
                    self._key, version_id=version, headers=key_headers
                )
                if self._is_ours(head, etag):
                    return head
        except NotSupportedError:
            pass  # A server without versions has no older one.
        return None

    async def _versions(self, etag: str | None) -> list[str]:
        """The newest versions of the key, those with this ETag, if it is known."""
        found: list[str] = []
        pages = versions_of_key(self._context.requests, self._key, limit=_VERSIONS_LOOKED_AT)
        async with aclosing(pages):
            async for page in pages:
                found += [
                    version.version_id
                    for version in page
                    if version.version_id is not None
                    and not version.delete_marker
                    and etag in (None, version.etag)
                ]
        return found

    def _is_ours(self, head: ObjectHead, etag: str | None) -> bool:
        if self._adopted is not None:
            # The mark is of the run that began it. The bytes are those of our parts, at least.
            return etag is not None and head.file.etag == etag
        # Another run may have gone on with our upload, with other bytes.
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
                "The server put other parts together than were sent.",
                operation="CompleteMultipartUpload",
                key=self._key,
            )

    async def abandon(self, error: BaseException) -> None:
        """Abort within a time budget, even under cancellation.

        ``error`` is the reason. If the abort fails, its notes and the log say so.
        """
        if not self._was_begun():
            return
        async with self._within_budget(error, self._abort_until_gone()) as in_time:
            if not in_time:
                text = f"The multipart upload {self._shown_id()} could not be aborted."
                self.unfinished = f"{text} Its parts are stored and billed until it is."
                self._note_unfinished(error)
                logger.warning("%s key=%r", text, self._key, extra=self._extra())

    async def leave(
        self,
        error: BaseException,
        *,
        advice: str = "the same call with resume=True goes on with it",
    ) -> None:
        """Keep the stored parts for a later run. The notes of ``error`` and the log say so.

        An upload that this run has begun and that has no parts is aborted.
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
                logger.info("%s. key=%r", text, self._key, extra=self._extra())

    def _was_begun(self) -> bool:
        return self._creation is not None or self._adopted is not None

    def _forget(self) -> None:
        """Allow other calls to continue the upload, or to abort it."""
        self._context.living.discard(self.upload_id or "")

    @asynccontextmanager
    async def _within_budget(
        self, error: BaseException, ending: Coroutine[None, None, None]
    ) -> AsyncIterator[bool]:
        """Run ``ending`` within its time and yield whether it succeeded; then clean up."""
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
        if interrupted is not None and not cancelled:
            raise interrupted from error

    async def _settle(self) -> None:
        """Learn the upload ID, if it is on its way."""
        if self._creation is not None:
            with suppress(StorageError):
                await self._creation

    async def _abort_until_gone(self) -> None:
        if self._creation is not None:
            try:
                await self._creation
            except StorageError:
                return
        # A part in flight can land after an abort: only NoSuchUpload proves that none did.
        for _ in range(_ABORT_ROUNDS):
            try:
                await self._context.multipart.abort(self._key, self._known_id())
            except NoSuchUploadError:
                break

    def _note_unfinished(self, error: BaseException) -> None:
        if isinstance(error, StorageError | asyncio.CancelledError):
            # A deadline or a close turns the cancellation into an error with this ID.
            vars(error)["unfinished_upload_id"] = self.upload_id
        error.add_note(str(self.unfinished))

    def _shown_id(self) -> str:
        return self.upload_id or "(ID unknown)"

    def _extra(self) -> dict[str, str | None]:
        return {"key": self._key, "upload_id": self.upload_id}
