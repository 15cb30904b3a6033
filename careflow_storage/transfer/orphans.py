"""What a lost answer to CreateMultipartUpload leaves: an upload whose ID nobody knows."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta

from careflow_storage.errors import NoSuchUploadError, StorageError
from careflow_storage.models import IncompleteUpload
from careflow_storage.transfer.engine import Engine

logger = logging.getLogger("careflow_storage")

# Servers tell the time in whole seconds, some of them.
_SLACK = timedelta(seconds=2)
# The upload itself is more urgent than this.
_PATIENCE_SECONDS = 5.0


class Orphans:
    """Finds and aborts the uploads that earlier attempts to begin ours may have begun.

    An upload is taken for one if it is of exactly this key, was begun by the server's clock
    while our own requests were under way, and holds no part even when ours has ended. Another
    writer's upload fits only if it was begun for the same key in the same seconds and was idle
    ever since; its next request fails with NoSuchUpload, no byte of it is lost silently.
    """

    def __init__(self, engine: Engine, key: str, upload_id: str, took: float) -> None:
        self._engine = engine
        self._key = key
        self._upload_id = upload_id
        self._took = timedelta(seconds=took)
        self._begun: datetime | None = None

    async def look(self) -> None:
        """Note when ours was begun, by the server's clock, while the server still lists it."""
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                for upload in await self._uploads():
                    if upload.upload_id == self._upload_id:
                        self._begun = upload.initiated
        except (StorageError, TimeoutError) as error:
            self._tell(error)

    async def abort(self) -> None:
        """Abort them, when ours has been completed or aborted. What fails is only logged."""
        if self._begun is None:
            return
        first, last = self._begun - self._took - _SLACK, self._begun + _SLACK
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                for upload in await self._uploads():
                    if upload.upload_id != self._upload_id and first <= upload.initiated <= last:
                        await self._abort_if_empty(upload.upload_id)
        except (StorageError, TimeoutError) as error:
            self._tell(error)

    async def _abort_if_empty(self, upload_id: str) -> None:
        try:
            if not await self._engine.control.list_parts(self._key, upload_id):
                await self._engine.multipart.abort(self._key, upload_id)
        except NoSuchUploadError:
            return  # its owner was faster

    async def _uploads(self) -> list[IncompleteUpload]:
        uploads = await self._engine.control.list_incomplete(self._key)
        return [upload for upload in uploads if upload.key == self._key]

    def _tell(self, error: Exception) -> None:
        logger.warning(
            "A lost answer may have left an empty multipart upload, and looking for it failed: %s",
            str(error) or type(error).__name__,
            extra={"key": self._key},
        )
