"""`BackblazeStorage`: store, play back, download, list and delete recordings."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self, Unpack

from careflow_storage._in_flight import DEFAULT_GRACE
from careflow_storage._log_fields import log_fields
from careflow_storage._observer import checked_hooks
from careflow_storage._runtime import Runtime
from careflow_storage._s3.headers.encryption import key_headers
from careflow_storage._s3.requests.deletion import delete_keys
from careflow_storage._s3.requests.key_range import checked_range
from careflow_storage._s3.requests.listing import FileListing, FolderListing
from careflow_storage._s3.requests.presign import Grant, SignedMethod, presign
from careflow_storage._s3.requests.versions import checked_version_id
from careflow_storage._s3.session import check_session
from careflow_storage._transfer.bodies.limits import BodyLimits
from careflow_storage._transfer.copy_from.copy import CopyTask, copy_from
from careflow_storage._transfer.copy_from.options import CopyOptions
from careflow_storage._transfer.download.file import download
from careflow_storage._transfer.download.reader import FileReader
from careflow_storage._transfer.download.serve import FileServer, ServedFile
from careflow_storage._transfer.download.stream import FileStream
from careflow_storage._transfer.incomplete import (
    abort_stale,
    abort_upload,
    keep_incomplete,
    list_incomplete,
)
from careflow_storage._transfer.live.checks import OnError
from careflow_storage._transfer.live.writer import RecordingWriter
from careflow_storage._transfer.purge import purge_key
from careflow_storage._transfer.remote.source_request import SourceRequest
from careflow_storage._transfer.upload.options import UploadOptions
from careflow_storage._transfer.upload.signed import sign_upload
from careflow_storage._transfer.upload.upload import upload
from careflow_storage.content_types import DEFAULT_CONTENT_TYPES
from careflow_storage.errors import InvalidInputError
from careflow_storage.hooks import Hooks
from careflow_storage.models import (
    ChecksumAlgorithm,
    DeleteResult,
    DownloadResult,
    FileMetadata,
    IncompleteUpload,
    PurgeResult,
    SignedRequest,
    UploadResult,
)
from careflow_storage.options import CommonOptions, IfExists, ObjectOptions, check_options
from careflow_storage.protection import check_customer_key, check_encryption
from careflow_storage.rate_limit import RateLimit
from careflow_storage.recordings import (
    DEFAULT_MAX_SIZE,
    RecordingClock,
    existing_key,
    recording_key,
    validate_key,
)

# Loaded here, where no event loop waits: a storage that reads the environment needs it.
from careflow_storage.settings import StorageSettings, settings_from_environment

if TYPE_CHECKING:
    from careflow_storage._s3.headers.objects import ObjectHead
    from careflow_storage._s3.requests.objects import S3Requests
    from careflow_storage._s3.session import GivenSession, S3Client
    from careflow_storage._transfer.bodies.sources import UploadBody
    from careflow_storage._transfer.progress import ProgressCallback
    from careflow_storage.admin import StorageAdmin
    from careflow_storage.protection import CustomerKey, Encryption, Retention

logger: logging.Logger = logging.getLogger("careflow_storage")


class BackblazeStorage:
    """Call recordings in a private bucket on Backblaze B2, or any S3-compatible store.

    ::

        async with BackblazeStorage() as storage:
            result = await storage.upload_recording("CA123", body, "recording.webm")
            url = await storage.get_signed_url(result.key)

    Make one per process and keep it open: in a web app's lifespan, in a worker's startup. Any
    number of tasks may use it at once; all share its connections, request slots and memory
    budget. It belongs to the event loop that opened it.

    Args:
        settings: The bucket and its application key. Default: read from ``BACKBLAZE_*``.
        session: An aioboto3 or aiobotocore session. Its credentials, which may be refreshable,
            replace those of the settings.
        rate_limit: The most requests per second. Default: ``settings.rate_limit``, by default
            no limit.
        hooks: Objects whose methods are called for each call and request, see
            `careflow_storage.hooks.Hooks`.

    Raises:
        InvalidInputError: A setting is malformed, or an argument has another type. (A boto3
            session would block the event loop.)
    """

    def __init__(
        self,
        settings: StorageSettings | None = None,
        *,
        session: GivenSession | None = None,
        rate_limit: RateLimit | None = None,
        hooks: Iterable[Hooks] = (),
    ) -> None:
        check_session(session)
        if rate_limit is not None and not isinstance(rate_limit, RateLimit):
            raise InvalidInputError(
                f"rate_limit must be a RateLimit, not {type(rate_limit).__name__}.",
                hint="Write rate_limit=RateLimit(per_second=400).",
            )
        self.settings: StorageSettings = (
            settings if settings is not None else settings_from_environment()
        )
        self._runtime = Runtime(self.settings, session, rate_limit, checked_hooks(hooks))
        self._call = self._runtime.call
        self._context = self._runtime.context
        self._clock = RecordingClock()
        self._admin: StorageAdmin | None = None

    def __repr__(self) -> str:
        bucket, state = self.settings.bucket_name, self._runtime.state
        return f"<BackblazeStorage bucket={bucket!r} {state}>"

    def is_configured(self) -> bool:
        """Whether every required setting is set. Does not contact the server."""
        return not self._runtime.missing

    async def initialize(self) -> bool:
        """Open the storage; False and a warning when it is not configured. Sends no request.

        Raises:
            StorageClosedError: The storage was closed. A closed storage cannot be reopened.
        """
        if missing := self._runtime.missing:
            logger.warning(
                "Storage is not configured: %s missing.",
                ", ".join(missing),
                extra=log_fields("not_configured", missing=list(missing)),
            )
            return False
        with self._call("initialize"):
            await self._runtime.open()
        return True

    async def __aenter__(self) -> Self:
        await self._runtime.open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self, grace: float = DEFAULT_GRACE) -> None:
        """Cancel the calls in flight, clean up, and close all connections.

        Returns at once if no call is in flight. New calls raise `StorageClosedError`, and so do
        the running ones, which are cancelled; if the caller's own task was cancelled, they raise
        ``CancelledError`` as usual. Uploads are aborted. Open recordings are aborted or kept, as
        their ``on_error`` says. Uploads that could not be cleaned up within ``grace`` seconds are
        logged with their IDs.

        Safe to call twice, and in several tasks at once. If it is cancelled, it limits the
        clean-up to 0.8 s and closes before it raises ``CancelledError``. Inside a call of this
        storage, such as in a progress callback, it returns early, and the storage is closed after
        that call has ended. In a forked child it leaves the parent's connections and uploads
        alone.

        Args:
            grace: The most seconds for the clean-up. 0 cancels and closes at once.

        Raises:
            InvalidInputError: ``grace`` is not a number of seconds, 0 or more.
            WrongLoopError: Another event loop opened the storage, and is not closed yet. If it
                is closed, everything that needs no loop is released.
        """
        with self._call("close"):
            await self._runtime.close(grace)

    # Not a cached_property: pyright does not accept one as a property of a protocol.
    @property
    def admin(self) -> StorageAdmin:
        """Methods for the bucket itself: CORS, lifecycle, versions, object lock, keys, usage."""
        if self._admin is None:
            from careflow_storage.admin import StorageAdmin

            self._admin = StorageAdmin(self.settings, self._runtime)
        return self._admin

    def request_counts(self) -> dict[str, int]:
        """Return the number of requests sent so far, by S3 operation, retries included."""
        with self._call("request_counts"):
            return dict(self._context().session.counter.sent)

    def count_requests(self) -> AbstractContextManager[Counter[str]]:
        """Count the requests of the calls made within a ``with`` block, by S3 operation.

        ::

            with storage.count_requests() as requests:
                await storage.upload_recording("CA123", body, "recording.webm")
            print(requests.total(), requests["PutObject"])

        Every attempt counts, retries included, of the aioboto3 client too. The counts are up to
        date at any moment. They include the requests of tasks that are started within, and
        those that are sent after the block, such as the clean-up of a cancelled upload. The
        requests of an open recording count where its first bytes are written. Blocks of
        concurrent tasks are apart; a nested block counts in the outer one, too.
        """
        return self._runtime.counter.scope()

    async def client(self) -> S3Client:
        """Return the aioboto3 S3 client of this storage, for calls that have no method here.

        The client is created on first use, in a thread, and closed with the storage. It does not
        retry, and it raises botocore's exceptions.
        """
        with self._call("client"):
            return await self._context().session.client()

    async def upload_file(
        self,
        key: str,
        body: UploadBody,
        content_type: str | None = None,
        *,
        size: int | None = None,
        overwrite: bool = True,
        if_exists: IfExists | None = None,
        max_size: int | None = None,
        read_timeout: float | None = None,
        min_rate: float | None = None,
        resume: bool = False,
        progress: ProgressCallback | None = None,
        timeout: float | None = None,
        **options: Unpack[CommonOptions],
    ) -> UploadResult:
        """Store ``body`` under ``key`` and return when the server has confirmed all of it.

        Up to ``multipart_threshold`` bytes are sent in one PUT (1 request), and so is a stream
        of unknown size that ends within its first part. More bytes are sent in parts (1 request
        each and 2 more), ``transfer_concurrency`` at once within ``memory_budget``. On any error
        or cancellation the multipart upload is aborted and nothing is stored. A file that the
        caller opened stays open.

        Args:
            key: 1 to 1024 bytes of UTF-8.
            body: Bytes, text (a ``str`` is stored as UTF-8, it is never a path), a ``Path``, a
                binary file object, sync or async, a response of an HTTP client, or an iterable
                of bytes. See docs/bodies.md.
            content_type: Default: detected by the first bytes, then by the key's ending.
            size: The length of a stream in bytes, if known. A body of another length is
                refused; the parts of a known length are equal.
            overwrite: Whether to replace an existing object. With False an existing key raises
                `PreconditionFailedError` (1 request more). B2 has no conditional PUT: when two
                writers store the same key at the same moment, both may succeed there, and the
                older object stays as a version. AWS S3 lets one of them win. SeaweedFS does so
                for a single PUT, not for a multipart upload.
            if_exists: ``"replace"``, ``"error"`` (as ``overwrite=False``), or ``"return"``: then
                the result of an existing object is returned, with its size as ``reused``, and
                nothing is sent (1 HEAD, which a new object costs, too). The object's bytes are
                not compared with ``body``, whose reading does not begin. What two writers at the
                same moment do is as for ``overwrite``.
            max_size: The most bytes that the body may have. A body of known length that has
                more is refused before any request, another one while it is sent.
            read_timeout: The most seconds for each read of a body that arrives in chunks, such as
                a web client's. None waits as long as it takes. Bytes and files on a disk do not
                wait, and need no such limit.
            min_rate: The bytes per second that such a body must send on average, over each 30
                seconds of waiting for it. The time in which the upload does not wait for the
                body is not counted.
            resume: Whether to continue an interrupted upload of the same bytes to this key,
                after a crash too. Parts that the server holds are compared by their MD5 and not
                sent again. A failed upload is not aborted, so that the next call can continue
                it; `abort_stale_uploads` removes uploads that are never resumed. Not with a
                `CustomerKey`.
            progress: Called with `Progress` events, whose bytes are cumulative; may be async. An
                exception that it raises aborts the upload.
            timeout: The most seconds for the whole call, retries included; after that it raises
                `StorageTimeoutError`. Every method that sends requests takes it.
            options: What is stored with the object, see `ObjectOptions`: ``metadata``,
                ``cache_control``, ``content_disposition``, ``checksum``, ``encryption``,
                ``retention``, ``legal_hold``.

        Raises:
            InvalidInputError: An argument is invalid, or the bucket cannot lock files.
            PreconditionFailedError: The key exists, and ``if_exists`` is ``"error"``; or it is
                ``"return"``, and the server does not report the object's checksum, as with a
                `CustomerKey`.
            FileTooLargeError: The body has more than ``max_size`` bytes.
            BodyTimeoutError: The body was slower than ``read_timeout`` or ``min_rate`` allows.
            SizeMismatchError: The body had more or fewer bytes than it declared.
            BodyChangedError: The file was written to while it was read.
            ChecksumMismatchError: The bytes were damaged in transit.
            StorageError: See `careflow_storage.errors`. Exceptions of the body are not wrapped.
        """
        check_options("BackblazeStorage.upload_file", options)
        upload_options = UploadOptions(
            content_type=content_type,
            **options,
            size=size,
            overwrite=overwrite,
            if_exists=if_exists,
            limits=BodyLimits(max_size, read_timeout, min_rate),
            resume=resume,
            default_checksum=self.settings.checksum,
        )
        async with self._call("upload_file", key, timeout):
            return await upload(
                self._context(),
                validate_key(key),
                body,
                upload_options,
                name=key,
                progress=progress,
            )

    async def upload_recording(
        self,
        call_id: str,
        body: UploadBody,
        filename: str,
        *,
        recorded_at: datetime | None = None,
        size: int | None = None,
        overwrite: bool = True,
        if_exists: IfExists | None = None,
        max_size: int | None = None,
        read_timeout: float | None = None,
        min_rate: float | None = None,
        resume: bool = False,
        progress: ProgressCallback | None = None,
        timeout: float | None = None,
        **options: Unpack[ObjectOptions],
    ) -> UploadResult:
        """Store a recording as ``recordings/{call_id}/{epoch_ms}-{filename}``.

        Like `upload_file`, with a key that is made from the arguments. ``call_id`` and
        ``filename`` must not contain slashes, ``..`` or control characters.

        Args:
            recorded_at: An aware datetime. Default: now, and no two recordings of this storage
                get the same key. The same time, call and filename give the same key: pass it
                when you ``resume``, or with ``if_exists`` to store a recording once.
            options: See `ObjectOptions`; ``content_type``, ``metadata``, ``cache_control``,
                ``content_disposition``, ``checksum``, ``encryption``, ``retention``,
                ``legal_hold``.
        """
        check_options("BackblazeStorage.upload_recording", options)
        upload_options = UploadOptions(
            **options,
            size=size,
            overwrite=overwrite,
            if_exists=if_exists,
            limits=BodyLimits(max_size, read_timeout, min_rate),
            resume=resume,
            default_checksum=self.settings.checksum,
        )
        call = self._call("upload_recording", timeout=timeout)
        async with call:
            key = call.key = recording_key(call_id, filename, self._clock.epoch_ms(recorded_at))
            return await upload(
                self._context(), key, body, upload_options, name=filename, progress=progress
            )

    def open_recording(
        self,
        call_id: str,
        filename: str,
        *,
        recorded_at: datetime | None = None,
        on_error: OnError = "abort",
        flush_interval: float | None = None,
        live_read: bool = False,
        if_exists: Literal["replace", "error"] = "replace",
        max_size: int | None = None,
        progress: ProgressCallback | None = None,
        explicit_finish: bool = False,
        keep_dir: str | os.PathLike[str] | None = None,
        **options: Unpack[ObjectOptions],
    ) -> RecordingWriter:
        """Return a writer for a call in progress, which uploads the bytes as they arrive.

        ::

            async with storage.open_recording("CA123", "call.webm", on_error="keep") as writer:
                async for chunk in call:
                    await writer.write(chunk)
            print(writer.result)

        A call that is shorter than one part becomes one PUT. See `RecordingWriter`.

        Args:
            recorded_at: As for `upload_recording`.
            on_error: What to do when an exception or a cancellation leaves the block: ``abort``
                stores nothing, ``keep`` stores the bytes that have arrived, marked as partial in
                the metadata.
            flush_interval: The most seconds between bytes and their upload, so that a killed
                process loses no more; `keep_incomplete_upload` makes a recording of the rest.
                Every flush sends the unfinished part again, from its beginning.
            live_read: Use B2's Live Read: uploaded parts can be read during the call.
            if_exists: ``"error"`` looks the key up when the block is entered (1 HEAD), before the
                first byte, and raises `PreconditionFailedError` if it exists. Servers with
                conditional writes also check it when the recording is stored. ``"return"`` is
                refused: the bytes of a live call exist only once.
            max_size: The most bytes of the recording. The `write` that would exceed it raises
                `FileTooLargeError` and appends nothing; ``on_error`` decides about the bytes
                before it.
            progress: As for `upload_file`.
            explicit_finish: Treat only a recording whose `RecordingWriter.finish` was called as
                complete. A block that ends without it, as a loop does when the connection is
                lost, is stored as partial.
            keep_dir: The folder, on a disk that outlives the process, for bytes that
                ``on_error="keep"`` cannot upload. Default: the temporary folder.
            options: See `ObjectOptions`; as for `upload_recording`. If a locked recording in
                parts is cut off, two versions of it stay until the lock ends: one that is marked
                as partial, and one that is not.
        """
        check_options("BackblazeStorage.open_recording", options)
        with self._call("open_recording"):
            key = recording_key(call_id, filename, self._clock.epoch_ms(recorded_at))
            return RecordingWriter(
                self._context(),
                key,
                UploadOptions(
                    **options,
                    if_exists=if_exists,
                    limits=BodyLimits(max_size),
                    default_checksum=self.settings.checksum,
                ),
                name=filename,
                on_error=on_error,
                flush_interval=flush_interval,
                live_read=live_read,
                progress=progress,
                explicit_finish=explicit_finish,
                keep_dir=keep_dir,
            )

    async def upload_from_url(
        self,
        call_id: str,
        url: str,
        filename: str,
        *,
        auth: tuple[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        max_size: int | None = DEFAULT_MAX_SIZE,
        content_types: Collection[str] | None = DEFAULT_CONTENT_TYPES,
        allow_private_addresses: bool = False,
        max_redirects: int = 5,
        use_proxy: bool = False,
        recorded_at: datetime | None = None,
        overwrite: bool = True,
        if_exists: IfExists | None = None,
        progress: ProgressCallback | None = None,
        timeout: float | None = None,
        **options: Unpack[ObjectOptions],
    ) -> UploadResult:
        """Store the content of a URL as a recording, for example one of Twilio's.

        Like `upload_recording`, with the body streamed from ``url`` (http or https). If the
        connection breaks, the rest is requested with Range, for the same ETag; 5xx, 429 and
        lost connections are retried as the settings say. The length is always verified. On any
        error nothing is stored. Costs 1 request to the source, 1 more per redirect or resume,
        and those of the upload.

        Connects to public addresses only, also after DNS and redirects. Cookies and ``.netrc``
        are not used, proxies only with ``use_proxy``.

        Args:
            auth: User and password (Basic). At Twilio: account SID and auth token, or API key
                and secret. Sent over https only, and not to another origin after a redirect.
            headers: More headers for the source. They are not sent to another origin either.
            max_size: The most bytes to store; None for no limit.
            content_types: The content types that the source may declare, as ``audio/*`` or
                ``audio/wav``; None for any. A web page or JSON that is declared as audio is
                refused as well.
            allow_private_addresses: Whether addresses of this machine and of private networks
                may be used, and ``auth`` be sent over http. Only for your own URLs.
            max_redirects: The most redirects to follow.
            use_proxy: Whether to use the proxy of the environment (``HTTPS_PROXY``,
                ``NO_PROXY``). The proxy resolves names, so it must refuse private addresses.
            recorded_at: As for `upload_recording`.
            overwrite: As for `upload_file`. The source is requested before the key is looked up.
            if_exists: As for `upload_file`. With ``"return"`` the source is not requested where
                the key exists.
            progress: As for `upload_file`.
            timeout: As for `upload_file`.
            options: See `ObjectOptions`; as for `upload_recording`. ``content_type`` defaults to
                what the first bytes, the filename's ending or the source say, in this order.

        Raises:
            InvalidInputError: Before any request, for a URL or header that cannot be used.
            SourceTooLargeError: The source has more than ``max_size`` bytes.
            SourceError: The source failed or is refused; ``status``, ``retryable``, ``hint``.
        """
        source_request = SourceRequest(url, auth, headers)
        # The traceback of an error keeps this frame, and error trackers record its variables.
        del url, auth, headers
        check_options("BackblazeStorage.upload_from_url", options)
        upload_options = UploadOptions(
            **options,
            overwrite=overwrite,
            if_exists=if_exists,
            default_checksum=self.settings.checksum,
        )
        call = self._call("upload_from_url", timeout=timeout)
        async with call:
            key = call.key = recording_key(call_id, filename, self._clock.epoch_ms(recorded_at))
            context = self._context()
            # The only transfer that needs a general HTTP client, whose import is slow.
            remote = await context.threads.load("careflow_storage._transfer.remote.upload")
            result: UploadResult = await remote.upload_from_url(
                context,
                key,
                source_request,
                upload_options,
                name=filename,
                max_size=max_size,
                content_types=content_types,
                allow_private_addresses=allow_private_addresses,
                max_redirects=max_redirects,
                use_proxy=use_proxy,
                progress=progress,
            )
            return result

    async def copy_from(
        self,
        other: BackblazeStorage,
        key: str,
        to_key: str | None = None,
        *,
        version_id: str | None = None,
        content_type: str | None = None,
        metadata: dict[str, str] | None = None,
        cache_control: str | None = None,
        content_disposition: str | None = None,
        checksum: ChecksumAlgorithm | None = None,
        source_encryption: CustomerKey | None = None,
        encryption: Encryption | None = None,
        retention: Retention | Literal["keep"] | None = None,
        legal_hold: bool | Literal["keep"] = False,
        stamp_source_etag: bool = False,
        if_exists: IfExists = "replace",
        resume: bool = False,
        progress: ProgressCallback | None = None,
        timeout: float | None = None,
    ) -> UploadResult:
        """Copy an object of another storage into this one, verified.

        ::

            async with BackblazeStorage(old) as source, BackblazeStorage(new) as target:
                await target.copy_from(source, "recordings/CA123/1-call.webm")

        Keeps the content type, the metadata, Cache-Control, Content-Disposition,
        Content-Encoding, Content-Language, Expires, and the note that a recording was cut off.
        Copies exactly one version, even if the source is overwritten meanwhile. On any error or
        cancellation nothing is stored, and the multipart upload is aborted.

        The bytes pass through this process: 1 GET and 1 PUT up to ``multipart_threshold``; above
        it 1 GET and 1 PUT for each part, ``transfer_concurrency`` at once, and 3 more. Memory:
        these parts, within the ``memory_budget`` of this storage. If both storages have the same
        endpoint and application key, the server copies (1 HEAD and 1 copy up to 5 GB), unless
        it refuses to copy from that bucket, or the object has a customer's key.

        The bytes are verified by the ETag of the source, if that is made of MD5s and, for an
        object in parts, this package has stored it; always by their number, and by the target.

        Args:
            other: The open storage that has the source.
            to_key: The key of the copy; None is ``key``.
            version_id: An older version of the source; None is the newest.
            content_type: Replaces that of the source, and so do ``cache_control`` and
                ``content_disposition``.
            metadata: Replaces all of the source's own metadata.
            checksum: See `ObjectOptions`.
            source_encryption: The customer's key of the source, if it has one.
            encryption: The encryption of the copy; None is the bucket's default.
            retention: The lock of the copy; ``"keep"`` is that of the source, if it has not
                ended. Without readFileRetentions its application key does not see it.
            legal_hold: ``"keep"`` is that of the source. Needs readFileLegalHolds there.
            stamp_source_etag: Store the ETag of the source as ``careflow-source-etag`` in the
                metadata of the copy, which then may exceed 2,048 bytes. Where the ETags of both
                differ, it shows that the copy is up to date.
            if_exists: As for `upload_file`. With ``"return"`` and an existing object the source
                is not looked at.
            resume: Whether to continue an interrupted copy of the same version in parts. The
                parts that the target has are not read again. A failed copy is then not aborted,
                unless the source is gone or has changed. Not with a `CustomerKey`.
            progress: As for `upload_file`.

        Raises:
            NoSuchKeyError: The source, or that version of it, does not exist, or was erased
                meanwhile. The error's ``bucket`` is that of ``other``.
            PreconditionFailedError: The key exists, and ``if_exists`` is ``"error"``. Or the
                source was replaced meanwhile, in a bucket without versions.
            ChecksumMismatchError: The bytes do not match the ETag of the source.
            InvalidInputError: An argument is invalid, or the source is the target.
            StorageError: See `careflow_storage.errors`. ``bucket`` says whose it is.
        """
        options = CopyOptions(
            UploadOptions(
                content_type=content_type,
                metadata=metadata,
                cache_control=cache_control,
                content_disposition=content_disposition,
                checksum=checksum,
                encryption=encryption,
                if_exists=if_exists,
                retention=None if retention == "keep" else retention,
                legal_hold=False if legal_hold == "keep" else legal_hold,
                resume=resume,
                default_checksum=self.settings.checksum,
            ),
            keep_retention=retention == "keep",
            keep_legal_hold=legal_hold == "keep",
            stamp=stamp_source_etag or resume,
        )
        async with self._call("copy_from", key, timeout):
            if not isinstance(other, BackblazeStorage):
                raise InvalidInputError(
                    f"other must be a BackblazeStorage, not {type(other).__name__}."
                )
            check_customer_key(source_encryption, other.settings.endpoint)
            if version_id is not None:
                version_id = checked_version_id(version_id)
            task = CopyTask(
                target=self._context(),
                to_key=validate_key(key if to_key is None else to_key),
                source=other._context(),
                key=existing_key(key),
                version_id=version_id,
                encryption=source_encryption,
                options=options,
            )
            return await copy_from(task, progress)

    async def get_signed_url(
        self,
        key: str,
        expires_in: int = 3600,
        *,
        method: SignedMethod = "GET",
        download_as: str | None = None,
        content_type: str | None = None,
        version_id: str | None = None,
        encryption: Encryption | None = None,
    ) -> str:
        """Return a URL that lets any client send ``method`` for ``key``.

        Sends no request, so the object need not exist. The URL is valid for ``expires_in``
        seconds (1 to 604800), or until the application key is deleted.

        Args:
            download_as: For GET: the name that a browser saves the file under.
            content_type: For GET: the ``Content-Type`` of the response. For PUT: the one that
                the client must send. Without it the client chooses, ``text/html`` too: prefer
                `sign_upload`, which also binds size, MD5 and metadata.
            encryption: For an object with a `CustomerKey`: the client must send the headers
                `CustomerKey.headers` as well. Their values are signed, but not in the URL.
                For PUT also "SSE-B2", with ``x-amz-server-side-encryption: AES256``.
        """
        with self._call("get_signed_url", key):
            check_encryption(encryption, self.settings.endpoint)
            grant = Grant.checked(
                expires_in,
                method,
                download_as=download_as,
                content_type=content_type,
                version_id=version_id,
                encryption=encryption,
            )
            checked = validate_key(key) if method == "PUT" else existing_key(key)
            urls = await presign(self._context().session, [checked], grant)
            return urls[0]

    async def get_signed_urls(
        self,
        keys: Iterable[str],
        expires_in: int = 3600,
        *,
        method: SignedMethod = "GET",
        content_type: str | None = None,
        encryption: Encryption | None = None,
    ) -> list[str]:
        """Return a URL for each key, in their order, for a page that lists recordings."""
        with self._call("get_signed_urls"):
            check_encryption(encryption, self.settings.endpoint)
            grant = Grant.checked(
                expires_in, method, content_type=content_type, encryption=encryption
            )
            return await presign(self._context().session, _checked_keys(keys), grant)

    async def sign_upload(
        self,
        key: str,
        *,
        content_type: str,
        size: int | None = None,
        md5: str | bytes | None = None,
        metadata: dict[str, str] | None = None,
        cache_control: str | None = None,
        content_disposition: str | None = None,
        encryption: Literal["SSE-B2"] | None = None,
        retention: Retention | None = None,
        legal_hold: bool = False,
        expires_in: int = 600,
    ) -> SignedRequest:
        """Sign one PUT, with which a browser or another client stores one file. Sends no request.

        The signature binds every argument: the server refuses (403) a body of another size or
        type, and other or missing headers, and (400) bytes with another MD5. The client can
        repeat the request until it expires; each time stores a new version. The signature cannot
        forbid headers that it does not bind: the client may add ``Content-Encoding``,
        ``Expires``, and ``Cache-Control`` or ``Content-Disposition`` if they are not passed here.

        Args:
            content_type: The type that the file is stored and served with. Always bound, so that
                the client cannot store a web page (``text/html``) where a recording should be.
            size: The exact length in bytes. Not bound when None: the client may then store up
                to 5 GB.
            md5: The MD5 of the bytes, which the server verifies: 32 hex digits, base64, or 16
                bytes. A bucket with default retention refuses uploads without it.
            metadata: As for `upload_file`, and so are ``cache_control``,
                ``content_disposition``, ``retention`` and ``legal_hold`` (these two need
                ``md5``).
            encryption: ``"SSE-B2"`` or None: a customer's key must not be given to the client.
            expires_in: Seconds, 1 to 604800. Temporary credentials of a session end it earlier.

        Raises:
            InvalidInputError: An argument cannot be sent or signed.
        """
        with self._call("sign_upload", key):
            options = UploadOptions(
                content_type=content_type,
                metadata=metadata,
                cache_control=cache_control,
                content_disposition=content_disposition,
                size=size,
                encryption=encryption,
                retention=retention,
                legal_hold=legal_hold,
            )
            return await sign_upload(
                self._context(), validate_key(key), options, md5=md5, expires_in=expires_in
            )

    async def get_file(
        self,
        key: str,
        *,
        version_id: str | None = None,
        verify: bool = True,
        encryption: CustomerKey | None = None,
        timeout: float | None = None,
    ) -> bytes:
        """Return a whole object in memory; for large ones use `stream_file`. 1 request.

        Args:
            verify: Whether to check the MD5 if the ETag contains one; the length always is.
            encryption: The `CustomerKey` that the file was stored with, if it was. Then only
                the length is verified.

        Raises:
            NoSuchKeyError: The object does not exist or is hidden.
            AccessDeniedError: The application key may not read it, or the customer's key is
                missing or wrong.
            ChecksumMismatchError: The bytes were damaged in transit.
        """
        async with self._call("get_file", key, timeout):
            check_customer_key(encryption, self.settings.endpoint)
            stream = FileStream(
                self._context(),
                existing_key(key),
                version_id=version_id,
                verify=verify,
                encryption=encryption,
            )
            return await stream.read()

    def stream_file(
        self,
        key: str,
        *,
        start: int = 0,
        end: int | None = None,
        version_id: str | None = None,
        verify: bool = True,
        encryption: CustomerKey | None = None,
        timeout: float | None = None,
    ) -> FileStream:
        """Return the bytes ``[start, end)`` of an object as an async iterator of chunks.

        The first request is sent when the iteration begins. See `FileStream`. ``verify`` applies
        to whole objects: the MD5 is checked after the last chunk, if the ETag contains one.
        ``timeout`` is the most seconds from the first request to the last chunk. ``encryption``
        is as for `get_file`.
        """
        with self._call("stream_file", key):
            check_customer_key(encryption, self.settings.endpoint)
            return FileStream(
                self._context(),
                existing_key(key),
                start=start,
                end=end,
                version_id=version_id,
                verify=verify,
                encryption=encryption,
                timeout=timeout,
                method="stream_file",
            )

    async def serve_file(
        self,
        key: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        download_as: str | None = None,
        version_id: str | None = None,
        encryption: CustomerKey | None = None,
        timeout: float | None = None,
    ) -> ServedFile:
        """Return the HTTP response that a web app sends to its own client, such as a player.

        ::

            served = await storage.serve_file(key, method=request.method, headers=request.headers)
            return StreamingResponse(served.body, served.status, served.headers)

        Evaluates the client's Range, If-Range, If-None-Match, If-Modified-Since, If-Match and
        If-Unmodified-Since by RFC 9110, the same way on every S3 server. Several ranges, and
        malformed ones, are ignored: the response is the whole file.

        1 request for a 200, 206, 304 or 412, and for HEAD; 2 for a 416 and where If-Range does
        not match. The bytes are read as the client takes them, in bounded memory; broken
        connections continue on the same version. The length is always verified, and the MD5 of
        a whole file where its ETag contains it.

        The headers are those of the file, and safe: the type is not guessed (``nosniff``), types
        that a browser would run, such as HTML and SVG, are sent as an attachment, and a file
        without a Cache-Control of its own is ``private``.

        Args:
            method: ``GET`` or ``HEAD``.
            headers: The headers of the client's request. The letter case of names is ignored.
            download_as: The name that a browser saves the file under.
            encryption: As for `get_file`.
            timeout: The seconds until the status and headers are known. The body takes as long
                as its client does.

        Raises:
            InvalidInputError: Another method, or ``download_as`` is no file name.
            NoSuchKeyError: It does not exist or is hidden.
            StorageError: Also while the body is iterated, see `ServedBody`.
        """
        async with self._call("serve_file", key, timeout):
            check_customer_key(encryption, self.settings.endpoint)
            server = FileServer(
                self._context(),
                existing_key(key),
                method=method,
                headers=headers if headers is not None else {},
                download_as=download_as,
                version_id=version_id,
                encryption=encryption,
            )
            return await server.response()

    async def download_file(
        self,
        key: str,
        path: str | os.PathLike[str],
        *,
        version_id: str | None = None,
        verify: bool = True,
        resume: bool = False,
        encryption: CustomerKey | None = None,
        progress: ProgressCallback | None = None,
        timeout: float | None = None,
    ) -> DownloadResult:
        """Write an object to a local file, which appears complete or not at all.

        1 HEAD, then one GET per part, ``transfer_concurrency`` at once, all pinned to the same
        version. The bytes go to a temporary file in the same folder. It replaces ``path`` when
        its length, and its MD5 if the ETag contains one, are verified. The mode of a replaced
        file is kept. A symbolic link is replaced, not followed. A path that cannot be written is
        refused before any request.

        Args:
            verify: False saves the hashing (about 1.7 s of CPU per GiB). The length is still
                checked.
            resume: Whether to continue an interrupted download of the same version to this path,
                after a crash too. A failed download then leaves its bytes in a hidden file beside
                ``path``.
            encryption: As for `get_file`. The file on the disk is not encrypted.

        Raises:
            InvalidPathError: ``path`` is a folder, a device, read-only, or in no folder.
            LocalFileError: The disk is full or broken.
        """
        async with self._call("download_file", key, timeout):
            check_customer_key(encryption, self.settings.endpoint)
            return await download(
                self._context(),
                existing_key(key),
                path,
                version_id=version_id,
                verify=verify,
                resume=resume,
                encryption=encryption,
                progress=progress,
            )

    async def open_file(
        self,
        key: str,
        *,
        version_id: str | None = None,
        encryption: CustomerKey | None = None,
        timeout: float | None = None,
    ) -> FileReader:
        """Open an object for reading and seeking; close it or use it with ``async with``.

        1 HEAD now, and one GET for each read that does not continue where the last one ended.
        ``timeout`` is the most seconds for this call, and then for each read. ``encryption`` is
        as for `get_file`.
        """
        async with self._call("open_file", key, timeout):
            head = await self._head(key, version_id, encryption)
            return FileReader(self._context(), head, encryption=encryption, timeout=timeout)

    async def delete_file(
        self, key: str, *, version_id: str | None = None, timeout: float | None = None
    ) -> DeleteResult:
        """Hide an object, or erase one version of it. 1 request.

        B2 keeps every version. Without ``version_id`` the object is hidden behind a delete
        marker: its bytes stay, and are billed, until a lifecycle rule or `purge_file` erases
        them. Deleting a missing key succeeds, as in S3.
        """
        async with self._call("delete_file", key, timeout):
            requests = self._context().requests
            found, marker = await requests.delete_object(existing_key(key), version_id=version_id)
        return DeleteResult(
            key=key, deleted=True, version_id=found or version_id, delete_marker=marker
        )

    async def delete_files(
        self, keys: Iterable[str], *, timeout: float | None = None
    ) -> list[DeleteResult]:
        """Hide many objects, 1000 per request; return a result for each key, in their order.

        Check the results: a key that could not be deleted has ``deleted=False`` and the server's
        reason. This method raises only when a whole request fails. The ``results`` of that error
        then hold one result for each key.
        """
        async with self._call("delete_files", timeout=timeout):
            return await delete_keys(self._context().requests, _checked_keys(keys))

    async def purge_file(self, key: str, *, timeout: float | None = None) -> PurgeResult:
        """Erase every version and delete marker of a key, and its unfinished uploads.

        This cannot be undone. 1 request per 1000 versions to list and 1 to delete them, 1 or
        more for the uploads. Needs the capabilities listFiles, writeFiles and deleteFiles.

        Raises:
            FileLockedError: Object lock protects a version; all others are erased.
            StorageError: A version could not be erased for another reason; others are erased.
        """
        async with self._call("purge_file", key, timeout):
            return await purge_key(self._context(), existing_key(key))

    def list_files(
        self,
        prefix: str = "",
        max_keys: int | None = None,
        *,
        start_after: str | None = None,
        until: str | None = None,
        timeout: float | None = None,
    ) -> FileListing:
        """List the files whose keys begin with ``prefix``: await it, or iterate over it.

        See `FileListing`. Hidden files are not listed.

        Args:
            max_keys: The most files to list, also above 1000; None lists all.
            start_after: List only keys that come after this one, which need not exist, in UTF-8
                byte order. The keys before it cost no requests.
            until: List no keys that come after this one. It is listed itself if it exists. Equal
                to ``start_after``, nothing is listed; a range outside of ``prefix`` is empty, too,
                and neither costs a request.
            timeout: The most seconds from the first request to the last page.

        Raises:
            InvalidInputError: An argument is invalid, or ``until`` comes before ``start_after``.
                Listing raises `StorageError`; a range raises `ServerResponseError` on a server
                that lists in another order, as SeaweedFS may.
        """
        with self._call("list_files"):
            return FileListing(
                self._requests_of("list_files"),
                prefix,
                max_keys,
                timeout,
                key_range=checked_range(start_after, until),
            )

    def list_folder(
        self, prefix: str = "", *, delimiter: str = "/", timeout: float | None = None
    ) -> FolderListing:
        """List the files and folders directly in a folder: await it, or iterate over it.

        See `FolderListing`. End ``prefix`` with the delimiter to list the content of a folder:
        ``recordings`` alone finds only the folder ``recordings/``. Not every server supports
        another ``delimiter`` than ``/``. 1 request per 1000 files and folders, however many files
        the folders hold. All entries are in memory, or one page with ``pages()``. ``timeout`` is
        the most seconds from the first request to the last page.

        Raises:
            InvalidInputError: ``prefix`` or ``delimiter`` cannot be sent. Listing raises
                `StorageError`.
        """
        with self._call("list_folder"):
            return FolderListing(self._requests_of("list_folder"), prefix, delimiter, timeout)

    async def get_file_metadata(
        self,
        key: str,
        *,
        version_id: str | None = None,
        encryption: CustomerKey | None = None,
        timeout: float | None = None,
    ) -> FileMetadata:
        """Return size, content type, times, protection and your own metadata of an object.

        1 request. For an object with a customer's key, pass the key as ``encryption``. A missing
        or wrong key raises `AccessDeniedError` (2 requests).
        """
        async with self._call("get_file_metadata", key, timeout):
            return (await self._head(key, version_id, encryption)).file

    async def file_exists(
        self, key: str, *, encryption: CustomerKey | None = None, timeout: float | None = None
    ) -> bool:
        """Return whether an object exists and is not hidden. 1 request, 3 if access is denied.

        The first missing object costs 2: one checks that the bucket exists. An object with a
        customer's key costs 2 without the key, and 1 with ``encryption``.

        For a *missing* object B2 responds with 403 when the application key lacks
        ``listBuckets``. Then a listing is requested, which may be denied as well:

        Raises:
            AccessDeniedError: The object may exist or not; the hint names the capability to add.
            NoSuchBucketError: The bucket does not exist.
        """
        async with self._call("file_exists", key, timeout):
            check_customer_key(encryption, self.settings.endpoint)
            requests = self._context().requests
            return await requests.object_exists(existing_key(key), key_headers(encryption))

    async def list_incomplete_uploads(
        self, prefix: str = "", *, timeout: float | None = None
    ) -> list[IncompleteUpload]:
        """List the multipart uploads below ``prefix`` that were neither completed nor aborted.

        Crashed processes left them, or they are still running. 1 request per 1000.
        """
        async with self._call("list_incomplete_uploads", timeout=timeout):
            return await list_incomplete(self._context(), prefix)

    async def abort_upload(self, key: str, upload_id: str, *, timeout: float | None = None) -> None:
        """Abort a multipart upload and erase its parts. A missing upload is not an error."""
        async with self._call("abort_upload", key, timeout):
            await abort_upload(self._context(), existing_key(key), upload_id)

    async def abort_stale_uploads(
        self, older_than: timedelta, prefix: str = "", *, timeout: float | None = None
    ) -> list[IncompleteUpload]:
        """Abort the multipart uploads that received no part for ``older_than``; return them.

        Their parts are stored and billed until then. The age counts from the newest part, or
        from the start of an upload without parts. Choose more time than your slowest upload needs
        for one part, such as a day. Running uploads of this storage are not aborted.
        """
        async with self._call("abort_stale_uploads", timeout=timeout):
            return await abort_stale(self._context(), older_than, prefix)

    async def keep_incomplete_upload(
        self,
        key: str,
        upload_id: str,
        *,
        encryption: CustomerKey | None = None,
        timeout: float | None = None,
    ) -> UploadResult:
        """Complete an interrupted upload with the parts that it has stored.

        For live recordings whose process died: the bytes that had been sent, the last flush
        included, become the object, which is marked as partial in its metadata. Not for uploads
        that are still running. About 5 requests. ``encryption`` is the customer's key with which
        the upload was begun.

        Raises:
            NoSuchUploadError: The upload was completed or aborted meanwhile, or has no parts.
            AccessDeniedError: The customer's key is missing or wrong. The recording is stored,
                but not marked as partial.
        """
        async with self._call("keep_incomplete_upload", key, timeout):
            check_customer_key(encryption, self.settings.endpoint)
            return await keep_incomplete(self._context(), existing_key(key), upload_id, encryption)

    async def _head(
        self, key: str, version_id: str | None, encryption: CustomerKey | None
    ) -> ObjectHead:
        check_customer_key(encryption, self.settings.endpoint)
        requests = self._context().requests
        return await requests.head_object(
            existing_key(key), version_id=version_id, headers=key_headers(encryption)
        )

    def _requests_of(self, method: str) -> Callable[[], S3Requests]:
        def requests() -> S3Requests:
            with self._call(method):
                return self._context().requests

        return requests


def _checked_keys(keys: Iterable[str]) -> list[str]:
    if isinstance(keys, str) or not isinstance(keys, Iterable):
        raise InvalidInputError(f"keys must be several keys, not one {type(keys).__name__}.")
    return [existing_key(key) for key in keys]
