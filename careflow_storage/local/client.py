"""A blocking S3 client that sets up a local server before any event loop runs."""

from __future__ import annotations

import hashlib
import http.client
import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from careflow_storage._s3.signing.signer import Credentials, Signer, canonical_query, encode_key

REGION = "us-east-1"
_VERSIONING = (
    b'<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    b"<Status>Enabled</Status></VersioningConfiguration>"
)


@dataclass(frozen=True, slots=True)
class SyncResponse:
    """The server's response."""

    status: int
    version_id: str | None
    body: bytes

    def __str__(self) -> str:
        return f"HTTP {self.status} {self.body[:200].decode(errors='replace')}".strip()


class SyncClient:
    """Sends signed requests, each on a new connection, without retries."""

    def __init__(
        self, endpoint: str, credentials: Credentials, certificate: Path | None = None
    ) -> None:
        self._url = urlsplit(endpoint)
        self._credentials = credentials
        self._signer = Signer(REGION)
        self._tls: ssl.SSLContext | None = None
        if self._url.scheme == "https":
            self._tls = ssl.create_default_context(cafile=certificate)
            # The server uses exactly this certificate, so its host name proves nothing more.
            self._tls.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
            self._tls.check_hostname = False

    def request(
        self, method: str, path: str, query: dict[str, str] | None = None, body: bytes = b""
    ) -> SyncResponse:
        """Send a signed request. ``path`` is not percent-encoded.

        Raises:
            OSError: Connecting failed, or the connection broke.
            http.client.HTTPException: The response is not HTTP.
        """
        encoded, parameters = encode_key(path), canonical_query(query or {})
        headers = self._signer.sign(
            self._credentials,
            method,
            self._url.netloc,
            encoded,
            parameters,
            {},
            hashlib.sha256(body).hexdigest(),
        )
        host, port = self._url.hostname or "", self._url.port
        connection = (
            http.client.HTTPSConnection(host, port, timeout=10.0, context=self._tls)
            if self._tls
            else http.client.HTTPConnection(host, port, timeout=10.0)
        )
        try:
            target = f"{encoded}?{parameters}" if parameters else encoded
            connection.request(method, target, body or None, headers)
            response = connection.getresponse()
            return SyncResponse(
                response.status, response.getheader("x-amz-version-id"), response.read()
            )
        finally:
            connection.close()

    def create_bucket(self, name: str) -> SyncResponse:
        """Create a bucket. Succeeds if this key owns it already."""
        response = self.request("PUT", f"/{name}")
        if response.status == 409 and b"BucketAlreadyOwnedByYou" in response.body:
            return SyncResponse(200, None, b"")
        return response

    def enable_versioning(self, name: str) -> SyncResponse:
        """Enable versioning, which is always on in B2."""
        return self.request("PUT", f"/{name}", {"versioning": ""}, _VERSIONING)
