"""The route that stores a recording while the browser is still making it."""

from __future__ import annotations

import logging

from fastapi import APIRouter, WebSocket

from careflow_storage import BackblazeStorage, StorageError, UploadResult
from careflow_storage.integrations.fastapi import websocket_audio
from careflow_storage.media import make_seekable

from .accounts import CurrentUser, call_id_of
from .dependencies import Storage

logger = logging.getLogger(__name__)
router = APIRouter()

# In seconds. The page may pause its recorder, which then sends nothing.
_LONGEST_PAUSE = 15 * 60
# What the MediaRecorder of Chromium, Firefox and Safari makes.
_FILENAMES = {
    "audio/webm": "microphone.webm",
    "audio/ogg": "microphone.ogg",
    "audio/mp4": "microphone.m4a",
}


@router.websocket("/api/live/{call}")
async def record(
    websocket: WebSocket, call: str, content_type: str, user: CurrentUser, storage: Storage
) -> None:
    """Store the chunks of a MediaRecorder until the browser sends "end".

    If the connection is lost before that, the bytes so far are stored and marked as partial.
    """
    filename = _FILENAMES.get(content_type.partition(";")[0].strip().lower())
    if filename is None:
        await websocket.close(1003, "This type of audio is not recorded.")
        return
    call_id, limit = call_id_of(user, call), websocket.app.state.settings.max_upload
    async with storage.open_recording(
        call_id, filename, content_type=content_type, on_error="keep"
    ) as writer:
        await websocket.accept()
        await websocket.send_json({"name": writer.key.rpartition("/")[2]})
        async for chunk in websocket_audio(websocket, max_size=limit, read_timeout=_LONGEST_PAUSE):
            await writer.write(chunk)
    await _index(storage, writer.result)
    await websocket.send_json({"stored": True})
    await websocket.close()


async def _index(storage: BackblazeStorage, stored: UploadResult) -> None:
    """Give the recording its duration and its index, and erase the version without them."""
    try:
        indexed = await make_seekable(storage, stored.key)
        if stored.version_id is not None and indexed.version_id != stored.version_id:
            await storage.delete_file(stored.key, version_id=stored.version_id)
    except StorageError as error:
        # The recording is stored, and can be played from its beginning.
        logger.warning("A recording has no index: %s", error)
