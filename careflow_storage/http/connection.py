"""One connection: a request goes out, its answer comes in, one after the other."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final, Protocol, cast

from careflow_storage.http.chunks import Chunks
from careflow_storage.http.failures import ProtocolError
from careflow_storage.http.heads import AnswerHead, parse_answer_head

# Holds a small answer at once, any decent head, and what comes while nobody reads.
_BUFFER_BYTES: Final = 128 * 1024
_MAX_INFORMATIONAL: Final = 8
# What the kernel may hold beyond what is on its way: half of it costs 0.1 s of CPU per GiB.
_UNSENT_BYTES: Final = 1024 * 1024


class Body(Protocol):
    """The bytes of a request, readable again for every attempt.

    ``size`` is in bytes; ``slices()`` yields exactly that many, in pieces that are small enough
    to be written at once.
    """

    @property
    def size(self) -> int:
        """How many bytes."""

    def slices(self) -> AsyncGenerator[bytes | memoryview]:
        """Yield them, from the first one on."""


class Connection(asyncio.BufferedProtocol):
    """Speaks HTTP/1.1 to one server, for one task at a time.

    `request` and then `read`, `read_into` or `read_all` until `complete`; after that it is ready
    for the next request if it is `reusable`. Whatever raises leaves it of no use: `abort` it.

    Bodies are received straight into the memory of who reads them. What comes while nobody reads
    is held in 128 KiB, then the peer must wait.
    """

    __slots__ = (
        *("_bodiless", "_buffer", "_chunks", "_end", "_failure", "_filled", "_head", "_heads"),
        *("_left", "_loop", "_on_lost", "_over", "_reading_paused", "_ready_for_answer"),
        *("_sent_all", "_start", "_still", "_target", "_turn", "_view", "_waiter", "_wanted"),
        *("_writing_paused", "idle_since", "reusable", "transport"),
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        turn: asyncio.Lock,
        on_lost: Callable[[Connection], None],
    ) -> None:
        """``turn`` is shared by all that send large bodies on this loop."""
        self.idle_since = 0.0
        self.reusable = True
        self._loop = loop
        self._turn = turn
        self._on_lost = on_lost
        self.transport: asyncio.Transport | None = None
        self._buffer = bytearray(_BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0
        # Where the body goes that is being read, how much is there, how much is waited for.
        self._target: memoryview | None = None
        self._filled = self._wanted = 0
        self._bodiless = False
        self._ready_for_answer = False
        self._heads = 0
        self._head: AnswerHead | None = None
        # Of a body with a length: what is not yet taken.
        self._left: int | None = 0
        self._chunks: Chunks | None = None
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
        if option is not None:
            # Otherwise the kernel swallows megabytes at once, and on a slow line nothing moves
            # for longer than the idle timeout, though all the while bytes do.
            connection.setsockopt(socket.IPPROTO_TCP, option, _UNSENT_BYTES)

    def tunnelled(self, transport: asyncio.Transport) -> None:
        """Go on over TLS, through the tunnel that the peer has opened."""
        self.transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        """Say where to put what comes next."""
        if self._target is not None:
            return self._target[self._filled :]
        return self._view[self._end :]

    def buffer_updated(self, nbytes: int) -> None:
        """Take what came."""
        self._still = 0
        target = self._target
        if target is not None:
            self._filled += nbytes
            if self._filled >= self._wanted:
                self._target = None
                self._wake()
            return
        searched, self._end = max(self._start, self._end - 3), self._end + nbytes
        if self._ready_for_answer and self._head is None:
            self._look_for_head(searched)
        elif not self._ready_for_answer:
            # Nobody has asked: it cannot be told from the answer to the next request.
            self._fail(ProtocolError("the server sent what nobody asked for"))
        else:
            self._wake()
        if self._end == _BUFFER_BYTES and self._failure is None:
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
        """Whether the next request may go over it, as far as anybody knows."""
        return self.reusable and not self._over and self._failure is None

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
        self._fail(failure)

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

    # --- a request and its answer -------------------------------------------------------

    async def request(
        self,
        head: bytes,
        body: Body | bytes | None,
        *,
        bodiless: bool,
        sent: Callable[[int], None] | None = None,
    ) -> AnswerHead:
        """Send a request and return the head of its answer.

        ``bodiless`` is for HEAD. ``sent`` hears how many bytes of a `Body` were handed over.
        A server that answers before it has heard all is not told the rest.

        Raises:
            ProtocolError: The answer is no HTTP/1.1.
            OSError: The connection broke, or what `fail` was told.
        """
        self._bodiless = bodiless
        self._head, self._heads, self._chunks, self._left = None, 0, None, 0
        self._ready_for_answer = True
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
        return found

    async def _send(self, body: Body, sent: Callable[[int], None] | None) -> None:
        self._sent_all = False
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
                if self._head is not None:
                    return
                position += len(piece)
                if sent is not None:
                    sent(position)
        self._sent_all = True

    @property
    def complete(self) -> bool:
        """Whether the whole answer was taken."""
        if self._chunks is not None:
            return self._chunks.done
        if self._left is None:
            return self._over and self._start == self._end and self._failure is None
        return self._left == 0

    async def read_into(self, target: memoryview, *, full: bool) -> int:
        """Move the next bytes of the body to ``target``; return how many, 0 at the body's end.

        With ``full`` it is filled, unless the body ends or breaks off there; else what comes
        first is enough. The next call after a break raises.

        Raises:
            ProtocolError: Its chunks are malformed.
            OSError: It broke off before its end.
        """
        filled = 0
        try:
            while filled < len(target) and not self.complete:
                start, size = self._ready_data()
                if size:
                    size = min(size, len(target) - filled)
                    target[filled : filled + size] = self._view[start : start + size]
                    self._take(start, size)
                    filled += size
                elif filled and not full:
                    break
                elif self._left:
                    wanted = min(self._left, len(target) - filled)
                    filled += await self._receive(target[filled : filled + wanted], full=full)
                elif not self.complete:
                    await self._more()
        except OSError:
            if not filled:
                raise
        return filled

    async def read(self, most: int) -> bytes:
        """Return the next ``most`` bytes of the body; fewer at its end, or where it breaks off.

        Raises:
            ProtocolError: Its chunks are malformed.
            OSError: It broke off before its end.
        """
        wanted = most if self._left is None or self._chunks is not None else min(self._left, most)
        start, size = self._ready_data()
        if size >= wanted:
            data = bytes(self._view[start : start + wanted])
            self._take(start, wanted)
            return data
        whole = memoryview(bytearray(wanted))
        return bytes(whole[: await self.read_into(whole, full=True)])

    async def read_all(self, limit: int) -> bytes:
        """Return the whole rest of the body.

        Raises:
            ProtocolError: It is longer than ``limit`` bytes, or its chunks are malformed.
            OSError: It broke off before its end.
        """
        left = self._left
        if left is None or self._chunks is not None:
            return await self._read_to_the_end(limit)
        if left > limit:
            raise ProtocolError(f"the answer is longer than {limit} bytes")
        data = await self.read(left)
        if len(data) < left:
            # It raises what broke the connection.
            await self._more()
        return data

    async def _read_to_the_end(self, limit: int) -> bytes:
        """Read a body of which nobody knows the length."""
        pieces: list[bytes] = []
        piece, total = memoryview(bytearray(_BUFFER_BYTES)), 0
        while size := await self.read_into(piece, full=False):
            total += size
            if total > limit:
                raise ProtocolError(f"the answer is longer than {limit} bytes")
            pieces.append(bytes(piece[:size]))
        return b"".join(pieces)

    def finish(self) -> bool:
        """End the exchange; whether another may follow on this connection."""
        transport = self.transport
        head, self._head = self._head, None
        self._ready_for_answer = False
        self.reusable = (
            self.usable
            and head is not None
            and head.keep_alive
            and self.complete
            and self._sent_all
            # Bytes beyond the answer would be taken for the next one.
            and self._start == self._end
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

    def _look_for_head(self, searched: int) -> None:
        """Read the head, if it is all there; those of informational answers are passed over."""
        while (found := self._buffer.find(b"\r\n\r\n", searched, self._end)) >= 0:
            try:
                head = parse_answer_head(self._buffer[self._start : found], bodiless=self._bodiless)
                self._start = searched = found + 4
                if head.status >= 200:
                    self._begin_body(head)
                    return
                self._heads += 1
                if head.status == 101 or self._heads > _MAX_INFORMATIONAL:
                    raise ProtocolError("the server does not come to an answer")
            except ProtocolError as error:
                self._fail(error)
                return
        self._make_room()
        if self._end == _BUFFER_BYTES:
            self._fail(
                ProtocolError(f"the head of the answer is longer than {_BUFFER_BYTES} bytes")
            )

    def _begin_body(self, head: AnswerHead) -> None:
        self._head = head
        self._left = head.length
        if head.chunked:
            self._chunks, self._left = Chunks(), 0
        self._wake()

    def _ready_data(self) -> tuple[int, int]:
        """Where the next bytes of the body lie in the buffer, and how many."""
        if self._chunks is not None:
            self._start, size = self._chunks.find(self._buffer, self._start, self._end)
            return self._start, size
        size = self._end - self._start
        return self._start, size if self._left is None else min(size, self._left)

    def _take(self, start: int, size: int) -> None:
        self._start = start + size
        if self._chunks is not None:
            self._chunks.took(size)
            # So that a last chunk is known to be the last as soon as that is there.
            self._start, _ = self._chunks.find(self._buffer, self._start, self._end)
        elif self._left is not None:
            self._left -= size
        if self._start == self._end:
            self._start = self._end = 0

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
            if self._left is not None:
                self._left -= self._filled
        return self._filled

    async def _more(self) -> None:
        """Wait until something has happened."""
        if self._failure is not None:
            raise self._failure
        if self._over:
            if self._left is None and self._head is not None:
                return
            raise ConnectionResetError("the server closed the connection before the answer's end")
        self._make_room()
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

    def _make_room(self) -> None:
        if self._start:
            rest = self._end - self._start
            self._buffer[:rest] = self._buffer[self._start : self._end]
            self._start, self._end = 0, rest

    def _pause_reading(self) -> None:
        if not self._reading_paused and self.transport is not None and not self._over:
            self._reading_paused = True
            self.transport.pause_reading()

    def _resume_reading(self) -> None:
        self._reading_paused = False
        if self.transport is not None and not self._over:
            self.transport.resume_reading()

    def _fail(self, failure: BaseException) -> None:
        if self._failure is None:
            self._failure = failure
        self.abort()
        self._wake()
