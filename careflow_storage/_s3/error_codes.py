"""The exceptions for S3's error codes and HTTP statuses."""

from __future__ import annotations

import re
from collections.abc import Mapping

from careflow_storage._retry_after import seconds_to_wait
from careflow_storage.errors import (
    AccessDeniedError,
    BucketExistsError,
    BucketNotEmptyError,
    CapExceededError,
    ChecksumMismatchError,
    InvalidCredentialsError,
    InvalidRangeError,
    NoSuchBucketError,
    NoSuchConfigurationError,
    NoSuchKeyError,
    NoSuchUploadError,
    NotSupportedError,
    PreconditionFailedError,
    ServiceUnavailableError,
    StorageError,
    TransferError,
)

_KEY_HINT = (
    "Verify BACKBLAZE_KEY_ID and BACKBLAZE_APPLICATION_KEY (an application key, not the master "
    "key), that the endpoint is that of the key's region, and that the clock is right."
)
_ACCESS_HINT = (
    "Check the key's capabilities, that it is allowed on this bucket and prefix, and that the "
    "bucket name matches exactly."
)
_BUCKET_HINT = (
    "Verify BACKBLAZE_BUCKET_NAME in the Backblaze console, that the bucket was not deleted, "
    "and that the key belongs to the same account and region."
)
_BUSY_HINT = "This is normal for Backblaze under load; try again later."
_CAP_HINT = "Raise the cap on the Caps & Alerts page of the Backblaze account."
_TAKEN_HINT = "Names of buckets are shared by all accounts: choose another one."
_NOT_EMPTY_HINT = (
    "Deleted files are only hidden: list_file_versions() and list_incomplete_uploads() show what "
    "is there."
)
BODY_CUT_HINT = (
    "All bytes were sent, but some were lost in transit or in the server: try again later."
)
_CLOCK_HINT = "The clock of this machine is off: synchronize it (NTP)."

# The meaning of each S3 error code: class, retryable, hint.
BY_CODE: dict[str, tuple[type[StorageError], bool, str | None]] = {
    "InvalidAccessKeyId": (InvalidCredentialsError, False, _KEY_HINT),
    "SignatureDoesNotMatch": (InvalidCredentialsError, False, _KEY_HINT),
    "InvalidToken": (InvalidCredentialsError, False, _KEY_HINT),
    "ExpiredToken": (InvalidCredentialsError, False, "The temporary credentials have expired."),
    "AuthorizationHeaderMalformed": (
        InvalidCredentialsError,
        False,
        "The region does not fit the endpoint: check BACKBLAZE_REGION and BACKBLAZE_ENDPOINT.",
    ),
    "RequestTimeTooSkewed": (InvalidCredentialsError, False, _CLOCK_HINT),
    "AccessDenied": (AccessDeniedError, False, _ACCESS_HINT),
    "AllAccessDisabled": (AccessDeniedError, False, _ACCESS_HINT),
    "download_cap_exceeded": (CapExceededError, False, _CAP_HINT),
    "storage_cap_exceeded": (CapExceededError, False, _CAP_HINT),
    "transaction_cap_exceeded": (CapExceededError, False, _CAP_HINT),
    "cap_exceeded": (CapExceededError, False, _CAP_HINT),
    "NoSuchBucket": (NoSuchBucketError, False, _BUCKET_HINT),
    "PermanentRedirect": (
        NoSuchBucketError,
        False,
        "The bucket lives in another region: use the endpoint that its page shows.",
    ),
    "NoSuchKey": (NoSuchKeyError, False, None),
    "NoSuchVersion": (NoSuchKeyError, False, None),
    "BucketAlreadyExists": (BucketExistsError, False, _TAKEN_HINT),
    "BucketAlreadyOwnedByYou": (BucketExistsError, False, None),
    "BucketNotEmpty": (BucketNotEmptyError, False, _NOT_EMPTY_HINT),
    "NoSuchUpload": (NoSuchUploadError, False, None),
    "NoSuchCORSConfiguration": (NoSuchConfigurationError, False, None),
    "NoSuchLifecycleConfiguration": (NoSuchConfigurationError, False, None),
    "NoSuchObjectLockConfiguration": (NoSuchConfigurationError, False, None),
    "NoSuchObjectLegalHold": (NoSuchConfigurationError, False, None),
    "ObjectLockConfigurationNotFoundError": (NoSuchConfigurationError, False, None),
    "ServerSideEncryptionConfigurationNotFoundError": (NoSuchConfigurationError, False, None),
    "PreconditionFailed": (PreconditionFailedError, False, None),
    "ConditionalRequestConflict": (PreconditionFailedError, False, None),
    "InvalidRange": (InvalidRangeError, False, None),
    # The bytes can be sent again, as in botocore's legacy mode.
    "BadDigest": (ChecksumMismatchError, True, "The body was damaged or changed in transit."),
    "InvalidDigest": (ChecksumMismatchError, False, None),
    "XAmzContentSHA256Mismatch": (
        ChecksumMismatchError,
        True,
        "The body was damaged or changed in transit.",
    ),
    # Every body is sent whole, with its length: these codes mean that bytes were lost in transit.
    "IncompleteBody": (TransferError, True, BODY_CUT_HINT),
    "MissingContentLength": (TransferError, True, BODY_CUT_HINT),
    "MissingRequestBodyError": (TransferError, True, BODY_CUT_HINT),
    "UnexpectedEOF": (TransferError, True, BODY_CUT_HINT),
    "NotImplemented": (NotSupportedError, False, None),
    "MethodNotAllowed": (NotSupportedError, False, None),
    "RequestTimeout": (ServiceUnavailableError, True, _BUSY_HINT),
    "SlowDown": (ServiceUnavailableError, True, _BUSY_HINT),
    "ServiceUnavailable": (ServiceUnavailableError, True, _BUSY_HINT),
    "InternalError": (ServiceUnavailableError, True, _BUSY_HINT),
    "TooManyRequests": (ServiceUnavailableError, True, _BUSY_HINT),
}

