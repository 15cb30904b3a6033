"""One upload, from any body to a confirmed object: a single PUT or a multipart upload."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from careflow_storage._s3.headers.encryption import key_headers_of
from careflow_storage._s3.objects import Stored
from careflow_storage._transfer.bodies.checksums import verify_stored
from careflow_storage._transfer.bodies.parts import FileBody, Part, PartSizes, check_size
from careflow_storage._transfer.bodies.sources import Source, UploadBody, open_source
from careflow_storage._transfer.context import TransferContext
from careflow_storage._transfer.part_reader import PartReader
from careflow_storage._transfer.progress import Meter, ProgressCallback, metered
from careflow_storage._transfer.upload.marker import MARK_HEADER, UploadMarker
from careflow_storage._transfer.upload.multipart import MultipartUpload
from careflow_storage._transfer.upload.options import UploadOptions
from careflow_storage._transfer.upload.resume import ResumableUpload
from careflow_storage._transfer.upload.scheduler import send_all
from careflow_storage.errors import (
    InvalidInputError,
    NoSuchUploadError,
    NotSupportedError,
    PreconditionFailedError,
    ServiceUnavailableError,
    StorageError,
)
from careflow_storage.models import Checksum
from careflow_storage.recordings import HEAD_BYTES, detect_content_type

logger = logging.getLogger("careflow_storage")


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A confirmed object, as the facade needs it for its result."""

    stored: Stored
    size: int
    parts: int
    content_type: str
    checksum: Checksum
    reused: int = 0
    partial: bool = False


async def upload(
    context: TransferContext,
    key: str,
    body: UploadBody,
    options: UploadOptions,
    *,
    name: str,
    progress: ProgressCallback | None,
) -> Uploaded:
    """Upload ``body`` to ``key``; ``name`` helps to tell its content type."""
    headers = options.headers(context.settings.endpoint)
    async with open_source(body, context.threads, size=options.size) as source:
        if options.resume:
            _check_resumable(source)
        run: _Upload | None = None
        try:
            async with metered(progress, source.size) as meter:
                run = _Upload(context, key, options, headers, name, source, meter)
                return await run.once_or_twice()
        except BaseException as error:
            # What a progress callback raised comes out here; the upload saw a cancellation.
            if run is not None:
                run.tell_unfinished(error)
            raise


async def put_part(
    context: TransferContext,
    key: str,
    part: Part,
    headers: dict[str, str],
    meter: Meter,
    *,
    payload_hash: str,
) -> Stored:
    """Store a part as a whole object, with one PUT; the part stays the caller's."""
    part_meter = meter.part()
    stored = await context.requests.put_object(
        key, part.payload(), headers, payload_hash=payload_hash, on_sent=part_meter.reach
    )
    part_meter.reach(part.size)
    return stored


def _check_resumable(source: Source) -> None:
    if source.size is None or not source.rewindable:
        raise InvalidInputError(
            "resume=True needs a body that can be read again from its start.",
            hint="Give a Path, a seekable file or bytes. For a recording in progress there are "
            "open_recording(flush_interval=...) and keep_incomplete_upload().",
        )


async def _refuse_existing(context: TransferContext, key: str, headers: Mapping[str, str]) -> None:
    if await context.requests.object_exists(key, key_headers_of(headers)):
        raise PreconditionFailedError(
            "The key exists already.", operation="HeadObject", key=key, status=412
        )


