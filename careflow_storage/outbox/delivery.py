"""One delivery: from a spool file, or a URL, to an object that verifiably has the same bytes."""

from __future__ import annotations

import errno
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from careflow_storage._runtime import Runtime
from careflow_storage._s3.headers.objects import ObjectHead
from careflow_storage._s3.requests.object_lock import lock_at_least
from careflow_storage._transfer.bodies.checksums import composite_etag
from careflow_storage._transfer.bodies.parts import PartSizes, even_ends
from careflow_storage._transfer.context import TransferContext
from careflow_storage._transfer.download.verify import part_ends
from careflow_storage._transfer.threads import Threads
from careflow_storage._transfer.upload.options import UploadOptions
from careflow_storage._transfer.upload.upload import upload
from careflow_storage.errors import (
    AccessDeniedError,
    NoSuchKeyError,
    PreconditionFailedError,
    ServerResponseError,
    StorageError,
)
from careflow_storage.options import ObjectOptions
from careflow_storage.outbox.errors import SpoolDamagedError
from careflow_storage.outbox.files import Digests, Spool
from careflow_storage.outbox.models import OutboxEntry
from careflow_storage.outbox.queue import EntryQueue
from careflow_storage.outbox.remote.credentials import Credentials
from careflow_storage.outbox.rows import Claim
from careflow_storage.outbox.url_source import UrlSource
from careflow_storage.settings import StorageSettings

logger: logging.Logger = logging.getLogger("careflow_storage")

# A retention that ends sooner could end before the request is sent.
_CLOCK_STEP = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Proof:
    """The object that holds a recording's bytes."""

    etag: str
    version_id: str | None


