"""One connection: a request goes out, its response comes in, one after the other."""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable
from contextlib import aclosing, suppress
from typing import Any, Final, cast

from careflow_storage._http.bodies import Body
from careflow_storage._http.errors import NotHttpError, ProtocolError
from careflow_storage._http.parser import BUFFER_BYTES, Incoming, ResponseHead

# What the kernel may hold beyond what is on its way: half of it costs 0.1 s of CPU per GiB.
_UNSENT_BYTES: Final = 1024 * 1024


class Connection(asyncio.BufferedProtocol):
    """Speaks HTTP/1.1 to one server, for one task at a time.

    `request` and then `read`, `read_into` or `read_all` until `complete`; after that it is ready
    for the next request if it is `reusable`. Whatever raises leaves it of no use: `abort` it.

    Bodies are received straight into the memory of who reads them. What comes while nobody reads
    is held in 128 KiB, then the peer must wait.
    """

    __slots__ = (
        *("_failure", "_filled", "_head", "_incoming", "_loop", "_on_lost", "_over", "_poller"),
        *("_reading_paused", "_ready_for_response", "_sent_all", "_still", "_target", "_turn"),
        *("_used", "_waiter", "_wanted", "_writing_paused"),
        *("idle_since", "reusable", "transport"),
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        turn: asyncio.Lock,
        on_lost: Callable[[Connection], None],
    ) -> None:
        """``turn`` is shared by all that send large bodies on this loop."""
        self.idle_since: float = 0.0
        self.reusable: bool = True
        self._loop = loop
        self._turn = turn
        self._on_lost = on_lost
        self.transport: asyncio.Transport | None = None
        self._incoming = Incoming()
        # Where the body goes that is being read, how much is there, how much is waited for.
        self._target: memoryview | None = None
        self._filled = self._wanted = 0
        self._ready_for_response = False
        # Whether it has given a response before.
        self._used = False
        # Tells whether something came that the event loop has not read yet.
        self._poller: Any = None
        self._head: ResponseHead | None = None
        self._sent_all = True
        # The peer says no more.
        self._over = False
        self._failure: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None
        # How often in a row the watch has found it waiting and nothing moved.
        self._still = 0
        self._reading_paused = False
        self._writing_paused = False

    # --- what the event loop calls ------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast(asyncio.Transport, transport)
        option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
        connection = transport.get_extra_info("socket")
        if connection is None:
            return
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        # Windows has no poll.
        if hasattr(select, "poll"):
            self._poller = select.poll()
            self._poller.register(connection.fileno(), select.POLLIN)
        if option is not None:
            # Otherwise the kernel swallows megabytes at once, and on a slow line nothing moves
            # for longer than the idle timeout, though all the while bytes do.
            connection.setsockopt(socket.IPPROTO_TCP, option, _UNSENT_BYTES)

    def secured(self, transport: asyncio.Transport) -> None:
        """Go on over TLS, with whoever is at its other end."""
        self.transport = transport
        self._used = False

    def get_buffer(self, sizehint: int) -> memoryview:
        """Say where to put what comes next."""
        if self._target is not None:
            return self._target[self._filled :]
        return self._incoming.room()

    def buffer_updated(self, nbytes: int) -> None:
        """Take what came."""
        still, self._still = self._still, 0
        target = self._target
        if target is not None:
            self._filled += nbytes
            if self._filled >= self._wanted:
                self._target = None
                self._wake()
            return
        self._incoming.came(nbytes)
        if self._ready_for_response and self._head is None:
            if not self._found_head() and self._incoming.size > nbytes:
                # A head that comes byte by byte has as long as one that does not come.
                self._still = still
        elif not self._ready_for_response:
            # Nobody has asked: it cannot be told from the response to the next request.
            self.fail(
                ProtocolError("the server sent what nobody asked for")
                if self._used
                else NotHttpError(self._incoming.greeting())
            )
        else:
            self._wake()
        if self._incoming.full and self._failure is None:
            self._pause_reading()

    def eof_received(self) -> bool:
        """Know that no more comes."""
        self._over = True
        self._wake()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._over = True
        self.transport = None
        if self._failure is None and exc is not None:
            self._failure = exc
        self._wake()
        self._on_lost(self)

    def pause_writing(self) -> None:
        """Wait with the next slice of a body."""
        self._writing_paused = True

    def resume_writing(self) -> None:
        """Go on."""
        self._writing_paused = False
        self._still = 0
        self._wake()

    # --- what the pool calls ------------------------------------------------------------

    @property
    def usable(self) -> bool:
        """Whether the next request may go over it, as far as the event loop knows."""
        return self.reusable and not self._over and self._failure is None

    def is_quiet(self) -> bool:
        """Whether it is usable, and the server has sent nothing since its last response, nor left.

        Looks past the event loop: what that has not read yet would be the next request's response.
        """
        if not self.reusable or self._over or self._failure is not None:
            return False
        return self._poller is None or not self._poller.poll(0)

    @property
    def failure(self) -> BaseException | None:
        """What broke it."""
        return self._failure

    @property
    def clean(self) -> bool:
        """Whether nothing came beyond what was read."""
        return self._incoming.empty

    @property
    def waiting(self) -> bool:
        """Whether a task waits for the peer."""
        return self._waiter is not None

    def stood_still(self, times: int) -> bool:
        """Count one more look that found nothing moved; whether it were ``times`` in a row."""
        self._still += 1
        return self._still > times

    def fail(self, failure: BaseException) -> None:
        """Let whoever waits get this, and close the connection."""
        if self._failure is None:
            self._failure = failure
        self.abort()
        self._wake()

    def abort(self) -> None:
        """Close it now. Nothing that it still had to send is sent.

        An orderly end would go on sending it: views of memory that its owner soon fills with
        the bytes of another part, or of another recording.
        """
        self.reusable = False
        self._over = True
        transport = self.transport
        if transport is not None:
            transport.abort()

    def shut_down(self) -> None:
        """End it for the peer alone, without the event loop, which is closed."""
        self.reusable = False
        self._over = True
        plug = self.transport.get_extra_info("socket") if self.transport is not None else None
        if plug is not None:
            with suppress(OSError):
                plug.shutdown(socket.SHUT_RDWR)

    # --- a request and its response -------------------------------------------------------

    async def request(
        self,
        head: bytes,
        body: Body | bytes | None,
        *,
        bodiless: bool,
        sent: Callable[[int], None] | None = None,
    ) -> ResponseHead:
        """Send a request and return the head of its response.

        ``bodiless`` is for HEAD. ``sent`` hears how many bytes of a `Body` were handed over.
        A server that responds before it has heard all is not told the rest.

        Raises:
            ProtocolError: The response is no HTTP/1.1.
            OSError: The connection broke, or what `fail` was told.
        """
        self._head, self._sent_all = None, True
        self._incoming.expect_response(bodiless=bodiless)
        self._ready_for_response = True
        if body is None:
            self._write(head)
        elif isinstance(body, bytes):
            # One call of the system instead of two is worth a copy of so little.
            self._write(head + body)
        else:
            self._write(head)
            await self._send(body, sent)
        while (found := self._head) is None:
            await self._more()
        if found.status < 300 and not self._sent_all:
            raise ProtocolError("the server is content before it has heard all")
        return found

    async def _send(self, body: Body, sent: Callable[[int], None] | None) -> None:
        position = 0
        # Closed here and now when this is cancelled: left to the garbage collector it would need
        # another task.
        async with aclosing(body.slices()) as pieces:
            async for piece in pieces:
                # A fast peer takes all at once, and encryption takes its time. So one slice goes
                # out per turn of the loop, of whichever connection: all else on it goes on.
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
    def complete(self) -> bool:
        """Whether the whole response was taken."""
        if self._incoming.left is None:
            return self._over and self._incoming.empty and self._failure is None
        return self._incoming.ended

    async def read_into(self, target: memoryview, *, full: bool) -> int:
        """Move the next bytes of the body to ``target``; return how many, 0 at the body's end.

        With ``full`` it is filled, unless the body ends or breaks off there; else what comes
        first is enough. The next call after a break raises.

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
        """Return what has come of the body and is not taken; does not wait.

        Raises:
            ProtocolError: Its chunks are malformed.
        """
        return self._incoming.take(self._incoming.available())

    async def read(self, most: int) -> bytes:
        """Return the next ``most`` bytes of the body; fewer at its end, or where it breaks off.

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
        """Return the whole rest of the body.

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
            # It raises what broke the connection.
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
        """End the exchange; whether another may follow on this connection."""
        transport = self.transport
        head, self._head = self._head, None
        self._ready_for_response = False
        self._used = True
        self.reusable = (
            self.usable
            and head is not None
            and head.keep_alive
            and self.complete
            and self._sent_all
            # Bytes beyond the response would be taken for the next one.
            and self._incoming.empty
            and transport is not None
            and not transport.is_closing()
            and not transport.get_write_buffer_size()
        )
        if self._reading_paused:
            self._resume_reading()
        return self.reusable

    # --- inside -------------------------------------------------------------------------

    def _write(self, data: bytes | memoryview) -> None:
        if self._failure is not None:
            raise self._failure
        if self._over or self.transport is None:
            raise ConnectionResetError("the server has closed the connection")
        self._still = 0
        self.transport.write(data)

    def _found_head(self) -> bool:
        """Read the head; whether it is all there."""
        try:
            self._head = self._incoming.find_head()
        except NotHttpError as error:
            # A server that has spoken HTTP before does speak it.
            self.fail(ProtocolError("what follows a response is none") if self._used else error)
        except ProtocolError as error:
            self.fail(error)
        else:
            if self._head is not None:
                self._wake()
                return True
        return False

    async def _receive(self, target: memoryview, *, full: bool) -> int:
        """Have the loop move what comes to ``target``, straight from the socket."""
        self._target, self._filled, self._wanted = target, 0, len(target) if full else 1
        try:
            while self._target is not None:
                await self._more()
        except OSError:
            if not self._filled:
                raise
        finally:
            # Whoever owns this memory may do with it what he likes from now on.
            self._target = None
            if self._incoming.left is not None:
                self._incoming.left -= self._filled
        return self._filled

    async def _more(self) -> None:
        """Wait until something has happened."""
        if self._failure is not None:
            raise self._failure
        if self._over:
            if self._incoming.left is None and self._head is not None:
                return
            raise ConnectionResetError("the server closed the connection before the response's end")
        self._incoming.make_room()
        if self._reading_paused:
            self._resume_reading()
        self._still = 0
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
        if self._failure is not None:
            raise self._failure

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _pause_reading(self) -> None:
        if not self._reading_paused and self.transport is not None and not self._over:
            self._reading_paused = True
            self.transport.pause_reading()

    def _resume_reading(self) -> None:
        self._reading_paused = False
        if self.transport is not None and not self._over:
            self.transport.resume_reading()
