"""The body of a request on its way to the connection, slice by slice."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Protocol

import aiohttp
from aiohttp.abc import AbstractStreamWriter

# A larger slice makes asyncio copy what the socket did not take at once.
SLICE_BYTES = 256 * 1024
# What the kernel may hold beyond what is on its way: half of it costs 0.1 s of CPU per GiB.
_UNSENT_BYTES = 1024 * 1024


class Body(Protocol):
    """The bytes of a request, readable again for every attempt.

    ``size`` is in bytes; ``slices()`` yields exactly that many, in pieces of at most
    `SLICE_BYTES` or so.
    """

    @property
    def size(self) -> int: ...

    def slices(self) -> AsyncGenerator[bytes | memoryview]: ...


def _buffer_little(writer: AbstractStreamWriter) -> asyncio.Transport | None:
    """Let the kernel hold little that is not on its way, so that we see how far the peer is.

    Otherwise it swallows megabytes at once, and on a slow line no slice moves for longer than
    the idle timeout, though all the while bytes do.
    """
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    transport: asyncio.Transport | None = getattr(writer, "transport", None)
    connection = transport.get_extra_info("socket") if transport is not None else None
    if option is not None and connection is not None:
        connection.setsockopt(socket.IPPROTO_TCP, option, _UNSENT_BYTES)
    return transport


class BodyPayload(aiohttp.payload.Payload):
    """Feeds a `Body` to aiohttp slice by slice, and tells of each slice that was taken."""

    def __init__(self, body: Body, sent: Callable[[int], None]) -> None:
        super().__init__(body, content_type="application/octet-stream")
        self._size = body.size
        self._sent = sent
        self._transport: asyncio.Transport | None = None

    def drop_unsent(self) -> None:
        """Take back what a closing connection still buffers; a living one is left alone.

        Closing alone would go on sending it: views of memory that its owner soon fills with
        the bytes of another part, or of another recording.
        """
        transport = self._transport
        # With nothing buffered it may be gone altogether: then asyncio's abort() itself fails.
        if transport is None or not transport.is_closing():
            return
        if transport.get_write_buffer_size():
            transport.abort()

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        raise TypeError("a recording is not text")

    async def write(self, writer: AbstractStreamWriter) -> None:
        self._transport = _buffer_little(writer)
        position = 0
        # Closed here and now when this is cancelled: left to the garbage collector it would need
        # another task.
        async with aclosing(self._value.slices()) as pieces:
            async for piece in pieces:
                await writer.write(piece)
                position += len(piece)
                self._sent(position)

    async def write_with_length(
        self, writer: AbstractStreamWriter, content_length: int | None
    ) -> None:
        await self.write(writer)