class Delivery:
    """Delivers entries through one storage."""

    def __init__(
        self,
        runtime: Runtime,
        queue: EntryQueue,
        spool: Spool,
        threads: Threads,
        credentials: Credentials,
        method: str,
    ) -> None:
        self._runtime = runtime
        self._queue = queue
        self._spool = spool
        self._threads = threads
        self._credentials = credentials
        self._method = method

    async def deliver(self, claim: Claim) -> Proof:
        """Fetch an entry's bytes if need be, upload them unless an earlier attempt did, and verify.

        1 PUT (or a multipart upload) and 1 HEAD; after an interrupted attempt 1 HEAD before.
        A large file continues with the parts that the interrupted attempt has stored. An upload
        without parts may belong to another writer: `abort_stale_uploads` aborts it.

        Raises:
            SpoolDamagedError: The spool file is missing or changed; nothing was uploaded.
            StorageError: See `BackblazeStorage.upload_file`.
        """
        async with self._runtime.call(self._method, claim.entry.key):
            context = self._runtime.context()
            if claim.source is None or claim.entry.sha256 is not None:
                return await self._deliver(context, claim, may_be_stored=claim.entry.attempts > 1)
            return await self._fetch_and_deliver(context, claim, claim.source)

    async def _fetch_and_deliver(
        self, context: TransferContext, claim: Claim, source: UrlSource
    ) -> Proof:
        existing: Proof | None = None
        looked_up = source.if_exists == "replace"
        try:
            if not looked_up:
                existing = await self._existing(context, claim.entry.key, source)
                looked_up = True
        except StorageError as error:
            # While the bucket is unavailable, the source may still have the recording.
            if not error.retryable:
                raise
        if existing is None:
            claim = await self._fetched(context, claim, source)
            if not looked_up:
                existing = await self._existing(context, claim.entry.key, source)
        return existing or await self._deliver(context, claim, may_be_stored=False)

    async def _existing(
        self, context: TransferContext, key: str, source: UrlSource
    ) -> Proof | None:
        """Return the object under the key, which makes the fetch unnecessary."""
        head = await _find(context, key)
        if head is None:
            return None
        if source.if_exists == "error":
            raise PreconditionFailedError(
                "The key exists already.", operation="HeadObject", key=key, status=412
            )
        return Proof(head.file.etag, head.file.version_id)

    async def _fetched(self, context: TransferContext, claim: Claim, source: UrlSource) -> Claim:
        # It needs a general HTTP client, whose import is slow.
        module = await self._threads.load("careflow_storage.outbox.remote.fetch")
        fetcher = module.Fetcher(self._queue, self._spool, self._threads, self._credentials)
        fetched: Claim = await fetcher.fetch(context, claim, source)
        return fetched

    async def _deliver(
        self, context: TransferContext, claim: Claim, *, may_be_stored: bool
    ) -> Proof:
        entry = claim.entry
        options = UploadOptions(
            **_still_valid(claim.options),
            # Parts that an interrupted attempt has stored are not sent again.
            resume=True,
            default_checksum=context.settings.checksum,
        )
        ends = _expected_ends(context.settings, entry.size)
        digests = await self._checked_digests(claim, ends)
        if may_be_stored:
            head = await _find(context, entry.key)
            if head is not None and await self._holds(head, claim, ends, digests):
                # The attempt that stored it asked for the same lock; another writer may not have.
                await lock_at_least(context.control, head.file, options.headers())
                return Proof(head.file.etag, head.file.version_id)
        return await self._upload(context, claim, options, ends, digests)

    async def _upload(
        self,
        context: TransferContext,
        claim: Claim,
        options: UploadOptions,
        ends: list[int],
        digests: Digests,
    ) -> Proof:
        entry, path = claim.entry, self._spool.path(claim.file)
        result = await upload(context, entry.key, path, options, name=entry.key, progress=None)
        try:
            head = await context.requests.head_object(entry.key)
        except AccessDeniedError:
            # The application key may only write. The server has verified the bytes against our
            # checksum, and the upload has compared its response.
            return Proof(result.etag, result.version_id)
        except NoSuchKeyError as error:
            raise self._unproven(entry, "is not there") from error
        if not await self._holds(head, claim, ends, digests):
            # An ETag that is no MD5 still identifies the upload.
            opaque = not part_ends(entry.size, head.file.etag, head.headers, head.upload_marker)
            if not (opaque and head.file.etag == result.etag and head.file.size == entry.size):
                raise self._unproven(entry, "has other bytes")
        return Proof(head.file.etag, head.file.version_id)

    def _unproven(self, entry: OutboxEntry, what: str) -> StorageError:
        return ServerResponseError(
            f"After its upload the object {what}.",
            operation="HeadObject",
            key=entry.key,
            retryable=True,
            hint="Check whether another program deletes or writes this key.",
        )

    async def _checked_digests(self, claim: Claim, ends: list[int]) -> Digests:
        entry = claim.entry
        try:
            digests = await self._threads.run(self._spool.digests, claim.file, ends)
        except FileNotFoundError as error:
            raise SpoolDamagedError("The spool file is missing.", key=entry.key) from error
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            raise SpoolDamagedError("The spool file is a link.", key=entry.key) from error
        if (digests.size, digests.sha256) != (entry.size, entry.sha256):
            raise SpoolDamagedError(
                "The spool file has changed since it was accepted.",
                key=entry.key,
                hint=f"The disk may be damaged, or another program has written to {claim.file}.",
            )
        return digests

    async def _holds(
        self, head: ObjectHead, claim: Claim, ends: list[int], digests: Digests
    ) -> bool:
        """Whether an object's length and ETag prove that it has an entry's bytes."""
        entry = claim.entry
        if head.file.size != entry.size:
            return False
        found = part_ends(entry.size, head.file.etag, head.headers, head.upload_marker)
        if not found:
            return False
        if found != ends:
            # It was uploaded with other settings: hash the parts that it has.
            digests = await self._threads.run(self._spool.digests, claim.file, found)
        return head.file.etag == _etag_of(digests.parts, composite="-" in head.file.etag)


def _still_valid(options: ObjectOptions) -> ObjectOptions:
    """Leave out a retention that has ended while the recording waited."""
    retention = options.get("retention")
    if retention is None or retention.retain_until > datetime.now(UTC) + _CLOCK_STEP:
        return options
    return {**options, "retention": None}


def _expected_ends(settings: StorageSettings, size: int) -> list[int]:
    if size <= settings.multipart_threshold:
        return [size]
    return list(even_ends(size, PartSizes(settings.part_size, size).base))


async def _find(context: TransferContext, key: str) -> ObjectHead | None:
    try:
        return await context.requests.head_object(key)
    except (NoSuchKeyError, AccessDeniedError):
        # For a missing object B2 responds with 403 to a key without listBuckets.
        return None


def _etag_of(parts: list[bytes], *, composite: bool) -> str | None:
    return composite_etag([part.hex() for part in parts]) if composite else parts[0].hex()
