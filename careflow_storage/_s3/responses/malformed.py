"""The error for a response that S3 cannot have sent."""

from __future__ import annotations

from careflow_storage.errors import ServerResponseError


def malformed(
    why: str,
    *,
    operation: str | None = None,
    bucket: str | None = None,
    key: str | None = None,
    retryable: bool = True,
) -> ServerResponseError:
    """Return the error; ``why`` completes the sentence that begins with "Malformed response"."""
    return ServerResponseError(
        f"Malformed response: {why}.",
        operation=operation,
        bucket=bucket,
        key=key,
        retryable=retryable,
    )
