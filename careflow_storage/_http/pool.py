"""The connections to one origin: made on demand, kept for reuse, watched for timeouts."""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import urlsplit

from careflow_storage._http.connecting import AddressInfo, Connector
from careflow_storage._http.connection import Connection
from careflow_storage._http.errors import (
    ConnectTimeoutError,
    PoolClosedError,
    ProtocolError,
    ProxyError,
    TlsError,
)
from careflow_storage._http.proxy import Proxy, host_and_port, open_tunnel

# Checks per idle timeout. A stalled connection is ended up to an eighth late.
_LOOKS: Final = 8
# B2 has many addresses and changes them: names are resolved again after this time.
_ADDRESS_SECONDS: Final = 10.0


class Pool:
    """Keeps the connections to one origin. The caller limits how many are in use.

    Idle connections are reused for ``keep_alive`` seconds, the most recently used first. They are
    closed before there are more than ``limit`` connections in total. A connection that waits for
    ``idle_timeout`` seconds without a byte moved fails with `TimeoutError`. One timer checks all
    connections, so that no request needs its own.

    Args:
        origin: ``https://host`` or ``http://host:port``.
        tls: For https.
        connect_timeout: Seconds for TCP, TLS and the proxy together.
        proxy: The proxy to connect through.
        proxy_tls: For an https proxy.
        on_change: Called with the number of connections in use and of idle ones, when they may
            have changed.
    """

    def __init__(
        self,
        origin: str,
        tls: ssl.SSLContext | None,
        *,
        connect_timeout: float,
        idle_timeout: float,
        keep_alive: float,
        limit: int = sys.maxsize,
        proxy: Proxy | None = None,
        proxy_tls: ssl.SSLContext | None = None,
        on_change: Callable[[int, int], None] | None = None,
    ) -> None:
        self._host, self._port = _host_and_port(origin)
        self._tls = tls
        self._connect_timeout = connect_timeout
        self._look_seconds = idle_timeout / _LOOKS
        self._keep_alive = keep_alive
        self._limit = limit
        self._proxy = proxy
        self._proxy_tls = proxy_tls
        self._on_change = on_change
        self._loop = asyncio.get_running_loop()
        self._turn = asyncio.Lock()
        self._connector = Connector(
            self._loop,
            lambda: Connection(self._loop, self._turn, self._lost),
            # connect_timeout always ends first.
            handshake_timeout=2 * connect_timeout + 1,
        )
        # Connections being made, which _all does not contain yet.
        self._beginning = 0
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()
        self._watch: asyncio.TimerHandle | None = None
        self._addresses: tuple[float, Sequence[AddressInfo]] | None = None
        self._closed = False
        self._empty: asyncio.Future[None] | None = None
        # A request that the proxy itself reads has the whole URL as its target.
        seen_by_proxy = self._proxy is not None and tls is None
        self.target_prefix: str = origin if seen_by_proxy else ""
        self.proxy_headers: str = self._proxy.headers if self._proxy and seen_by_proxy else ""

    @property
    def proxy(self) -> Proxy | None:
        """The proxy to connect through, if any."""
        return self._proxy

    def __repr__(self) -> str:
        return f"<Pool {self._host}:{self._port} of {len(self._all)}, {len(self._idle)} idle>"

    def take_idle(self) -> Connection | None:
        """Return the most recently used idle connection that is still usable."""
        limit = self._loop.time() - self._keep_alive
        while self._idle:
            connection = self._idle.pop()
            if connection.idle_since > limit and connection.is_quiet():
                if self._on_change is not None:
                    self._report(self._on_change)
                return connection
            connection.abort()
        return None

    def give(self, connection: Connection) -> None:
        """Take a connection back after an exchange; keep it for reuse or close it."""
        if connection.finish() and not self._closed:
            connection.idle_since = self._loop.time()
            self._idle.append(connection)
            if self._on_change is not None:
                self._report(self._on_change)
        else:
            connection.abort()

    async def connect(self) -> Connection:
        """Make a new connection.

        Raises:
            ConnectTimeoutError: It took longer than ``connect_timeout``.
            TlsError: Certificate verification or TLS negotiation failed.
            ProxyError: The proxy refuses the tunnel, or violates the protocol.
            PoolClosedError: The pool is closed, or was closed meanwhile.
            OSError: The server cannot be reached.
        """
        self._refuse_closed()
        try:
            connection = await self._in_time()
        except OSError as error:
            if self._closed:
                raise PoolClosedError("the pool is closed") from error
            raise
        except asyncio.CancelledError:
            # close() cancelled the attempt to connect. The caller was not cancelled.
            task = asyncio.current_task()
            if self._closed and task is not None and not task.cancelling():
                raise PoolClosedError("the pool is closed") from None
            raise
        if self._watch is None:
            self._watch = self._loop.call_later(self._look_seconds, self._look)
        return connection

    async def close(self) -> None:
        """Close all connections, and wait until they are closed."""
        self._closed = True
        if self._watch is not None:
            self._watch.cancel()
        self._idle.clear()
        for connection in list(self._all):
            connection.fail(PoolClosedError("the pool is closed"))
        await self._connector.close()
        if self._all:
            self._empty = self._loop.create_future()
            await self._empty

    def abandon(self) -> None:
        """Close all sockets without the event loop, which is closed."""
        self._closed = True
        for connection in self._all:
            connection.shut_down()

    async def _in_time(self) -> Connection:
        try:
            async with asyncio.timeout(self._connect_timeout):
                return await self._established()
        except TimeoutError as error:
            raise ConnectTimeoutError("no connection in time") from error
        except ssl.SSLError as error:
            raise TlsError("no trusted TLS connection") from error

    async def _established(self) -> Connection:
        """Connect, through the proxy if there is one, and start TLS."""
        proxy, tls = self._proxy, self._tls
        first = (self._host, self._port) if proxy is None else (proxy.host, proxy.port)
        self._make_room()
        self._beginning += 1
        try:
            addresses = await self._resolve(*first)
            self._refuse_closed()
            connection = await self._connector.dial(addresses)
        finally:
            self._beginning -= 1
        if connection.transport is not None:
            self._all.add(connection)
            if self._on_change is not None:
                self._report(self._on_change)
        try:
            if proxy is not None:
                await self._pass_proxy(connection, proxy)
            if tls is not None:
                await self._begin_tls(connection, tls)
            if not connection.usable:
                raise connection.failure or ConnectionResetError(
                    "the connection was closed at once"
                )
        except BaseException:
            connection.abort()
            raise
        return connection

    async def _pass_proxy(self, connection: Connection, proxy: Proxy) -> None:
        if proxy.scheme == "https":
            tls = self._proxy_tls or ssl.create_default_context()
            try:
                await self._connector.secure(connection, tls, proxy.host)
            except ssl.SSLError as error:
                raise ProxyError(f"has no trusted TLS ({error.reason or 'failed'})") from error
        if self._tls is None:
            return
        await open_tunnel(connection, proxy, host_and_port(self._host, self._port))

    async def _begin_tls(self, connection: Connection, tls: ssl.SSLContext) -> None:
        try:
            await self._connector.secure(connection, tls, self._host)
        except ProtocolError as error:
            if self._proxy is None:
                raise
            raise ProxyError("sends bytes of its own before TLS begins") from error

    def _lost(self, connection: Connection) -> None:
        self._all.discard(connection)
        if self._on_change is not None:
            self._report(self._on_change)
        if not self._all and self._empty is not None and not self._empty.done():
            self._empty.set_result(None)

    def _report(self, on_change: Callable[[int, int], None]) -> None:
        idle = sum(connection in self._all for connection in self._idle)
        on_change(len(self._all) - idle, idle)

    def _refuse_closed(self) -> None:
        if self._closed:
            raise PoolClosedError("the pool is closed")

    def _make_room(self) -> None:
        """Close the longest idle connections, so that a new one does not exceed the limit."""
        while self._idle and len(self._all) + self._beginning >= self._limit:
            self._idle.pop(0).abort()

    async def _resolve(self, host: str, port: int) -> Sequence[AddressInfo]:
        try:
            # A numeric address needs neither a name server nor a thread.
            return socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
            )
        except socket.gaierror:
            pass
        known = self._addresses
        if known is not None and self._loop.time() - known[0] < _ADDRESS_SECONDS:
            return known[1]
        try:
            found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except socket.gaierror:
            # Without a free file descriptor the resolver fails, too. This raises the real error.
            socket.socket().close()
            raise
        except RuntimeError as error:
            # The event loop has ended its threads: the program exits.
            raise PoolClosedError(str(error)) from error
        self._addresses = (self._loop.time(), found)
        return found

    def _look(self) -> None:
        """Fail stalled connections, and close those idle for too long."""
        now = self._loop.time()
        for connection in [one for one in self._all if one.waiting]:
            if connection.stood_still(_LOOKS):
                connection.fail(TimeoutError("nothing moved"))
        stale = now - self._keep_alive
        # The list is ordered by last use.
        while self._idle and self._idle[0].idle_since <= stale:
            self._idle.pop(0).abort()
        self._watch = None
        if self._all:
            self._watch = self._loop.call_later(self._look_seconds, self._look)


def _host_and_port(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    default = 443 if parts.scheme == "https" else 80
    return parts.hostname or "", parts.port or default
