"""How a connection comes about: TCP to the first address that takes it, then TLS.

A socket belongs to the event loop's transport from its first moment on; this module never holds
one, and so never closes one that a transport still uses. TLS begins on a transport that stands,
so that giving up at any moment means the same: abort that transport, and let what waits on it
come to its end.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from itertools import chain, zip_longest
from socket import AddressFamily, SocketKind
from typing import Any, Final, TypeVar

from careflow_storage._http.connection import Connection

T = TypeVar("T")

AddressInfo = tuple[AddressFamily, SocketKind, int, str, tuple[Any, ...]]

# An address gets this much of a head start before the next is tried as well (RFC 8305).
_HEAD_START_SECONDS: Final = 0.25
# What says little, where another address failed for a better reason.
_VAGUE: Final = frozenset(
    {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
)


class Connector:
    """Makes connections for one pool, and leaves nothing behind where one is given up.

    ``make`` makes the protocol of a new connection. ``handshake_timeout`` is in seconds.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        make: Callable[[], Connection],
        handshake_timeout: float,
    ) -> None:
        self._loop = loop
        self._make = make
        self._handshake_timeout = handshake_timeout
        self._dialing: set[asyncio.Task[Any]] = set()
        self._securing: set[asyncio.Task[Any]] = set()

    async def dial(self, addresses: Sequence[AddressInfo]) -> Connection:
        """Connect to whichever address takes the connection first.

        Raises:
            OSError: None of them does. The most telling failure.
        """
        waiting = deque(_interleaved(addresses))
        attempts: set[asyncio.Task[Connection]] = set()
        failures: list[OSError] = []
        try:
            while waiting or attempts:
                if waiting:
                    attempts.add(self._start(self._dial(waiting.popleft()), self._dialing))
                done, _ = await asyncio.wait(
                    attempts,
                    timeout=_HEAD_START_SECONDS if waiting else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for attempt in done:
                    # Only now: a winner that is looked at must not be given up below.
                    attempts.discard(attempt)
                    try:
                        return attempt.result()
                    except OSError as error:
                        failures.append(error)
        finally:
            for attempt in attempts:
                attempt.cancel()
                attempt.add_done_callback(_abort_made)
        raise _most_telling(failures)

    async def secure(self, connection: Connection, context: ssl.SSLContext, host: str) -> None:
        """Begin TLS with ``host`` on a connection over which nothing came yet.

        Raises:
            ssl.SSLError: The server cannot prove who it is, or speaks no TLS that we do.
            OSError: The connection broke, or something came before TLS began.
        """
        task = self._start(self._secure(connection, context, host), self._securing)
        try:
            # Not cancelled with the caller: it ends by itself once the transport is gone, and
            # only that end tells that nothing of it is left.
            await asyncio.wait({task})
        except asyncio.CancelledError:
            connection.abort()
            raise
        task.result()

    async def close(self) -> None:
        """End what is under way. Connections that begin TLS must be aborted before."""
        for task in self._dialing:
            task.cancel()
        while under_way := self._dialing | self._securing:
            await asyncio.wait(under_way)

    def _start(
        self, coroutine: Coroutine[Any, Any, T], tasks: set[asyncio.Task[Any]]
    ) -> asyncio.Task[T]:
        task = self._loop.create_task(coroutine)
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        task.add_done_callback(_note_failure)
        return task

    async def _dial(self, address: AddressInfo) -> Connection:
        family, _, _, _, where = address
        host, port, *more = where
        if len(more) == 2 and more[1]:
            # A link-local address means nothing without its interface.
            host = f"{host}%{more[1]}"
        _, connection = await self._loop.create_connection(self._make, host, port, family=family)
        return connection

    async def _secure(self, connection: Connection, context: ssl.SSLContext, host: str) -> None:
        transport = connection.transport
        if transport is None or not connection.usable:
            raise connection.failure or ConnectionResetError("the connection was closed at once")
        try:
            over_tls = await self._loop.start_tls(
                transport,
                connection,
                context,
                server_hostname=host,
                ssl_handshake_timeout=self._handshake_timeout,
            )
            if over_tls is None or over_tls.is_closing():
                raise ConnectionResetError("the connection broke during the TLS handshake")
        except BaseException as error:
            # The loop does not tell a protocol of an end within the handshake.
            connection.connection_lost(error if isinstance(error, OSError) else None)
            raise
        connection.secured(over_tls)


def _note_failure(task: asyncio.Task[Any]) -> None:
    """Look at a failure, so that asyncio logs none that was given up on."""
    if not task.cancelled():
        task.exception()


def _abort_made(attempt: asyncio.Task[Connection]) -> None:
    """Abort a connection that came about though another was first, or the caller left."""
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().abort()


def _interleaved(addresses: Sequence[AddressInfo]) -> Iterable[AddressInfo]:
    """Alternate between the address families, in the order of their first addresses."""
    families: dict[int, list[AddressInfo]] = {}
    for address in addresses:
        families.setdefault(address[0], []).append(address)
    rounds = chain.from_iterable(zip_longest(*families.values()))
    return (address for address in rounds if address is not None)


def _most_telling(failures: Sequence[OSError]) -> OSError:
    clear = [failure for failure in failures if failure.errno not in _VAGUE]
    return (clear or failures)[0]
