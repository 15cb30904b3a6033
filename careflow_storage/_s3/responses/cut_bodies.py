"""Errors for an incomplete request body, although the client sent all of it.

Servers and proxies that lose bytes report this in many ways. B2 sometimes does so for unknown
reasons ("The request body was too small"). A retry over another connection helps.
"""

from __future__ import annotations

from careflow_storage._s3.error_codes import BODY_CUT_HINT
from careflow_storage.errors import StorageError, TransferError

# This package makes the documents of these requests. If one is malformed, bytes were lost.
_OWN_DOCUMENTS = frozenset({"CompleteMultipartUpload", "DeleteObjects"})
# Statuses that a proxy sends without a code: bad request, timeout, length required.
_CUT_STATUSES = frozenset({400, 408, 411})
_SMALLEST_PART_BYTES = 5_000_000


def allow_another_attempt(error: StorageError, operation: str, size: int) -> None:
    """Make ``error`` retryable if it reports an incomplete body.

    ``operation`` is what the request asked for, ``size`` the number of bytes of its body.
    """
    if error.retryable or not _is_wrong(error, operation, size):
        return
    error.retryable = True
    if error.hint is None:
        error.hint = BODY_CUT_HINT


def _is_wrong(error: StorageError, operation: str, size: int) -> bool:
    if error.code is None:
        return error.status in _CUT_STATUSES
    if error.code == "MalformedXML":
        return operation in _OWN_DOCUMENTS
    if error.code == "EntityTooSmall" and isinstance(error, TransferError):
        # Objects have no minimum size, and parts are checked only when the upload completes.
        return operation == "PutObject" or (
            operation == "UploadPart" and size >= _SMALLEST_PART_BYTES
        )
    return False
