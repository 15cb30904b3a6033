"""What keeps the aioboto3 client from believing a server too much.

botocore follows redirects to other hosts and regions, reads a response of any length into
memory and parses it with whatever document type it declares. The data plane does none of
this; these are the same bounds for the control plane.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from aiohttp.connector import Connection

from careflow_storage._s3.boto.document_roots import WholeBody, check_success
from careflow_storage._s3.boto.observed import observed_call
from careflow_storage._s3.boto.read_timeout import is_own_call, seconds_of_this_call
from careflow_storage._s3.redaction import scrub
from careflow_storage._s3.responses.check import refusal
from careflow_storage._s3.xml.documents import MAX_LISTING_BYTES
from careflow_storage._s3.xml.reader import decoded, refuse_giants, refused
from careflow_storage.errors import ServerResponseError, StorageError

if TYPE_CHECKING:
    from careflow_storage._http.proxy import Proxy
    from careflow_storage._observer import Observer
    from careflow_storage.rate_limit import RateLimit
    from careflow_storage.settings import StorageSettings

# 10,000 buckets have 8 tags each; each element costs botocore about 200 bytes and more.
_MAX_TAGS: Final = 100_000
_declared_encoding = re.compile(rb"\s*<\?xml[^>]*?encoding\s*=\s*[\"']([^\"']*)").match


class BoundedResponse(aiohttp.ClientResponse):
    """A response that is read whole only up to the size of a full listing.

    The body of an object that a user of the client reads goes another way, unbounded. A troubled
    server's connection does not return to the pool: after a 503 Backblaze asks for a new one,
    which reaches another of its vaults.
    """

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        protocol = connection.protocol
        await super().start(connection)
        if self.status >= 500 and protocol is not None:
            protocol.force_close()
            if connection.closed:
                protocol.close()
        return self

    async def read(self) -> bytes:
        """Return the body; more than 8 MiB, or XML not fit to parse: `ServerResponseError`."""
        if self._body is None:
            body = bytearray()
            try:
                while chunk := await self.content.readany():
                    body += chunk
                    if len(body) > MAX_LISTING_BYTES:
                        raise ServerResponseError(
                            f"The response is longer than {MAX_LISTING_BYTES} bytes.",
                            status=self.status,
                        )
            except BaseException:
                self.close()
                raise
            whole = bytes(body)
            _refuse_foreign(self, whole)
            self._body = found = WholeBody(_without_bombs(whole, self.status))
            found.status = self.status
        return self._body


def control_session(
    settings: StorageSettings,
    tls: ssl.SSLContext | None,
    *,
    user_agent: str,
    keep_alive: float,
) -> aiohttp.ClientSession:
    """Make the control plane's connections: no cookies, no hidden resends, bounded responses."""
    http = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            ssl=True if tls is None else tls,
            keepalive_timeout=keep_alive,
            limit=settings.max_connections,
        ),
        timeout=aiohttp.ClientTimeout(
            total=None, sock_connect=settings.connect_timeout, sock_read=settings.idle_timeout
        ),
        headers={"User-Agent": user_agent},
        skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type"),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        response_class=BoundedResponse,
    )
    # aiohttp's hidden resend would make a second version or delete marker of one call.
    http._retry_connection = False
    # An instrumentation of aiohttp would record URLs, which contain keys, beside our own hooks.
    http._trace_configs.clear()
    return http


def by_proxy(proxy: Proxy | None, url: str, headers: Mapping[str, str] | None) -> dict[str, Any]:
    """Return the arguments with which aiohttp asks for ``url`` through a proxy.

    Credentials go to the proxy only: with CONNECT for a tunnel, else in the request that the
    proxy forwards.
    """
    options: dict[str, Any] = {} if headers is None else {"headers": headers}
    if proxy is None:
        return options
    options["proxy"] = proxy.url
    if proxy.authorization is not None:
        credentials = {"Proxy-Authorization": proxy.authorization}
        if url.startswith("https:"):
            options["proxy_headers"] = credentials
        else:
            options["headers"] = {**(headers or {}), **credentials}
    return options


