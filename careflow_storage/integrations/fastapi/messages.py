"""The messages of a WebSocket, within limits; what breaks them ends the connection."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final, NoReturn

from careflow_storage._s3.deadline import is_duration
from careflow_storage.errors import (
    FileTooLargeError,
    InvalidInputError,
    MissingExtraError,
    RecordingCutOff,
    StorageError,
)

try:
    from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState
except ImportError as error:
    raise MissingExtraError("fastapi") from error

NORMAL: Final = 1000
UNSUPPORTED: Final = 1003
INVALID: Final = 1007
POLICY: Final = 1008
TOO_BIG: Final = 1009


class Messages:
    """Receives the messages of one WebSocket, which it accepts if the app has not."""

    def __init__(
        self, websocket: WebSocket, *, read_timeout: float | None, max_message_size: int
    ) -> None:
        if read_timeout is not None and not is_duration(read_timeout):
            raise InvalidInputError(
                f"read_timeout must be a number of seconds above 0, not {read_timeout!r}.",
                hint="None sets no limit.",
            )
        self._websocket = websocket
        self._read_timeout = read_timeout
        self._max_size = max_message_size

    async def receive(self) -> str | bytes | None:
        """Return the next message; None when the sender has closed with code 1000.

        Raises:
            RecordingCutOff: The connection has ended in another way, or nothing arrives.
            FileTooLargeError: The message is too large.
        """
        websocket = self._websocket
        if websocket.application_state is WebSocketState.CONNECTING:
            await websocket.accept()
        try:
            async with asyncio.timeout(self._read_timeout):
                message = await websocket.receive()
        except TimeoutError:
            await self.refuse(
                RecordingCutOff(
                    f"The sender sent nothing for {self._read_timeout:g} s.", close_code=POLICY
                ),
                POLICY,
            )
        if message["type"] == "websocket.disconnect":
            _check_closed(message.get("code"), message.get("reason"))
            return None
        text: str | None = message.get("text")
        data: bytes | None = message.get("bytes")
        found = data if text is None else text
        if found is None:
            return b""
        if len(found) > self._max_size:
            await self.refuse(
                FileTooLargeError(
                    f"A message has {len(found)} bytes or more, and {self._max_size} are allowed."
                ),
                TOO_BIG,
            )
        return found

    async def refuse(self, error: StorageError, code: int) -> NoReturn:
        """Close the connection with this code and raise the error."""
        # A reason may have 123 bytes; the message goes to the log.
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            await self._websocket.close(code)
        raise error


def _check_closed(code: int | None, reason: str | None) -> None:
    """Raise `RecordingCutOff` unless the code is that of a normal end."""
    if code == NORMAL:
        return
    code = 1006 if code is None else code
    said = f", {reason!r}" if reason else ""
    raise RecordingCutOff(
        f"The sender left before the end (close code {code}{said}).", close_code=code
    )
