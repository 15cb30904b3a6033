"""Which proxy the environment names for an origin: the variables that curl reads."""

from __future__ import annotations

import ipaddress
import os
import re
import sys
import urllib.request
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from careflow_storage._endpoint import is_loopback
from careflow_storage._http.proxy import Proxy
from careflow_storage.errors import InvalidInputError

# By scheme, in order of precedence. HTTP_PROXY is not among them: in a CGI program, any client
# sets that variable with a header "Proxy".
_VARIABLES: Final = {
    "https": ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"),
    "http": ("http_proxy", "all_proxy", "ALL_PROXY"),
}
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def environment_proxy(origin: str) -> Proxy | None:
    """Return the proxy for this origin, None where the way is direct.

    ``HTTPS_PROXY`` or ``https_proxy`` for https, ``http_proxy`` for http, else ``ALL_PROXY``;
    ``NO_PROXY`` names hosts to reach without. This machine is always reached without.

    Raises:
        InvalidInputError: The variable names what is no HTTP proxy.
    """
    parts = urlsplit(origin)
    host, port = parts.hostname or "", parts.port or _DEFAULT_PORTS[parts.scheme]
    if is_loopback(host):
        return None
    variable, url = _named(parts.scheme, os.environ)
    if variable and _is_excluded(host, port, _no_proxy(os.environ)):
        return None
    if not variable:
        variable, url = _of_the_system(parts.scheme, host)
    # An empty variable switches off those that would count after it.
    if not url:
        return None
    try:
        return Proxy.parse(url, variable)
    except ValueError as error:
        raise InvalidInputError(
            f"{variable} {error}.",
            hint=f"Set {variable} to an HTTP proxy (http://user:password@host:port, special "
            f"characters percent-encoded), or NO_PROXY={host} to connect without.",
        ) from None


def _named(scheme: str, environ: Mapping[str, str]) -> tuple[str, str]:
    for name in _VARIABLES[scheme]:
        if name in environ:
            return name, environ[name].strip()
    return "", ""


def _no_proxy(environ: Mapping[str, str]) -> str:
    return environ.get("no_proxy", environ.get("NO_PROXY", ""))


def _of_the_system(scheme: str, host: str) -> tuple[str, str]:
    """Ask the settings of macOS or Windows, as browsers there do."""
    if sys.platform not in ("darwin", "win32") or urllib.request.proxy_bypass(host):
        return "", ""
    return "the system's proxy setting", urllib.request.getproxies().get(scheme, "")


def _is_excluded(host: str, port: int, listed: str) -> bool:
    host = host.rstrip(".").lower()
    return any(_matches(entry, host, port) for entry in re.split(r"[\s,]+", listed.lower()))


def _matches(entry: str, host: str, port: int) -> bool:
    """Whether an entry of NO_PROXY means this host: a domain with all below it, or addresses."""
    name, given_port = _split_port(entry.rpartition("://")[2])
    if not name or (given_port and given_port != str(port)):
        return False
    if name == "*":
        return True
    address = _address(host)
    if address is not None:
        try:
            return address in ipaddress.ip_network(name, strict=False)
        except ValueError:
            return False
    domain = name.removeprefix("*").strip(".")
    return bool(domain) and (host == domain or host.endswith(f".{domain}"))


def _split_port(entry: str) -> tuple[str, str]:
    """Part ``host:port`` and ``[address]:port``; a bare IPv6 address has no port."""
    bracketed = re.fullmatch(r"\[([^\]]*)\](/[0-9]+)?(?::([0-9]+))?", entry)
    if bracketed is not None:
        return bracketed[1] + (bracketed[2] or ""), bracketed[3] or ""
    if entry.count(":") == 1:
        name, _, port = entry.partition(":")
        return name, port
    return entry, ""


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
