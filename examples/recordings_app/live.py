"""The route that stores a recording while the browser is still making it."""

from __future__ import annotations

from fastapi import APIRouter, WebSocket

from careflow_storage.integrations.fastapi import websocket_audio

from .accounts import CurrentUser, call_id_of
from .dependencies import Storage
from .index import add_index

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
    await add_index(storage, writer.result)
    await websocket.send_json({"stored": True})
    await websocket.close()
