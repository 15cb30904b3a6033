"""Every exception as a cause and a solution, in the words of the guide's troubleshooting."""

from __future__ import annotations

from careflow_storage._s3.redaction import printable, redact
from careflow_storage.doctor.models import Outcome, failed, warned
from careflow_storage.errors import (
    AccessDeniedError,
    CapExceededError,
    ConnectionFailedError,
    InvalidCredentialsError,
    NoSuchBucketError,
    NotSupportedError,
    ServerResponseError,
    ServiceUnavailableError,
    StorageError,
    StorageTimeoutError,
)

NO_BUCKET_CAUSE = "The bucket does not exist, or its name is wrong."
NO_BUCKET_SOLUTION = (
    "Verify BACKBLAZE_BUCKET_NAME in the Backblaze console (Buckets), check that the bucket was "
    "not deleted, and that the key belongs to the bucket's account. `careflow-storage buckets "
    "create` makes it."
)
REGION_SOLUTION = (
    "Set BACKBLAZE_ENDPOINT to the Endpoint that the console shows with the bucket, and give no "
    "BACKBLAZE_REGION: it follows."
)
ACCESS_SOLUTION = (
    "Verify BACKBLAZE_KEY_ID and BACKBLAZE_APPLICATION_KEY, check the key's permissions on the "
    "console's page Application Keys, and that the bucket name matches exactly."
)
_CAP_CAUSE = "A daily cap of the Backblaze account (storage, download or transactions) is used up."
_CAP_SOLUTION = "Raise the cap on the page Caps & Alerts of the Backblaze console, or wait a day."
_NETWORK_CAUSE = "The connection broke or the server stays silent: network, firewall or proxy."
_NETWORK_SOLUTION = "Check BACKBLAZE_ENDPOINT and the network between here and there, then again."
_FOREIGN_CAUSE = (
    "What responds there is no S3 server, or something in between changes its responses."
)
_BUSY_CAUSE = "Backblaze responds so as a matter of course under load, and in maintenance."
_BUSY_SOLUTION = "Run the doctor again. If it stays, look at https://status.backblaze.com."

NOT_S3_CAUSE = "The bucket is from before May 2020: the S3 API does not reach such buckets."
NOT_S3_SOLUTION = "Create a new bucket and copy the files over with Backblaze's b2 tool."


def in_words(error: BaseException) -> str:
    """What happened, in one line that holds no secret."""
    if not isinstance(error, StorageError):
        return printable(redact(f"{type(error).__name__}: {error}"), 300)
    place = " ".join(str(part) for part in (error.status, error.code) if part is not None)
    text = printable(redact(error.message), 300)
    if place and text != f"The server answered HTTP {error.status}.":
        return f"{place}: {text}"
    return text


def outcome_of(error: Exception) -> Outcome:
    """What an exception means that no check knows better about."""
    found = in_words(error)
    if not isinstance(error, StorageError):
        return failed(
            f"The check itself failed ({found}).",
            "A defect of the doctor, or a response that it does not understand.",
            "Report it with this line and the server's name.",
        )
    if isinstance(error, CapExceededError):
        return failed(found, _CAP_CAUSE, _CAP_SOLUTION)
    if isinstance(error, InvalidCredentialsError | AccessDeniedError):
        return failed(found, "Incorrect credentials or insufficient permissions.", ACCESS_SOLUTION)
    if isinstance(error, NoSuchBucketError):
        return failed(found, NO_BUCKET_CAUSE, error.hint or NO_BUCKET_SOLUTION)
    if isinstance(error, ServiceUnavailableError):
        return warned(found, _BUSY_CAUSE, _BUSY_SOLUTION)
    if isinstance(error, NotSupportedError):
        return warned(found, "This server does not implement it.", "Do without it here.")
    if isinstance(error, StorageTimeoutError | ConnectionFailedError):
        return failed(found, _NETWORK_CAUSE, error.hint or _NETWORK_SOLUTION)
    if isinstance(error, ServerResponseError):
        return failed(found, _FOREIGN_CAUSE, error.hint or _NETWORK_SOLUTION)
    return failed(
        found, "The server refuses it for the reason that it gives.", error.hint or ACCESS_SOLUTION
    )


def is_not_s3_enabled(error: StorageError) -> bool:
    """Whether the bucket is one that the S3 API does not reach (WWBN/AVideo#5884)."""
    return "not s3-enabled" in error.message.lower()
