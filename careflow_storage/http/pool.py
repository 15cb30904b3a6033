"""The connections to one origin: made when needed, kept for a while, watched while they wait."""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote, urlsplit

import aiohappyeyeballs

from careflow_storage.http.connection import Connection
from careflow_storage.http.failures import (
    ConnectTimeoutError,
    PoolClosedError,
    ProtocolError,
    TlsError,
)
from careflow_storage.http.heads import request_head

# How often per idle timeout the watch looks: it ends what stands still up to an eighth late.
_LOOKS: Final = 8
# B2 names many addresses, and moves them: a name is asked for again after this.
_ADDRESS_SECONDS: Final = 10.0
_EYEBALLS_SECONDS: Final = 0.25

_Addresses = Sequence[aiohappyeyeballs.AddrInfoType]


class Pool:
    """Gives a connection to whoever asks; how many there are is the caller's to limit.

    An idle one is given again for ``keep_alive`` seconds, the last used first. One that waits
    for its peer for ``idle_timeout`` seconds, in which nothing moved, fails with `TimeoutError`:
    one timer looks after all of them, so that no request pays for one of its own.

    Args:
        origin: ``https://host`` or ``http://host:port``.
        tls: For https.
        connect_timeout: Seconds for TCP, TLS and the proxy together.
        proxy: URL of a proxy, with a user and a password if it asks for one.
    """

    def __init__(
        self,
        origin: str,
        tls: ssl.SSLContext | None,
        *,
        connect_timeout: float,
        idle_timeout: float,
        keep_alive: float,
        proxy: str | None = None,
    ) -> None:
        self._host, self._port = _host_and_port(origin)
        self._tls = tls
        self._connect_timeout = connect_timeout
        self._look_seconds = idle_timeout / _LOOKS
        self._keep_alive = keep_alive
        self._proxy = _Proxy(proxy) if proxy is not None else None
        self._loop = asyncio.get_running_loop()
        self._turn = asyncio.Lock()
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()
        self._watch: asyncio.TimerHandle | None = None
        self._addresses: tuple[float, _Addresses] | None = None
        self._closed = False
        self._empty: asyncio.Future[None] | None = None
        # Through a proxy that sees the request, its target is the whole URL.
        seen_by_proxy = self._proxy is not None and tls is None
        self.target_prefix = origin if seen_by_proxy else ""
        self.proxy_headers = self._proxy.headers if self._proxy and seen_by_proxy else ""

    def __repr__(self) -> str:
        return f"<Pool {self._host}:{self._port} of {len(self._all)}, {len(self._idle)} idle>"

    def take_idle(self) -> Connection | None:
        """Return the connection that was used last, if it is still good."""
        limit = self._loop.time() - self._keep_alive
        while self._idle:
            connection = self._idle.pop()
            if connection.usable and connection.idle_since > limit:
                return connection
            connection.abort()
        return None

    def give(self, connection: Connection) -> None:
        """Take a connection back after its exchange: for the next one, or to close it."""
        if connection.finish() and not self._closed:
            connection.idle_since = self._loop.time()
            self._idle.append(connection)
        else:
            connection.abort()

    async def connect(self) -> Connection:
        """Make a new connection.

        Raises:
            ConnectTimeoutError: Not within ``connect_timeout``.
            TlsError: The server cannot prove who it is.
            OSError: There is no way to the server.
        """
        if self._closed:
            raise PoolClosedError("the pool is closed")
        try:
            async with asyncio.timeout(self._connect_timeout):
                connection = await self._connected()
        except TimeoutError as error:
            raise ConnectTimeoutError("no connection in time") from error
        except ssl.SSLError as error:
            raise TlsError("no trusted TLS connection") from error
        if self._closed:
            connection.abort()
            raise PoolClosedError("the pool is closed")
        if self._watch is None:
            self._watch = self._loop.call_later(self._look_seconds, self._look)
        return connection

    async def close(self) -> None:
        """Close all connections, and wait until they are."""
        self._closed = True
        if self._watch is not None:
            self._watch.cancel()
        self._idle.clear()
        for connection in list(self._all):
            connection.fail(PoolClosedError("the pool is closed"))
        if self._all:
            self._empty = self._loop.create_future()
            await self._empty

    async def _connected(self) -> Connection:
        proxy = self._proxy
        if proxy is None:
            return await self._open(self._host, self._port, self._tls)
        connection = await self._open(proxy.host, proxy.port, proxy.tls)
        if self._tls is not None:
            try:
                await self._tunnel(connection, proxy, self._tls)
            except BaseException:
                connection.abort()
                raise
        return connection

    async def _open(self, host: str, port: int, tls: ssl.SSLContext | None) -> Connection:
        plug = await aiohappyeyeballs.start_connection(
            await self._resolve(host, port),
            happy_eyeballs_delay=_EYEBALLS_SECONDS,
            interleave=1,
            loop=self._loop,
        )
        try:
            _, connection = await self._loop.create_connection(
                lambda: Connection(self._loop, self._turn, self._lost),
                sock=plug,
                ssl=tls,
                server_hostname=host if tls else None,
            )
        except BaseException:
            plug.close()
            raise
        if not connection.usable:
            raise ConnectionResetError("the server closed the connection at once")
        self._all.add(connection)
        return connection

    def _lost(self, connection: Connection) -> None:
        self._all.discard(connection)
        if not self._all and self._empty is not None and not self._empty.done():
            self._empty.set_result(None)

    async def _resolve(self, host: str, port: int) -> _Addresses:
        try:
            # An address as it is: no name server, and no thread to ask it in.
            return socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
            )
        except socket.gaierror:
            pass
        known = self._addresses
        if known is not None and self._loop.time() - known[0] < _ADDRESS_SECONDS:
            return known[1]
        found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        self._addresses = (self._loop.time(), found)
        return found

    async def _tunnel(self, connection: Connection, proxy: _Proxy, tls: ssl.SSLContext) -> None:
        """Have the proxy open a way to the server, and begin TLS with that (RFC 9110, 9.3.6)."""
        target = f"{self._host}:{self._port}"
        fixed = f"host: {target}\r\n{proxy.headers}"
        answer = await connection.request(
            request_head("CONNECT", target, fixed, {}, None), None, bodiless=True
        )
        if not 200 <= answer.status < 300:
            raise ProtocolError(f"the proxy refuses with status {answer.status}")
        connection.finish()
        if connection.transport is None:
            raise ConnectionResetError("the proxy closed the tunnel")
        over_tls = await self._loop.start_tls(
            connection.transport, connection, tls, server_hostname=self._host
        )
        if over_tls is None:
            raise ConnectionResetError("the proxy closed the tunnel")
        connection.tunnelled(over_tls)

    def _look(self) -> None:
        """End what stands still, and what nobody has asked for again."""
        now = self._loop.time()
        for connection in [one for one in self._all if one.waiting]:
            if connection.stood_still(_LOOKS):
                connection.fail(TimeoutError("nothing moved"))
        stale = now - self._keep_alive
        # The list is in the order of their last use.
        while self._idle and self._idle[0].idle_since <= stale:
            self._idle.pop(0).abort()
        self._watch = None
        if self._all:
            self._watch = self._loop.call_later(self._look_seconds, self._look)


class _Proxy:
    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.host, self.port = _host_and_port(url)
        self.tls = ssl.create_default_context() if parts.scheme == "https" else None
        self.headers = ""
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            encoded = base64.b64encode(pair.encode()).decode("ascii")
            self.headers = f"proxy-authorization: Basic {encoded}\r\n"


def _host_and_port(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    default = 443 if parts.scheme == "https" else 80
    return parts.hostname or "", parts.port or default