# For responses without a known code: those to HEAD have no body, and proxies send other codes.
BY_STATUS: dict[int, tuple[type[StorageError], bool, str | None]] = {
    301: BY_CODE["PermanentRedirect"],
    307: BY_CODE["PermanentRedirect"],
    401: (InvalidCredentialsError, False, _KEY_HINT),
    403: BY_CODE["AccessDenied"],
    404: BY_CODE["NoSuchKey"],
    405: BY_CODE["NotImplemented"],
    408: BY_CODE["RequestTimeout"],
    412: BY_CODE["PreconditionFailed"],
    416: BY_CODE["InvalidRange"],
    429: BY_CODE["SlowDown"],
    500: BY_CODE["InternalError"],
    501: BY_CODE["NotImplemented"],
    502: BY_CODE["InternalError"],
    503: BY_CODE["ServiceUnavailable"],
    504: BY_CODE["InternalError"],
}


def is_known_code(code: str) -> bool:
    """Whether this is an S3 error code with a class of its own."""
    return code in BY_CODE


# Messages for a body that ended before its length, under codes that also mean other errors.
_BODY_TOO_SHORT = re.compile(
    r"\b(body|content|payload|stream)\b.{0,40}\b(too (small|short)|incomplete|truncated|unexpected"
    r" end|terminated|shorter)|\b(premature|unexpected) (end|eof)\b|\bincomplete body\b"
    r"|\bnumber of bytes specified by the content-length\b",
    re.IGNORECASE,
)


def error_from_response(
    *,
    operation: str,
    bucket: str | None,
    key: str | None,
    status: int,
    code: str | None,
    message: str | None,
    headers: Mapping[str, str],
) -> StorageError:
    """Return the exception for an S3 error response."""
    known = BY_CODE.get(code) if code else None
    if known is None and status >= 300:
        known = BY_STATUS.get(status)
    error_class, retryable, hint = known or (TransferError, False, None)
    # B2 has no S3 code for a cap, only a message.
    if status == 403 and message and "cap exceeded" in message.lower():
        error_class, retryable, hint = BY_CODE["cap_exceeded"]
    if error_class is TransferError and status < 500 and _BODY_TOO_SHORT.search(message or ""):
        # B2's InvalidRequest, "The request body was too small", comes and goes.
        retryable, hint = True, BODY_CUT_HINT
    if error_class is NoSuchKeyError and headers.get("x-amz-delete-marker") == "true":
        hint = "The file was deleted: it is hidden by a delete marker, older versions may exist."
    if not message:
        missing = error_class is NoSuchKeyError
        message = (
            "The file does not exist." if missing else f"The server responded with HTTP {status}."
        )
    return error_class(
        message,
        operation=operation,
        bucket=bucket,
        key=key,
        code=code,
        status=status,
        request_id=headers.get("x-amz-request-id"),
        retryable=retryable,
        hint=hint,
        retry_after=seconds_to_wait(headers.get("retry-after"), headers.get("date")),
    )
