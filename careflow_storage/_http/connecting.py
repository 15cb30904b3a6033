"""Making a connection: TCP to the first address that accepts it, then TLS.

The event loop's transport owns each socket from the start. This module never holds a socket, so
it cannot close one that a transport still uses. TLS starts on an existing transport. Giving up is
therefore the same at any time: abort the transport, and let the tasks that wait on it end.
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

# The delay before the next address is tried in parallel (RFC 8305).
_HEAD_START_SECONDS: Final = 0.25
# Errors that say less than the error of another address.
_VAGUE: Final = frozenset(
    {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
)


class Connector:
    """Makes connections for one pool, and cleans up after those that are given up.

    ``make`` creates the protocol of a new connection. ``handshake_timeout`` is in seconds.
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
        """Connect to the first address that accepts the connection.

        Raises:
            OSError: No address accepts it. The error is the most specific one.
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
                    # Discarded before its result is read: the winner is not cancelled below.
                    attempts.discard(attempt)
                    try:
                        return attempt.result()
                    except OSError as error:
                        failures.append(error)
        finally:
            for attempt in attempts:
                attempt.cancel()
                attempt.add_done_callback(_abort_made)
        raise _most_specific(failures)

    async def secure(self, connection: Connection, context: ssl.SSLContext, host: str) -> None:
        """Start TLS with ``host`` on a connection that has received no bytes yet.

        Raises:
            ssl.SSLError: Certificate verification or TLS negotiation failed.
            OSError: The connection broke, or bytes arrived before TLS began.
        """
        task = self._start(self._secure(connection, context, host), self._securing)
        try:
            # Not cancelled with the caller: the task ends once the transport is gone. Only then is
            # everything cleaned up.
            await asyncio.wait({task})
        except asyncio.CancelledError:
            connection.abort()
            raise
        task.result()

    async def close(self) -> None:
        """Cancel attempts to connect. Connections that negotiate TLS must be aborted before."""
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
            # A link-local address needs its interface.
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
            # The event loop does not call connection_lost() when the handshake fails.
            connection.connection_lost(error if isinstance(error, OSError) else None)
            raise
        connection.secured(over_tls)


def _note_failure(task: asyncio.Task[Any]) -> None:
    """Retrieve the exception, so that asyncio does not log it."""
    if not task.cancelled():
        task.exception()


def _abort_made(attempt: asyncio.Task[Connection]) -> None:
    """Abort a connection that lost the race, or whose caller was cancelled."""
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().abort()


def _interleaved(addresses: Sequence[AddressInfo]) -> Iterable[AddressInfo]:
    """Alternate between the address families, in the order of their first addresses."""
    families: dict[int, list[AddressInfo]] = {}
    for address in addresses:
        families.setdefault(address[0], []).append(address)
    rounds = chain.from_iterable(zip_longest(*families.values()))
    return (address for address in rounds if address is not None)


def _most_specific(failures: Sequence[OSError]) -> OSError:
    clear = [failure for failure in failures if failure.errno not in _VAGUE]
    return (clear or failures)[0]
