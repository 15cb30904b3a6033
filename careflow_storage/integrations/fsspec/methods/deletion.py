"""The results of a deletion of many files, as one error."""

from __future__ import annotations

from careflow_storage.errors import AccessDeniedError, TransferError
from careflow_storage.models import DeleteResult


def check_deleted(results: list[DeleteResult]) -> None:
    """Raise the error of the first file that was not deleted; its ``results`` name all.

    Raises:
        AccessDeniedError, TransferError: The others were deleted.
    """
    failed = [each for each in results if not each.deleted]
    if not failed:
        return
    first = failed[0]
    kind = AccessDeniedError if first.error_code == "AccessDenied" else TransferError
    error = kind(
        f"{len(failed)} of {len(results)} files were not deleted. {first.error_message}",
        operation="DeleteObjects",
        key=first.key,
        code=first.error_code,
    )
    error.results = results
    raise error
