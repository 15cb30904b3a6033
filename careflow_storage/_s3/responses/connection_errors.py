"""Translates exceptions of the connection and the operating system."""

from __future__ import annotations

import errno
import socket
import ssl
import sys
from typing import TYPE_CHECKING, Any, Final

from careflow_storage._http.errors import (
    ConnectTimeoutError,
    NotHttpError,
    ProtocolError,
    ProxyError,
    TlsError,
)
from careflow_storage._http.proxy import Proxy
from careflow_storage.errors import (
    CONNECTION_HINT,
    TLS_HINT,
    ConnectionFailedError,
    ServerResponseError,
    StorageError,
    StorageTimeoutError,
)

if TYPE_CHECKING:
    from careflow_storage.settings import StorageSettings

_DESCRIPTORS_HINT: Final = (
    "Raise the limit (ulimit -n), lower BACKBLAZE_MAX_CONNECTIONS, or look for files and "
    "connections that the program does not close."
)
_PORTS_HINT: Final = (
    "Use one storage for the whole process: it keeps its connections, and each new one takes a "
    "port for a minute. If the server's address is of IPv6, check that this machine has IPv6."
)
_FIREWALL_HINT: Final = "A firewall or a sandbox of this machine forbids the connection: allow it."
# The problem and its hint; None for the hint about the connection.
_REASONS: Final[dict[int, tuple[str, str | None]]] = {
    errno.ENFILE: ("too many open files on this machine", _DESCRIPTORS_HINT),
    errno.ENOBUFS: ("this machine has no memory left for sockets", _DESCRIPTORS_HINT),
    errno.ENOMEM: ("this machine has no memory left for sockets", _DESCRIPTORS_HINT),
    errno.EADDRNOTAVAIL: ("no local address or port is left for it", _PORTS_HINT),
    errno.EACCES: ("this machine does not permit it", _FIREWALL_HINT),
    errno.EPERM: ("this machine does not permit it", _FIREWALL_HINT),
    errno.ECONNREFUSED: ("it was refused: nothing listens on that port", None),
    errno.ENETUNREACH: ("the network is unreachable", None),
    errno.EHOSTUNREACH: ("there is no route to the host", None),
    errno.ENETDOWN: ("the network is down", None),
    errno.EAFNOSUPPORT: ("this machine lacks that kind of address (IPv4 or IPv6)", None),
}
# OpenSSL's reasons if the other side does not speak TLS.
_NO_TLS: Final = frozenset(
    {
        "WRONG_VERSION_NUMBER",
        "HTTP_REQUEST",
        "HTTPS_PROXY_REQUEST",
        "PACKET_LENGTH_TOO_LONG",
        "RECORD_LAYER_FAILURE",
        "UNKNOWN_PROTOCOL",
        "UNEXPECTED_MESSAGE",
    }
)
# A proxy sends these while it is busy or cannot reach the server.
_PASSING: Final = (408, 429, 500, 502, 503, 504)


def explain_failure(
    error: BaseException,
    where: dict[str, Any],
    *,
    host: str,
    settings: StorageSettings,
    proxy: Proxy | None,
) -> StorageError:
    """Return the `StorageError`; ``where`` has the operation, the bucket and the key."""
    if isinstance(error, ProxyError):
        return _of_the_proxy(error, where, proxy)
    if isinstance(error, NotHttpError):
        return _no_http(error, where, host)
    if isinstance(error, ProtocolError):
        return ServerResponseError(f"Malformed response: {error}.", retryable=True, **where)
    if proxy is not None:
        # The proxy resolves the server's name; this machine sees only the proxy.
        way, hint = f"{host} through the proxy {proxy.authority}", _proxy_hint(proxy)
        first_hop = f"the proxy {proxy.host}"
    else:
        way, hint, first_hop = host, CONNECTION_HINT, host
    if isinstance(error, TlsError):
        return _no_trust(error, where, way)
    if isinstance(error, socket.gaierror):
        return ConnectionFailedError(
            f"No address was found for {first_hop}.", retryable=True, hint=hint, **where
        )
    if isinstance(error, ConnectTimeoutError):
        return StorageTimeoutError(
            f"No connection to {way} within {settings.connect_timeout:g} s.",
            retryable=True,
            hint=hint,
            **where,
        )
    if isinstance(error, TimeoutError):
        return StorageTimeoutError(
            f"Nothing moved for {settings.idle_timeout:g} s.", retryable=True, **where
        )
    problem, better = _reason(error)
    return ConnectionFailedError(
        f"The connection to {way} failed ({problem}).",
        retryable=True,
        hint=better or hint,
        **where,
    )


def _reason(error: BaseException) -> tuple[str, str | None]:
    code = getattr(error, "errno", None)
    if code == errno.EMFILE:
        return f"too many open files{_descriptor_limit()}", _DESCRIPTORS_HINT
    return _REASONS.get(code or 0, (type(error).__name__, None))


def _descriptor_limit() -> str:
    if sys.platform == "win32":
        return ""
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return "" if soft == resource.RLIM_INFINITY else f": the limit of this process is {soft}"


def _of_the_proxy(error: ProxyError, where: dict[str, Any], proxy: Proxy | None) -> StorageError:
    # Without a configured proxy, the network has put one there.
    name = proxy.authority if proxy is not None else "on the way"
    variable = proxy.variable if proxy is not None else "HTTPS_PROXY"
    if error.status == 407:
        url = f"http://user:password@{'host:port' if proxy is None else name}"
        return ConnectionFailedError(
            f"The proxy {name} asks for a user name and a password, or refuses those given "
            "(HTTP 407).",
            status=407,
            hint=f"Put them into the proxy's URL ({variable}): {url}, special characters "
            "percent-encoded.",
            **where,
        )
    return ConnectionFailedError(
        f"The proxy {name} {error}.",
        status=error.status,
        retryable=error.status in _PASSING,
        hint=f"Look into the proxy's rules and log; {variable} names it. NO_PROXY excludes hosts.",
        **where,
    )


def _proxy_hint(proxy: Proxy) -> str:
    return f"Check the proxy that {proxy.variable} names, and the network."


def _no_http(error: NotHttpError, where: dict[str, Any], host: str) -> StorageError:
    if error.protocol == "TLS":
        problem, hint = "expects TLS", "Use https:// in BACKBLAZE_ENDPOINT."
    else:
        like = f": it speaks {error.protocol}" if error.protocol else ""
        problem, hint = f"does not speak HTTP/1.1{like}", "Check the port in BACKBLAZE_ENDPOINT."
    return ServerResponseError(f"The server at {host} {problem}.", hint=hint, **where)


def _no_trust(error: TlsError, where: dict[str, Any], way: str) -> StorageError:
    cause = error.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        reason = f": {cause.verify_message.rstrip('.')}"
        return ConnectionFailedError(
            f"No trusted TLS connection to {way}{reason}.", hint=TLS_HINT, **where
        )
    if isinstance(cause, ssl.SSLError) and cause.reason in _NO_TLS:
        return ConnectionFailedError(
            f"No TLS connection to {way}: the port does not speak TLS.",
            hint="Check the port in BACKBLAZE_ENDPOINT; a server without TLS is reached with "
            "http://.",
            **where,
        )
    reason = f" ({cause.reason})" if isinstance(cause, ssl.SSLError) and cause.reason else ""
    return ConnectionFailedError(
        f"No trusted TLS connection to {way}{reason}.", hint=TLS_HINT, **where
    )
