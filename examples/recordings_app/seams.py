"""Until the library has it."""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.websockets import WebSocket


class RecordingCutOff(Exception):  # noqa: N818
    """The connection was lost before the sender said that it was done."""


async def websocket_audio(websocket: WebSocket, end: str = "end") -> AsyncIterator[bytes]:
    """Yield the chunks until the sender says that it is done."""
    while True:
        message = await websocket.receive()
        if message.get("bytes"):
            yield message["bytes"]
        elif message.get("text") == end:
            return
        elif message["type"] == "websocket.disconnect":
            if message.get("code") == 1000:
                return
            raise RecordingCutOff
