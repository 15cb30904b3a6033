"""Errors of a connection, besides those of the operating system and of TLS."""

from __future__ import annotations


class ProtocolError(ConnectionError):
    """The peer does not speak HTTP/1.1, or exceeds a limit."""


class NotHttpError(ProtocolError):
    """The first bytes of a new connection are not those of HTTP/1.1.

    ``protocol`` names the protocol that they look like; it is empty if unknown.
    """

    def __init__(self, first: bytes) -> None:
        super().__init__("the server does not speak HTTP/1.1")
        self.protocol = next((name for start, name in _GREETINGS if first.startswith(start)), "")


# The first bytes that servers of other protocols send, unasked or as an error.
_GREETINGS = (
    (b"\x15\x03", "TLS"),
    (b"\x16\x03", "TLS"),
    (b"SSH-", "SSH"),
    (b"HTTP/", "another version of HTTP"),
    (b"\0\0", "HTTP/2"),
    (b"220", "SMTP or FTP"),
    (b"* OK", "IMAP"),
    (b"+OK", "POP3"),
    (b"-ERR", "Redis"),
    (b"-NOAUTH", "Redis"),
    (b"-DENIED", "Redis"),
)


class ConnectTimeoutError(TimeoutError):
    """No connection was made in time."""


class TlsError(ConnectionError):
    """Certificate verification or TLS negotiation failed."""


class ProxyError(ConnectionError):
    """The proxy refuses the tunnel, or violates the protocol.

    The message is a verb phrase about the proxy. ``status`` is that of its response to CONNECT.
    """

    def __init__(self, problem: str, *, status: int | None = None) -> None:
        super().__init__(problem)
        self.status = status


class PoolClosedError(ConnectionError):
    """The pool was closed, and its connections with it."""
