"""An HTTP proxy: what its URL says, and the tunnel through it (RFC 9110, section 9.3.6)."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Final, Self
from urllib.parse import SplitResult, unquote, urlsplit

from careflow_storage._http.connection import Connection
from careflow_storage._http.errors import ProtocolError, ProxyError
from careflow_storage._http.parser import request_head

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy; ``scheme`` says whether it is spoken to over TLS.

    ``variable`` names where its URL comes from. Password and user are in no text of it.
    """

    scheme: str
    host: str
    port: int
    variable: str = "the proxy's URL"
    user: str | None = field(default=None, repr=False)
    password: str = field(default="", repr=False)

    @classmethod
    def parse(cls, url: str, variable: str = "the proxy's URL") -> Self:
        """Read the URL of a proxy as curl does: ``http://`` may be left out.

        Raises:
            ValueError: It is none of an HTTP proxy. The message does not repeat it: it may hold
                a password.
        """
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
        except ValueError:
            raise ValueError("has no valid host and port") from None
        scheme = parts.scheme.lower()
        if scheme.startswith("socks"):
            raise ValueError("is a SOCKS proxy, which this package does not speak to")
        if scheme not in _DEFAULT_PORTS:
            raise ValueError("is not the URL of an HTTP proxy")
        host, port = _host_and_port(parts)
        user = None if parts.username is None else unquote(parts.username)
        if user is not None and ":" in user:
            raise ValueError("has a ':' in the user name, which HTTP has no way to send")
        password = unquote(parts.password or "")
        return cls(scheme, host, port or _DEFAULT_PORTS[scheme], variable, user, password)

    @property
    def authority(self) -> str:
        """``host:port``, as messages may show it."""
        return host_and_port(self.host, self.port)

    @property
    def url(self) -> str:
        """Its URL without user and password."""
        return f"{self.scheme}://{self.authority}"

    @property
    def authorization(self) -> str | None:
        """What tells it who asks, None if it need not know."""
        if self.user is None:
            return None
        encoded = base64.b64encode(f"{self.user}:{self.password}".encode()).decode("ascii")
        return f"Basic {encoded}"

    @property
    def headers(self) -> str:
        """The header with the authorization, and its line end; or nothing."""
        authorization = self.authorization
        return "" if authorization is None else f"proxy-authorization: {authorization}\r\n"


def host_and_port(host: str, port: int) -> str:
    """Join them; an IPv6 address gets its brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def open_tunnel(connection: Connection, proxy: Proxy, target: str) -> None:
    """Have the proxy at the other end of ``connection`` open a way to ``target``.

    What follows its response must be the server's first bytes. A TLS server says nothing before
    it has heard the client, so bytes that are there already are none of its, and must never be
    read as what it sends over TLS.

    Raises:
        ProxyError: The proxy refuses, or sends something else than a response to CONNECT.
        OSError: The connection broke.
    """
    head = request_head("CONNECT", target, f"host: {target}\r\n{proxy.headers}", {}, None)
    try:
        response = await connection.request(head, None, bodiless=True)
    except ProtocolError as error:
        raise ProxyError(f"gives no valid response to CONNECT ({error})") from error
    if not 200 <= response.status < 300:
        # Its body is not read: the connection is of no further use.
        raise ProxyError(
            f"refuses the way to {target} with HTTP {response.status}", status=response.status
        )
    clean = connection.clean
    connection.finish()
    if not clean:
        raise ProxyError(f"sends bytes of its own before TLS with {target} begins")
    # Not used up: this exchange was with the proxy alone.
    connection.reusable = True


def _host_and_port(parts: SplitResult) -> tuple[str, int | None]:
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError("has no valid host and port") from None
    if not host or port == 0 or not host.isascii() or any(char <= " " for char in host):
        raise ValueError("has no valid host and port")
    return host, port
