"""One signed request and its response: slot, signature, connection, retries."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from careflow_storage._http.bodies import Body
from careflow_storage._http.connection import Connection
from careflow_storage._http.errors import PoolClosedError, ProxyError
from careflow_storage._http.parser import ResponseHead, request_head
from careflow_storage._observer import ObservedRequest, Observer
from careflow_storage._s3.redaction import scrub
from careflow_storage._s3.responses.check import explain_malformed, is_as_good, refusal
from careflow_storage._s3.responses.connection_errors import explain_failure
from careflow_storage._s3.responses.cut_bodies import allow_another_attempt
from careflow_storage._s3.retry import Failures, RetryPolicy
from careflow_storage._s3.session import S3Session
from careflow_storage._s3.signing.signer import EMPTY_PAYLOAD, encode_key
from careflow_storage.errors import ServerResponseError, StorageClosedError, StorageError

T = TypeVar("T")

# More than a full page of the longest keys. Limits the memory that an endless response can use.
_MAX_RESPONSE_BYTES = 32 * 1024 * 1024
_SHORT_BODY_BYTES = 256 * 1024


@dataclass(slots=True)
class Request:
    """A request to send.

    Attributes:
        query: The canonical query string.
        on_sent: Called with the number of bytes of the body that this attempt has sent. A new
            attempt begins at 0 again.
        attempts: How often the request was sent.
        unsettled: Whether a failed attempt may have succeeded on the server: its response was
            lost or unreadable, or the server failed while it worked.
        expects: The status of success, for `Transport.send`.
        may_be_unmodified: Whether `Transport.open` also returns a 304, which has no body.
        observed: What hooks see of the latest attempt; None without hooks.
        urgent: Whether `Transport.send` sends it before all that waits for the rate limit.
    """

    operation: str
    method: str
    key: str | None = None
    query: str = ""
    # Not in the repr: error trackers print it, and headers may contain personal data.
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    body: Body | bytes | None = field(default=None, repr=False)
    payload_hash: str = EMPTY_PAYLOAD
    on_sent: Callable[[int], None] | None = None
    attempts: int = 0
    unsettled: bool = False
    expects: int = 200
    may_be_unmodified: bool = False
    urgent: bool = False
    observed: ObservedRequest | None = field(default=None, repr=False)

    @property
    def has_long_body(self) -> bool:
        """Whether sending the body takes longer than most responses do."""
        body = self.body
        if body is None:
            return False
        return (len(body) if isinstance(body, bytes) else body.size) > _SHORT_BODY_BYTES


@dataclass(slots=True)
class Response:
    """A complete response. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


