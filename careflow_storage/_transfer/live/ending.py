"""The end of a recording: store it, keep what arrived, or discard it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path

from careflow_storage._log_fields import log_fields
from careflow_storage._transfer.context import TransferContext
from careflow_storage._transfer.live.kept_file import (
    KeptFile,
    bytes_of,
    report_kept,
    report_lost,
    save,
)
from careflow_storage._transfer.live.upload import LiveUpload
from careflow_storage._transfer.tasks import cancellation_as_failure, raised_by_task
from careflow_storage._uninterrupted import finish, wait_out

logger = logging.getLogger("careflow_storage")

# How long a cancelled task may still store what arrived. A second cancellation ends it at once.
_KEEP_SECONDS = 10.0


class RecordingEnd:
    """Ends the upload of one recording, well or after an exception.

    Attributes:
        kept_file: The file with the bytes that did not reach the server, if there is one.
    """

    def __init__(
        self, context: TransferContext, upload: LiveUpload, *, keeps: bool, keep_dir: Path | None
    ) -> None:
        self.kept_file: KeptFile | None = None
        self._context = context
        self._upload = upload
        self._keeps = keeps
        self._keep_dir = keep_dir

    async def run(
        self, exc: BaseException | None, partial_headers: Mapping[str, str] | None
    ) -> None:
        """Store the recording, or what arrived of it; then free all resources.

        Args:
            exc: The exception that ends the recording. It is not raised here.
            partial_headers: Set if the recording is partial; see `LiveUpload.store`.

        Raises:
            StorageError: The recording could not be stored, and there is no ``exc``.
        """
        self._upload.stop_flushing()
        try:
            if self._keeps:
                await self._keep(exc, partial_headers)
            elif exc is None:
                await self._upload.store(partial_headers)
        except BaseException as error:
            await self._clean_up(error)
            raise
        if exc is not None:
            await self._clean_up(exc)

    async def _keep(
        self, exc: BaseException | None, partial_headers: Mapping[str, str] | None
    ) -> None:
        """Store what arrived, even if the task is cancelled meanwhile."""
        storing = asyncio.create_task(self._store_as_task(partial_headers))
        cancelled = isinstance(exc, asyncio.CancelledError)
        interrupted = await finish(
            storing,
            _KEEP_SECONDS,
            cancelled=cancelled,
            until=self._context.in_flight.clean_up_until,
        )
        failure = _failure_of(storing)
        if failure is not None:
            self._report_not_kept(exc or interrupted or failure, failure)
            if exc is None and interrupted is None:
                raise failure
        if interrupted is not None and not cancelled:
            raise interrupted from exc

    async def _store_as_task(self, partial_headers: Mapping[str, str] | None) -> None:
        with cancellation_as_failure():
            await self._upload.store(partial_headers)

    def _report_not_kept(self, error: BaseException, failure: BaseException) -> None:
        upload, why = self._upload, str(failure) or type(failure).__name__
        if upload.result is not None:
            if not upload.result.partial and failure is not error:
                error.add_note(
                    f"The recording {upload.key!r} is stored, but not marked as partial: {why}"
                )
            return
        text = f"The recording {upload.key!r} could not be completed"
        if upload.upload_id is not None:
            text += f" (upload ID {upload.upload_id})"
        logger.warning(
            "%s: %s",
            text,
            why,
            extra=log_fields(
                "recording_not_completed", failure, key=upload.key, upload_id=upload.upload_id
            ),
        )
        if failure is not error:
            error.add_note(f"{text}: {why}")

    async def _clean_up(self, error: BaseException) -> None:
        """Free all resources; abort or leave a multipart upload that was not completed."""
        freeing = asyncio.create_task(self._free(error))
        interrupted = await wait_out(freeing)
        freeing.result()
        queue, kept = self._upload.queue, self.kept_file
        if queue is not None and self._upload.result is None:
            # An upload without its first part is useless, and this file holds all bytes.
            all_in_file = kept is not None and (kept.start, kept.end) == (0, self._upload.written)
            if self._keeps and not all_in_file:
                await queue.upload.leave(
                    error, advice="keep_incomplete_upload() makes a recording of it"
                )
            else:
                await queue.upload.abandon(error)
        if interrupted is not None and not isinstance(error, asyncio.CancelledError):
            raise interrupted from error

    async def _free(self, error: BaseException) -> None:
        upload = self._upload
        await upload.stop()
        # Another task may be writing: wait for it, then stop what it has queued.
        async with upload.lock:
            await upload.stop()
            try:
                if self._keeps and upload.result is None:
                    await self._save_rest(error)
            finally:
                await upload.release()

    async def _save_rest(self, error: BaseException) -> None:
        """Write the bytes that the server does not have to a file, and report it in ``error``."""
        upload = self._upload
        parts, growing, queue = upload.unconfirmed, upload.growing, upload.queue
        size = sum(part.size for part in parts) + (growing.size if growing is not None else 0)
        start = upload.written - size
        if size:
            self.kept_file, failures = await save(
                lambda: bytes_of(parts, growing),
                self._context.threads,
                self._keep_dir,
                upload.name,
                start,
            )
            report_kept(error, self.kept_file, failures, key=upload.key, size=upload.written)
        if start and queue is not None and queue.upload.gone:
            report_lost(error, start, key=upload.key)


def _failure_of(task: asyncio.Task[None]) -> BaseException | None:
    if task.cancelled():
        return TimeoutError(f"storing it took longer than {_KEEP_SECONDS:g} s")
    failure = task.exception()
    return None if failure is None else raised_by_task(failure)
