"""`Outbox`: stores recordings on the local disk now, and delivers them to the bucket later."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Collection
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, Unpack

from careflow_storage._in_flight import DEFAULT_GRACE, Closing, InFlight, checked_grace
from careflow_storage._local_paths import as_path
from careflow_storage._log_fields import log_fields
from careflow_storage._method_call import MethodCall
from careflow_storage._transfer.bodies.limits import BodyLimits
from careflow_storage._transfer.remote.source_request import SourceRequest
from careflow_storage._uninterrupted import clean_up_to_end, run_to_end
from careflow_storage._wrong_loop import other_loop_error, other_process_error, running_loop
from careflow_storage.content_types import DEFAULT_CONTENT_TYPES
from careflow_storage.errors import (
    InvalidInputError,
    NotConfiguredError,
    StorageClosedError,
    WrongLoopError,
)
from careflow_storage.options import IfExists, ObjectOptions, check_options
from careflow_storage.outbox.arguments import check_numbers, check_spans
from careflow_storage.outbox.delivery import Delivery
from careflow_storage.outbox.enqueue import Name
from careflow_storage.outbox.listing import EntryListing
from careflow_storage.outbox.models import OutboxEntry, OutboxState, OutboxStatus
from careflow_storage.outbox.remote.credentials import (
    CredentialsLookup,
    NamedCredentials,
    check_auth_name,
)
from careflow_storage.outbox.store import OutboxStore, Rules
from careflow_storage.outbox.worker import Worker, WorkerOptions
from careflow_storage.recordings import DEFAULT_MAX_SIZE
from careflow_storage.storage import BackblazeStorage

if TYPE_CHECKING:
    from careflow_storage._transfer.bodies.sources import UploadBody

logger: logging.Logger = logging.getLogger("careflow_storage")


class Outbox:
    """A queue of recordings on the local disk, which are delivered to the bucket.

    ::

        async with BackblazeStorage() as storage:
            async with Outbox("/var/lib/careflow/outbox", storage) as outbox:
                entry = await outbox.put_recording("CA123", body, "recording.webm")
                await outbox.run()

    Any number of tasks and processes of one machine may share a folder. The folder must be on a
    local disk. An outbox belongs to the event loop that opened it.

    Args:
        folder: The folder of the outbox. A missing one is made, for this user only.
        storage: Where to deliver; None for a process that only puts.
        max_bytes: The most bytes of undelivered recordings on the disk, over all processes (pass
            all the same number); None for no limit.
        concurrency: How many recordings one `run` delivers at the same time.
        poll_interval: The seconds after which `run` notices the puts of other processes.
        lease: The seconds after which other processes take over the recordings of a process that
            hangs. Those of a dead process they take over immediately.
        retry_base_delay: The second attempt comes after one to two times this many seconds, and
            the delay doubles with each attempt, with jitter. An interrupted attempt is repeated
            after this many seconds.
        retry_max_delay: The most seconds between two attempts, unless the server asks for more.
        give_up_after: How long the attempts fail before a recording becomes a dead letter.
        keep_delivered: How long the entry of a delivered recording is kept, without its bytes.
            Until then `get` returns it, and the same recording is not put twice.
        credentials: The credentials that ``put_url(auth_name=...)`` names: a mapping of names to
            ``(user, password)`` or to headers, or a function that returns them for a name and may
            be async. They are looked up for each fetch and never written to the disk. Only a
            process that calls `run` or `drain` needs them.

    Raises:
        InvalidInputError: A number is not positive, or an argument has the wrong type.
        InvalidPathError: ``folder`` cannot be a path.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        storage: BackblazeStorage | None = None,
        *,
        max_bytes: int | None = None,
        concurrency: int = 4,
        poll_interval: float = 1.0,
        lease: float = 60.0,
        retry_base_delay: float = 1.0,
        retry_max_delay: float = 300.0,
        give_up_after: timedelta = timedelta(hours=72),
        keep_delivered: timedelta = timedelta(days=7),
        credentials: CredentialsLookup | None = None,
    ) -> None:
        self._credentials = NamedCredentials(credentials)
        # Error trackers record the variables of this frame.
        del credentials
        check_numbers(
            max_bytes=1 if max_bytes is None else max_bytes,
            concurrency=concurrency,
            poll_interval=poll_interval,
            lease=lease,
            retry_base_delay=retry_base_delay,
            retry_max_delay=retry_max_delay,
        )
        check_spans(give_up_after=give_up_after, keep_delivered=keep_delivered)
        if storage is not None and not isinstance(storage, BackblazeStorage):
            raise InvalidInputError(
                f"storage must be a BackblazeStorage, not {type(storage).__name__}.",
                hint="The folder comes first: Outbox(folder, storage).",
            )
        self.folder: Path = as_path(folder, "folder")
        self._storage = storage
        self._rules = Rules(max_bytes, keep_delivered.total_seconds(), retry_base_delay)
        self._options = WorkerOptions(
            concurrency=concurrency,
            poll_interval=poll_interval,
            lease=lease,
            retry_base_delay=retry_base_delay,
            retry_max_delay=retry_max_delay,
            give_up_after=give_up_after.total_seconds(),
        )
        self._wake = asyncio.Event()
        self._worker: Worker | None = None
        self._open: OutboxStore | None = None
        self._closed = False
        self._in_flight = InFlight("outbox")
        self._closing: Closing | None = None
        self._home: tuple[int, asyncio.AbstractEventLoop] | None = None

    def __repr__(self) -> str:
        return f"<Outbox {str(self.folder)!r}>"

    async def __aenter__(self) -> Self:
        """Open the folder, and clean up after processes that died.

        Raises:
            OutboxError: The folder or its database cannot be used.
        """
        if self._open is not None or self._closed:
            raise StorageClosedError(
                "The outbox was opened before.", hint="Make a new Outbox for each 'async with'."
            )
        opening = asyncio.ensure_future(OutboxStore.open(self.folder, self._rules))
        try:
            store = await run_to_end(opening)
        except asyncio.CancelledError:
            if not opening.cancelled() and opening.exception() is None:
                await opening.result().close()
            raise
        if self._closed:
            await clean_up_to_end(store.close())
            raise StorageClosedError("The outbox was closed while it was being opened.")
        self._open = store
        self._home = os.getpid(), asyncio.get_running_loop()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self, grace: float = DEFAULT_GRACE) -> None:
        """Stop delivering, and close the folder. Immediate when nothing is in flight.

        `run` and `drain` raise `StorageClosedError`. Recordings that they were delivering stay
        queued for the next `run`. A running `put_recording` is cancelled and keeps nothing. All
        this may take ``grace`` seconds. Safe to call twice, and in several tasks at once. Does
        not close the storage.

        Raises:
            InvalidInputError: ``grace`` is not a number of seconds, 0 or more.
            WrongLoopError: Another event loop opened it, which is not closed yet.
        """
        with self._call("close"):
            await self._close(checked_grace(grace))

    async def _close(self, grace: float) -> None:
        store, home = self._open, self._home
        if store is None or home is None:
            self._closed = True
        elif home[0] != os.getpid():
            # The lock and the leases belong to the parent process.
            self._closed, self._in_flight.deadline = True, 0.0
        elif home[1] is not running_loop() and not home[1].is_closed():
            raise WrongLoopError(
                "The outbox was opened in another event loop.",
                hint="Close it in the loop that opened it.",
            )
        else:
            self._closed = True
            if self._closing is None:
                self._closing = Closing(self._in_flight, store.close, grace)
            await self._closing.wait(grace)

    async def put_recording(
        self,
        call_id: str,
        body: UploadBody,
        filename: str,
        *,
        recorded_at: datetime | None = None,
        size: int | None = None,
        if_exists: IfExists = "replace",
        max_size: int | None = None,
        read_timeout: float | None = None,
        min_rate: float | None = None,
        **options: Unpack[ObjectOptions],
    ) -> OutboxEntry:
        """Store a recording on the disk; `run` and `drain` deliver it.

        When this returns, the bytes and the entry are on the disk (fsync). When it raises or is
        cancelled, nothing of them is kept. Sends no request; costs 2 small writes to the
        database and 1 MiB of memory, whatever the size.

        Args:
            call_id: As for `BackblazeStorage.upload_recording`; so is ``filename``.
            body: As for `BackblazeStorage.upload_file`; so are ``size``, ``max_size``,
                ``read_timeout`` and ``min_rate``.
            recorded_at: An aware datetime. Default: now, and no other recording in this outbox
                gets the same key. With a time of your own a repeated call is safe: for the same
                bytes it returns the entry that exists.
            if_exists: What the delivery does about an object that is there. ``"replace"`` stores
                a new version. ``"return"`` sends nothing and takes the entry for delivered (1
                HEAD); it also returns an entry that the outbox has for this key, whatever its
                bytes, without reading ``body``. ``"error"`` makes the entry a dead letter.
            options: See `ObjectOptions`; ``content_type``, ``metadata``, ``cache_control``,
                ``content_disposition``, ``checksum``, ``encryption``, ``retention``,
                ``legal_hold``. They are checked now. ``encryption`` must not be a `CustomerKey`,
                since the database would hold the key in the clear. A ``retention`` that ends
                before the delivery is left out.

        Raises:
            InvalidInputError: The recording could never be delivered. Nothing is written.
            OutboxFullError: ``max_bytes`` is reached, or the disk is full.
            PreconditionFailedError: Another recording has this call, time and filename.
            FileTooLargeError: The body has more than ``max_size`` bytes.
            BodyTimeoutError: The body was slower than ``read_timeout`` or ``min_rate`` allows.
            SizeMismatchError: The body had more or fewer bytes than it declared.
        """
        check_options("Outbox.put_recording", options)
        call, name = self._call("put_recording"), Name(call_id, filename, recorded_at)
        async with call:
            enqueuer = self._store().enqueuer
            key = call.key = enqueuer.key(name)
            entry = await enqueuer.put(
                name,
                key,
                body,
                options,
                if_exists=if_exists,
                size=size,
                limits=BodyLimits(max_size, read_timeout, min_rate),
            )
        self._wake.set()
        return entry

    async def put_url(
        self,
        call_id: str,
        url: str,
        filename: str,
        *,
        auth_name: str | None = None,
        recorded_at: datetime | None = None,
        if_exists: IfExists = "return",
        ready_within: timedelta = timedelta(hours=1),
        fetch_timeout: timedelta = timedelta(hours=1),
        max_size: int | None = DEFAULT_MAX_SIZE,
        content_types: Collection[str] | None = DEFAULT_CONTENT_TYPES,
        allow_private_addresses: bool = False,
        max_redirects: int = 5,
        use_proxy: bool = False,
        **options: Unpack[ObjectOptions],
    ) -> OutboxEntry:
        """Queue a recording that `run` and `drain` fetch from a URL and deliver.

        ::

            async with Outbox(folder, credentials={"twilio": (API_KEY, API_SECRET)}) as outbox:
                await outbox.put_url(call_sid, f"{url}.wav", f"{sid}.wav", auth_name="twilio")

        When this returns, the entry is on the disk (fsync). The bytes are not: keep them at the
        source until the entry is delivered. Sends no request and costs 1 small write.

        The worker fetches the bytes to the disk under the rules of
        `BackblazeStorage.upload_from_url`, then delivers them like those of `put_recording`. While
        the source does not have the recording yet (404, or another refusal but 401 and 403), the
        fetch is repeated until ``ready_within`` has passed. Then the entry is a dead letter.

        A repeated call returns the entry that exists, delivered or not: one with the same call,
        filename and URL, and the same ``recorded_at`` if you pass one.

        Args:
            call_id: As for `BackblazeStorage.upload_recording`; so is ``filename``.
            url: The database stores it with its query, which may contain a token. Logs, errors
                and `OutboxEntry.url` show it without.
            auth_name: The name of ``credentials`` of the outbox that fetches. Without them the
                entry stays queued.
            recorded_at: As for `put_recording`.
            if_exists: What the worker does about an object that is there: ``"return"`` fetches
                nothing and takes the entry for delivered, ``"error"`` makes it a dead letter,
                ``"replace"`` stores a new version without looking. Costs 1 HEAD, except for
                ``"replace"``.
            ready_within: How long the source may respond that it does not have the recording,
                from the first such response on.
            fetch_timeout: The longest time for one fetch.
            max_size: As for `BackblazeStorage.upload_from_url`; so are ``content_types``,
                ``allow_private_addresses``, ``max_redirects`` and ``use_proxy``.
            options: As for `put_recording`.

        Raises:
            InvalidInputError: The recording could never be fetched or delivered. Nothing is
                written.
            PreconditionFailedError: Another recording has this call, time and filename.
        """
        request = SourceRequest(url, None, None)
        # Error trackers record the variables of this frame.
        del url
        check_options("Outbox.put_url", options)
        call, name = self._call("put_url"), Name(call_id, filename, recorded_at)
        async with call:
            store = self._store()
            key = call.key = store.enqueuer.key(name)
            check_auth_name(auth_name)
            check_spans(ready_within=ready_within, fetch_timeout=fetch_timeout)
            source = await store.url_enqueuer.source(
                request,
                auth_name=auth_name,
                if_exists=if_exists,
                ready_within=ready_within.total_seconds(),
                fetch_timeout=fetch_timeout.total_seconds(),
                max_size=max_size,
                content_types=content_types,
                allow_private_addresses=allow_private_addresses,
                max_redirects=max_redirects,
                use_proxy=use_proxy,
            )
            entry = await store.url_enqueuer.put(name, key, source, options)
        self._wake.set()
        return entry

    async def run(self) -> None:
        """Deliver until cancelled or closed. Recordings that are being delivered then stay queued.

        Raises:
            OutboxError: The database is damaged, or the folder is gone.
            StorageClosedError: The outbox or the storage is not open, or was closed meanwhile.
        """
        async with self._call("run"):
            await self._deliver("run", until_empty=False)

    async def drain(self) -> OutboxStatus:
        """Deliver until no recording waits, here or in another process; return the status.

        Bound it with ``asyncio.timeout``. It does not wait for dead letters.
        """
        async with self._call("drain"):
            await self._deliver("drain", until_empty=True)
            return await self._store().queue.status()

    async def _deliver(self, method: str, *, until_empty: bool) -> None:
        store = self._store()
        if self._storage is None:
            raise InvalidInputError(
                "This outbox has no storage to deliver to.", hint="Outbox(folder, storage)"
            )
        if not self._storage.is_configured():
            raise NotConfiguredError(self._storage.settings.missing_variables())
        if self._worker is not None:
            raise InvalidInputError(
                "This outbox is running already.",
                hint="concurrency= makes it deliver more at once.",
            )
        runtime = self._storage._runtime
        runtime.context()  # raises when it is not open
        self._worker = Worker(
            store.queue,
            Delivery(runtime, store.queue, store.spool, store.threads, self._credentials, method),
            self._options,
            self._wake,
            remove=store.remove,
            tidy=store.tidy,
        )
        try:
            await self._worker.run(until_empty=until_empty)
        finally:
            self._worker = None

    async def status(self) -> OutboxStatus:
        """Return the counts of the outbox, over all processes. Sends no request."""
        with self._call("status"):
            return await self._store().queue.status()

    async def get(self, entry_id: str) -> OutboxEntry | None:
        """Return an entry by its ID; None if it was discarded or its delivery is long ago."""
        with self._call("get"):
            return await self._store().queue.get(entry_id)

    def entries(self, state: OutboxState | None = None) -> EntryListing:
        """List the entries in the order of their puts: await it, or iterate over it."""
        with self._call("entries"):
            return EntryListing(self._store(), state)

    def dead_letters(self) -> EntryListing:
        """List the recordings whose delivery was given up. Their bytes, or URLs, are kept."""
        with self._call("dead_letters"):
            return EntryListing(self._store(), "dead", "dead_letters")

    async def retry(self, entry_id: str) -> OutboxEntry:
        """Deliver a dead letter, or a waiting recording, now.

        Raises:
            InvalidInputError: No entry has this ID, or it is being delivered, or was delivered.
        """
        with self._call("retry"):
            queue = self._store().queue
            if not await queue.retry(entry_id):
                raise _not_there(entry_id, "waits or was given up")
            self._hurry()
            entry = await queue.get(entry_id)
            if entry is None:
                raise _not_there(entry_id, "waits or was given up")
            return entry

    async def retry_all(self) -> int:
        """Deliver all dead letters and all waiting recordings now; return how many.

        Call it when the key, the cap or the network works again.
        """
        with self._call("retry_all"):
            ids = await self._store().queue.retry(None)
            self._hurry()
            return len(ids)

    async def discard(self, entry_id: str) -> None:
        """Delete a dead letter and its bytes. This cannot be undone.

        Raises:
            InvalidInputError: No dead letter has this ID.
        """
        with self._call("discard"):
            store = self._store()

            async def erase() -> bool:
                file_id = await store.queue.discard(entry_id)
                if file_id is not None:
                    await store.remove(file_id)
                return file_id is not None

            if not await run_to_end(erase()):
                raise _not_there(entry_id, "is a dead letter")
        logger.warning(
            "The dead letter %s was discarded.",
            entry_id,
            extra=log_fields("dead_letter_discarded", entry_id=entry_id),
        )

    def _call(self, method: str) -> MethodCall:
        bucket = None if self._storage is None else self._storage.settings.bucket_name
        return MethodCall(method, bucket, in_flight=self._in_flight)

    def _hurry(self) -> None:
        if self._worker is not None:
            self._worker.hurry()

    def _store(self) -> OutboxStore:
        if self._open is None or self._home is None or self._closed:
            raise StorageClosedError(
                "The outbox is closed." if self._closed else "The outbox is not open.",
                hint="async with Outbox(folder, storage) as outbox:",
            )
        process, loop = self._home
        if process != os.getpid():
            raise other_process_error("outbox")
        if loop is not running_loop():
            raise other_loop_error("outbox", loop)
        return self._open


def _not_there(entry_id: str, what: str) -> InvalidInputError:
    return InvalidInputError(f"The outbox has no entry {entry_id!r} that {what}.")
