"""A file behind a URL, read once from its start to its end, whatever breaks in between."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, NoReturn, Self

import aiohttp
from multidict import CIMultiDictProxy
from yarl import URL

from careflow_storage._executor import in_thread
from careflow_storage._retry_after import seconds_to_wait
from careflow_storage._s3.responses.lengths import check_range, parse_content_range, parse_size
from careflow_storage._transfer.context import TransferContext
from careflow_storage._transfer.remote.proxy import SourceProxies
from careflow_storage._transfer.remote.signed_urls import why_refused
from careflow_storage._transfer.remote.ssrf import AddressGuard, parse_url, shown
from careflow_storage._version import __version__
from careflow_storage.errors import SourceError, StorageClosedError

logger = logging.getLogger("careflow_storage")

_REDIRECTS = (301, 302, 303, 307, 308)
_TRY_AGAIN = (408, 429, 500, 502, 503, 504)
_UNKNOWN_NAME = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))
_READ_BUFFER_BYTES = 128 * 1024
_NOT_PUBLIC = "its address is not a public one"
_PRIVATE_HINT = "For a server of your own network pass allow_private_addresses=True."
_HINTS = {
    401: "Pass auth=(user, password).",
    403: "Check auth= and that the URL has not expired.",
    404: (
        "Twilio responds like this until the recording is ready: wait for its status callback "
        "'completed', or try again later."
    ),
}


class _BrokenError(Exception):
    """This attempt failed in a way that is worth another one."""

    def __init__(self, failure: SourceError) -> None:
        super().__init__()
        self.failure = failure


@dataclass(frozen=True, slots=True)
class RemoteRules:
    """How to ask, and what is accepted. ``headers`` are for the URL's own origin only."""

    headers: Mapping[str, str] = field(repr=False)
    max_size: int | None
    max_redirects: int
    allow_private: bool
    use_proxy: bool = False


