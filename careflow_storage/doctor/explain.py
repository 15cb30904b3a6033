"""Explain an exception as a cause and a solution, in the terms of the troubleshooting guide."""

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
    "create` creates it."
)
REGION_SOLUTION = (
    "Set BACKBLAZE_ENDPOINT to the Endpoint that the console shows with the bucket, and remove "
    "BACKBLAZE_REGION: it follows from the endpoint."
)
ACCESS_SOLUTION = (
    "Verify BACKBLAZE_KEY_ID and BACKBLAZE_APPLICATION_KEY, check the key's permissions on the "
    "console's page Application Keys, and that the bucket name matches exactly."
)
_CAP_CAUSE = "A daily cap of the Backblaze account (storage, download or transactions) is used up."
_CAP_SOLUTION = "Raise the cap on the page Caps & Alerts of the Backblaze console, or wait a day."
_NETWORK_CAUSE = "The connection broke, or the server does not respond: network, firewall or proxy."
_NETWORK_SOLUTION = "Check BACKBLAZE_ENDPOINT and the network, then run the doctor again."
_FOREIGN_CAUSE = "The server there is not an S3 server, or a proxy changes its responses."
_BUSY_CAUSE = "Backblaze sends this under load and during maintenance."
_BUSY_SOLUTION = "Run the doctor again. If it happens again, see https://status.backblaze.com."

NOT_S3_CAUSE = "The bucket was created before May 2020: the S3 API cannot access it."
NOT_S3_SOLUTION = "Create a new bucket and copy the files over with Backblaze's b2 tool."


def in_words(error: BaseException) -> str:
    """Describe an error in one line, without secrets."""
    if not isinstance(error, StorageError):
        return printable(redact(f"{type(error).__name__}: {error}"), 300)
    text = printable(redact(error.message), 300)
    if error.code is None:
        return text  # it names the status, if there is one
    place = " ".join(str(part) for part in (error.status, error.code) if part is not None)
    return f"{place}: {text}"


def outcome_of(error: Exception) -> Outcome:
    """Explain an exception that the check itself does not explain."""
    found = in_words(error)
    if not isinstance(error, StorageError):
        return failed(
            f"The check itself failed ({found}).",
            "The doctor has a bug, or does not understand a response.",
            "Report this line and the server's name to the maintainers.",
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
        return warned(found, "This server does not implement it.", "Do not use it on this server.")
    if isinstance(error, StorageTimeoutError | ConnectionFailedError):
        return failed(found, _NETWORK_CAUSE, error.hint or _NETWORK_SOLUTION)
    if isinstance(error, ServerResponseError):
        return failed(found, _FOREIGN_CAUSE, error.hint or _NETWORK_SOLUTION)
    return failed(
        found, "The server refused the request; see its reason.", error.hint or ACCESS_SOLUTION
    )


def is_not_s3_enabled(error: StorageError) -> bool:
    """Whether the S3 API cannot access the bucket at all (WWBN/AVideo#5884)."""
    return "not s3-enabled" in error.message.lower()
