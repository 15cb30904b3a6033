"""What can go wrong on a connection, beside what the operating system and TLS raise."""

from __future__ import annotations


class ProtocolError(ConnectionError):
    """The peer does not speak HTTP/1.1, or more of it than anybody needs."""


class ConnectTimeoutError(TimeoutError):
    """No connection came about in time."""


class TlsError(ConnectionError):
    """The server is not who it should be, or speaks no TLS that we do."""


class PoolClosedError(ConnectionError):
    """The pool was closed, and its connections with it."""
