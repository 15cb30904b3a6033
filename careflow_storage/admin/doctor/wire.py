"""Requests that no method of the library would send, and answers as they came."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import aiohttp
from yarl import URL

from careflow_storage.errors import StorageError, error_from_response
from careflow_storage.s3 import xml
from careflow_storage.s3.exchange import Exchange, Request
from careflow_storage.s3.redaction import scrub
from careflow_storage.s3.retry import RetryPolicy
from careflow_storage.s3.session import S3Session
from careflow_storage.s3.signing import encode_key

_MOST_BYTES = 4 * 1024 * 1024
_BUSY = (500, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class Reply:
    """Any answer: refusals are no exceptions here."""

    operation: str
    key: str | None
    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def ok(self) -> bool:
        return self.status < 300

    @property
    def code(self) -> str | None:
        document = xml.parse_error(self.body) if not self.ok else None
        return document.code if document else None

    @property
    def short(self) -> str:
        """Such as ``403 AccessDenied``."""
        return f"{self.status} {self.code}" if self.code else f"HTTP {self.status}"

    def error(self) -> StorageError:
        """The exception that the library would raise for it."""
        document = xml.parse_error(self.body)
        return error_from_response(
            operation=self.operation,
            bucket=None,
            key=self.key,
            status=self.status,
            code=document.code if document else None,
            message=document.message if document else None,
            headers=self.headers,
        )


class Wire:
    """Signs and sends; raises `StorageError` only if there is no answer, or a busy one."""

    def __init__(self, session: S3Session, retry: RetryPolicy, timeout: float) -> None:
        self._session = session
        self._retry = retry
        self._timeout = timeout
        self._exchange = Exchange(session, retry)

    async def ask(
        self,
        operation: str,
        method: str,
        key: str | None = None,
        query: str = "",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Reply:
        """Send a signed request about the bucket or a key; ``query`` is canonical."""
        session = self._session
        path = f"/{session.bucket}" + ("" if key is None else f"/{encode_key(key)}")
        sent = {**(headers or {}), **({"content-length": str(len(body))} if body else {})}

        async def attempt(_fresh: bool) -> Reply:
            signed = session.signer.sign(
                await session.credentials(),
                method,
                session.host,
                path,
                query,
                sent,
                hashlib.sha256(body).hexdigest(),
            )
            url = f"{session.origin}{path}" + (f"?{query}" if query else "")
            return await self._send(Request(operation, method, key), url, signed, body)

        return await self._run(attempt)

    async def fetch(
        self,
        operation: str,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Reply:
        """Send an unsigned request, or one that its URL signs."""
        request = Request(operation, method)

        async def attempt(_fresh: bool) -> Reply:
            return await self._send(request, url, dict(headers or {}), body)

        return await self._run(attempt)

    async def _run(self, attempt: Callable[[bool], Awaitable[Reply]]) -> Reply:
        try:
            return await self._retry.run(attempt)
        except BaseException as error:
            scrub(error)
            raise

    async def _send(
        self, request: Request, url: str, headers: dict[str, str], body: bytes
    ) -> Reply:
        session = self._session
        session.counter.count(request.operation)
        try:
            async with (
                session.slots,
                asyncio.timeout(self._timeout),
                session.http(fresh=False).request(
                    request.method,
                    URL(url, encoded=True),
                    headers=headers,
                    data=body or None,
                    allow_redirects=False,
                ) as response,
            ):
                content = await response.content.read(_MOST_BYTES)
        except (TimeoutError, OSError, aiohttp.ClientError) as error:
            if isinstance(error, StorageError):
                raise
            raise self._exchange.explain(error, request) from error
        reply = Reply(request.operation, request.key, response.status, response.headers, content)
        if reply.status in _BUSY:
            raise reply.error()
        return reply
