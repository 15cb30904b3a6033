"""One signed request over the wire and its answer: slot, signature, idle timeout, retries."""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from multidict import CIMultiDictProxy
from yarl import URL

from careflow_storage.errors import (
    CONNECTION_HINT,
    TLS_HINT,
    ConnectionFailedError,
    ServerResponseError,
    StorageClosedError,
    StorageError,
    StorageTimeoutError,
    error_from_response,
)
from careflow_storage.s3 import xml
from careflow_storage.s3.retry import RetryPolicy
from careflow_storage.s3.session import S3Session
from careflow_storage.s3.signing import EMPTY_PAYLOAD, encode_key

T = TypeVar("T")

# More than a full page of the longest keys; an endless answer must not fill the memory.
_MAX_ANSWER_BYTES = 32 * 1024 * 1024
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

    def slices(self) -> AsyncIterator[bytes | memoryview]: ...


@dataclass(slots=True)
class Request:
    """What to send.

    ``query`` is canonical already. ``on_sent`` hears how many bytes of the body the running
    attempt has handed to the connection; a new attempt begins at 0 again.
    """

    operation: str
    method: str
    key: str | None = None
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: Body | bytes | None = None
    payload_hash: str = EMPTY_PAYLOAD
    on_sent: Callable[[int], None] | None = None


@dataclass(slots=True)
class Answer:
    """A successful answer, read to its end."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes


class IdleTimeout:
    """`asyncio.timeout` for work without progress: `moved` pushes the deadline on.

    The timer is moved at most eight times per period, so telling of each slice costs nothing.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._timeout = asyncio.timeout(seconds)
        self._time = asyncio.get_running_loop().time
        self._armed = self._time()

    def moved(self) -> None:
        now = self._time()
        if now - self._armed > self._seconds / 8 and not self._timeout.expired():
            self._armed = now
            self._timeout.reschedule(now + self._seconds)

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._timeout.__aexit__(exc_type, exc, traceback)


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


class _BodyPayload(aiohttp.payload.Payload):
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
        if self._transport is not None and self._transport.is_closing():
            self._transport.abort()

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        raise TypeError("a recording is not text")

    async def write(self, writer: AbstractStreamWriter) -> None:
        self._transport = _buffer_little(writer)
        position = 0
        async for piece in self._value.slices():
            await writer.write(piece)
            position += len(piece)
            self._sent(position)

    async def write_with_length(
        self, writer: AbstractStreamWriter, content_length: int | None
    ) -> None:
        await self.write(writer)