class Transport:
    """Sends requests for one storage."""

    def __init__(self, session: S3Session, retry: RetryPolicy) -> None:
        self.session = session
        self._pool = session.pool
        self._retry = retry

    async def send(
        self,
        request: Request,
        parse: Callable[[Response], T],
        failures: Failures | None = None,
    ) -> T:
        """Send the request, read the whole response and return ``parse(response)``, with retries.

        ``parse`` is part of the attempt: if it raises a retryable error, for a truncated response
        or an error inside a 200, the request is sent again.
        """
        try:
            attempt = partial(self._attempt, request, parse)
            if self.session.observer is not None:
                attempt = partial(self._observed, request, attempt)
            return await self._retry.run(attempt, failures)
        except BaseException as error:
            scrub(error)
            raise

    def _describe_parse_error(
        self, error: StorageError, request: Request, response: Response
    ) -> None:
        # The parser knows neither the operation nor the key.
        error.operation = error.operation or request.operation
        error.bucket = error.bucket or self.session.bucket
        error.key = error.key or request.key
        if isinstance(error, ServerResponseError):
            explain_malformed(error, response.status, response.headers, response.body)

    async def open(
        self,
        request: Request,
        check: Callable[[ResponseHead], None] | None = None,
        failures: Failures | None = None,
    ) -> ResponseStream:
        """Send the request and return the open response, which the caller must close.

        ``check`` is part of the attempt, as ``parse`` of `send` is.
        """
        try:
            attempt = partial(self._attempt_open, request, check)
            if self.session.observer is not None:
                attempt = partial(self._observed, request, attempt)
            return await self._retry.run(attempt, failures)
        except BaseException as error:
            scrub(error)
            raise

    async def ask(
        self, request: Request, target: str, headers: Mapping[str, str], *, fresh: bool = False
    ) -> Response:
        """Send the request once, unsigned, and return the response, even if it is an error.

        ``target`` is the path and the query of a URL; no headers but ``headers`` are added.
        """
        async with self.session.limiter:
            return await self._observed(
                request, partial(self._round_trip, request, target, headers), fresh
            )

    async def _observed(
        self, request: Request, attempt: Callable[[bool], Awaitable[T]], fresh: bool
    ) -> T:
        """Run an attempt; report its end, unless it returns an open response."""
        try:
            found = await attempt(fresh)
        except BaseException as error:
            if request.observed is not None:
                request.observed.end(error)
            raise
        if request.observed is not None and not isinstance(found, ResponseStream):
            request.observed.end(None)
        return found

    async def _attempt(self, request: Request, parse: Callable[[Response], T], fresh: bool) -> T:
        before, response, refused = request.attempts, None, False
        try:
            limiter, has_body = self.session.limiter, request.has_long_body
            await limiter.acquire(body=has_body, first=request.urgent)
            try:
                target, headers = await self._signed(request)
                response = await self._round_trip(request, target, headers, fresh)
            finally:
                limiter.release(body=has_body)
            refused = response.status != request.expects and not is_as_good(
                response.status, response.headers, response.body, request.expects
            )
            if refused:
                raise self._refusal(request, response)
            return parse(response)
        except StorageError as error:
            if response is not None and not refused:
                self._describe_parse_error(error, request, response)
            if request.attempts > before and not _is_refusal(error):
                request.unsettled = True
            raise

    async def _attempt_open(
        self, request: Request, check: Callable[[ResponseHead], None] | None, fresh: bool
    ) -> ResponseStream:
        limiter = self.session.limiter
        await limiter.acquire(body=True)
        connection: Connection | None = None
        try:
            target, headers = await self._signed(request)
            connection, head = await self._begin(request, target, headers, fresh)
            if head.status in (200, 206) or (head.status == 304 and request.may_be_unmodified):
                if check is not None:
                    check(head)
                return ResponseStream(self, request, connection, head)
            body = await connection.read_all(_MAX_RESPONSE_BYTES)
            used, connection = connection, None
            if request.observed is not None:
                request.observed.response_bytes = len(body)
            self.give_back(used, head.status)
            response = Response(head.status, head.headers, body)
            raise self._refusal(request, response)
        except BaseException as error:
            if connection is not None:
                connection.abort()
            limiter.release(body=True)
            if isinstance(error, OSError) and not isinstance(error, StorageError):
                raise self.explain(error, request) from error
            raise

    async def _signed(self, request: Request) -> tuple[str, dict[str, str]]:
        """Return the target and the headers of a request."""
        session, query = self.session, request.query
        path = f"/{session.bucket}"
        if request.key is not None:
            path = f"{path}/{encode_key(request.key)}"
        headers = session.signer.sign(
            session.static_credentials or await session.credentials(),
            request.method,
            session.host,
            path,
            query,
            request.headers,
            request.payload_hash,
        )
        return f"{path}?{query}" if query else path, headers

    async def _round_trip(
        self, request: Request, target: str, headers: Mapping[str, str], fresh: bool
    ) -> Response:
        """Send the request once, and read the whole response."""
        connection: Connection | None = None
        try:
            connection, head = await self._begin(request, target, headers, fresh)
            body = await connection.read_all(_MAX_RESPONSE_BYTES)
        except BaseException as error:
            if connection is not None:
                connection.abort()
            if isinstance(error, OSError) and not isinstance(error, StorageError):
                raise self.explain(error, request) from error
            raise
        self.give_back(connection, head.status)
        if request.observed is not None:
            request.observed.response_bytes = len(body)
        return Response(head.status, head.headers, body)

    async def _begin(
        self, request: Request, target: str, headers: Mapping[str, str], fresh: bool
    ) -> tuple[Connection, ResponseHead]:
        """Send the request; return the connection and the head of the response."""
        session, pool, body = self.session, self._pool, request.body
        session.counter.count(request.operation)
        length = body if body is None else len(body) if isinstance(body, bytes) else body.size
        if session.observer is not None:
            self._observe(session.observer, request, length)
        head = request_head(
            request.method, pool.target_prefix + target, session.fixed_headers, headers, length
        )
        connection = None if fresh else pool.take_idle()
        if connection is None:
            connection = await pool.connect()
        request.attempts += 1
        try:
            found = await connection.request(
                head, body, bodiless=request.method == "HEAD", sent=request.on_sent
            )
            if found.status == 407:
                # From the proxy: the request has not reached the server.
                raise ProxyError("requires authentication", status=407)
            if request.observed is not None:
                request.observed.respond(found.status, found.headers.get("x-amz-request-id"))
            return connection, found
        except BaseException:
            connection.abort()
            raise

    def _observe(self, observer: Observer, request: Request, length: int | None) -> None:
        before = request.observed
        request.observed = observer.start_request(
            request.operation,
            request.method,
            bucket=self.session.bucket,
            key=request.key,
            attempt=1 if before is None else before.attempt + 1,
            query=request.query,
            size=length,
        )

    def give_back(self, connection: Connection, status: int) -> None:
        """Return a connection to the pool after a response with this status."""
        # After a 503 Backblaze asks for a new connection, which reaches another vault.
        # After a 400 the client and the server may disagree on where the next request begins.
        if status >= 500 or status in (400, 408, 411):
            connection.reusable = False
        self._pool.give(connection)

    def explain(self, error: BaseException, request: Request) -> StorageError:
        """Return our exception for an error of the connection or the operating system."""
        session = self.session
        where = {"operation": request.operation, "bucket": session.bucket, "key": request.key}
        if isinstance(error, PoolClosedError):
            return session.in_flight.closed_error(**where)
        return explain_failure(
            error, where, host=session.host, settings=session.settings, proxy=session.proxy
        )

    def _refusal(self, request: Request, response: Response) -> StorageError:
        error = refusal(
            operation=request.operation,
            bucket=self.session.bucket,
            key=request.key,
            status=response.status,
            headers=response.headers,
            body=response.body,
        )
        if (body := request.body) is not None:
            size = len(body) if isinstance(body, bytes) else body.size
            allow_another_attempt(error, request.operation, size)
        return error


