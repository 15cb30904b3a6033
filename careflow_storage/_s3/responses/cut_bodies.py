"""Refusals of a request's body that are wrong, as the client knows: it sent the body whole.

A server, or a proxy before it, that lost bytes on the way tells so in many ways. B2 does now and
then ("The request body was too small"), without a cause that is known. Another connection helps.
"""

from __future__ import annotations

from careflow_storage._s3.error_codes import BODY_CUT_HINT
from careflow_storage.errors import StorageError, TransferError

# The documents of these requests are made here. One that the server cannot read was cut.
_OWN_DOCUMENTS = frozenset({"CompleteMultipartUpload", "DeleteObjects"})
# Without a code, these come from a proxy: bad request, timeout, length required.
_CUT_STATUSES = frozenset({400, 408, 411})
_SMALLEST_PART_BYTES = 5_000_000


def allow_another_attempt(error: StorageError, operation: str, size: int) -> None:
    """Make ``error`` retryable if it blames a body that was sent whole.

    ``operation`` is what the request asked for, ``size`` the number of bytes of its body.
    """
    if error.retryable or not _is_disproved(error, operation, size):
        return
    error.retryable = True
    if error.hint is None:
        error.hint = BODY_CUT_HINT


def _is_disproved(error: StorageError, operation: str, size: int) -> bool:
    if error.code is None:
        return error.status in _CUT_STATUSES
    if error.code == "MalformedXML":
        return operation in _OWN_DOCUMENTS
    if error.code == "EntityTooSmall" and isinstance(error, TransferError):
        # There is no smallest object, and whether a part is too small is told at the end.
        return operation == "PutObject" or (
            operation == "UploadPart" and size >= _SMALLEST_PART_BYTES
        )
    return False
