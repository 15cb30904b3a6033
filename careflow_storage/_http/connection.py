"""One HTTP/1.1 connection: requests and their responses, one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing

from careflow_storage._http.bodies import Body
from careflow_storage._http.errors import ProtocolError
from careflow_storage._http.parser import BUFFER_BYTES, ResponseHead
from careflow_storage._http.protocol import HttpProtocol


class Connection(HttpProtocol):
    """Speaks HTTP/1.1 to one server, for one task at a time.

    Call `request`, then `read`, `read_into` or `read_all` until `complete`. After that it is ready
    for the next request, if it is `reusable`. After any exception, `abort` it.
    """

    __slots__ = ()

    async def request(
        self,
        head: bytes,
        body: Body | bytes | None,
        *,
        bodiless: bool,
        sent: Callable[[int], None] | None = None,
    ) -> ResponseHead:
        """Send a request and return the head of its response.

        Sending stops when the server responds early.

        Args:
            bodiless: True for HEAD.
            sent: Called with the number of bytes of a `Body` sent so far.

        Raises:
            ProtocolError: The response is not HTTP/1.1.
            OSError: The connection broke, or `fail` was called.
        """
        self._head, self._sent_all = None, True
        self._incoming.expect_response(bodiless=bodiless)
        self._ready_for_response = True
        if body is None:
            self._write(head)
        elif isinstance(body, bytes):
            # Copying a small body costs less than a second system call.
            self._write(head + body)
        else:
            self._write(head)
            await self._send(body, sent)
        while (found := self._head) is None:
            await self._more()
        if found.status < 300 and not self._sent_all:
            raise ProtocolError("the server reported success before it received the whole body")
        return found

    async def _send(self, body: Body, sent: Callable[[int], None] | None) -> None:
        position = 0
        # Closes the generator at once on cancellation. The garbage collector would need a task.
        async with aclosing(body.slices()) as pieces:
            async for piece in pieces:
                # Encrypting for a fast peer would block the event loop. So all connections together
                # send one slice per turn of the loop.
                async with self._turn:
                    self._write(piece)
                    await asyncio.sleep(0)
                while self._writing_paused and self._head is None:
                    await self._more()
                position += len(piece)
                if sent is not None:
                    sent(position)
                if self._head is not None:
                    break
        self._sent_all = position == body.size

    @property
    def unread(self) -> int | None:
        """The bytes of the response's body that were not read yet; None if unknown."""
        return self._incoming.left

    @property
    def complete(self) -> bool:
        """Whether the whole response was read."""
        if self._incoming.left is None:
            return self._over and self._incoming.empty and self._failure is None
        return self._incoming.ended

    async def read_into(self, target: memoryview, *, full: bool) -> int:
        """Move the next bytes of the body to ``target``; return how many, 0 at the body's end.

        With ``full``, fill it unless the body ends or breaks off; otherwise return the first
        bytes. If the body breaks off, the next call raises.

        Raises:
            ProtocolError: Its chunks are malformed.
            OSError: It broke off before its end.
        """
        filled, incoming = 0, self._incoming
        try:
            while filled < len(target) and not self.complete:
                if size := min(incoming.available(), len(target) - filled):
                    incoming.move_to(target[filled : filled + size])
                    filled += size
                elif filled and not full:
                    break
                elif incoming.left:
                    wanted = min(incoming.left, len(target) - filled)
                    filled += await self._receive(target[filled : filled + wanted], full=full)
                elif not self.complete:
                    await self._more()
        except OSError:
            if not filled:
                raise
        return filled

    def take_received(self) -> bytes:
        """Return the bytes of the body received and not yet read, without waiting.

        Raises:
            ProtocolError: Its chunks are malformed.
        """
        return self._incoming.take(self._incoming.available())

    async def read(self, most: int) -> bytes:
        """Return the next ``most`` bytes of the body; fewer if it ends or breaks off.

        Raises:
            ProtocolError: Its chunks are malformed.
            OSError: It broke off before its end.
        """
        incoming = self._incoming
        if not incoming.of_unknown_length:
            most = min(most, incoming.left or 0)
        if incoming.available() >= most:
            return incoming.take(most)
        whole = memoryview(bytearray(most))
        return bytes(whole[: await self.read_into(whole, full=True)])

    async def read_all(self, limit: int) -> bytes:
        """Return the rest of the body.

        Raises:
            ProtocolError: It is longer than ``limit`` bytes, or its chunks are malformed.
            OSError: It broke off before its end.
        """
        if self._incoming.of_unknown_length:
            return await self._read_to_the_end(limit)
        left = self._incoming.left or 0
        if left > limit:
            raise ProtocolError(f"the response is longer than {limit} bytes")
        data = await self.read(left)
        if len(data) < left:
            # Raises the error that broke the connection.
            await self._more()
        return data

    async def _read_to_the_end(self, limit: int) -> bytes:
        pieces: list[bytes] = []
        piece, total = memoryview(bytearray(BUFFER_BYTES)), 0
        while size := await self.read_into(piece, full=False):
            total += size
            if total > limit:
                raise ProtocolError(f"the response is longer than {limit} bytes")
            pieces.append(bytes(piece[:size]))
        return b"".join(pieces)

    def finish(self) -> bool:
        """End the exchange; return whether the connection can be reused."""
        transport = self.transport
        head, self._head = self._head, None
        self._ready_for_response = False
        self._used = True
        self.reusable: bool = (
            self.usable
            and head is not None
            and head.keep_alive
            and self.complete
            and self._sent_all
            # Surplus bytes would be read as the next response.
            and self._incoming.empty
            and transport is not None
            and not transport.is_closing()
            and not transport.get_write_buffer_size()
        )
        if self._reading_paused:
            self._resume_reading()
        return self.reusable
