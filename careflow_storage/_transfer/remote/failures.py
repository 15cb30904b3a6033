"""Errors of a source: what went wrong, whether a retry may help, and what to do."""

from __future__ import annotations

import socket
from datetime import UTC, datetime
from typing import Any

import aiohttp
from yarl import URL

from careflow_storage._retry_after import seconds_to_wait
from careflow_storage._transfer.remote.proxy import SourceProxies
from careflow_storage._transfer.remote.signed_urls import refusal_of
from careflow_storage._transfer.remote.ssrf import AddressGuard, shown
from careflow_storage.errors import SourceError, SourceTooLargeError

_RETRIED = (408, 429, 500, 502, 503, 504)
# "Not there yet" at Twilio and others. Too long to wait for within one call.
_RETRYABLE = (*_RETRIED, 404, 425)
_UNKNOWN_NAME = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))
_HINTS = {
    401: "Pass auth=(user, password).",
    403: "Check auth= and that the URL has not expired.",
    404: (
        "Twilio responds like this until the recording is ready: wait for its status callback "
        "'completed', or try again later."
    ),
}


class ResumableError(Exception):
    """A failed request that `RemoteFile` may repeat; ``failure`` is raised if it does not."""

    def __init__(self, failure: SourceError) -> None:
        super().__init__()
        self.failure = failure


class SourceFailures:
    """Makes the errors of one source."""

    def __init__(self, guard: AddressGuard, proxies: SourceProxies) -> None:
        self._guard = guard
        self._proxies = proxies

    def error(self, problem: str, url: URL, **fields: Any) -> SourceError:
        """Return an error that shows ``url`` without its query."""
        return SourceError(f"The source {shown(url)} cannot be used: {problem}.", **fields)

    def too_large(self, url: URL, max_size: int | None) -> SourceTooLargeError:
        """Return the error for a file with more bytes than the caller allows."""
        return SourceTooLargeError(
            f"The source {shown(url)} is larger than max_size ({max_size} bytes).",
            hint="Raise max_size if recordings of this size are expected.",
        )

    def private_address(self, url: URL) -> SourceError:
        """Return the error for an address that is not public."""
        return self.error(
            "its address is not a public one",
            url,
            hint="For a server in your own network pass allow_private_addresses=True.",
        )

    def of_status(
        self, response: aiohttp.ClientResponse, url: URL, *, credentials_dropped: bool
    ) -> ResumableError | SourceError:
        """Return the error for a response with an error status.

        ``credentials_dropped``: a redirect to another origin has removed the caller's headers.
        """
        status = response.status
        problem, hint = f"the server responded with HTTP {status}", _HINTS.get(status)
        refused = refusal_of(url.query, datetime.now(UTC)) if status in (400, 401, 403) else None
        if refused is not None:
            problem, hint = f"{problem}: {refused[0]}", refused[1]
        elif status in (401, 403) and credentials_dropped:
            hint = "A redirect leads to this origin, to which no credentials go."
        if status == 407:
            hint = self._proxies.hint(url, status)
        failure = self.error(
            problem,
            url,
            status=status,
            retryable=status in _RETRYABLE,
            retry_after=seconds_to_wait(
                response.headers.get("Retry-After"), response.headers.get("Date")
            ),
            hint=hint,
        )
        return ResumableError(failure) if status in _RETRIED else failure

    def of_exception(
        self, error: BaseException, url: URL, *, position: int
    ) -> ResumableError | SourceError:
        """Return the error for an exception of aiohttp or the operating system.

        ``position`` is the number of bytes read before.
        """
        if self._guard.refused_all:
            return self.private_address(url)
        proxy_problem = self._proxies.problem(error, url)
        if proxy_problem is not None:
            return self._of_proxy(*proxy_problem, url)
        if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
            return self.error("there is no trusted TLS connection to it", url)
        if isinstance(error, aiohttp.ClientResponseError | aiohttp.InvalidURL):
            return self.error("its response is not valid HTTP", url)
        if isinstance(error, aiohttp.ClientConnectorDNSError) and (
            error.os_error.errno in _UNKNOWN_NAME
        ):
            return self.error("there is no such host", url, hint=self._proxies.hint(url))
        if isinstance(error, TimeoutError):
            problem = "no data was transferred within the idle timeout"
        else:
            problem = f"the connection failed ({type(error).__name__})"
            if position:
                problem += f" after {position} bytes"
        hint = None if position else self._proxies.hint(url)
        return ResumableError(self.error(problem, url, retryable=True, hint=hint))

    def _of_proxy(self, problem: str, status: int | None, url: URL) -> ResumableError | SourceError:
        retryable = status is None or status in _RETRIED
        failure = self.error(
            problem, url, status=status, retryable=retryable, hint=self._proxies.hint(url, status)
        )
        return ResumableError(failure) if retryable else failure
