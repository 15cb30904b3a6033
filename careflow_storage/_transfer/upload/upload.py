"""One upload, from any body to a confirmed object: a single PUT or a multipart upload."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from careflow_storage._log_fields import log_fields
from careflow_storage._s3.headers.objects import ObjectHead, StoreResult
from careflow_storage._transfer.bodies.checksums import verify_stored
from careflow_storage._transfer.bodies.parts import FileBody, Part, PartSizes, check_size
from careflow_storage._transfer.bodies.sources import Source, UploadBody, open_source
from careflow_storage._transfer.context import TransferContext
from careflow_storage._transfer.part_reader import PartReader
from careflow_storage._transfer.progress import Meter, ProgressCallback, metered
from careflow_storage._transfer.upload.existing import (
    existing_result,
    find_existing,
    is_cut_off,
    may_be_cut_off,
    refuse_existing,
    result_or_refuse,
)
from careflow_storage._transfer.upload.multipart import MultipartUpload
from careflow_storage._transfer.upload.options import UploadOptions
from careflow_storage._transfer.upload.result import upload_result
from careflow_storage._transfer.upload.resume import ResumableUpload
from careflow_storage._transfer.upload.scheduler import send_all
from careflow_storage._transfer.upload.single_put import (
    put_new_object,
    put_object,
    replace_cut_off,
)
from careflow_storage.content_types import HEAD_BYTES, detect_content_type
from careflow_storage.errors import (
    InvalidInputError,
    NoSuchUploadError,
    PreconditionFailedError,
    ServiceUnavailableError,
    StorageError,
)
from careflow_storage.models import Checksum, UploadResult

logger = logging.getLogger("careflow_storage")


async def upload(
    context: TransferContext,
    key: str,
    body: UploadBody,
    options: UploadOptions,
    *,
    name: str,
    progress: ProgressCallback | None,
    is_new: bool = False,
    cut_off: ObjectHead | None = None,
    kept: Mapping[str, str] | None = None,
) -> UploadResult:
    """Upload ``body`` to ``key``. The ending of ``name`` may decide the content type.

    ``is_new``: the caller has looked the key up, and it does not exist, or ``cut_off`` is its
    object, which may be cut off. ``kept``: headers of the object whose next version this is.
    """
    headers = {**(kept or {}), **options.headers(context.settings.endpoint)}
    if not options.return_existing:
        return await _upload(context, key, body, options, headers, name, progress, is_new=is_new)
    if not is_new:
        cut_off = await find_existing(context, key, headers)
        if cut_off is not None and not may_be_cut_off(cut_off):
            return result_or_refuse(context, cut_off)
    try:
        return await _upload(
            context, key, body, options, headers, name, progress, is_new=True, cut_off=cut_off
        )
    except PreconditionFailedError:
        # Another writer was faster, or the object is not cut off.
        existing = await existing_result(context, key, headers)
        if existing is None:
            raise
        return existing


async def _upload(
    context: TransferContext,
    key: str,
    body: UploadBody,
    options: UploadOptions,
    headers: dict[str, str],
    name: str,
    progress: ProgressCallback | None,
    *,
    is_new: bool,
    cut_off: ObjectHead | None = None,
) -> UploadResult:
    async with open_source(
        body, context.threads, size=options.size, limits=options.limits
    ) as source:
        if options.resume:
            _check_resumable(source)
        run: _Upload | None = None
        try:
            async with metered(progress, source.size) as meter:
                run = _Upload(context, key, options, headers, name, source, meter, is_new, cut_off)
                return await run.run()
        except BaseException as error:
            # The upload itself saw a cancellation when a progress callback raised this.
            if run is not None:
                run.note_unfinished(error)
            raise


def _taken(key: str) -> PreconditionFailedError:
    return PreconditionFailedError(
        "The key exists already.", operation="HeadObject", key=key, status=412
    )


def _check_resumable(source: Source) -> None:
    if source.size is None or not source.rewindable:
        raise InvalidInputError(
            "resume=True needs a body that can be read again from its start.",
            hint="Pass a Path, a seekable file or bytes. For a recording in progress use "
            "open_recording(flush_interval=...) and keep_incomplete_upload().",
        )


class _Upload:
    """One upload of an opened body."""

    def __init__(
        self,
        context: TransferContext,
        key: str,
        options: UploadOptions,
        headers: dict[str, str],
        name: str,
        source: Source,
        meter: Meter,
        is_new: bool,
        cut_off: ObjectHead | None,
    ) -> None:
        self._context = context
        self._key = key
        self._options = options
        self._headers = headers
        self._name = name
        self._source = source
        self._meter = meter
        self._upload: MultipartUpload | None = None
        self._is_new = is_new
        # The object under the key, which this upload replaces if it is the beginning of the body.
        self._cut_off = cut_off
        # Whether the last attempt ended while it looked the key up.
        self._checking_key = False
        # B2 responds with 501 to If-None-Match: there only a HEAD before the upload is possible.
        self._conditional = not options.replaces and not context.settings.is_b2

    async def run(self) -> UploadResult:
        """Upload the body; restart once if a new upload may succeed and the body can be reread."""
        try:
            return await self._attempt()
        except (ServiceUnavailableError, NoSuchUploadError) as error:
            if not (self._may_restart(error) and await self._source.rewind()):
                raise
            logger.info(
                "restarting the upload: %s",
                error,
                extra=log_fields("upload_restarted", error, key=self._key),
            )
            if self._options.resume and self._upload is not None:
                await self._upload.abandon(error)
            self._meter.restart()
            try:
                return await self._attempt()
            except StorageError as second:
                if not self._checking_key:
                    raise
                # The restart sent nothing: report the error that ended the upload.
                error.add_note(f"It was not restarted: {second}")
                raise error from second

    def _may_restart(self, error: StorageError) -> bool:
        if isinstance(error, NoSuchUploadError):
            # Another process aborted or continued it. A resumed upload has restarted already.
            # With a cause it may have been completed: a restart could store a second version.
            return not self._options.resume and error.__cause__ is None
        # B2 stores all parts of an upload in one vault. When that stays busy, only a new upload
        # gets another vault.
        upload = self._upload
        busy_vault = upload is not None and upload.part_refused and error.status == 503
        return busy_vault and self._context.retry.pause_after(error, 1) is not None

    def note_unfinished(self, error: BaseException) -> None:
        """Add to ``error`` which multipart upload is left, unless it says so already."""
        upload = self._upload
        if upload is None or upload.unfinished is None:
            return
        if isinstance(error, StorageError) and error.unfinished_upload_id is None:
            error.unfinished_upload_id = upload.upload_id
        if upload.unfinished not in getattr(error, "__notes__", ()):
            error.add_note(upload.unfinished)

    async def _attempt(self) -> UploadResult:
        context, settings, size = self._context, self._context.settings, self._source.size
        in_parts = size is not None and size > settings.multipart_threshold
        if in_parts and self._cut_off is not None:
            # It was stored with one PUT, so it is not the beginning of this body.
            raise _taken(self._key)
        if size is not None and in_parts and self._options.resume:
            return await self._resume(size)
        is_new, self._is_new = self._is_new, False
        if not (self._options.replaces or is_new):
            self._checking_key = True
            await refuse_existing(context, self._key, self._headers)
            self._checking_key = False
        reader = PartReader(self._source, context, self._options.algorithm)
        if size is not None and not in_parts:
            # One byte more than declared reveals a body that is too long.
            return await self._put(await reader.read(size + 1))
        sizes = PartSizes(settings.part_size, size)
        if in_parts:
            await reader.hash_ahead(sizes)
        first = await reader.read(sizes.size_of(1))
        if size is None and first.size < sizes.size_of(1):
            return await self._put(first)
        if self._cut_off is not None:
            await first.release()
            raise _taken(self._key)
        return await self._send_in_parts(first, reader, sizes)

    async def _resume(self, size: int) -> UploadResult:
        head = await PartReader(self._source, self._context).read(HEAD_BYTES)
        try:
            self._set_content_type(head)
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
            overwrite=self._options.replaces,
        )
        try:
            return await resumable.run()
        finally:
            self._upload = resumable.upload
            self._checking_key = resumable.checking_key

    async def _send_in_parts(
        self, first: Part, reader: PartReader, sizes: PartSizes
    ) -> UploadResult:
        self._set_content_type(first)
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
                )
            finally:
                await first.release()
            await self._source.check_unchanged()
            stored, checksum = await upload.complete()
        except BaseException as error:
            await upload.abandon(error)
            raise
        return self._result(stored, upload.size, len(upload.sent), checksum)

    async def _put(self, part: Part) -> UploadResult:
        self._set_content_type(part)
        algorithm = self._options.algorithm
        try:
            check_size(self._source.size, part.size, ended=True)
            digest, check, payload_hash = await part.request_checksum(
                algorithm, self._context.threads, self._headers
            )
            headers = {**self._headers, **check}
            if isinstance(part.body, FileBody):
                await self._source.check_unchanged()
            put = put_new_object if self._conditional else put_object
            if self._cut_off is not None:
                if not await is_cut_off(self._cut_off, part, self._context.threads):
                    raise _taken(self._key)
                put = replace_cut_off
            stored = await put(
                self._context, self._key, part, headers, self._meter, payload_hash=payload_hash
            )
        finally:
            await part.release()
        verify_stored(algorithm, digest, stored, headers, operation="PutObject", key=self._key)
        checksum = Checksum(algorithm=algorithm, value=digest.hex())
        return self._result(stored, part.size, 1, checksum)

    def _result(
        self, stored: StoreResult, size: int, parts: int, checksum: Checksum
    ) -> UploadResult:
        return upload_result(
            self._context,
            self._key,
            stored,
            size=size,
            parts=parts,
            content_type=self._headers["content-type"],
            checksum=checksum,
        )

    def _set_content_type(self, first: Part) -> None:
        if "content-type" not in self._headers:
            self._headers["content-type"] = detect_content_type(self._name, first.head)
