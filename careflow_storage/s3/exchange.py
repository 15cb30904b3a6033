"""One signed request over the wire and its answer: slot, signature, idle timeout, retries."""

from __future__ import annotations

import asyncio
import functools
import ssl
import warnings
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp
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
from careflow_storage.s3.body import Body, BodyPayload
from careflow_storage.s3.redaction import scrub
from careflow_storage.s3.retry import RetryPolicy
from careflow_storage.s3.session import S3Session, Slots
from careflow_storage.s3.signing import EMPTY_PAYLOAD, encode_key

T = TypeVar("T")

# More than a full page of the longest keys; an endless answer must not fill the memory.
_MAX_ANSWER_BYTES = 32 * 1024 * 1024


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
    # Not shown: error trackers print local variables, and these may be about people.
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    body: Body | bytes | None = field(default=None, repr=False)
    payload_hash: str = EMPTY_PAYLOAD
    on_sent: Callable[[int], None] | None = None


@dataclass(slots=True)
class Answer:
    """A successful answer, read to its end."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes = field(repr=False)


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

        try:
            return await self._retry.run(attempt)
        except BaseException as error:
            scrub(error)
            raise

    async def open(self, request: Request) -> AnswerStream:
        """Send and return the answer's open body, which the caller must close."""
        try:
            return await self._retry.run(functools.partial(self._attempt_open, request))
        except BaseException as error:
            scrub(error)
            raise

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
                if isinstance(payload, BodyPayload):
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
        self, request: Request, fresh: bool, payload: BodyPayload | bytes | None
    ) -> aiohttp.ClientResponse:
        session = self.session
        session.counter.count(request.operation)
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
                f"No trusted TLS connection to {self.session.host}{_tls_reason(error)}.",
                hint=TLS_HINT,
                **where,
            )
        if isinstance(error, aiohttp.ClientConnectorDNSError):
            return ConnectionFailedError(
                f"No address was found for {self.session.host}.",
                retryable=True,
                hint=CONNECTION_HINT,
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
        self._loop = asyncio.get_running_loop()
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
                    chunk, ends_http_chunk = await content.readchunk()
                if chunk:
                    yield chunk
                elif not ends_http_chunk:
                    return
        except (TimeoutError, OSError, aiohttp.ClientError) as error:
            raise self._exchange.explain(error, self._request) from error

    async def aclose(self) -> None:
        """Give the slot back; an unread rest closes the connection. Safe to call twice."""
        response, self._response = self._response, None
        if response is not None:
            _give_back(response, self._exchange.session.slots)

    def __del__(self, warn: Callable[..., None] = warnings.warn) -> None:
        # Dropped without a close, it would hold its slot for ever.
        response, self._response = self._response, None
        if response is None:
            return
        # The garbage collector may run in any thread.
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_give_back, response, self._exchange.session.slots)
        warn(
            f"An answer to {self._request.operation} was dropped unclosed; use 'async with'.",
            ResourceWarning,
            source=self,
        )


def _give_back(response: aiohttp.ClientResponse, slots: Slots) -> None:
    # After the last byte aiohttp has returned the connection to the pool already.
    response.close()
    slots.release()


def _tls_reason(error: aiohttp.ClientError) -> str:
    """What OpenSSL says is wrong with the certificate, if it is that."""
    for cause in (getattr(error, "certificate_error", None), error.__cause__):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f": {cause.verify_message.rstrip('.')}"
    return ""


def _payload(request: Request, idle: IdleTimeout) -> BodyPayload | bytes | None:
    if request.body is None or isinstance(request.body, bytes):
        return request.body

    def sent(position: int) -> None:
        idle.moved()
        if request.on_sent is not None:
            request.on_sent(position)

    return BodyPayload(request.body, sent)


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
