"""What clients on aiohttp need to trust a private authority."""

from __future__ import annotations

import ssl

from benchmarks.model import Endpoint


def tls_context(endpoint: Endpoint) -> ssl.SSLContext:
    """The context for an endpoint; aiohttp does not look at it where that is http."""
    return ssl.create_default_context(cafile=endpoint.ca_file)
