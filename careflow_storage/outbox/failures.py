"""What the failure of a delivery says about its cause, and so about the next attempt."""

from __future__ import annotations

from careflow_storage.errors import (
    AccessDeniedError,
    InvalidCredentialsError,
    InvalidInputError,
    NoSuchBucketError,
    NoSuchKeyError,
    NotConfiguredError,
    NotSupportedError,
    PreconditionFailedError,
    ServerResponseError,
    SourceError,
    TransferError,
)
from careflow_storage.outbox.errors import CredentialsError, OutboxFullError, SpoolDamagedError

# These are about the key, the account or the bucket: every other recording would fail, too.
_ABOUT_THE_BUCKET = (
    InvalidCredentialsError,
    AccessDeniedError,
    NoSuchBucketError,
    NoSuchKeyError,
    NotConfiguredError,
    NotSupportedError,
)
# The server will never accept this key, these headers or this size. Any other refusal may pass, and
# 72 hours of attempts cost less than a lost recording.
_ABOUT_THE_RECORDING = frozenset(
    {
        "EntityTooLarge",
        "InvalidArgument",
        "InvalidObjectName",
        "InvalidStorageClass",
        "InvalidURI",
        "KeyTooLongError",
        "MetadataTooLarge",
        "RequestHeaderSectionTooLarge",
    }
)
# The source refuses the credentials, which the operator can correct.
_CREDENTIALS_REFUSED = (401, 403, 407)


def is_about_the_bucket(error: Exception) -> bool:
    """Whether all other recordings would fail for the same reason."""
    if isinstance(error, ServerResponseError):
        # The response is not of an S3 server: the endpoint is wrong, or a proxy responds.
        return not error.retryable and error.status is not None and 300 <= error.status < 500
    return isinstance(error, _ABOUT_THE_BUCKET)


def is_hopeless(error: Exception) -> bool:
    """Whether this recording can never be delivered."""
    if isinstance(error, TransferError):
        return not error.retryable and error.code in _ABOUT_THE_RECORDING
    if isinstance(error, InvalidInputError):
        # The server refused it: the bucket cannot lock files yet, or the retention is about to end.
        return error.status is None
    # With if_exists="error" the key is taken.
    return isinstance(error, SpoolDamagedError | PreconditionFailedError)


def is_held(error: Exception) -> bool:
    """Whether the entry only lacks what the operator provides: credentials, or disk space."""
    return isinstance(error, CredentialsError | OutboxFullError)


def is_not_ready(error: Exception) -> bool:
    """Whether the source responded, but not with a recording.

    It may not be ready yet: providers respond with 404, or with a page, until it is.
    """
    if not isinstance(error, SourceError) or error.status in _CREDENTIALS_REFUSED:
        return False
    return not error.retryable or error.status in (404, 425)
