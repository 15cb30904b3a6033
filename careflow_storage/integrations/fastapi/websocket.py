"""Audio from a WebSocket that knows whether the sender has finished or was cut off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from careflow_storage._transfer.bodies.limits import BodyLimits
from careflow_storage.errors import FileTooLargeError, InvalidInputError
from careflow_storage.integrations.fastapi.messages import (
    POLICY,
    TOO_BIG,
    UNSUPPORTED,
    Messages,
)

if TYPE_CHECKING:
    from starlette.websockets import WebSocket


def websocket_audio(
    websocket: WebSocket,
    end: str | None = "end",
    *,
    max_size: int | None = None,
    max_message_size: int = 16 * 1024 * 1024,
    read_timeout: float | None = 60.0,
) -> WebSocketAudio:
    """Iterate over the audio that a page sends in binary messages, until it says that it is done.

    ::

        @app.websocket("/calls/{call_id}")
        async def record(websocket: WebSocket, call_id: str, storage: Storage) -> None:
            async with storage.open_recording(call_id, "call.webm", on_error="keep") as recording:
                async for chunk in websocket_audio(websocket):
                    await recording.write(chunk)
            await websocket.send_json({"key": recording.key})
            await websocket.close()

    The page is done when it sends the text message ``end``, or closes with code 1000:
    ``socket.close(1000)``, since ``socket.close()`` sends no code. Any other end raises
    `RecordingCutOff`, which makes the recording partial, with the reason in its metadata. With
    ``on_error="abort"``, or as the body of ``upload_recording``, nothing is stored.

    The WebSocket is accepted, unless it is already. After ``end`` it stays open for your
    response. Whatever breaks the limits closes it: with code 1003 for other text messages, 1009
    for too many bytes, and 1008 for a sender that sends nothing.

    Args:
        end: The text message that ends the recording. None: only code 1000 does. Hypercorn
            reports code 1000 as a lost connection, so use a message there.
        max_size: The most bytes of the whole recording. None: no limit.
        max_message_size: The most bytes of one message. The server has a limit of its own, 16 MiB
            by default in uvicorn and hypercorn.
        read_timeout: The most seconds without a message. A page that pauses its recorder sends
            nothing. None: no limit.

    Raises:
        RecordingCutOff: The connection ended in another way, or nothing was sent for
            ``read_timeout``.
        InvalidInputError: A text message is not ``end``, or the sender ended without any audio.
        FileTooLargeError: A message or the recording is too large.
    """
    messages = Messages(websocket, read_timeout=read_timeout, max_message_size=max_message_size)
    return WebSocketAudio(messages, end, BodyLimits(max_size))


class WebSocketAudio:
    """An async iterator of the chunks of a recording, and a body for an upload."""

    def __init__(self, messages: Messages, end: str | None, limits: BodyLimits) -> None:
        limits.check()
        self._messages = messages
        self._end = end
        self._limits = limits
        self._size = 0
        self._ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while not self._ended:
            message = await self._messages.receive()
            if message is None or message == self._end:
                await self._finish()
            elif isinstance(message, str):
                await self._messages.refuse(
                    InvalidInputError(f"The sender sent a text message that is not {self._end!r}."),
                    UNSUPPORTED,
                )
            elif message:
                await self._count(len(message))
                return message
        raise StopAsyncIteration

    async def _finish(self) -> None:
        self._ended = True
        if not self._size:
            await self._messages.refuse(
                InvalidInputError("The sender ended the recording without any audio."), POLICY
            )

    async def _count(self, size: int) -> None:
        self._size += size
        try:
            self._limits.check_size(self._size, ended=False)
        except FileTooLargeError as error:
            await self._messages.refuse(error, TOO_BIG)
