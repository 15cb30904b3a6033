"""What botocore raises, as the errors of this package."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, Protocol

from careflow_storage._http.errors import NotHttpError, ProtocolError, ProxyError, TlsError
from careflow_storage._http.proxy import Proxy
from careflow_storage._s3.error_codes import error_from_response
from careflow_storage._s3.redaction import MAX_CODE, printable
from careflow_storage._s3.responses.check import refusal
from careflow_storage._s3.responses.connection_errors import explain_failure
from careflow_storage.errors import (
    CONNECTION_HINT,
    TLS_HINT,
    ConnectionFailedError,
    InvalidInputError,
    NotConfiguredError,
    ServerResponseError,
    StorageError,
    StorageTimeoutError,
)

if TYPE_CHECKING:
    from careflow_storage.settings import StorageSettings


class Route(Protocol):
    """How requests reach the server; an `S3Session` is one."""

    host: str
    settings: StorageSettings
    proxy: Proxy | None


def explain(
    error: Exception, where: dict[str, Any], route: Route | None = None
) -> StorageError | None:
    """Return our error for one of botocore's; None for what is none of its own.

    ``where`` has the operation, the bucket and the key. With ``route`` a failed connection is
    explained like one of the data plane.
    """
    # Imported here since importing botocore is what the light import avoids.
    from botocore import exceptions as botocore
    from botocore.parsers import ResponseParserError

    if isinstance(error, botocore.ClientError):
        details = error.response.get("Error", {})
        metadata = error.response.get("ResponseMetadata", {})
        status, headers = int(metadata.get("HTTPStatusCode", 0)), metadata.get("HTTPHeaders", {})
        code = details.get("Code")
        if (code is None or code.isdigit()) and status >= 300:
            # There was no error document: botocore makes a code of the status.
            return refusal(status=status, headers=headers, body=b"", **where)
        return error_from_response(
            status=status,
            code=printable(code, MAX_CODE),
            message=printable(details.get("Message")),
            headers=headers,
            **where,
        )
    below = _below(error)
    if below is not None and route is not None:
        return explain_failure(
            below, where, host=route.host, settings=route.settings, proxy=route.proxy
        )
    if isinstance(error, botocore.SSLError):
        return ConnectionFailedError(
            "No trusted TLS connection.",
            hint=TLS_HINT,
            **where,
        )
    if isinstance(error, botocore.ReadTimeoutError | botocore.ConnectTimeoutError):
        return StorageTimeoutError("No response in time.", retryable=True, **where)
    if isinstance(error, botocore.HTTPClientError | botocore.ConnectionError):
        return ConnectionFailedError(
            f"The connection failed ({type(error).__name__}).",
            retryable=True,
            hint=CONNECTION_HINT,
            **where,
        )
    if isinstance(error, ResponseParserError):
        return ServerResponseError("The response is not XML.", retryable=True, **where)
    if isinstance(error, botocore.NoCredentialsError):
        return NotConfiguredError(
            ("credentials",), hint="The session that was given holds no credentials.", **where
        )
    if isinstance(error, botocore.BotoCoreError):
        # botocore refuses parameters before it sends a request.
        return InvalidInputError(str(error), **{**where, "operation": None})
    return None


def _below(error: Exception) -> OSError | None:
    """Return botocore's error of aiohttp as the error that our own connections raise."""
    import aiohttp

    cause = getattr(error, "kwargs", {}).get("error")
    if isinstance(cause, aiohttp.ClientHttpProxyError):
        return ProxyError(f"refuses the tunnel with HTTP {cause.status}", status=cause.status)
    if isinstance(cause, aiohttp.ClientConnectorCertificateError):
        return _distrust(cause.certificate_error)
    if isinstance(cause, aiohttp.ClientConnectorError):
        return _distrust(cause.os_error)
    if isinstance(cause, aiohttp.ClientResponseError):
        # Only the message of its parser shows where it gave up.
        expected = "Expected HTTP/" in cause.message or "Bad status line" in cause.message
        return NotHttpError(b"") if expected else ProtocolError("the head is malformed")
    return None


def _distrust(error: Exception) -> OSError:
    if isinstance(error, ssl.SSLError | ssl.CertificateError):
        failure = TlsError("no trusted TLS connection")
        failure.__cause__ = error
        return failure
    return error if isinstance(error, OSError) else ConnectionError(type(error).__name__)