def _is_refusal(error: StorageError) -> bool:
    """Whether the error shows that the server has done nothing."""
    status = error.status
    if status is None:
        return False
    # A 503 with a code is B2's or Amazon's refusal. One without comes from a proxy, which may have
    # forwarded the request.
    return 300 <= status < 500 or (status == 503 and error.code is not None)


class ResponseStream:
    """The open body of a response. It holds a slot and a connection until it is closed.

    Reading raises a retryable `StorageError` if the connection breaks or stalls, or the body is
    shorter than its Content-Length.
    """

    def __init__(
        self, transport: Transport, request: Request, connection: Connection, head: ResponseHead
    ) -> None:
        self.status = head.status
        self.headers = head.headers
        self._transport = transport
        self._request = request
        self._loop = asyncio.get_running_loop()
        self._connection: Connection | None = connection

    async def read_into(self, target: memoryview, *, full: bool = True) -> int:
        """Move the next bytes of the body to ``target``; return how many, 0 at its end.

        With ``full``, fill it unless the body ends or breaks off; otherwise return the first
        bytes.
        """
        try:
            return await self._opened().read_into(target, full=full)
        except OSError as error:
            raise self._explained(error) from error

    async def read(self, most: int) -> bytes:
        """Return the next ``most`` bytes of the body; fewer if it ends or breaks off."""
        try:
            return await self._opened().read(most)
        except OSError as error:
            raise self._explained(error) from error

    async def read_all(self) -> bytes:
        """Return the rest of a short body; raise `ServerResponseError` beyond 32 MiB."""
        try:
            return await self._opened().read_all(_MAX_RESPONSE_BYTES)
        except OSError as error:
            raise self._explained(error) from error

    def _opened(self) -> Connection:
        if self._connection is None:
            raise StorageClosedError("The response was closed before it was read.")
        return self._connection

    def _explained(self, error: OSError) -> StorageError:
        explained = self._transport.explain(error, self._request)
        if self._request.observed is not None:
            self._request.observed.response_bytes = self._received()
            self._request.observed.end(explained)
        return explained

    def _received(self) -> int | None:
        """Return how many bytes of the body were read; None if that is unknown."""
        length = self.headers.get("content-length", "")
        unread = self._connection.unread if self._connection is not None else None
        return int(length) - unread if unread is not None and length.isdecimal() else None

    @property
    def ended(self) -> bool:
        """Whether the whole body was read."""
        return self._opened().complete

    def take_received(self) -> bytes:
        """Return the bytes received and not yet read, without waiting."""
        try:
            return self._opened().take_received()
        except OSError as error:
            raise self._explained(error) from error

    async def aclose(self) -> None:
        """Release the slot; close the connection if a part is unread. Safe to call twice."""
        self.close()

    def close(self) -> None:
        """As `aclose`, without waiting."""
        connection = self._connection
        if connection is not None:
            if self._request.observed is not None:
                self._request.observed.response_bytes = self._received()
                self._request.observed.end(None)
            self._connection = None
            self._give_back(connection)

    def _give_back(self, connection: Connection) -> None:
        self._transport.give_back(connection, self.status)
        self._transport.session.limiter.release(body=True)

    def __del__(self, warn: Callable[..., None] = warnings.warn) -> None:
        # Otherwise a response that was not closed would keep its slot.
        connection, self._connection = self._connection, None
        if connection is None:
            return
        # The garbage collector may run in any thread.
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._give_back, connection)
            if self._request.observed is not None:
                self._loop.call_soon_threadsafe(self._request.observed.end, None)
        warn(
            f"A response to {self._request.operation} was dropped unclosed; use 'async with'.",
            ResourceWarning,
            source=self,
        )
