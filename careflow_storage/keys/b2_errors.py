"""Translate b2sdk's exceptions into those of this package."""

from __future__ import annotations

import re
from typing import Any

from careflow_storage._s3.redaction import printable, redact
from careflow_storage.errors import (
    CONNECTION_HINT,
    AccessDeniedError,
    CapExceededError,
    ConnectionFailedError,
    InvalidCredentialsError,
    NoSuchApplicationKeyError,
    NotSupportedError,
    ServerResponseError,
    ServiceUnavailableError,
    StorageError,
    StorageTimeoutError,
    TransferError,
)

# The capability that each call needs, from docs/cloud-storage-application-key-capabilities.
CAPABILITY = {
    "b2_create_key": "writeKeys",
    "b2_delete_key": "deleteKeys",
    "b2_list_keys": "listKeys",
    "b2_list_buckets": "listBuckets",
}
_SIGN_IN_HINT = (
    "Verify the key ID and the application key. B2 does not know deleted and expired keys."
)
_NO_NATIVE_API = (
    "Application keys exist on Backblaze B2 and in careflow_storage.testing.B2Server; another S3 "
    "server has its own tools for keys."
)
# No such method or path, or an XML error of S3. b2sdk keeps no status for these.
_ANOTHER_API = re.compile(
    r"\b(?:404|405|501) (?:non_json_response|None)|<\?xml|<Error>"
    r"|^No such file, bucket, or endpoint"
)
# urllib3 puts the reprs of its objects into its messages.
_REASONS = (
    ("Failed to resolve", "its name was not found"),
    ("Connection refused", "the connection was refused"),
    ("refused it", "the connection was refused"),  # Windows
    ("CERTIFICATE_VERIFY_FAILED", "its certificate is not trusted"),
    ("unreachable", "its network is unreachable"),
    ("SSL", "TLS failed"),
)
_BUSY_HINT = "Backblaze sends this under load; try again later."


def typed_error(operation: str, error: Exception) -> StorageError:
    """Translate an exception of b2sdk. The result holds no header and no secret."""
    from b2sdk.v3.exception import B2Error

    made: StorageError | None = None
    if operation == "b2_authorize_account" and _is_of_another_api(error):
        made = NotSupportedError("The server has no native API of B2.", hint=_NO_NATIVE_API)
    elif isinstance(error, B2Error):
        made = _of_b2(operation, error)
    if made is None:
        # An assertion or a missing field: the response is not one of B2's native API.
        made = ServerResponseError(f"Malformed response ({_text(error)}).")
    made.operation = operation
    made.code = made.code or getattr(error, "code", None)
    return made


def _is_of_another_api(error: Exception) -> bool:
    """Whether an S3 or web server refused the sign-in: B2 would respond in JSON."""
    from b2sdk.v3.exception import B2Error

    return isinstance(error, B2Error) and _ANOTHER_API.search(str(error)) is not None


def _of_b2(operation: str, error: Any) -> StorageError:
    from b2sdk.v3 import exception as b2

    text = _text(error)
    if isinstance(error, b2.Unauthorized):
        return _unauthorized(operation, error, text)
    if isinstance(error, (b2.CapExceeded, b2.TransactionCapExceeded)):
        return CapExceededError(
            text, status=403, hint="Raise the cap on the Caps & Alerts page of the account."
        )
    if isinstance(error, b2.AccessDenied):
        return AccessDeniedError(text, status=403, hint=_missing(operation))
    if isinstance(error, b2.B2RequestTimeout):
        return StorageTimeoutError(text, retryable=True, hint=_lost(operation))
    if isinstance(error, (b2.B2ConnectionError, b2.UnknownHost, b2.ConnectionReset, b2.BrokenPipe)):
        return ConnectionFailedError(
            _unreachable(text), retryable=True, hint=_lost(operation) or CONNECTION_HINT
        )
    if error.should_retry_http():
        seconds = error.retry_after_seconds
        return ServiceUnavailableError(
            text,
            retryable=True,
            hint=_BUSY_HINT,
            status=429 if isinstance(error, b2.TooManyRequests) else 503,
            retry_after=None if seconds is None else float(seconds),
        )
    return _refused(operation, error, text)


def _unauthorized(operation: str, error: Exception, text: str) -> StorageError:
    from b2sdk.v3 import exception as b2

    if isinstance(error, (b2.EmailNotVerified, b2.NoPaymentHistory)):
        return AccessDeniedError(
            text, status=401, hint="Complete the account in the Backblaze console."
        )
    if isinstance(error, b2.InvalidAuthToken) or operation == "b2_authorize_account":
        return InvalidCredentialsError(text, status=401, hint=_SIGN_IN_HINT)
    return AccessDeniedError(text, status=401, hint=_missing(operation))


def _refused(operation: str, error: Exception, text: str) -> StorageError:
    from b2sdk.v3 import exception as b2

    if isinstance(error, (b2.BadRequest, b2.BadJson)):
        if operation == "b2_delete_key":
            return NoSuchApplicationKeyError(
                text,
                status=400,
                hint="list() shows all keys; B2 removes expired ones.",
            )
        return TransferError(text, status=400)
    if isinstance(error, b2.InvalidJsonResponse):
        return ServerResponseError(text, hint="The realm must be the URL of B2's native API.")
    return TransferError(text)


def _missing(operation: str) -> str | None:
    needed = CAPABILITY.get(operation)
    return None if needed is None else f"The key that signs in needs {needed}."


def _unreachable(text: str) -> str:
    for words, reason in _REASONS:
        if words in text:
            return f"The server cannot be reached: {reason}."
    return "The connection to the server failed or was cut."


def _lost(operation: str) -> str | None:
    if operation != "b2_create_key":
        return None
    return (
        "The key may exist nevertheless, with a secret that is lost: list() shows whether there is "
        "another key with its name. Names are not unique, so delete only a key whose ID is new."
    )


def _text(error: Exception) -> str:
    return printable(redact(str(error) or type(error).__name__))
