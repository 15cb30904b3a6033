"""A call in progress: its bytes go out part by part while they come, and are stored at its end."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self, get_args

from careflow_storage._s3.deadline import is_duration
from careflow_storage._s3.headers.metadata import encode_metadata
from careflow_storage._transfer.bodies.buffers import view_of
from careflow_storage._transfer.bodies.checksums import verify_stored
from careflow_storage._transfer.bodies.part_reader import GATHER_BYTES, Filling
from careflow_storage._transfer.bodies.parts import MAX_PARTS, MIB, MemoryBody, Part, PartSizes
from careflow_storage._transfer.context import TransferContext
from careflow_storage._transfer.copy import PARTIAL_HEADER, erase_unmarked, mark_partial
from careflow_storage._transfer.live.kept import KeptFile, pieces_of, save, tell_kept, tell_lost
from careflow_storage._transfer.live.part_queue import Flusher, LiveParts
from careflow_storage._transfer.progress import ProgressCallback, metered
from careflow_storage._transfer.tasks import (
    cancellation_as_failure,
    finish,
    raised_by_task,
    wait_out,
)
from careflow_storage._transfer.upload.multipart import MultipartUpload
from careflow_storage._transfer.upload.upload import Uploaded, UploadOptions, put_part
from careflow_storage.errors import InvalidInputError, StorageClosedError, StorageError
from careflow_storage.models import Checksum, UploadResult
from careflow_storage.recordings import detect_content_type

if TYPE_CHECKING:
    from typing_extensions import Buffer

logger = logging.getLogger("careflow_storage")

OnError = Literal["abort", "keep"]

# A flush sends the whole part again as far as it is: parts of S3's smallest size keep that low.
_FLUSHED_PART_BYTES = 5 * MIB
_REASON = "partial-reason"
# For storing what arrived, once the task is cancelled. A second cancellation ends it at once.
_KEEP_SECONDS = 10.0


class RecordingWriter:
    """Writes one recording while its call goes on; made by ``storage.open_recording``.

    ::

        async with storage.open_recording("CA123", "call.webm") as writer:
            async for chunk in websocket:
                await writer.write(chunk)
        print(writer.result.key)

    Opening it sends nothing. Whenever a part is full, it goes out beside the writing:
    ``transfer_concurrency`` parts of one recording at once, and while one more waits, `write`
    waits too. Leaving the block sends the rest and completes the object; a recording of less
    than one part (``part_size`` bytes) is one PUT, an empty one an empty object. Otherwise 1
    request per part and 2 more.

    **Errors.** When the block raises, or its task is cancelled, ``on_error="abort"`` stores
    nothing: the multipart upload is aborted (for at most 0.8 s when cancelled).
    ``on_error="keep"`` stores what arrived, marked as partial (2 requests more for one in
    parts; nothing where nothing arrived). A cancelled task has 10 s for it, until a second
    cancellation. What cannot be kept so stays as an incomplete upload, told by its ID in the
    log and in the notes of the exception, for ``keep_incomplete_upload``. The exception itself
    comes out unchanged. When the storage fails for longer than the retries last, `write` or
    the end of the block raises that, and with ``on_error="keep"`` what the server has stays.
    Whatever is not there is written to a file (`kept_file`, and ``StorageError.kept_file``).
    Where the copy that marks a recording in parts as partial fails, the recording is stored as
    complete: the end of the block raises that (``StorageError.stored_unmarked``), or a note of
    the exception that leaves the block says it; ``result.partial`` is False.

    **Silent ends.** A loop over a connection ends in the same way when the other side is done
    and when it is cut off. So pass ``explicit_finish`` and call `finish` when it said that it
    was done; or call `mark_partial` when you know that it was not.

    **Memory.** Up to 32 KiB per recording are gathered in memory. More goes to a temporary file
    that all recordings of the storage share, or stays in memory, within the storage's
    ``memory_budget``, if it comes fast and leaves within a second. The file has at most
    ``(transfer_concurrency + 1) * part_size`` bytes of one recording.

    **Flush.** With ``flush_interval`` what came since the last full part is sent every so many
    seconds, so that a killed process loses no more than that: the server has it as an
    incomplete upload. Each flush sends the current part anew as far as it is (2.5 MiB on
    average, since parts are then 5 MiB at first). It never delays a `write`. One that fails,
    after all retries, is logged and tried again at the next interval.

    **Live Read.** With ``live_read`` B2 lets others read the finished parts during the call, as
    version `upload_id` of the key: a closed range within `uploaded`.

    One task after another may write; of several at once each waits for its turn.

    Args:
        name: The filename, which helps to tell the content type.
        to_result: Makes the `UploadResult`.

    Raises:
        InvalidInputError: Before any request, for what cannot be stored.
    """

    def __init__(
        self,
        context: TransferContext,
        key: str,
        options: UploadOptions,
        *,
        name: str,
        to_result: Callable[[Uploaded], UploadResult],
        on_error: OnError = "abort",
        flush_interval: float | None = None,
        live_read: bool = False,
        progress: ProgressCallback | None = None,
        explicit_finish: bool = False,
        keep_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        _check(on_error, flush_interval, live_read)
        part_size = context.settings.part_size
        if flush_interval is not None:
            part_size = min(part_size, _FLUSHED_PART_BYTES)
        self._sizes = PartSizes(part_size, 0 if live_read else None)
        self._context = context
        self._key = key
        self._headers = options.headers(context.settings.endpoint)
        self._encryption = options.encryption
        self._algorithm = options.checksum
        self._name = name
        self._to_result = to_result
        self._keeps = on_error == "keep"
        self._live_read = live_read
        self._progress = progress
        self._state: Literal["not open", "open", "closed"] = "not open"
        self._turn = asyncio.Lock()
        self._number = 1
        self._filling: Filling | None = None
        self._parts: LiveParts | None = None
        self._written = 0
        self._result: UploadResult | None = None
        self._keep_dir = _as_folder(keep_dir)
        self._metadata = options.metadata or {}
        # Whether an end without an exception is a good one, and whether `finish` was called.
        self._finished = not explicit_finish
        self._declared = False
        self._reason: str | None = None
        self._unsent: Part | None = None
        self._kept: KeptFile | None = None
        # Why the storage, which was closed, has ended it; and when that is done.
        self._cut_off: StorageClosedError | None = None
        self._was_cut_off = asyncio.Event()
        self._flusher: Flusher | None = None
        if flush_interval is not None:
            self._flusher = Flusher(key, flush_interval, self._growing, self._begun)

    def __repr__(self) -> str:
        return f"<RecordingWriter key={self._key!r} {self._written} bytes, {self._state}>"

    @property
    def key(self) -> str:
        """The key that the recording gets."""
        return self._key

    @property
    def upload_id(self) -> str | None:
        """The multipart upload's ID, None until it has begun."""
        return self._parts.upload.upload_id if self._parts is not None else None

    @property
    def bytes_written(self) -> int:
        """How many bytes `write` has taken; exact also after a `write` that was cancelled."""
        return self._written

    @property
    def uploaded(self) -> int:
        """How many of them the server has confirmed, flushed ones included."""
        if self._result is not None:
            return self._result.size
        return self._parts.upload.size if self._parts is not None else 0

    @property
    def result(self) -> UploadResult:
        """The stored recording, known after the block.

        Raises:
            StorageClosedError: Nothing was stored (yet).
        """
        if self._result is None:
            when = "was" if self._state == "closed" else "is yet"
            raise StorageClosedError(
                f"Nothing {when} stored.",
                operation="open_recording",
                key=self._key,
                hint="The result is there when the 'async with' block has ended well.",
            )
        return self._result

    @property
    def kept_file(self) -> KeptFile | None:
        """Where the bytes are that did not reach the server, after an end that went wrong."""
        return self._kept

    async def write(self, data: Buffer) -> None:
        """Take the next bytes; the caller may use the buffer again afterwards.

        Returns at once, except now and then: every few milliseconds other tasks get a turn of the
        event loop, each 32 KiB may take a short way to the disk, and while parts cannot go out it
        waits until they can.

        Raises:
            InvalidInputError: ``data`` is not bytes-like.
            StorageClosedError: The block was left, or not entered.
            StorageError: The storage failed, for longer than the retries last.
        """
        view = _as_view(data)
        async with self._turn:
            # Only before bytes are taken: what is cancelled here takes no more of them.
            await self._context.turns.give()
            while True:
                self._check_open()
                if self._declared:
                    raise StorageClosedError(
                        "The recording is finished.", operation="write", key=self._key
                    )
                filling = self._filling
                if filling is not None and filling.filled == self._sizes.size_of(self._number):
                    await self._hand_over(filling)
                    continue
                if self._parts is not None:
                    await self._room(self._parts)
                if not view.nbytes:
                    return
                filling = filling or self._new_filling()
                room = self._sizes.size_of(self._number) - filling.filled
                before = filling.filled
                try:
                    await filling.write(view[: min(room, GATHER_BYTES)])
                finally:
                    self._written += filling.filled - before
                view = view[filling.filled - before :]
                if view.nbytes:
                    await self._context.turns.give()

    async def _room(self, parts: LiveParts) -> None:
        try:
            await parts.room()
        except StorageClosedError:
            self._check_open()
            raise

    def finish(self) -> None:
        """Say that the recording is complete: nothing is written to it any more.

        It is stored when the block is left, as complete even if an exception leaves it and
        ``on_error="keep"``. With ``explicit_finish`` a recording without this is partial: call
        it when the other side has said that it was done, for a loop over a connection ends in
        the same way when the connection is cut off.

        Raises:
            StorageClosedError: The block was left, or not entered.
        """
        self._check_open()
        self._finished = self._declared = True

    def mark_partial(self, reason: str) -> None:
        """Say that the recording is cut off: it is stored as partial when the block is left.

        That holds whatever ``on_error`` is, unless an exception leaves the block and it is
        ``abort``; `finish` takes it not back. Where no byte came nothing is stored. ``reason`` is
        kept in the metadata as ``partial-reason``, if it fits beside yours.

        Raises:
            InvalidInputError: ``reason`` is no text, or empty.
            StorageClosedError: The block was left, or not entered.
        """
        self._check_open()
        self._reason = _checked_reason(reason)

    def _is_partial(self, exc: BaseException | None) -> bool:
        if self._reason is not None:
            return True
        return not (self._finished if exc is None else self._declared)

    def _partial_headers(self) -> dict[str, str]:
        reason = self._reason
        if reason is None or _REASON in {name.lower() for name in self._metadata}:
            return {}
        try:
            encode_metadata({**self._metadata, _REASON: reason})
            return encode_metadata({_REASON: reason})
        except InvalidInputError as error:
            logger.info("No room for the reason: %s", error, extra={"key": self._key})
            return {}

    def _check_open(self) -> None:
        if self._cut_off is not None:
            raise self._context.in_flight.closed_error(operation="write", key=self._key)
        if self._state != "open":
            raise StorageClosedError(
                f"The recording is {self._state}.",
                operation="write",
                key=self._key,
                hint="Write to it within its 'async with' block.",
            )

    def _new_filling(self) -> Filling:
        if self._number > MAX_PARTS:
            raise InvalidInputError(
                f"A recording can have {MAX_PARTS} parts at the most.",
                operation="write",
                key=self._key,
                hint="With live_read parts do not grow: raise BACKBLAZE_PART_SIZE.",
            )
        context = self._context
        # A flush reads what is there while more comes: from the disk, where it stays.
        budget = context.budget if self._flusher is None else None
        size = self._sizes.size_of(self._number)
        self._filling = Filling(context.threads, context.spool, budget=budget, size=size)
        return self._filling

    async def _hand_over(self, filling: Filling) -> None:
        part = await filling.finish()
        self._filling = None
        self._begun(part.head).put(self._number, part, after=self._running_flush())
        self._number += 1

    def _begun(self, head: bytes) -> LiveParts:
        if self._parts is None:
            self._tell_content_type(head)
            upload = MultipartUpload(
                self._context,
                self._key,
                self._headers,
                self._sizes,
                algorithm=self._algorithm,
                live_read=self._live_read,
            )
            concurrency = self._context.settings.transfer_concurrency
            self._parts = LiveParts(upload, self._progress, concurrency, keeps=self._keeps)
        return self._parts

    def _tell_content_type(self, head: bytes) -> None:
        if "content-type" not in self._headers:
            self._headers["content-type"] = detect_content_type(self._name, head)

    def _running_flush(self) -> asyncio.Task[None] | None:
        return self._flusher.running if self._flusher is not None else None

    def _growing(self) -> tuple[int, Filling] | None:
        return None if self._filling is None else (self._number, self._filling)

    async def __aenter__(self) -> Self:
        if self._state != "not open":
            raise StorageClosedError(
                f"The recording is {self._state}.",
                operation="open_recording",
                key=self._key,
                hint="Open each recording once.",
            )
        if self._context.in_flight.refuses:
            raise self._context.in_flight.closed_error(operation="open_recording", key=self._key)
        self._state = "open"
        self._context.in_flight.add(self)
        if self._flusher is not None:
            self._flusher.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._cut_off is not None:
            await self._leave_cut_off(self._cut_off, exc)
            return
        self._state = "closed"
        running = self._context.in_flight.enter(ending=True)
        try:
            with running if running is not None else nullcontext():
                await self._end(exc)
        finally:
            self._context.in_flight.discard(self)

    async def end_with(self, error: StorageClosedError) -> None:
        """End it as if ``error`` had left its block, wherever its task is: the storage closes."""
        if self._state != "open":
            return  # its own end is under way
        self._state = "closed"
        error.operation, error.key = "open_recording", self._key
        self._cut_off = error
        try:
            await self._end(error)
        except BaseException as failure:
            if failure is not error:
                for note in getattr(failure, "__notes__", ()):
                    error.add_note(note)
                error.unfinished_upload_id = error.unfinished_upload_id or self._left_upload_id()
                raise
        finally:
            self._was_cut_off.set()
            self._context.in_flight.discard(self)

    async def _leave_cut_off(self, error: StorageClosedError, exc: BaseException | None) -> None:
        waiting = asyncio.create_task(self._was_cut_off.wait())
        interrupted = await wait_out(waiting)
        if exc is None:
            raise interrupted or error
        # What could not be kept or aborted is told there.
        for note in getattr(error, "__notes__", ()):
            exc.add_note(note)
        if isinstance(exc, StorageError) and exc.unfinished_upload_id is None:
            exc.unfinished_upload_id = error.unfinished_upload_id
            exc.kept_file, exc.kept_start = error.kept_file, error.kept_start
        if interrupted is not None and not isinstance(exc, asyncio.CancelledError):
            raise interrupted from exc

    def _left_upload_id(self) -> str | None:
        parts = self._parts
        left = parts is not None and parts.upload.unfinished is not None
        return self.upload_id if left else None

    async def _end(self, exc: BaseException | None) -> None:
        if self._flusher is not None:
            self._flusher.end()
        try:
            if self._keeps:
                await self._keep(exc)
            elif exc is None:
                await self._store(partial=self._is_partial(None))
        except BaseException as error:
            await self._give_up(error)
            raise
        if exc is not None:
            await self._give_up(exc)

    async def _store(self, *, partial: bool) -> None:
        async with self._turn:
            if flush := self._running_flush():
                await asyncio.wait({flush})
            parts = self._parts
            if parts is None or not parts.begun:
                await self._put(partial=partial)
                return
            if self._filling is not None and self._filling.filled:
                await self._hand_over(self._filling)
            await parts.finish()
            upload = parts.upload
            stored, checksum = await upload.complete()
            done = Uploaded(
                stored,
                upload.size,
                len(upload.sent),
                self._headers["content-type"],
                checksum,
            )
            # From here on it is stored, as complete until a copy has marked it.
            self._result = self._to_result(done)
            if partial:
                await self._mark_partial(done, upload)

    async def _mark_partial(self, done: Uploaded, upload: MultipartUpload) -> None:
        try:
            marked = await mark_partial(
                self._context,
                self._key,
                done.stored,
                done.size,
                {**upload.headers, **self._partial_headers()},
                encryption=self._encryption,
            )
        except StorageError as error:
            logger.warning("%s", error, extra={"key": self._key, "code": error.code})
            raise
        self._result = self._to_result(replace(done, stored=marked, partial=True))
        await erase_unmarked(self._context, self._key, done.stored, marked)

    async def _put(self, *, partial: bool) -> None:
        context, algorithm = self._context, self._algorithm
        filling = self._filling
        part = await filling.finish() if filling is not None else Part(MemoryBody(b""), b"")
        self._filling = None
        try:
            if partial and not part.size:
                return
            self._tell_content_type(part.head)
            digest, check, payload_hash = await part.proof(
                algorithm, context.threads, self._headers
            )
            headers = {**self._headers, **check}
            if partial:
                headers |= {PARTIAL_HEADER: "true", **self._partial_headers()}
            async with metered(self._progress, part.size) as meter:
                stored = await put_part(
                    context, self._key, part, headers, meter, payload_hash=payload_hash
                )
            verify_stored(algorithm, digest, stored, headers, operation="PutObject", key=self._key)
        except BaseException:
            if self._keeps:
                self._unsent, part = part, part.borrowed()
            raise
        finally:
            await part.release()
        checksum = Checksum(algorithm=algorithm, value=digest.hex())
        content_type = self._headers["content-type"]
        done = Uploaded(stored, self._written, 1, content_type, checksum, partial=partial)
        self._result = self._to_result(done)

    async def _keep(self, exc: BaseException | None) -> None:
        """Store what arrived, whoever cancels; raise only what is not in the way of ``exc``."""
        storing = asyncio.create_task(self._store_aside(partial=self._is_partial(exc)))
        cancelled = isinstance(exc, asyncio.CancelledError)
        interrupted = await finish(
            storing,
            _KEEP_SECONDS,
            cancelled=cancelled,
            until=self._context.in_flight.clean_up_until,
        )
        failure = _failure_of(storing)
        if failure is not None:
            await self._tell_not_kept(exc or interrupted or failure, failure)
            if exc is None and interrupted is None:
                raise failure
        if interrupted is not None and not cancelled:
            raise interrupted from exc

    async def _store_aside(self, *, partial: bool) -> None:
        with cancellation_as_failure():
            await self._store(partial=partial)

    async def _tell_not_kept(self, error: BaseException, failure: BaseException) -> None:
        if self._result is not None:
            if not self._result.partial and failure is not error:
                why = str(failure) or type(failure).__name__
                error.add_note(
                    f"The recording {self._key!r} is stored, without its partial mark: {why}"
                )
            return
        text = f"The recording {self._key!r} could not be completed"
        if self.upload_id is not None:
            text += f" (upload ID {self.upload_id})"
        why = str(failure) or type(failure).__name__
        logger.warning("%s: %s", text, why, extra={"key": self._key, "upload_id": self.upload_id})
        if failure is not error:
            error.add_note(f"{text}: {why}")

    async def _give_up(self, error: BaseException) -> None:
        """Free all that is held, and end the multipart upload if it has not ended well."""
        freeing = asyncio.create_task(self._free(error))
        interrupted = await wait_out(freeing)
        freeing.result()
        parts, kept = self._parts, self._kept
        if parts is not None and self._result is None:
            # What has no first part makes no recording; and all of it is in the file.
            all_here = kept is not None and (kept.start, kept.end) == (0, self._written)
            if self._keeps and not all_here:
                await parts.upload.leave(
                    error, advice="keep_incomplete_upload() makes a recording of what it holds"
                )
            else:
                await parts.upload.abandon(error)
        if interrupted is not None and not isinstance(error, asyncio.CancelledError):
            raise interrupted from error

    async def _free(self, error: BaseException) -> None:
        if flush := self._running_flush():
            flush.cancel()
            await wait_out(flush)
        if self._parts is not None:
            await self._parts.stop()
        # Not before the end of a write in another task.
        async with self._turn:
            if self._parts is not None:
                await self._parts.stop()
            try:
                if self._keeps and self._result is None:
                    await self._save_rest(error)
            finally:
                await self._release()

    async def _release(self) -> None:
        unsent, self._unsent = self._unsent, None
        if unsent is not None:
            await unsent.release()
        if self._filling is not None:
            await self._filling.discard()
        if self._parts is not None:
            await self._parts.release()

    async def _save_rest(self, error: BaseException) -> None:
        """Write to a file what is not on the server, and tell where in ``error``."""
        parts = self._parts
        held = parts.in_hand if parts is not None else []
        held += [self._unsent] if self._unsent is not None else []
        filling = self._filling
        size = sum(part.size for part in held) + (filling.filled if filling is not None else 0)
        start = self._written - size
        if size:
            self._kept, failures = await save(
                lambda: pieces_of(held, filling),
                self._context.threads,
                self._keep_dir,
                self._name,
                start,
            )
            tell_kept(error, self._kept, failures, key=self._key, size=self._written)
        if start and parts is not None and parts.upload.gone:
            tell_lost(error, start, key=self._key)