class NoRedirects:
    """The one method of an aiohttp session that aiobotocore uses, without redirects.

    aiohttp would send the request on to the host that a response names, with its body and a
    session token. So a redirect is an error response like any other.
    """

    def __init__(self, http: aiohttp.ClientSession, proxy: Proxy | None) -> None:
        self._http = http
        self._proxy = proxy

    async def request(self, method: str, **options: Any) -> aiohttp.ClientResponse:
        seconds = seconds_of_this_call()
        if seconds is not None:
            options["timeout"] = aiohttp.ClientTimeout(
                total=None, sock_connect=self._http.timeout.sock_connect, sock_read=seconds
            )
        options |= by_proxy(self._proxy, str(options["url"]), options.get("headers"))
        return await self._http.request(method, **options, allow_redirects=False)


def guard_client(
    client: Any, rate: RateLimit | None = None, observer: Observer | None = None
) -> None:
    """Register what must happen around each call of an aioboto3 S3 client.

    Calls of its user take their turn in ``rate`` and are reported to ``observer``. The control
    plane does both itself.
    """
    events = client.meta.events
    # With Expect a silent server is waited for without any timeout.
    events.register_last("before-call.s3", _drop_expect)
    events.register_last("before-parameter-build.s3", _stay_in_region)
    events.register_first("before-parse.s3.*", check_success)
    _scrub_refusals(client, rate, observer)


def _scrub_refusals(client: Any, rate: RateLimit | None, observer: Observer | None) -> None:
    """Let what is refused in here leave the client without the request in its traceback."""
    call = client._make_api_call

    async def scrubbed(operation_name: str, arguments: dict[str, Any]) -> Any:
        own = is_own_call()
        if rate is not None and not own:
            await rate.acquire()
        try:
            if observer is None or own:
                return await call(operation_name, arguments)
            return await observed_call(
                observer, client, operation_name, arguments, lambda: call(operation_name, arguments)
            )
        except StorageError as error:
            # The same dictionary is in the frame of the client's method, which still runs.
            arguments.clear()
            scrub(error)
            raise

    client._make_api_call = scrubbed


def _drop_expect(params: dict[str, Any], **_: Any) -> None:
    params["headers"].pop("Expect", None)


def _stay_in_region(context: dict[str, Any], **_: Any) -> None:
    # botocore would sign again for whatever region an error response names. A request that says
    # that it was redirected already is left alone.
    context.setdefault("s3_redirect", {})["redirected"] = True


def _refuse_foreign(response: aiohttp.ClientResponse, body: bytes) -> None:
    """Raise for what botocore would read as S3's refusal, though it is not from S3.

    It takes the status of a web page for a code of S3's: "no such rules" for a proxy's 404. A user
    of the lent client expects botocore's exceptions, and gets them.
    """
    if response.status < 300 or not is_own_call():
        return
    refused = refusal(
        operation=None,
        bucket=None,
        key=None,
        status=response.status,
        headers=response.headers,
        body=body,
    )
    if isinstance(refused, ServerResponseError):
        raise refused


def _without_bombs(body: bytes, status: int) -> bytes:
    try:
        _check_xml(body)
    except ServerResponseError:
        if status < 300:
            raise
        # The status of an error is enough; pages of proxies declare a document type too.
        return b""
    return body


def _check_xml(body: bytes) -> None:
    if not body.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        # UTF-16 too: botocore gives its parser no encoding, so a mark would switch it.
        if body[:2] in (b"\xff\xfe", b"\xfe\xff", b"<\0", b"\0<"):
            raise refused("it is not UTF-8")
        return
    refuse_giants(decoded(body), _MAX_TAGS)
    encoding = _declared_encoding(body.removeprefix(b"\xef\xbb\xbf"))
    # In another one a document type could look like anything.
    if encoding is not None and encoding[1].lower() not in (b"utf-8", b"utf8", b"us-ascii"):
        raise refused("its encoding is not UTF-8")
