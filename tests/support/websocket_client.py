"""A browser, or Twilio, at the other end of a WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from typing import Any

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)


class WebSocketClient:
    """A connection that the test ends as it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._connection = WSConnection(ConnectionType.CLIENT)
        self._events: deque[Any] = deque()

    async def open(self, path: str) -> tuple[int, bytes]:
        """Open it; return the status of the response, 101 where it was accepted, and its body."""
        self._send(Request(host="localhost", target=path))
        status, body = 0, b""
        while True:
            event = await self._event()
            if isinstance(event, AcceptConnection):
                return 101, b""
            if isinstance(event, RejectConnection):
                status = event.status_code
                if not event.has_body:
                    return status, body
            if isinstance(event, RejectData):
                body += event.data
                if event.body_finished:
                    return status, body

    async def send(self, data: bytes | str) -> None:
        event: Any = BytesMessage(data) if isinstance(data, bytes) else TextMessage(data)
        self._send(event)
        await self._writer.drain()

    async def close(self, code: int) -> None:
        self._send(CloseConnection(code=code))
        await self._writer.drain()

    async def send_in_pieces(self, size: int) -> None:
        """Send one message of this many bytes, without holding it."""
        piece = bytes(1024 * 1024)
        for start in range(0, size, len(piece)):
            last = start + len(piece) >= size
            self._send(BytesMessage(piece, message_finished=last))
            await self._writer.drain()

    def half_close(self) -> None:
        """Leave without a word, after all that was sent."""
        self._writer.write_eof()

    async def leave(self) -> None:
        """Close the connection."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    def abort(self) -> None:
        self._writer.transport.abort()

    async def receive_json(self) -> Any:
        """Wait for a message with JSON."""
        text = ""
        while True:
            event = await self._event()
            if isinstance(event, TextMessage):
                text += event.data
                if event.message_finished:
                    return json.loads(text)

    async def closed(self) -> tuple[int, str]:
        """Wait until the server has closed; return the code and reason, 1006 if it gave none."""
        while True:
            event = await self._event()
            if isinstance(event, CloseConnection):
                return int(event.code), event.reason or ""

    async def ended(self) -> None:
        """Wait until the connection has ended."""
        while await self._reader.read(65536):
            pass

    def _send(self, event: Any) -> None:
        self._writer.write(self._connection.send(event))

    async def _event(self) -> Any:
        while not self._events:
            data = await self._reader.read(65536)
            self._connection.receive_data(data or None)
            self._events.extend(self._connection.events())
        return self._events.popleft()