def _failure_of(task: asyncio.Task[None]) -> BaseException | None:
    if task.cancelled():
        return TimeoutError(f"there was no time for it ({_KEEP_SECONDS:g} s)")
    failure = task.exception()
    return None if failure is None else raised_by_task(failure)


def _check(on_error: str, flush_interval: float | None, live_read: bool) -> None:
    if on_error not in get_args(OnError):
        raise InvalidInputError(f"on_error must be 'abort' or 'keep', not {on_error!r}.")
    if flush_interval is None:
        return
    if not is_duration(flush_interval):
        raise InvalidInputError(
            f"flush_interval must be a number of seconds above 0, not {flush_interval!r}."
        )
    if live_read:
        raise InvalidInputError(
            "flush_interval and live_read exclude each other.",
            hint="With Live Read all parts have one size, but a flush sends part of one.",
        )


def _checked_reason(reason: object) -> str:
    if not isinstance(reason, str) or not reason:
        raise InvalidInputError(f"reason must be a text, not {reason!r}.", operation="mark_partial")
    return reason


def _as_folder(path: str | os.PathLike[str] | None) -> Path | None:
    if path is None:
        return None
    folder = Path(path)
    if not folder.is_dir():
        raise InvalidInputError(f"keep_dir must be a folder that exists, not {str(path)!r}.")
    return folder


def _as_view(data: Buffer) -> memoryview:
    view = view_of(data)
    if view is None:
        raise InvalidInputError(
            f"A recording is written in bytes, not {type(data).__name__}.", operation="write"
        )
    return view
