"""`RecordingWriter`: writes a recording while its call is in progress."""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import nullcontext
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from careflow_storage._log_fields import log_fields
from careflow_storage._observer import ObservedCall
from careflow_storage._s3.deadline import Deadline
from careflow_storage._s3.headers.metadata import encode_metadata
from careflow_storage._transfer.context import TransferContext
from careflow_storage._transfer.live.checks import (
    OnError,
    check_if_exists,
    check_modes,
    checked_folder,
    checked_reason,
    checked_view,
)
from careflow_storage._transfer.live.ending import RecordingEnd
from careflow_storage._transfer.live.kept_file import KeptFile
from careflow_storage._transfer.live.upload import LiveUpload
from careflow_storage._transfer.progress import ProgressCallback
from careflow_storage._transfer.upload.options import UploadOptions
from careflow_storage._uninterrupted import wait_out
from careflow_storage.errors import (
    FileTooLargeError,
    InvalidInputError,
    RecordingCutOff,
    StorageClosedError,
    StorageError,
)
from careflow_storage.models import UploadResult

if TYPE_CHECKING:
    from typing_extensions import Buffer

logger = logging.getLogger("careflow_storage")

_REASON = "partial-reason"


class RecordingWriter:
    """Writes one recording while its call is in progress.

    ``storage.open_recording`` creates it::

        async with storage.open_recording("CA123", "call.webm") as writer:
            async for chunk in websocket:
                await writer.write(chunk)
        print(writer.result.key)

    Entering the block sends no request, or 1 HEAD with ``if_exists="error"``. Each part
    (``part_size`` bytes) is uploaded in the background as soon as it is full, up to
    ``transfer_concurrency`` parts at once; while another full part waits, `write` waits too.
    Leaving the block uploads the rest and completes the object. This takes one request per part,
    and 2 more. A recording shorter than one part takes a single PUT. An empty recording becomes an
    empty object.

    Several tasks may call `write`: the calls run one after another.

    **Errors.** When an exception leaves the block, or its task is cancelled, ``on_error`` decides
    what happens. The exception is raised unchanged in both cases.

    - ``"abort"`` aborts the multipart upload and stores nothing. After a cancellation this takes
      at most 0.8 s.
    - ``"keep"`` stores the bytes received so far, marked as partial. Marking a recording of
      several parts takes 2 more requests. If no byte was received, nothing is stored. After a
      cancellation this takes at most 10 s; a second cancellation ends it at once.

    When the storage still fails after all retries, `write` or the end of the block raises the
    error. With ``"keep"``, the confirmed parts then stay on the server as an incomplete upload:
    pass its ID, from the log or the notes of the exception, to ``keep_incomplete_upload``. The
    other bytes are written to a local file: see `kept_file` and ``StorageError.kept_file``.

    If only the copy that marks a recording as partial fails, the recording stays stored as
    complete, and ``result.partial`` is False. The end of the block then raises an error with
    ``stored_unmarked`` set, or adds a note to the exception that leaves the block.

    **Dropped connections.** A loop over a connection ends the same way when the peer hangs up and
    when the network fails. To distinguish these cases, pass ``explicit_finish`` and call `finish`
    when the peer says that it is done; or call `mark_partial` when you know that it is not.

    **Memory.** Each recording holds up to 32 KiB in memory; more goes to a temporary file that all
    recordings of the storage share. Bytes that arrive fast stay in memory instead, within the
    storage's ``memory_budget``, for up to a second. One recording uses at most
    ``(transfer_concurrency + 1) * part_size`` bytes of the file.

    **Flush.** With ``flush_interval``, the bytes received since the last full part are uploaded at
    this interval, in seconds. A killed process then loses no more than one interval: the server
    holds the rest as an incomplete upload. Each flush uploads the current part again from its
    start: 2.5 MiB on average, because parts are then 5 MiB at first. A flush never delays
    `write`. A flush that fails after all retries is logged; the next interval tries again.

    **Live Read.** With ``live_read``, other clients can read the finished parts from B2 during the
    call: request version `upload_id` of the key, and a closed range within `uploaded`.

    Args:
        name: The filename; its extension helps to detect the content type.

    Raises:
        InvalidInputError: An option or header is invalid. No request was sent.
    """

    def __init__(
        self,
        context: TransferContext,
        key: str,
        options: UploadOptions,
        *,
        name: str,
        on_error: OnError = "abort",
        flush_interval: float | None = None,
        live_read: bool = False,
        progress: ProgressCallback | None = None,
        explicit_finish: bool = False,
        keep_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        check_modes(on_error, flush_interval, live_read)
        check_if_exists(options)
        keeps = on_error == "keep"
        self._context = context
        self._key = key
        self._metadata = options.metadata or {}
        self._limits = options.limits
        self._must_be_new = not options.replaces
        self._state: Literal["not open", "open", "closed"] = "not open"
        self._upload = LiveUpload(
            context,
            key,
            options,
            name=name,
            keeps=keeps,
            flush_interval=flush_interval,
            live_read=live_read,
            progress=progress,
        )
        self._end = RecordingEnd(
            context, self._upload, keeps=keeps, keep_dir=checked_folder(keep_dir)
        )
        self._explicit_finish = explicit_finish
        self._finished = False
        self._partial_reason: str | None = None
        # Set when the storage closes while the block is open.
        self._closed_by: StorageClosedError | None = None
        self._end_reached = asyncio.Event()
        self._observed: ObservedCall | None = None

    def __repr__(self) -> str:
        return f"<RecordingWriter key={self._key!r} {self.bytes_written} bytes, {self._state}>"

    @property
    def key(self) -> str:
        """The key of the recording."""
        return self._key

    @property
    def upload_id(self) -> str | None:
        """The ID of the multipart upload; None before the first part is sent."""
        return self._upload.upload_id

    @property
    def bytes_written(self) -> int:
        """How many bytes `write` has accepted. Exact even after a cancelled `write`."""
        return self._upload.written

    @property
    def uploaded(self) -> int:
        """How many of these bytes the server has confirmed, flushed bytes included."""
        return self._upload.confirmed

    @property
    def result(self) -> UploadResult:
        """The stored recording, available after the block.

        Raises:
            StorageClosedError: Nothing is stored yet, or nothing was stored.
        """
        if self._upload.result is None:
            closed = self._state == "closed"
            raise StorageClosedError(
                "Nothing was stored." if closed else "Nothing is stored yet.",
                method="result",
                key=self._key,
                hint="The result is available when the 'async with' block has succeeded.",
            )
        return self._upload.result

    @property
    def kept_file(self) -> KeptFile | None:
        """The file with the bytes that did not reach the server, after a failure with ``keep``."""
        return self._end.kept_file

    async def write(self, data: Buffer) -> None:
        """Append ``data`` to the recording. The caller may reuse the buffer afterwards.

        Usually returns at once. It waits while all parts that may be in flight are in flight;
        briefly for the disk, at most once per 32 KiB; and every few milliseconds it lets other
        tasks run.

        Raises:
            InvalidInputError: ``data`` is not bytes-like.
            FileTooLargeError: The recording would have more than ``max_size`` bytes. Nothing of
                ``data`` is appended.
            StorageClosedError: The block is not open, or `finish` was called.
            StorageError: The storage still failed after all retries.
        """
        try:
            view, upload = checked_view(data), self._upload
            async with upload.lock:
                # Before any byte is accepted: a cancellation here accepts none.
                await self._context.turns.yield_if_due()
                self._check_room(view.nbytes)
                while True:
                    self._check_writable()
                    if upload.growing is not None and upload.part_is_full:
                        await upload.queue_part(upload.growing)
                        continue
                    if upload.queue is not None:
                        try:
                            await upload.queue.wait_for_room()
                        except StorageClosedError:
                            self._check_open("write")
                            raise
                    if not view.nbytes:
                        return
                    view = view[await upload.append(view) :]
                    if view.nbytes:
                        await self._context.turns.yield_if_due()
        except StorageError as error:
            self._describe(error, "write")
            raise

    def finish(self) -> None:
        """Declare the recording complete. Nothing can be written to it afterwards.

        It is stored when the block ends: with ``on_error="keep"`` as complete even if an
        exception leaves the block. With ``explicit_finish``, a recording is partial unless this
        was called.

        Raises:
            StorageClosedError: The block is not open.
        """
        self._check_open("finish")
        self._finished = True

    def mark_partial(self, reason: str) -> None:
        """Declare the recording cut off. It is stored as partial when the block ends.

        This overrides `finish`. An exception that leaves the block with ``on_error="abort"``
        still stores nothing, and an empty recording is not stored. ``reason`` is stored in the
        metadata as ``partial-reason``, if there is room for it.

        Raises:
            InvalidInputError: ``reason`` is not a str, or is empty.
            StorageClosedError: The block is not open.
        """
        self._check_open("mark_partial")
        self._partial_reason = checked_reason(reason)

    async def __aenter__(self) -> Self:
        if self._state != "not open":
            raise StorageClosedError(
                f"The recording is {self._state}.",
                method="open_recording",
                key=self._key,
                hint="Open each recording once.",
            )
        if self._context.in_flight.refuses:
            raise self._context.in_flight.closed_error(method="open_recording", key=self._key)
        self._begin_observed()
        if self._must_be_new:
            self._state = "closed"  # as long as the key may exist
            await self._refuse_existing()
        self._state = "open"
        self._context.in_flight.add(self)
        self._upload.start_flushing()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self._leave(exc)
        except BaseException as error:
            self._end_observed(error)
            raise
        self._end_observed(exc)

    async def _refuse_existing(self) -> None:
        in_flight, bucket = self._context.in_flight, self._context.requests.bucket
        deadline = Deadline(None, in_flight, method="open_recording", bucket=bucket)
        try:
            await deadline.wait(self._upload.refuse_existing())
        except BaseException as error:
            self._end_observed(error)
            raise

    def _begin_observed(self) -> None:
        observer = self._context.session.observer
        if observer is not None:
            bucket = self._context.requests.bucket
            self._observed = observer.start_call("open_recording", bucket, self._key)
            # Also for the tasks that upload the parts.
            self._observed.enter()

    def _end_observed(self, error: BaseException | None) -> None:
        if self._observed is not None:
            self._observed.leave()
            self._observed.end(error)

    async def _leave(self, exc: BaseException | None) -> None:
        if self._closed_by is not None:
            await self._leave_after_close(self._closed_by, exc)
            return
        self._state = "closed"
        if isinstance(exc, RecordingCutOff):
            self._describe(exc, "open_recording")
        running = self._context.in_flight.enter(ending=True)
        try:
            with running if running is not None else nullcontext():
                await self._end.run(exc, self._partial_headers(exc))
        except StorageError as error:
            self._describe(error, "open_recording")
            raise
        finally:
            self._context.in_flight.discard(self)

    async def _end_with(self, error: StorageClosedError) -> None:
        """End the recording as if ``error`` had left its block. Called when the storage closes."""
        if self._state != "open":
            return  # The block is ending already.
        self._state = "closed"
        error.method, error.key = "open_recording", self._key
        self._closed_by = error
        try:
            await self._end.run(error, self._partial_headers(error))
        except BaseException as failure:
            if failure is not error:
                for note in getattr(failure, "__notes__", ()):
                    error.add_note(note)
                error.unfinished_upload_id = (
                    error.unfinished_upload_id or self._upload.unfinished_upload_id
                )
                raise
        finally:
            self._end_reached.set()
            self._context.in_flight.discard(self)

    async def _leave_after_close(
        self, error: StorageClosedError, exc: BaseException | None
    ) -> None:
        """Leave the block of a recording that `_end_with` ends."""
        waiting = asyncio.create_task(self._end_reached.wait())
        interrupted = await wait_out(waiting)
        if exc is None:
            raise interrupted or error
        # The notes say what could not be kept or aborted.
        for note in getattr(error, "__notes__", ()):
            exc.add_note(note)
        if isinstance(exc, StorageError) and exc.unfinished_upload_id is None:
            exc.unfinished_upload_id = error.unfinished_upload_id
            exc.kept_file, exc.kept_start = error.kept_file, error.kept_start
        if interrupted is not None and not isinstance(exc, asyncio.CancelledError):
            raise interrupted from exc

    def _check_open(self, method: str) -> None:
        if self._closed_by is not None:
            raise self._context.in_flight.closed_error(method=method, key=self._key)
        if self._state != "open":
            raise StorageClosedError(
                f"The recording is {self._state}.",
                method=method,
                key=self._key,
                hint="Write to it within its 'async with' block.",
            )

    def _check_room(self, size: int) -> None:
        if self._limits.are_exceeded_by(self.bytes_written + size):
            raise FileTooLargeError(
                f"The recording would have more than {self._limits.max_size} bytes; "
                "nothing was appended.",
                hint="With on_error='keep' the bytes before are stored, marked as partial.",
            )

    def _describe(self, error: StorageError, method: str) -> None:
        error.method = error.method or method
        error.key = error.key or self._key

    def _check_writable(self) -> None:
        self._check_open("write")
        if self._finished:
            raise StorageClosedError("The recording is finished.")

    def _partial_headers(self, exc: BaseException | None) -> dict[str, str] | None:
        """Return the headers that a partial recording gets; None if it is complete."""
        reason = self._partial_reason
        if reason is None and isinstance(exc, RecordingCutOff) and not self._finished:
            reason = exc.message
        if reason is None:
            complete = self._finished or (exc is None and not self._explicit_finish)
            return None if complete else {}
        if _REASON in {name.lower() for name in self._metadata}:
            return {}
        try:
            encode_metadata({**self._metadata, _REASON: reason})
            return encode_metadata({_REASON: reason})
        except InvalidInputError as error:
            logger.info(
                "No room for the reason: %s",
                error,
                extra=log_fields("reason_left_out", error, key=self._key),
            )
            return {}
