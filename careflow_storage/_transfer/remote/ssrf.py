"""Protects against server-side request forgery: only public addresses are contacted.

The list of non-public networks is IANA's of special-purpose addresses (https://www.iana.org/assignments/
iana-ipv4-special-registry, iana-ipv6-special-registry; RFC 6890). It is written out because
``ipaddress.is_private`` differs between Python versions.
"""

from __future__ import annotations

import errno
import ipaddress
import re
import socket
import ssl
from ipaddress import IPv4Address, IPv6Address

import aiohttp
from aiohttp.connector import AddrInfoType
from yarl import URL

_NOT_IN_A_URL = re.compile(r"[\x00-\x20\x7f-\x9f\\]")
_HOST = re.compile(r"(?=.{1,254}$)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")

_NOT_PUBLIC_V4 = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this host; Linux connects to itself
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; Alibaba's metadata service
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's own services on every machine there
        "169.254.0.0/16",  # link-local; the metadata service of most clouds
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
# All public addresses are in here; loopback, ULA, link- and site-local and multicast are not.
_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")
_NOT_PUBLIC_V6 = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments; Teredo, which tunnels to any IPv4 address
        "2001:db8::/32",
        "2002::/16",  # 6to4, which tunnels to any IPv4 address
        "3fff::/20",
    )
)
# The last 32 bits are the IPv4 address that is reached: RFC 4291, RFC 6052. With NAT64 (in a
# network without IPv4) there is no other way to an IPv4 server.
_EMBEDDING = (ipaddress.IPv6Network("::ffff:0:0/96"), ipaddress.IPv6Network("64:ff9b::/96"))


def parse_url(text: str) -> URL:
    """Parse an absolute URL; one that is quoted already keeps every byte.

    Raises:
        ValueError: The URL is invalid. The message does not contain it: it may hold a secret.
    """
    if _NOT_IN_A_URL.search(text):
        raise ValueError("it contains a space, backslash or control character")
    try:
        text.encode()
    except UnicodeEncodeError:
        # Quoting would drop it, and request another URL.
        raise ValueError("it contains a lone surrogate") from None
    # Quoting again could change bytes that a signature in the query covers.
    try:
        url = URL(text, encoded=text.isascii())
        # Connecting decodes the host, which an invalid xn-- label makes an error.
        host, port, _ = url.raw_host or "", url.port, url.host
    except ValueError:
        raise ValueError("it is malformed") from None
    if url.scheme not in ("http", "https"):
        raise ValueError("it does not begin with http:// or https://")
    if "@" in url.raw_authority:
        raise ValueError("it contains a user name or password; pass auth=(user, password)")
    address = literal_address(host)
    named = "[" not in url.raw_authority and _HOST.fullmatch(host)
    if not port or not (address or named):
        raise ValueError("it has no valid host or port")
    return url


def shown(url: URL) -> str:
    """Return a URL for error messages: without credentials, query and fragment."""
    text = f"{url.scheme}://{url.raw_authority.rpartition('@')[2]}{url.raw_path}"
    return text if len(text) <= 200 else f"{text[:200]}..."


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether the address is public."""
    if isinstance(address, IPv6Address):
        if any(address in network for network in _EMBEDDING):
            return is_public(IPv4Address(int(address) & 0xFFFF_FFFF))
        return address in _GLOBAL_V6 and not any(address in n for n in _NOT_PUBLIC_V6)
    return not any(address in network for network in _NOT_PUBLIC_V4)


def literal_address(host: str) -> IPv4Address | IPv6Address | None:
    """Return the IP address in the host of a URL; None for a host name.

    Raises:
        ValueError: It is an IPv4 address in a form that only the C library accepts: ``127.1``,
            ``0x7f000001``, ``2130706433``.
    """
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:
        socket.inet_aton(host)
    except OSError:
        return None
    raise ValueError("an IPv4 address must be four decimal numbers")


class AddressGuard:
    """Makes the sockets of a connector; refuses addresses that are not public.

    It checks the very address that is connected to, after name resolution. So a name that
    resolves to another address the second time (DNS rebinding) gains nothing.
    """

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._allowed = 0
        self._refused = 0
        self._proxied = False

    @property
    def refused_all(self) -> bool:
        """Whether all addresses tried since the last `reset` were refused."""
        return self._refused > 0 and self._allowed == 0

    def reset(self, *, proxied: bool = False) -> None:
        """Forget the addresses tried. With ``proxied`` the next address is that of a proxy."""
        self._allowed = self._refused = 0
        self._proxied = proxied

    def allows(self, url: URL) -> bool:
        """Whether a URL may be requested, if its host is an address; host names are allowed."""
        address = literal_address(url.host or "")
        return address is None or self._allow_private or is_public(address)

    def connector(self, tls: ssl.SSLContext | bool) -> aiohttp.TCPConnector:
        """Make a connector for one transfer, without connection pool and DNS cache."""
        return aiohttp.TCPConnector(
            limit=0,
            force_close=True,
            ssl=tls,
            use_dns_cache=False,
            resolver=aiohttp.ThreadedResolver(),
            socket_factory=self._make_socket,
        )

    def _make_socket(self, found: AddrInfoType) -> socket.socket:
        family, kind, protocol, _, where = found
        free = self._allow_private or self._proxied
        if not free and not is_public(ipaddress.ip_address(str(where[0]))):
            self._refused += 1
            raise OSError(errno.EACCES, "the address is not public")
        self._allowed += 1
        return socket.socket(family, kind, protocol)
