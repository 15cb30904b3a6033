"""Send requests that no method of the library sends, and return responses unchanged."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from careflow_storage._s3.redaction import scrub
from careflow_storage._s3.responses.check import is_as_good, refusal
from careflow_storage._s3.retry import RetryPolicy
from careflow_storage._s3.session import S3Session
from careflow_storage._s3.signing.signer import encode_key
from careflow_storage._s3.transport import Request, Transport
from careflow_storage._s3.xml import documents
from careflow_storage.errors import StorageError

_BUSY = (500, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class Reply:
    """A response, even a refusal: refusals do not raise."""

    operation: str
    key: str | None
    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def ok(self) -> bool:
        """Whether the response is a success. A web page is not the success of a deletion."""
        if self.operation == "DeleteObject":
            return self.status == 204 or is_as_good(self.status, self.headers, self.body, 204)
        return self.status < 300

    @property
    def code(self) -> str | None:
        document = documents.parse_error(self.body) if not self.ok else None
        return document.code if document else None

    @property
    def short(self) -> str:
        """Such as ``403 AccessDenied``."""
        return f"{self.status} {self.code}" if self.code else f"HTTP {self.status}"

    def error(self) -> StorageError:
        """Return the exception that the library would raise for this response."""
        return refusal(
            operation=self.operation,
            bucket=None,
            key=self.key,
            status=self.status,
            headers=self.headers,
            body=self.body,
        )


class RawClient:
    """Signs and sends requests. Raises `StorageError` only without a response, or if B2 is busy."""

    def __init__(self, session: S3Session, retry: RetryPolicy, timeout: float) -> None:
        self._session = session
        self._retry = retry
        self._timeout = timeout
        self._transport = Transport(session, retry)

    async def ask(
        self,
        operation: str,
        method: str,
        key: str | None = None,
        query: str = "",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Reply:
        """Send a signed request for the bucket or a key. ``query`` must be canonical."""
        session = self._session
        path = f"/{session.bucket}" + ("" if key is None else f"/{encode_key(key)}")

        async def attempt(_fresh: bool) -> Reply:
            signed = session.signer.sign(
                await session.credentials(),
                method,
                session.host,
                path,
                query,
                headers or {},
                hashlib.sha256(body).hexdigest(),
            )
            request = Request(operation, method, key, body=body or None)
            return await self._send(request, path + (f"?{query}" if query else ""), signed)

        return await self._run(attempt)

    async def fetch(
        self,
        operation: str,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Reply:
        """Send a request without a signature, or with one in its URL, to the endpoint."""
        request = Request(operation, method, body=body or None)
        target = url.removeprefix(self._session.origin)

        async def attempt(_fresh: bool) -> Reply:
            return await self._send(request, target, headers or {})

        return await self._run(attempt)

    async def _run(self, attempt: Callable[[bool], Awaitable[Reply]]) -> Reply:
        try:
            return await self._retry.run(attempt)
        except BaseException as error:
            scrub(error)
            raise

    async def _send(self, request: Request, target: str, headers: Mapping[str, str]) -> Reply:
        try:
            async with asyncio.timeout(self._timeout):
                response = await self._transport.ask(request, target, headers)
        except TimeoutError as error:
            if isinstance(error, StorageError):
                raise
            raise self._transport.explain(error, request) from error
        reply = Reply(
            request.operation, request.key, response.status, response.headers, response.body
        )
        if reply.status in _BUSY:
            raise reply.error()
        return reply