class Exchange:
    """Sends requests for one storage."""

    def __init__(self, session: S3Session, retry: RetryPolicy) -> None:
        self.session = session
        self._retry = retry
        self._idle_timeout = session.settings.idle_timeout

    async def send(self, request: Request, parse: Callable[[Answer], T]) -> T:
        """Send, read the whole answer and make ``parse`` understand it, with retries.

        ``parse`` belongs to the attempt: an answer that is cut off, or a 200 with an error
        inside, is worth another one. Raises `StorageError` when refused.
        """

        async def attempt(fresh: bool) -> T:
            return parse(await self._attempt(request, fresh))

        return await self._retry.run(attempt)

    async def open(self, request: Request) -> AnswerStream:
        """Send and return the answer's open body, which the caller must close."""
        return await self._retry.run(functools.partial(self._attempt_open, request))

    async def _attempt(self, request: Request, fresh: bool) -> Answer:
        async with self.session.slots:
            idle = IdleTimeout(self._idle_timeout)
            payload = _payload(request, idle)
            try:
                async with idle:
                    response = await self._start(request, fresh, payload)
                    async with response:
                        body = await _read(response, idle)
            except (TimeoutError, OSError, aiohttp.ClientError) as error:
                raise self.explain(error, request) from error
            finally:
                if isinstance(payload, _BodyPayload):
                    payload.drop_unsent()
        if response.status >= 300:
            raise self._refusal(request, response, body)
        return Answer(response.status, response.headers, body)

    async def _attempt_open(self, request: Request, fresh: bool) -> AnswerStream:
        slots = self.session.slots
        await slots.acquire()
        response = None
        try:
            async with IdleTimeout(self._idle_timeout) as idle:
                response = await self._start(request, fresh, _payload(request, idle))
                if response.status < 300:
                    return AnswerStream(self, request, response)
                body = await _read(response, idle)
            raise self._refusal(request, response, body)
        except BaseException as error:
            if response is not None:
                response.close()
            slots.release()
            if isinstance(error, TimeoutError | OSError | aiohttp.ClientError) and not isinstance(
                error, StorageError
            ):
                raise self.explain(error, request) from error
            raise

    async def _start(
        self, request: Request, fresh: bool, payload: _BodyPayload | bytes | None
    ) -> aiohttp.ClientResponse:
        session = self.session
        path = f"/{session.bucket}"
        if request.key is not None:
            path += "/" + encode_key(request.key)
        headers = session.signer.sign(
            session.static_credentials or await session.credentials(),
            request.method,
            session.host,
            path,
            request.query,
            request.headers,
            request.payload_hash,
        )
        return await session.http(fresh=fresh).request(
            request.method,
            URL.build(
                scheme=session.url.scheme,
                authority=session.url.authority,
                path=path,
                query_string=request.query,
                encoded=True,
            ),
            headers=headers,
            data=payload,
            # Credentials never follow a redirect to another host.
            allow_redirects=False,
        )

    def explain(self, error: BaseException, request: Request) -> StorageError:
        """Make our exception of what aiohttp or the operating system raised."""
        where: dict[str, Any] = {
            "operation": request.operation,
            "bucket": self.session.bucket,
            "key": request.key,
        }
        if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
            return ConnectionFailedError(
                f"No trusted TLS connection to {self.session.host}.",
                hint=TLS_HINT,
                **where,
            )
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return StorageTimeoutError(
                f"No connection to {self.session.host} within "
                f"{self.session.settings.connect_timeout:g} s.",
                retryable=True,
                hint=CONNECTION_HINT,
                **where,
            )
        if isinstance(error, TimeoutError):
            return StorageTimeoutError(
                f"Nothing moved for {self._idle_timeout:g} s.", retryable=True, **where
            )
        return ConnectionFailedError(
            f"The connection to {self.session.host} failed ({type(error).__name__}).",
            retryable=True,
            hint=CONNECTION_HINT,
            **where,
        )

    def _refusal(
        self, request: Request, response: aiohttp.ClientResponse, body: bytes
    ) -> StorageError:
        document = xml.parse_error(body)
        return error_from_response(
            operation=request.operation,
            bucket=self.session.bucket,
            key=request.key,
            status=response.status,
            code=document.code if document else None,
            message=document.message if document else None,
            headers=response.headers,
        )


class AnswerStream:
    """The open body of an answer; it holds a slot and a connection until it is closed.

    Iterate once for the chunks as they arrive. A broken or silent connection raises a
    retryable `StorageError`; a body shorter than its Content-Length does too.
    """

    def __init__(
        self, exchange: Exchange, request: Request, response: aiohttp.ClientResponse
    ) -> None:
        self.status = response.status
        self.headers = response.headers
        self._exchange = exchange
        self._request = request
        self._response: aiohttp.ClientResponse | None = response

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        if self._response is None:
            raise StorageClosedError("The answer was closed before it was read.")
        content = self._response.content
        idle_timeout = self._exchange._idle_timeout
        try:
            while True:
                async with asyncio.timeout(idle_timeout):
                    # Not readany(): it joins, and so copies, what lies in the buffer.
                    chunk, _ = await content.readchunk()
                if not chunk:
                    return
                yield chunk
        except (TimeoutError, OSError, aiohttp.ClientError) as error:
            raise self._exchange.explain(error, self._request) from error

    async def aclose(self) -> None:
        """Give the slot back; an unread rest closes the connection. Safe to call twice."""
        response, self._response = self._response, None
        if response is not None:
            # After the last byte aiohttp has returned the connection to the pool already.
            response.close()
            self._exchange.session.slots.release()


def _payload(request: Request, idle: IdleTimeout) -> _BodyPayload | bytes | None:
    if request.body is None or isinstance(request.body, bytes):
        return request.body

    def sent(position: int) -> None:
        idle.moved()
        if request.on_sent is not None:
            request.on_sent(position)

    return _BodyPayload(request.body, sent)


async def _read(response: aiohttp.ClientResponse, idle: IdleTimeout) -> bytes:
    chunks: list[bytes] = []
    total = 0
    while chunk := await response.content.readany():
        idle.moved()
        total += len(chunk)
        if total > _MAX_ANSWER_BYTES:
            response.close()
            raise ServerResponseError(
                f"The answer is longer than {_MAX_ANSWER_BYTES} bytes.", status=response.status
            )
        chunks.append(chunk)
    return b"".join(chunks) if len(chunks) != 1 else chunks[0]
