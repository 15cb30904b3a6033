"""The HTTP response that fits each error, in the format of RFC 9457. Needs no web framework.

::

    except StorageError as error:
        problem = problem_for(error)
        send(problem.status, problem.headers, problem.body)
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final

from careflow_storage.browser.errors import (
    ExpiredTicketError,
    FileTypeError,
    InvalidTicketError,
    UploadIncompleteError,
    UploadMismatchError,
)
from careflow_storage.errors import (
    AccessDeniedError,
    BodyChangedError,
    BodyTimeoutError,
    BucketExistsError,
    BucketNotEmptyError,
    CapExceededError,
    ChecksumMismatchError,
    ConnectionFailedError,
    FileLockedError,
    FileTooLargeError,
    InvalidCredentialsError,
    InvalidInputError,
    InvalidPathError,
    InvalidRangeError,
    LocalFileError,
    MissingExtraError,
    NoSuchApplicationKeyError,
    NoSuchBucketError,
    NoSuchConfigurationError,
    NoSuchKeyError,
    NoSuchUploadError,
    NotConfiguredError,
    NotSupportedError,
    PoolTimeoutError,
    PreconditionFailedError,
    RecordingCutOff,
    ServerResponseError,
    ServiceUnavailableError,
    SizeMismatchError,
    SourceError,
    SourceTooLargeError,
    StorageClosedError,
    StorageError,
    StorageTimeoutError,
    TransferError,
    WrongLoopError,
)
from careflow_storage.integrations.errors import FormError, FormTypeError
from careflow_storage.jobs.errors import (
    ClusterError,
    JobError,
    JobVersionError,
    NoSuchJobError,
    WorkerLostError,
)
from careflow_storage.media.errors import MediaProcessError, UnsupportedMediaError
from careflow_storage.outbox.errors import (
    CredentialsError,
    OutboxError,
    OutboxFullError,
    SpoolDamagedError,
)

MEDIA_TYPE: Final = "application/problem+json"
"""The media type of problem details (RFC 9457)."""

# Each class of the package is listed. A class of the app's own has the status of its nearest base
# class. Only the operator can fix the causes of a 5xx. A refused key is the app's, not its
# client's: 401 or 403 would blame the wrong one.
STATUSES: Final[Mapping[type[StorageError], int]] = MappingProxyType(
    {
        StorageError: 502,
        InvalidCredentialsError: 502,
        AccessDeniedError: 502,
        NoSuchBucketError: 502,
        BucketExistsError: 502,
        BucketNotEmptyError: 502,
        NoSuchUploadError: 502,
        NoSuchApplicationKeyError: 502,
        NoSuchConfigurationError: 502,
        ChecksumMismatchError: 502,
        NotSupportedError: 502,
        ServerResponseError: 502,
        SourceError: 502,
        TransferError: 502,
        NoSuchKeyError: 404,
        # The version's retention or legal hold refuses the client's request.
        FileLockedError: 409,
        PreconditionFailedError: 412,
        FileTooLargeError: 413,
        # Its message has the URL of the source.
        SourceTooLargeError: 502,
        InvalidRangeError: 416,
        InvalidInputError: 422,
        SizeMismatchError: 400,
        BodyChangedError: 400,
        RecordingCutOff: 400,
        BodyTimeoutError: 408,
        # The disk of the app, whose paths the client must not see.
        LocalFileError: 500,
        InvalidPathError: 500,
        MissingExtraError: 500,
        WrongLoopError: 500,
        CapExceededError: 503,
        ConnectionFailedError: 503,
        NotConfiguredError: 503,
        StorageClosedError: 503,
        PoolTimeoutError: 503,
        ServiceUnavailableError: 503,
        StorageTimeoutError: 504,
        # Forms.
        FormError: 400,
        FormTypeError: 415,
        # Uploads straight from browsers.
        InvalidTicketError: 403,
        ExpiredTicketError: 403,
        FileTypeError: 415,
        UploadIncompleteError: 409,
        UploadMismatchError: 409,
        # Recordings that are no media.
        UnsupportedMediaError: 415,
        MediaProcessError: 500,
        # Bulk jobs.
        JobError: 500,
        NoSuchJobError: 404,
        JobVersionError: 409,
        WorkerLostError: 500,
        ClusterError: 503,
        # The outbox. A full one empties as soon as its files are delivered.
        OutboxError: 503,
        OutboxFullError: 503,
        CredentialsError: 503,
        SpoolDamagedError: 500,
    }
)
"""The HTTP status for each class of errors."""

_RETRY_SECONDS = 10
_DETAILS = {
    500: "The server made an error.",
    502: "The storage refused the request of this server, or its response was malformed.",
    503: "The storage is not available. Try again later.",
    504: "The storage did not respond in time.",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """A response to a client of yours.

    Attributes:
        status: The HTTP status.
        headers: ``Content-Type``, ``Cache-Control``, and ``Retry-After`` (in seconds) for a 503.
        content: ``type``, ``title``, ``status`` and ``detail`` of RFC 9457, and ``error``, the name
            of the error's class. ``request_id`` is the server's, for a 5xx. ``missing`` are the
            parts of an `UploadIncompleteError`.
    """

    status: int
    headers: dict[str, str]
    content: dict[str, Any]

    @property
    def body(self) -> bytes:
        """The content as JSON."""
        return json.dumps(self.content).encode()


def http_status(error: StorageError) -> int:
    """Return the HTTP status for this error, by its class: 400 to 504."""
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)


def problem_for(error: StorageError) -> Problem:
    """Return the response for this error.

    The detail of a 4xx is the error's message. That of a 5xx is general: bucket names, paths and
    hosts are for the app's log.
    """
    status = http_status(error)
    headers = {"Content-Type": MEDIA_TYPE, "Cache-Control": "no-store"}
    content: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": error.message if status < 500 else _DETAILS[status],
        "error": type(error).__name__,
    }
    if status >= 500 and error.request_id:
        content["request_id"] = error.request_id
    if isinstance(error, UploadIncompleteError):
        content["missing"] = list(error.missing)
    if status == 503:
        headers["Retry-After"] = str(math.ceil(error.retry_after or _RETRY_SECONDS))
    return Problem(status, headers, content)
