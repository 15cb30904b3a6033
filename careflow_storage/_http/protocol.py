"""The socket of one connection: its events, its buffers, and the one task that waits for it."""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Self, cast

from careflow_storage._http.errors import NotHttpError, ProtocolError
from careflow_storage._http.parser import Incoming, ResponseHead

# Limits the unsent bytes in the kernel. Half of it costs 0.1 s of CPU per GiB.
_UNSENT_BYTES: Final = 1024 * 1024


class HttpProtocol(asyncio.BufferedProtocol):
    """What `Connection` sends with and receives from.

    Bodies are received straight into the reader's memory. Bytes that arrive while no task reads
    are held in 128 KiB; then the peer must wait.
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
        on_lost: Callable[[Self], None],
    ) -> None:
        """``turn`` is shared by all connections of this loop that send large bodies."""
        self.idle_since: float = 0.0
        self.reusable: bool = True
        self._loop = loop
        self._turn = turn
        self._on_lost: Callable[[Any], None] = on_lost
        self.transport: asyncio.Transport | None = None
        self._incoming = Incoming()
        # The buffer for the body that is being read, its filled size, and the size to wait for.
        self._target: memoryview | None = None
        self._filled = self._wanted = 0
        self._ready_for_response = False
        # Whether it has received a response before.
        self._used = False
        # Shows whether bytes arrived that the event loop has not read yet.
        self._poller: Any = None
        self._head: ResponseHead | None = None
        self._sent_all = True
        # Whether the peer has closed its side.
        self._over = False
        self._failure: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None
        # How many checks in a row found it waiting while no byte moved.
        self._still = 0
        self._reading_paused = False
        self._writing_paused = False

    # --- what the event loop calls ------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Configure the socket of the new connection."""
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
            # Otherwise the kernel accepts megabytes at once. On a slow line no byte would seem to
            # move for longer than the idle timeout, although bytes are being sent.
            connection.setsockopt(socket.IPPROTO_TCP, option, _UNSENT_BYTES)

    def secured(self, transport: asyncio.Transport) -> None:
        """Continue over TLS. Behind a proxy the peer is now another server."""
        self.transport = transport
        self._used = False

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the buffer for the next bytes."""
        if self._target is not None:
            return self._target[self._filled :]
        return self._incoming.room()

    def buffer_updated(self, nbytes: int) -> None:
        """Process the bytes that arrived."""
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
                # A head that arrives byte by byte gets no more time than one that never arrives.
                self._still = still
        elif not self._ready_for_response:
            # Unsolicited bytes would be read as the response to the next request.
            self.fail(
                ProtocolError("the server sent bytes without a request")
                if self._used
                else NotHttpError(self._incoming.greeting())
            )
        else:
            self._wake()
        if self._incoming.full and self._failure is None:
            self._pause_reading()

    def eof_received(self) -> bool:
        """Note that the peer sends no more."""
        self._over = True
        self._wake()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Record the end of the connection, and wake the waiting task."""
        self._over = True
        self.transport = None
        if self._failure is None and exc is not None:
            self._failure = exc
        self._wake()
        self._on_lost(self)

    def pause_writing(self) -> None:
        """Hold back the next slice of a body."""
        self._writing_paused = True

    def resume_writing(self) -> None:
        """Send the next slice of a body."""
        self._writing_paused = False
        self._still = 0
        self._wake()

    # --- what the pool calls ------------------------------------------------------------

    @property
    def usable(self) -> bool:
        """Whether the event loop considers it usable for the next request."""
        return self.reusable and not self._over and self._failure is None

    def is_quiet(self) -> bool:
        """Whether it is usable and the server has neither sent more bytes nor closed it.

        Polls the socket: bytes that the event loop has not read yet would be taken for the next
        response.
        """
        if not self.reusable or self._over or self._failure is not None:
            return False
        return self._poller is None or not self._poller.poll(0)

    @property
    def failure(self) -> BaseException | None:
        """The error that broke it, if any."""
        return self._failure

    @property
    def clean(self) -> bool:
        """Whether all received bytes were read."""
        return self._incoming.empty

    @property
    def waiting(self) -> bool:
        """Whether a task is waiting for the peer."""
        return self._waiter is not None

    def stood_still(self, times: int) -> bool:
        """Count one more check without progress; return whether it exceeds ``times`` in a row."""
        self._still += 1
        return self._still > times

    def fail(self, failure: BaseException) -> None:
        """Raise ``failure`` in the waiting task, and close the connection."""
        if self._failure is None:
            self._failure = failure
        self.abort()
        self._wake()

    def abort(self) -> None:
        """Close it at once, and drop unsent bytes.

        An orderly close would still send them. They are views of memory that its owner soon
        reuses for another part, or another recording.
        """
        self.reusable = False
        self._over = True
        transport = self.transport
        if transport is not None:
            transport.abort()

    def shut_down(self) -> None:
        """Close the socket without the event loop, which is closed."""
        self.reusable = False
        self._over = True
        connection = self.transport.get_extra_info("socket") if self.transport is not None else None
        if connection is not None:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    # --- what a request calls -----------------------------------------------------------

    def _write(self, data: bytes | memoryview) -> None:
        if self._failure is not None:
            raise self._failure
        if self._over or self.transport is None:
            raise ConnectionResetError("the server has closed the connection")
        self._still = 0
        self.transport.write(data)

    def _found_head(self) -> bool:
        """Read the head of the response; return whether it is complete."""
        try:
            self._head = self._incoming.find_head()
        except NotHttpError as error:
            # The server has sent HTTP before, so this is no other protocol.
            self.fail(
                ProtocolError("the bytes after a response are not a response")
                if self._used
                else error
            )
        except ProtocolError as error:
            self.fail(error)
        else:
            if self._head is not None:
                self._wake()
                return True
        return False

    async def _receive(self, target: memoryview, *, full: bool) -> int:
        """Let the event loop receive into ``target``, straight from the socket."""
        self._target, self._filled, self._wanted = target, 0, len(target) if full else 1
        try:
            while self._target is not None:
                await self._more()
        except OSError:
            if not self._filled:
                raise
        finally:
            # From now on the owner may reuse this memory.
            self._target = None
            if self._incoming.left is not None:
                self._incoming.left -= self._filled
        return self._filled

    async def _more(self) -> None:
        """Wait for the next event: bytes, the end, a failure, or room to write."""
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
