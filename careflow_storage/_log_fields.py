"""The fields of the package's log records: docs/observability.md lists them with their events."""

from __future__ import annotations

from typing import Final

from careflow_storage.errors import StorageError

# What an error brings with it, by the name of its attribute.
_OF_ERRORS: Final = {
    "method": "method",
    "operation": "operation",
    "bucket": "bucket",
    "key": "key",
    "status": "status",
    "code": "error_code",
    "request_id": "request_id",
}


def log_fields(
    event_name: str, error: BaseException | None = None, /, **fields: object
) -> dict[str, object]:
    """Return the ``extra`` of a log record: the event, what is known of the error, the fields.

    Fields that are None are left out.
    """
    found: dict[str, object] = {"event_name": event_name}
    if error is not None:
        found["error_type"] = type(error).__name__
    if isinstance(error, StorageError):
        found |= {name: getattr(error, attribute) for attribute, name in _OF_ERRORS.items()}
    for name, value in fields.items():
        if value is not None:
            found[name] = value
    return {name: value for name, value in found.items() if value is not None}