class RemoteFile:
    """The bytes of ``url`` as an async iterator, under ``async with``.

    One session and at most one connection, both gone when the block ends. A broken transfer
    goes on where it stopped (RFC 9110, section 14), pinned to the same ETag. Memory: what the
    connection buffers, 256 KiB.

    Raises `SourceError`. ``size`` is None where the source does not tell it.
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
            tls = await in_thread(_trust_also, str(self._settings.ca_file))
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
        """Return the first ``size`` bytes, or all there are; the iteration gives them again."""
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
            except _BrokenError as broken:
                failure = broken.failure
            else:
                continue
            self._drop_response()
            if begun and self._pin is None:
                failure.hint = "It gives no ETag, so that the rest cannot be asked for: try again."
                raise failure
            failures += 1
            pause = self._retry.pause_after(failure, failures)
            if pause is None:
                raise failure
            logger.debug("resuming the source at byte %d in %.2f s", begun, pause)
            await asyncio.sleep(pause)
        return b""

    async def _read_on(self) -> bytes:
        """Return new bytes; none at the end, and while old ones are passed over."""
        response = self._response or await self._open()
        chunk = await self._receive(response)
        if not chunk:
            if self.size is not None:
                raise self._broken(f"it ended after {self._position} of {self.size} bytes")
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
                self._refuse(f"it goes on after its {self.size} bytes")
            self._ended = True
            self._drop_response()
        return chunk

    async def _receive(self, response: aiohttp.ClientResponse) -> bytes:
        failure: Exception
        try:
            async with asyncio.timeout(self._settings.idle_timeout):
                while True:
                    chunk, is_chunk_end = await response.content.readchunk()
                    # The end of a chunk of the chunked encoding is not yet the body's.
                    if chunk or not is_chunk_end:
                        return chunk
        except (TimeoutError, OSError, aiohttp.ClientError) as error:
            failure = self._explain(error, self._url)
        # Out here: what aiohttp raises may hold the URL with its query.
        raise failure

    async def _open(self) -> aiohttp.ClientResponse:
        """Ask for what is still missing, through all redirects."""
        url, headers = self._url, dict(self._rules.headers)
        for _ in range(self._rules.max_redirects + 1):
            response = self._response = await self._get(url, headers)
            if response.status not in _REDIRECTS:
                self._check_status(response, url, kept=bool(headers) or not self._rules.headers)
                self._check_response(response)
                return response
            self._drop_response()
            target = self._target(url, response)
            if target.origin() != url.origin():
                # For good: a redirect back would send them where a stranger says.
                headers = {}
            url = target
        raise self._failure(f"it redirects more than {self._rules.max_redirects} times", self._url)

    def _target(self, url: URL, response: aiohttp.ClientResponse) -> URL:
        location = response.headers.get("Location", "")
        if not location:
            self._refuse("it redirects to nowhere", url, status=response.status)
        try:
            target = parse_url(str(url.join(URL(location, encoded=location.isascii()))))
        except ValueError:
            problem = "it redirects to a URL that cannot be used"
        else:
            if (url.scheme, target.scheme) != ("https", "http"):
                return target
            problem = "it redirects from https to http"
        raise self._failure(problem, url, status=response.status)

    async def _get(self, url: URL, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        if self._http is None:
            raise StorageClosedError("The source is not open.")
        asked = dict(headers)
        if self._position and self._pin is not None:
            asked |= {"Range": f"bytes={self._position}-", "If-Range": self._pin[1]}
        options = self._proxies.options(url, asked)
        proxied = "proxy" in options
        self._guard.reset(proxied=proxied)
        if proxied and not self._guard.allows(url):
            self._refuse_address(url)
        failure: Exception
        try:
            async with asyncio.timeout(self._settings.idle_timeout):
                return await self._http.get(url, allow_redirects=False, **options)
        except (TimeoutError, OSError, aiohttp.ClientError) as error:
            failure = self._explain(error, url)
        raise failure

    def _check_status(self, response: aiohttp.ClientResponse, url: URL, *, kept: bool) -> None:
        status = response.status
        if status == 200 or (status == 206 and self._position):
            return
        if status == 416 and self._position:
            self._refuse_changed()
        problem, hint = f"it answered HTTP {status}", _HINTS.get(status)
        refused = why_refused(url.query, datetime.now(UTC)) if status in (400, 401, 403) else None
        if refused is not None:
            problem, hint = f"{problem}: {refused[0]}", refused[1]
        elif status in (401, 403) and not kept:
            hint = "It is reached by a redirect to another origin, where no credentials go."
        if status == 407:
            hint = self._proxies.hint(url, status)
        failure = self._failure(
            problem,
            url,
            status=status,
            retryable=status in _TRY_AGAIN,
            retry_after=seconds_to_wait(
                response.headers.get("Retry-After"), response.headers.get("Date")
            ),
            hint=hint,
        )
        raise _BrokenError(failure) if failure.retryable else failure

    def _check_response(self, response: aiohttp.ClientResponse) -> None:
        headers = response.headers
        encoding = headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            self._refuse(f"it sends {encoding!r:.40} though only plain bytes were asked for")
        framing = headers.get("Transfer-Encoding", "chunked").strip().lower()
        if framing != "chunked":
            self._refuse(f"it sends {framing!r:.40} though only plain bytes were asked for")
        if self._position == 0:
            self._learn(response)
            return
        if self._pin is None or headers.get(self._pin[0]) != self._pin[1]:
            self._refuse_changed()
        if response.status == 206:
            total = self._total_of_range(headers)
            self._skip = 0
        else:
            # It knows no ranges, but it is the same file: what is known already is passed over.
            self._refuse_unasked_range(headers)
            length = self._length_of(headers)
            total = self.size if length is None else length
            self._skip = self._position
        if self.size is not None and total != self.size:
            self._refuse_changed()
        self.size = total
        self._check_size(total or 0)

    def _total_of_range(self, headers: CIMultiDictProxy[str]) -> int | None:
        # The bytes that come are counted, so what the Content-Length says beside decides nothing.
        told = {"content-range": headers["content-range"]} if "content-range" in headers else {}
        try:
            check_range(206, told, self._position, None)
            return parse_content_range(told["content-range"]).total
        except ValueError:
            self._refuse("it sends another range than it was asked for")

    def _length_of(self, headers: CIMultiDictProxy[str]) -> int | None:
        told = headers.get("Content-Length")
        try:
            return None if told is None else parse_size(told)
        except ValueError:
            self._refuse("it tells of more bytes than any object can have")

    def _refuse_unasked_range(self, headers: CIMultiDictProxy[str]) -> None:
        if "Content-Range" in headers:
            self._refuse("it sends a range though the whole was asked for")

    def _learn(self, response: aiohttp.ClientResponse) -> None:
        headers = response.headers
        self._refuse_unasked_range(headers)
        self.size = self._length_of(headers)
        self.content_type = headers.get("Content-Type")
        self._pin = _strong_validator(headers)
        if self.size is None and "Transfer-Encoding" not in headers:
            self._refuse("it tells neither its length nor where it ends")
        if self.size == 0:
            self._refuse("it is empty")
        self._check_size(self.size or 0)

    def _check_size(self, size: int) -> None:
        if self._rules.max_size is not None and size > self._rules.max_size:
            self._refuse(
                f"it has more than the {self._rules.max_size} bytes that are allowed",
                hint="Raise max_size.",
            )

    def _refuse_changed(self) -> NoReturn:
        self._refuse(f"it changed after {self._position} bytes were read", retryable=True)

    def _refuse(self, problem: str, url: URL | None = None, **fields: Any) -> NoReturn:
        raise self._failure(problem, url or self._url, **fields)

    def _broken(self, problem: str) -> _BrokenError:
        return _BrokenError(self._failure(problem, self._url, retryable=True))

    def _refuse_address(self, url: URL) -> NoReturn:
        raise self._failure(_NOT_PUBLIC, url, hint=_PRIVATE_HINT)

    def _failure(self, problem: str, url: URL, **fields: Any) -> SourceError:
        return SourceError(f"The source {shown(url)} cannot be used: {problem}.", **fields)

    def _explain(self, error: BaseException, url: URL) -> _BrokenError | SourceError:
        """Make our exception of what aiohttp or the operating system raised."""
        if self._guard.refused_all:
            return self._failure(_NOT_PUBLIC, url, hint=_PRIVATE_HINT)
        of_proxy = self._proxies.problem(error, url)
        if of_proxy is not None:
            problem, status = of_proxy
            again = status is None or status in _TRY_AGAIN
            failure = self._failure(
                problem, url, status=status, retryable=again, hint=self._proxies.hint(url, status)
            )
            return _BrokenError(failure) if again else failure
        if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
            return self._failure("there is no trusted TLS connection to it", url)
        if isinstance(error, aiohttp.ClientResponseError | aiohttp.InvalidURL):
            return self._failure("its response is no HTTP", url)
        if isinstance(error, aiohttp.ClientConnectorDNSError) and (
            error.os_error.errno in _UNKNOWN_NAME
        ):
            return self._failure("there is no such host", url, hint=self._proxies.hint(url))
        if isinstance(error, TimeoutError):
            hint = None if self._position else self._proxies.hint(url)
            return _BrokenError(
                self._failure("nothing moved in time", url, retryable=True, hint=hint)
            )
        return self._broken_connection(error, url)

    def _broken_connection(self, error: BaseException, url: URL) -> _BrokenError:
        problem = f"the connection failed ({type(error).__name__})"
        if self._position:
            problem += f" after {self._position} bytes"
        hint = None if self._position else self._proxies.hint(url)
        return _BrokenError(self._failure(problem, url, retryable=True, hint=hint))

    def _drop_response(self) -> None:
        response, self._response = self._response, None
        if response is not None:
            response.close()


def _strong_validator(headers: CIMultiDictProxy[str]) -> tuple[str, str] | None:
    """Return what can tell this content from any other (RFC 9110, section 8.8.1)."""
    etag = headers.get("ETag", "")
    if etag.startswith('"'):
        return "ETag", etag
    modified = headers.get("Last-Modified", "")
    try:
        age = parsedate_to_datetime(headers.get("Date", "")) - parsedate_to_datetime(modified)
    except (TypeError, ValueError):
        return None
    # A time of whole seconds is strong once its second is over (section 8.8.2.2).
    return ("Last-Modified", modified) if age >= timedelta(seconds=1) else None


def _trust_also(ca_file: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.load_verify_locations(ca_file)
    return context
