"""Gives each new recording its duration and its index, so that players show it and seek."""

from __future__ import annotations

import logging

from careflow_storage import BackblazeStorage, StorageError, UploadResult
from careflow_storage.media import make_seekable

logger = logging.getLogger(__name__)


async def add_index(storage: BackblazeStorage, stored: UploadResult) -> None:
    """Add what browsers leave out, and erase the version without it."""
    try:
        indexed = await make_seekable(storage, stored.key)
        if stored.version_id is not None and indexed.version_id != stored.version_id:
            await storage.delete_file(stored.key, version_id=stored.version_id)
    except StorageError as error:
        # The recording is stored, and can be played from its beginning.
        logger.warning("A recording has no index: %s", error)