class _Upload:
    def __init__(
        self,
        context: TransferContext,
        key: str,
        options: UploadOptions,
        headers: dict[str, str],
        name: str,
        source: Source,
        meter: Meter,
    ) -> None:
        self._context = context
        self._key = key
        self._options = options
        self._headers = headers
        self._name = name
        self._source = source
        self._meter = meter
        self._upload: MultipartUpload | None = None
        # Whether the last attempt ended while it looked at what is stored under the key.
        self._checking_key = False
        # B2 responds with 501 to If-None-Match: there the HEAD before is all that can be had.
        self._conditional = not options.overwrite and not context.settings.is_b2

    async def once_or_twice(self) -> Uploaded:
        """Upload it; if a new upload may succeed and the source can be read again, once more."""
        try:
            return await self._once()
        except (ServiceUnavailableError, NoSuchUploadError) as error:
            if not (self._may_start_again(error) and await self._source.rewind()):
                raise
            logger.info("starting the upload anew: %s", error, extra={"key": self._key})
            if self._options.resume and self._upload is not None:
                await self._upload.abandon(error)
            self._meter.restart()
            try:
                return await self._once()
            except StorageError as second:
                if not self._checking_key:
                    raise
                # Nothing was sent: what ended the upload is what the caller should see.
                error.add_note(f"It was not begun anew: {second}")
                raise error from second

    def _may_start_again(self, error: StorageError) -> bool:
        if isinstance(error, NoSuchUploadError):
            # Another aborted it, or went on with it. A resumed one has tried again already.
            # With a cause it may have been completed: a second one would be one version too many.
            return not self._options.resume and error.__cause__ is None
        # All parts of one upload go to one vault of B2: when that stays busy, only a new upload
        # is routed elsewhere.
        upload = self._upload
        busy_vault = upload is not None and upload.part_refused and error.status == 503
        return busy_vault and self._context.retry.pause_after(error, 1) is not None

    def tell_unfinished(self, error: BaseException) -> None:
        """Let an error that hides the one that ended the upload tell what that one told."""
        upload = self._upload
        if upload is None or upload.unfinished is None:
            return
        if isinstance(error, StorageError) and error.unfinished_upload_id is None:
            error.unfinished_upload_id = upload.upload_id
        if upload.unfinished not in getattr(error, "__notes__", ()):
            error.add_note(upload.unfinished)

    async def _once(self) -> Uploaded:
        context, settings, size = self._context, self._context.settings, self._source.size
        in_parts = size is not None and size > settings.multipart_threshold
        if size is not None and in_parts and self._options.resume:
            return await self._resume(size)
        if not self._options.overwrite:
            self._checking_key = True
            await _refuse_existing(context, self._key, self._headers)
            self._checking_key = False
        reader = PartReader(self._source, context, self._options.algorithm)
        if size is not None and not in_parts:
            # One byte more than declared shows a body that is too long.
            return await self._put(await reader.read(size + 1))
        sizes = PartSizes(settings.part_size, size)
        if in_parts:
            await reader.hash_ahead(sizes)
        first = await reader.read(sizes.size_of(1))
        if size is None and first.size < sizes.size_of(1):
            return await self._put(first)
        return await self._send_in_parts(first, reader, sizes)

    async def _resume(self, size: int) -> Uploaded:
        head = await PartReader(self._source, self._context).read(HEAD_BYTES)
        try:
            self._tell_content_type(head)
        finally:
            await head.release()
        resumable = ResumableUpload(
            self._context,
            self._key,
            self._headers,
            self._source,
            self._meter,
            size=size,
            algorithm=self._options.algorithm,
            overwrite=self._options.overwrite,
        )
        try:
            done = await resumable.run()
        finally:
            self._upload = resumable.upload
            self._checking_key = resumable.checking_key
        return Uploaded(
            done.stored,
            done.size,
            done.parts,
            self._headers["content-type"],
            done.checksum,
            reused=done.reused,
        )

    async def _send_in_parts(self, first: Part, reader: PartReader, sizes: PartSizes) -> Uploaded:
        self._tell_content_type(first)
        upload = self._upload = MultipartUpload(
            self._context,
            self._key,
            self._headers,
            sizes,
            algorithm=self._options.algorithm,
            conditional=self._conditional,
        )
        try:
            try:
                await upload.begin()
                await send_all(
                    upload,
                    first,
                    reader,
                    self._meter,
                    declared=self._source.size,
                    concurrency=self._context.settings.transfer_concurrency,
                    key=self._key,
                )
            finally:
                await first.release()
            await self._source.check_unchanged()
            stored, checksum = await upload.complete()
        except BaseException as error:
            await upload.abandon(error)
            raise
        return Uploaded(
            stored, upload.size, len(upload.sent), self._headers["content-type"], checksum
        )

    async def _put(self, part: Part) -> Uploaded:
        self._tell_content_type(part)
        algorithm = self._options.algorithm
        try:
            check_size(self._source.size, part.size, ended=True, key=self._key)
            digest, check, payload_hash = await part.request_checksum(
                algorithm, self._context.threads, self._headers
            )
            headers = {**self._headers, **check}
            if isinstance(part.body, FileBody):
                await self._source.check_unchanged()
            stored = await self._put_once_or_twice(part, headers, payload_hash)
        finally:
            await part.release()
        verify_stored(algorithm, digest, stored, headers, operation="PutObject", key=self._key)
        return Uploaded(
            stored,
            part.size,
            1,
            self._headers["content-type"],
            Checksum(algorithm=algorithm, value=digest.hex()),
        )

    async def _put_once_or_twice(
        self, part: Part, headers: dict[str, str], payload_hash: str
    ) -> Stored:
        if not self._conditional:
            return await self._put_object(part, headers, payload_hash)
        marker = UploadMarker.new(PartSizes(part.size, part.size))
        once = {**headers, MARK_HEADER: str(marker), "if-none-match": "*"}
        try:
            return await self._put_object(part, once, payload_hash)
        except NotSupportedError:
            self._conditional = False
            return await self._put_object(part, headers, payload_hash)
        except PreconditionFailedError as error:
            return await self._own_attempt(error, marker, headers)

    async def _own_attempt(
        self, refusal: PreconditionFailedError, marker: UploadMarker, headers: dict[str, str]
    ) -> Stored:
        """Return our own first attempt, whose response was lost, if it is what is in the way."""
        try:
            head = await self._context.requests.head_object(
                self._key, headers=key_headers_of(headers)
            )
        except StorageError as second:
            # That the key was taken is what the caller asked about; it may be gone by now.
            refusal.add_note(f"What is stored under the key is unknown: {second}")
            raise refusal from second
        if head.upload_mark != str(marker):
            raise refusal
        return Stored(head.file.etag, head.file.version_id, {})

    async def _put_object(self, part: Part, headers: dict[str, str], payload_hash: str) -> Stored:
        return await put_part(
            self._context, self._key, part, headers, self._meter, payload_hash=payload_hash
        )

    def _tell_content_type(self, first: Part) -> None:
        if "content-type" not in self._headers:
            self._headers["content-type"] = detect_content_type(self._name, first.head)
