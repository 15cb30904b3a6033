"""The proxy through which a source is requested, with ``use_proxy``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import aiohttp
from yarl import URL

from careflow_storage._http.environment_proxy import environment_proxy
from careflow_storage._http.proxy import Proxy
from careflow_storage._s3.boto.hardening import by_proxy
from careflow_storage.errors import InvalidInputError


class SourceProxies:
    """Finds the proxy for each URL of a source; none unless ``used``."""

    def __init__(self, *, used: bool) -> None:
        self._used = used

    def of(self, url: URL) -> Proxy | None:
        """Return the environment's proxy for this URL.

        Raises:
            InvalidInputError: The environment variable does not name an HTTP proxy.
        """
        return environment_proxy(str(url.origin())) if self._used else None

    def options(self, url: URL, headers: Mapping[str, str]) -> dict[str, Any]:
        """Return the arguments for aiohttp to request ``url``."""
        return by_proxy(self.of(url), str(url), headers)

    def problem(self, error: BaseException, url: URL) -> tuple[str, int | None] | None:
        """Return the problem and the status of a failure of the proxy; None for other failures."""
        proxy = self.of(url)
        if proxy is None:
            return None
        if isinstance(error, aiohttp.ClientHttpProxyError):
            return f"the proxy {proxy.authority} refuses with HTTP {error.status}", error.status
        if isinstance(error, aiohttp.ClientProxyConnectionError | aiohttp.ClientConnectorError):
            return f"the connection through the proxy {proxy.authority} failed", None
        return None

    def hint(self, url: URL, status: int | None = None) -> str | None:
        """Return a hint about the proxy: one that may be at fault, or one that may be needed."""
        if self._used:
            proxy = self.of(url)
            if proxy is None:
                return None
            if status == 407:
                return (
                    f"Put user and password into the proxy's URL ({proxy.variable}): "
                    f"http://user:password@{proxy.authority}, special characters percent-encoded."
                )
            return f"Check the proxy that {proxy.variable} names."
        try:
            proxy = environment_proxy(str(url.origin()))
        except InvalidInputError:
            return None
        if proxy is None:
            return None
        return (
            f"{proxy.variable} names a proxy, which is not used for sources. If it is the only way "
            "out, pass use_proxy=True."
        )
