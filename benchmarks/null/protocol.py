"""HTTP/1.1 for one connection, with as little Python as possible."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, cast

from benchmarks.null.bodies import Body
from benchmarks.null.content import CHUNK, piece
from benchmarks.null.link import PIECE, Alarm, Line, Network, is_due
from benchmarks.null.request import BadRequestError, Request

_LONGEST_HEAD: Final = 64 * 1024
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_BAD_REQUEST: Final = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

# All connections read into the same buffer, which is empty before the event loop reads again.
# It is small enough to stay in the processor's cache.
_SCRATCH: Final = bytearray(256 * 1024)
_VIEW: Final = memoryview(_SCRATCH)


@dataclass(frozen=True, slots=True)
class MadeUp:
    """A response with a body of noise: its head, and which bytes of the object follow."""

    head: bytes
    start: int
    size: int


Reply = bytes | MadeUp


class Application(Protocol):
    """Makes the responses."""

    def keep(self, request: Request) -> int:
        """Return how many of the last bytes of a body the response depends on."""

    def respond(self, request: Request, size: int, kept: bytes) -> Reply:
        """Return the response to a request with a body of ``size`` bytes."""


class Connection(asyncio.BufferedProtocol):
    """Reads requests and sends responses, one at a time. Pipelined requests wait."""

    def __init__(
        self, application: Application, network: Network | None, *, tls: bool = False
    ) -> None:
        self._application = application
        self._line = None if network is None else Line(network, tls=tls)
        self._transport: asyncio.Transport
        self._request: Request | None = None
        self._body: Body | None = None  # while one is being received
        self._ahead = b""  # bytes that came while a response was under way
        self._responding = False
        self._full = False  # the transport's buffer is full
        self._position = self._left = 0  # of a body of noise that is being sent
        self._taken_in = 0.0
        self._alarm: Alarm | None = None

    # --- what the event loop calls ------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are those of asyncio in all but their base class.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=4 * CHUNK, low=CHUNK)

    def connection_lost(self, error: Exception | None) -> None:
        self._left = 0
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def get_buffer(self, sizehint: int) -> memoryview:
        return _VIEW

    def buffer_updated(self, size: int) -> None:
        body = self._body
        if body is not None and body.droppable and size < body.left:
            body.left -= size
            if self._line is not None:
                self._hold_back(self._line, size)
            return
        try:
            self._received(size)
        except BadRequestError:
            self._transport.write(_BAD_REQUEST)
            self._transport.close()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        if self._left and self._alarm is None:
            self._send_more()

    # --- in -----------------------------------------------------------------------------

    def _received(self, size: int) -> None:
        if self._ahead:
            size += len(self._ahead)
            if size > len(_SCRATCH):
                raise BadRequestError("the head is too long")
            _VIEW[:size] = self._ahead + bytes(_VIEW[: size - len(self._ahead)])
            self._ahead = b""
        begin = 0
        while begin < size:
            if self._responding:
                self._ahead = bytes(_VIEW[begin:size])
                self._transport.pause_reading()
                return
            if self._body is not None:
                begin = self._receive_body(self._body, begin, size)
                continue
            end = _SCRATCH.find(b"\r\n\r\n", begin, size)
            if end < 0:
                if size - begin > _LONGEST_HEAD:
                    raise BadRequestError("the head is too long")
                self._ahead = bytes(_VIEW[begin:size])
                return
            self._begin(Request(bytes(_VIEW[begin:end])), more=size > end + 4)
            begin = end + 4

    def _begin(self, request: Request, *, more: bool) -> None:
        self._request = request
        length = request.length()
        keep = self._application.keep(request) if request.method == b"POST" else 0
        body = Body(length, keep)
        if body.ended:
            self._respond(request, body)
            return
        self._body = body
        # A client that has begun to send the body waits for no 100 Continue.
        if not more and request.expects_continue():
            if self._line is None:
                self._transport.write(_CONTINUE)
            else:
                go_on = functools.partial(self._transport.write, _CONTINUE)
                self._at(self._line.response_at(0.0), go_on)

    def _receive_body(self, body: Body, begin: int, size: int) -> int:
        stop = body.feed(_VIEW, begin, size)
        if self._line is not None:
            self._hold_back(self._line, stop - begin)
        if body.ended:
            assert self._request is not None
            self._body = None
            self._respond(self._request, body)
        return stop

    def _hold_back(self, line: Line, size: int) -> None:
        """Pause reading until these bytes would have come over the line."""
        self._taken_in = line.arrived(size)
        if not is_due(self._taken_in):
            self._transport.pause_reading()
            self._at(self._taken_in, self._transport.resume_reading)

    def _at(self, moment: float, call: Callable[[], None]) -> None:
        """Call it at that time, after all that waits already."""
        before = self._alarm

        def ring() -> None:
            self._alarm = None
            call()

        if before is not None:
            before.cancel()
        self._alarm = Alarm(asyncio.get_running_loop(), moment, ring)

    # --- out ----------------------------------------------------------------------------

    def _respond(self, request: Request, body: Body) -> None:
        self._responding = True
        reply = self._application.respond(request, body.size, bytes(body.tail))
        if self._line is None:
            self._send(reply)
            return
        due = self._line.response_at(self._taken_in)
        self._at(due, functools.partial(self._send, reply))

    def _send(self, reply: Reply) -> None:
        if isinstance(reply, bytes):
            self._transport.write(reply)
            self._finished()
            return
        self._position, self._left = reply.start, reply.size
        if self._line is None and reply.size <= CHUNK:
            # A small response is one write, and with TLS one record.
            self._transport.writelines((reply.head, piece(reply.start, reply.size)))
            self._left = 0
            self._finished()
            return
        self._transport.write(reply.head)
        self._send_more()

    def _send_more(self) -> None:
        if self._line is not None:
            self._send_paced(self._line)
            return
        while self._left and not self._full:
            self._send_piece(min(self._left, CHUNK))
        if not self._left:
            self._finished()

    def _send_paced(self, line: Line) -> None:
        while self._left and not self._full:
            size = min(self._left, PIECE)
            moment = line.leaves(size)
            if not is_due(moment):
                self._at(moment, functools.partial(self._send_then_more, size))
                return
            self._send_piece(size)
        if not self._left:
            self._finished()

    def _send_then_more(self, size: int) -> None:
        self._send_piece(size)
        self._send_more()

    def _send_piece(self, size: int) -> None:
        self._transport.write(piece(self._position, size))
        self._position += size
        self._left -= size

    def _finished(self) -> None:
        self._responding = False
        assert self._request is not None
        if self._request.closes():
            self._transport.close()
            return
        if self._line is not None or self._ahead:
            self._transport.resume_reading()
        if self._ahead:
            asyncio.get_running_loop().call_soon(self.buffer_updated, 0)
