"""An HTTP proxy: its URL, and the tunnel through it (RFC 9110, section 9.3.6)."""

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
    """An HTTP proxy; the connection to it uses TLS if ``scheme`` is https.

    ``variable`` names the source of its URL. Its repr shows neither user nor password.
    """

    scheme: str
    host: str
    port: int
    variable: str = "the proxy's URL"
    user: str | None = field(default=None, repr=False)
    password: str = field(default="", repr=False)

    @classmethod
    def parse(cls, url: str, variable: str = "the proxy's URL") -> Self:
        """Parse the URL of a proxy as curl does: ``http://`` is optional.

        Raises:
            ValueError: It is not the URL of an HTTP proxy. The message does not repeat it, since
                it may contain a password.
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
            raise ValueError("has a ':' in the user name, which HTTP cannot send")
        password = unquote(parts.password or "")
        return cls(scheme, host, port or _DEFAULT_PORTS[scheme], variable, user, password)

    @property
    def authority(self) -> str:
        """``host:port``, which messages may show."""
        return host_and_port(self.host, self.port)

    @property
    def url(self) -> str:
        """Its URL without user and password."""
        return f"{self.scheme}://{self.authority}"

    @property
    def authorization(self) -> str | None:
        """The value of Proxy-Authorization; None without a user."""
        if self.user is None:
            return None
        encoded = base64.b64encode(f"{self.user}:{self.password}".encode()).decode("ascii")
        return f"Basic {encoded}"

    @property
    def headers(self) -> str:
        """The header line with the authorization, or an empty text."""
        authorization = self.authorization
        return "" if authorization is None else f"proxy-authorization: {authorization}\r\n"


def host_and_port(host: str, port: int) -> str:
    """Return ``host:port``, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def open_tunnel(connection: Connection, proxy: Proxy, target: str) -> None:
    """Ask the proxy at the other end of ``connection`` for a tunnel to ``target``.

    A TLS server sends nothing before the client does. So bytes that follow the proxy's response at
    once are not the server's, and must never be read as such.

    Raises:
        ProxyError: The proxy refuses, or sends no valid response to CONNECT.
        OSError: The connection broke.
    """
    head = request_head("CONNECT", target, f"host: {target}\r\n{proxy.headers}", {}, None)
    try:
        response = await connection.request(head, None, bodiless=True)
    except ProtocolError as error:
        raise ProxyError(f"sends no valid response to CONNECT ({error})") from error
    if not 200 <= response.status < 300:
        # The body is not read: the connection cannot be reused.
        raise ProxyError(
            f"refuses the tunnel to {target} with HTTP {response.status}", status=response.status
        )
    clean = connection.clean
    connection.finish()
    if not clean:
        raise ProxyError(f"sends bytes of its own before TLS with {target} begins")
    # The exchange was with the proxy; the server has not been used yet.
    connection.reusable = True


def _host_and_port(parts: SplitResult) -> tuple[str, int | None]:
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError("has no valid host and port") from None
    if not host or port == 0 or not host.isascii() or any(char <= " " for char in host):
        raise ValueError("has no valid host and port")
    return host, port
