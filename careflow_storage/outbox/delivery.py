"""One delivery: from a spool file, or a URL, to an object that verifiably has the same bytes."""

from __future__ import annotations

import errno
import logging
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from careflow_storage._runtime import Runtime
from careflow_storage._s3.headers.objects import ObjectHead
from careflow_storage._s3.requests.object_lock import lock_at_least
from careflow_storage._transfer.bodies.checksums import composite_etag
from careflow_storage._transfer.bodies.parts import PartSizes, even_ends
from careflow_storage._transfer.context import TransferContext
from careflow_storage._transfer.download.verify import part_ends
from careflow_storage._transfer.threads import Threads
from careflow_storage._transfer.upload.existing import find_existing
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
from careflow_storage.outbox.remote.credentials import NamedCredentials
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
        credentials: NamedCredentials,
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
                return await self._deliver(context, claim)
            return await self._fetch_and_deliver(context, claim, claim.source)

    async def _fetch_and_deliver(
        self, context: TransferContext, claim: Claim, source: UrlSource
    ) -> Proof:
        found: _Found | None = None
        try:
            found = await _look_up(context, claim)
        except StorageError as error:
            # While the bucket is unavailable, the source may still have the recording.
            if not error.retryable:
                raise
        if found is None or found.head is None:
            claim = await self._fetched(context, claim, source)
        if found is None:
            found = await _look_up(context, claim)
        if found.head is not None:
            return _existing(claim, found.head)
        return await self._store(context, claim, found)

    async def _fetched(self, context: TransferContext, claim: Claim, source: UrlSource) -> Claim:
        # It needs a general HTTP client, whose import is slow.
        module = await self._threads.load("careflow_storage.outbox.remote.fetch")
        fetcher = module.Fetcher(self._queue, self._spool, self._threads, self._credentials)
        fetched: Claim = await fetcher.fetch(context, claim, source)
        return fetched

    async def _deliver(self, context: TransferContext, claim: Claim) -> Proof:
        found = await _look_up(context, claim)
        if found.head is not None and claim.if_exists == "return" and claim.entry.attempts == 1:
            return _existing(claim, found.head)
        return await self._store(context, claim, found)

    async def _store(self, context: TransferContext, claim: Claim, found: _Found) -> Proof:
        """Upload the spool file, unless an earlier attempt has stored it."""
        entry, head = claim.entry, found.head
        options = UploadOptions(
            **_still_valid(claim.options),
            # Parts that an interrupted attempt has stored are not sent again.
            resume=True,
            if_exists="error" if found.is_certain else "replace",
            default_checksum=context.settings.checksum,
        )
        ends = _expected_ends(context.settings, entry.size)
        digests = await self._checked_digests(claim, ends)
        if head is not None:
            if entry.attempts == 1:
                return _existing(claim, head)
            proof = await self._of_ours_or_others(context, claim, head, options, ends, digests)
            if proof is not None:
                return proof
            options = replace(options, if_exists="replace")
        try:
            return await self._upload(context, claim, options, ends, digests)
        except PreconditionFailedError:
            # Another writer was faster, or this upload was, whose response was lost.
            head = await _find(context, entry.key)
            if head is None:
                raise
            proof = await self._of_ours_or_others(context, claim, head, options, ends, digests)
            if proof is not None:
                return proof
            options = replace(options, if_exists="replace")
            return await self._upload(context, claim, options, ends, digests)

    async def _of_ours_or_others(
        self,
        context: TransferContext,
        claim: Claim,
        head: ObjectHead,
        options: UploadOptions,
        ends: list[int],
        digests: Digests,
    ) -> Proof | None:
        """Return the object that is there after an attempt; None if it is to be replaced."""
        if await self._holds(head, claim, ends, digests):
            # The attempt that stored it asked for the same lock; another writer may not have.
            await lock_at_least(context.control, head.file, options.headers())
            return Proof(head.file.etag, head.file.version_id)
        if claim.if_exists == "replace" or await self._is_cut_off(head, claim):
            return None
        return _existing(claim, head)

    async def _upload(
        self,
        context: TransferContext,
        claim: Claim,
        options: UploadOptions,
        ends: list[int],
        digests: Digests,
    ) -> Proof:
        entry, path = claim.entry, self._spool.path(claim.file)
        # Looked up before, if it matters.
        result = await upload(
            context, entry.key, path, options, name=entry.key, progress=None, is_new=True
        )
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

    async def _is_cut_off(self, head: ObjectHead, claim: Claim) -> bool:
        """Whether an object is the beginning of an entry's bytes.

        Some servers keep what has arrived of a PUT whose sender has died. B2 does not.
        """
        size = head.file.size
        if size >= claim.entry.size:
            return False
        digests = await self._threads.run(self._spool.digests, claim.file, [size])
        return head.file.etag == digests.parts[0].hex()


@dataclass(frozen=True, slots=True)
class _Found:
    """The object under a key before the delivery, if it was looked up and there is one.

    ``is_certain``: if there was none, the upload must not replace one that came meanwhile.
    """

    head: ObjectHead | None = None
    is_certain: bool = False


async def _look_up(context: TransferContext, claim: Claim) -> _Found:
    """Look the key up, if it matters what is there."""
    entry = claim.entry
    if claim.if_exists == "replace":
        # An earlier attempt that had the bytes may have stored them.
        tried = entry.attempts > 1 and entry.sha256 is not None
        return _Found(await _find(context, entry.key) if tried else None)
    try:
        return _Found(await find_existing(context, entry.key, {}), is_certain=True)
    except AccessDeniedError:
        if claim.if_exists == "error":
            raise
        # The application key may only write: the recording is worth more than the request.
        return _Found()


def _existing(claim: Claim, head: ObjectHead) -> Proof:
    """Take the object that is there for delivered, or raise an error, as the caller has chosen."""
    if claim.if_exists == "error":
        raise PreconditionFailedError(
            "The key exists already.", operation="HeadObject", key=claim.entry.key, status=412
        )
    return Proof(head.file.etag, head.file.version_id)


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
