"""The route that stores a recording while the browser is still making it."""

from __future__ import annotations

import logging

from fastapi import APIRouter, WebSocket

from careflow_storage import BackblazeStorage, StorageError, UploadResult
from careflow_storage.media import make_seekable

from .accounts import CurrentUser, call_id_of
from .dependencies import Storage
from .seams import RecordingCutOff, websocket_audio

logger = logging.getLogger(__name__)
router = APIRouter()

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
    writer = storage.open_recording(
        call_id_of(user, call),
        filename,
        content_type=content_type,
        on_error="keep",
        explicit_finish=True,
    )
    await websocket.accept()
    try:
        async with writer:
            await websocket.send_json({"name": writer.key.rpartition("/")[2]})
            async for chunk in websocket_audio(websocket):
                await writer.write(chunk)
            # Nothing is stored for a recording without any bytes.
            if writer.bytes_written:
                writer.finish()
    except RecordingCutOff:
        logger.info("A recording was cut off after %s bytes.", writer.bytes_written)
        return
    if writer.bytes_written:
        await _index(storage, writer.result)
    await websocket.send_json({"stored": writer.bytes_written > 0})
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
