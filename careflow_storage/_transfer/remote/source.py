"""Reads the file behind a URL once, and resumes after broken connections."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import TracebackType
from typing import Any, NoReturn, Self

import aiohttp
from multidict import CIMultiDictProxy
from yarl import URL

from careflow_storage._dates import parse_date
from careflow_storage._executor import in_thread
from careflow_storage._log_fields import log_fields
from careflow_storage._s3.responses.lengths import check_range, parse_content_range, parse_size
from careflow_storage._s3.tls import tls_of_others
from careflow_storage._transfer.bodies.limits import BodyLimits
from careflow_storage._transfer.context import TransferContext
from careflow_storage._transfer.remote.failures import ResumableError, SourceFailures
from careflow_storage._transfer.remote.proxy import SourceProxies
from careflow_storage._transfer.remote.ssrf import AddressGuard, parse_url
from careflow_storage._version import __version__
from careflow_storage.errors import StorageClosedError

logger = logging.getLogger("careflow_storage")

_REDIRECTS = (301, 302, 303, 307, 308)
_READ_BUFFER_BYTES = 128 * 1024


@dataclass(frozen=True, slots=True)
class RemoteRules:
    """The caller's options.

    ``headers`` are sent to the origin of the URL only. ``only_resume``: a failure before the first
    byte is raised at once, not retried.
    """

    headers: Mapping[str, str] = field(repr=False)
    limits: BodyLimits
    max_redirects: int
    allow_private: bool
    use_proxy: bool = False
    only_resume: bool = False


class RemoteFile:
    """An async iterator over the bytes of ``url``, used with ``async with``.

    Uses one session and at most one connection, and closes both at the end of the block. After a
    broken connection it requests the rest with a range request, pinned to the same ETag (RFC
    9110, section 14). Memory: the buffer of the connection, 256 KiB.

    Raises `SourceError`.

    Attributes:
        size: The size of the file; None if the server does not send it.
        content_type: The ``Content-Type`` that the server sends.
    """

    def __init__(self, context: TransferContext, url: URL, rules: RemoteRules) -> None:
        self.size: int | None = None
        self.content_type: str | None = None
        self._retry = context.retry
        self._settings = context.settings
        self._url = url
        self._rules = rules
        self._guard = AddressGuard(allow_private=rules.allow_private)
        self._proxies = SourceProxies(used=rules.use_proxy)
        self._failures = SourceFailures(self._guard, self._proxies)
        self._http: aiohttp.ClientSession | None = None
        self._response: aiohttp.ClientResponse | None = None
        self._peeked: deque[bytes] = deque()
        self._pin: tuple[str, str] | None = None
        self._position = 0
        self._skip = 0
        self._ended = False

    async def __aenter__(self) -> Self:
        tls: ssl.SSLContext | bool = True
        if self._settings.ca_file is not None:
            tls = await in_thread(tls_of_others, self._settings)
        self._http = aiohttp.ClientSession(
            connector=self._guard.connector(tls),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=self._settings.connect_timeout, sock_read=None
            ),
            headers={
                "User-Agent": f"careflow-storage/{__version__}",
                "Accept": "*/*",
                "Accept-Encoding": "identity",
            },
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            read_bufsize=_READ_BUFFER_BYTES,
            trust_env=False,
        )
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._drop_response()
        http, self._http = self._http, None
        if http is not None:
            await http.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        chunk = self._peeked.popleft() if self._peeked else await self._next()
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def peek(self, size: int) -> bytes:
        """Return up to ``size`` bytes from the start; the iteration still yields them."""
        while sum(map(len, self._peeked)) < size and (chunk := await self._next()):
            self._peeked.append(chunk)
        return b"".join(self._peeked)[:size]

    async def _next(self) -> bytes:
        failures = 0
        while not self._ended:
            begun = self._position
            try:
                chunk = await self._read_on()
                if chunk or self._ended:
                    return chunk
            except ResumableError as error:
                failure = error.failure
            else:
                continue
            self._drop_response()
            if begun and self._pin is None:
                failure.hint = (
                    "The server sends no ETag, so the rest cannot be requested: try again."
                )
                raise failure
            if self._rules.only_resume and not begun:
                raise failure
            failures += 1
            pause = self._retry.pause_after(failure, failures)
            if pause is None:
                raise failure
            logger.debug(
                "resuming the source at byte %d in %.2f s",
                begun,
                pause,
                extra=log_fields("source_resumed", failure, delay=pause),
            )
            await asyncio.sleep(pause)
        return b""

    async def _read_on(self) -> bytes:
        """Return new bytes; none at the end, or while bytes that were read before are skipped."""
        response = self._response or await self._open()
        chunk = await self._receive(response)
        if not chunk:
            if self.size is not None:
                problem = f"it ended after {self._position} of {self.size} bytes"
                raise ResumableError(self._failures.error(problem, self._url, retryable=True))
            if self._skip:
                self._refuse_changed()
            if not self._position:
                self._refuse("it is empty")
            self._ended = True
            self._drop_response()
            return b""
        skipped = min(self._skip, len(chunk))
        self._skip -= skipped
        chunk = chunk[skipped:]
        self._position += len(chunk)
        self._check_size(self._position)
        if self.size is not None and self._position >= self.size:
            if self._position > self.size:
                self._refuse(f"it sends more than its {self.size} bytes")
            self._ended = True
            self._drop_response()
        return chunk

    async def _receive(self, response: aiohttp.ClientResponse) -> bytes:
        failure: Exception
        try:
            async with asyncio.timeout(self._settings.idle_timeout):
                while True:
                    chunk, is_chunk_end = await response.content.readchunk()
                    # An empty read can be the end of a chunk, which is not the end of the body.
                    if chunk or not is_chunk_end:
                        return chunk
        except (TimeoutError, OSError, aiohttp.ClientError) as error:
            failure = self._failures.of_exception(error, self._url, position=self._position)
        # Raised outside of the handler: the exception of aiohttp may contain the URL and its query.
        raise failure

    async def _open(self) -> aiohttp.ClientResponse:
        """Request the bytes that are still missing; follow redirects."""
        url, headers = self._url, dict(self._rules.headers)
        for _ in range(self._rules.max_redirects + 1):
            response = self._response = await self._get(url, headers)
            if response.status not in _REDIRECTS:
                dropped = bool(self._rules.headers) and not headers
                self._check_status(response, url, credentials_dropped=dropped)
                self._check_response(response)
                return response
            self._drop_response()
            target = self._target(url, response)
            if target.origin() != url.origin():
                # Not sent again even after a redirect back, which another server has chosen.
                headers = {}
            url = target
        problem = f"it redirects more than {self._rules.max_redirects} times"
        raise self._failures.error(problem, self._url)

    def _target(self, url: URL, response: aiohttp.ClientResponse) -> URL:
        location = response.headers.get("Location", "")
        if not location:
            self._refuse("it redirects to no URL", url, status=response.status)
        try:
            target = parse_url(str(url.join(URL(location, encoded=location.isascii()))))
        except ValueError:
            problem = "it redirects to a URL that cannot be used"
        else:
            if (url.scheme, target.scheme) != ("https", "http"):
                return target
            problem = "it redirects from https to http"
        raise self._failures.error(problem, url, status=response.status)

    async def _get(self, url: URL, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        if self._http is None:
            raise StorageClosedError("The source is not open.")
        sent = dict(headers)
        if self._position and self._pin is not None:
            sent |= {"Range": f"bytes={self._position}-", "If-Range": self._pin[1]}
        options = self._proxies.options(url, sent)
        proxied = "proxy" in options
        self._guard.reset(proxied=proxied)
        if proxied and not self._guard.allows(url):
            raise self._failures.private_address(url)
        failure: Exception
        try:
            async with asyncio.timeout(self._settings.idle_timeout):
                return await self._http.get(url, allow_redirects=False, **options)
        except (TimeoutError, OSError, aiohttp.ClientError) as error:
            failure = self._failures.of_exception(error, url, position=self._position)
        raise failure

    def _check_status(
        self, response: aiohttp.ClientResponse, url: URL, *, credentials_dropped: bool
    ) -> None:
        status = response.status
        if status == 200 or (status == 206 and self._position):
            return
        if status == 416 and self._position:
            self._refuse_changed()
        raise self._failures.of_status(response, url, credentials_dropped=credentials_dropped)

    def _check_response(self, response: aiohttp.ClientResponse) -> None:
        headers = response.headers
        encoding = headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            self._refuse(f"its Content-Encoding is {encoding!r:.40}, which was not requested")
        framing = headers.get("Transfer-Encoding", "chunked").strip().lower()
        if framing != "chunked":
            self._refuse(f"its Transfer-Encoding is {framing!r:.40}, which was not requested")
        if self._position == 0:
            self._accept_first(response)
            return
        if self._pin is None or headers.get(self._pin[0]) != self._pin[1]:
            self._refuse_changed()
        if response.status == 206:
            total = self._total_of_range(headers)
            self._skip = 0
        else:
            # The server ignores ranges, but the file is the same: skip the bytes read before.
            self._refuse_unrequested_range(headers)
            length = self._length_of(headers)
            total = self.size if length is None else length
            self._skip = self._position
        if self.size is not None and total != self.size:
            self._refuse_changed()
        self.size = total
        self._check_size(total or 0)

    def _total_of_range(self, headers: CIMultiDictProxy[str]) -> int | None:
        # Without the Content-Length: the bytes are counted as they arrive.
        sent = {"content-range": headers["content-range"]} if "content-range" in headers else {}
        try:
            check_range(206, sent, self._position, None)
            return parse_content_range(sent["content-range"]).total
        except ValueError:
            self._refuse("it sends another range than the requested one")

    def _length_of(self, headers: CIMultiDictProxy[str]) -> int | None:
        length = headers.get("Content-Length")
        try:
            return None if length is None else parse_size(length)
        except ValueError:
            self._refuse("its Content-Length is larger than any object")

    def _refuse_unrequested_range(self, headers: CIMultiDictProxy[str]) -> None:
        if "Content-Range" in headers:
            self._refuse("it sends a range, which was not requested")

    def _accept_first(self, response: aiohttp.ClientResponse) -> None:
        headers = response.headers
        self._refuse_unrequested_range(headers)
        self.size = self._length_of(headers)
        self.content_type = headers.get("Content-Type")
        self._pin = _strong_validator(headers)
        if self.size is None and "Transfer-Encoding" not in headers:
            self._refuse("it sends neither a Content-Length nor chunks, so its end is unknown")
        if self.size == 0:
            self._refuse("it is empty")
        self._check_size(self.size or 0)

    def _check_size(self, size: int) -> None:
        if self._rules.limits.are_exceeded_by(size):
            raise self._failures.too_large(self._url, self._rules.limits.max_size)

    def _refuse_changed(self) -> NoReturn:
        self._refuse(f"it changed after {self._position} bytes were read", retryable=True)

    def _refuse(self, problem: str, url: URL | None = None, **fields: Any) -> NoReturn:
        raise self._failures.error(problem, url or self._url, **fields)

    def _drop_response(self) -> None:
        response, self._response = self._response, None
        if response is not None:
            response.close()


def _strong_validator(headers: CIMultiDictProxy[str]) -> tuple[str, str] | None:
    """Return the name and value of a strong validator, if there is one (RFC 9110, 8.8.1)."""
    etag = headers.get("ETag", "")
    if etag.startswith('"'):
        return "ETag", etag
    modified = headers.get("Last-Modified", "")
    changed, now = parse_date(modified), parse_date(headers.get("Date"))
    if changed is None or now is None:
        return None
    # A timestamp in whole seconds is strong once its second is over (section 8.8.2.2).
    return ("Last-Modified", modified) if now - changed >= timedelta(seconds=1) else None
