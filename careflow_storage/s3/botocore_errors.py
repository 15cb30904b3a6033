"""What botocore raises, as the errors of this package."""

from __future__ import annotations

from typing import Any

from careflow_storage.errors import (
    CONNECTION_HINT,
    TLS_HINT,
    ConnectionFailedError,
    InvalidInputError,
    NotConfiguredError,
    ServerResponseError,
    StorageError,
    StorageTimeoutError,
    error_from_response,
)
from careflow_storage.s3.redaction import MAX_CODE, printable
from careflow_storage.s3.response_check import refusal


def explain(error: Exception, where: dict[str, Any]) -> StorageError | None:
    """Return our error for one of botocore's; None for what is none of its own.

    ``where`` has the operation, the bucket and the key.
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
    if isinstance(error, botocore.SSLError):
        return ConnectionFailedError(
            "No trusted TLS connection.",
            hint=TLS_HINT,
            **where,
        )
    if isinstance(error, botocore.ReadTimeoutError | botocore.ConnectTimeoutError):
        return StorageTimeoutError("No answer in time.", retryable=True, **where)
    if isinstance(error, botocore.HTTPClientError | botocore.ConnectionError):
        return ConnectionFailedError(
            f"The connection failed ({type(error).__name__}).",
            retryable=True,
            hint=CONNECTION_HINT,
            **where,
        )
    if isinstance(error, ResponseParserError):
        return ServerResponseError("The answer is not XML.", retryable=True, **where)
    if isinstance(error, botocore.NoCredentialsError):
        return NotConfiguredError(
            ("credentials",), hint="The session that was given holds no credentials.", **where
        )
    if isinstance(error, botocore.BotoCoreError):
        return InvalidInputError(str(error), **where)
    return None
