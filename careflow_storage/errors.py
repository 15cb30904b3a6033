"""All exceptions of this package, derived from `StorageError`.

::

    StorageError
    ├── NotConfiguredError          a required setting is missing
    ├── InvalidInputError           (ValueError) an argument or setting is invalid
    │   ├── InvalidPathError        (LocalFileError) a local path that cannot be used
    │   └── FileTooLargeError       the body is larger than max_size
    ├── LocalFileError              (OSError) a local file could not be read or written
    ├── StorageClosedError          used before it was opened or after it was closed
    ├── WrongLoopError              used from another event loop or after a fork
    ├── InvalidCredentialsError     the key ID or the application key is wrong
    ├── AccessDeniedError           (PermissionError) the key lacks a permission
    │   ├── CapExceededError        the account has reached a cap
    │   └── FileLockedError         object lock protects this version
    ├── NoSuchBucketError
    ├── BucketExistsError           the bucket's name is taken, perhaps by another account
    ├── BucketNotEmptyError         the bucket still has versions or unfinished uploads
    ├── NoSuchKeyError              (FileNotFoundError)
    ├── NoSuchUploadError           the multipart upload is unknown, completed or aborted
    ├── NoSuchApplicationKeyError   the account has no such application key
    ├── NoSuchConfigurationError    the bucket has no such configuration
    ├── PreconditionFailedError     the object exists already, or was replaced
    ├── InvalidRangeError           the range begins after the object's end
    ├── ChecksumMismatchError       bytes were damaged in transit
    ├── SizeMismatchError           more or fewer bytes than were declared
    ├── BodyChangedError            the body was changed while it was read
    ├── RecordingCutOff             (ConnectionError) the sender of a live recording is gone
    ├── NotSupportedError           the server does not implement this
    ├── ServiceUnavailableError     500, 502, 503, 504, 429: try again later
    ├── StorageTimeoutError         (TimeoutError) no bytes moved, or the call took too long
    │   ├── PoolTimeoutError        no connection slot became free in time
    │   └── BodyTimeoutError        the body stalled, or came too slowly
    ├── ConnectionFailedError       (ConnectionError) DNS, TCP or TLS failed
    ├── ServerResponseError         the response is malformed, or not from S3
    ├── SourceError                 the source URL failed, or its content is refused
    │   └── SourceTooLargeError     (FileTooLargeError) it is larger than max_size
    ├── MissingExtraError           (ImportError) an extra is not installed
    └── TransferError               any other refusal by the server

All of them can be pickled, and none contains a secret.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar


class StorageError(Exception):
    """The base class of all errors of this package.

    Attributes:
        message: One sentence about what happened.
        method: The public method that was called, e.g. ``upload_recording``. While you iterate over
            what a method returned (``list_files``, ``stream_file``) it is that method.
        operation: The S3 operation that failed, e.g. ``PutObject``, or the operation of B2's
            native API (``b2_create_key``); None when no request failed.
        bucket: The bucket's name.
        key: The object's key.
        code: The S3 error code, e.g. ``NoSuchKey``.
        status: The HTTP status.
        request_id: The server's ``x-amz-request-id``, for its support.
        retryable: Whether the same call may succeed later. All retries have failed.
        hint: How to fix it.
        retry_after: The seconds that the server asked to wait, if any.
        unfinished_upload_id: The ID of a multipart upload that still exists, because it could not
            be aborted or was kept for later (``resume=True``, ``on_error="keep"``). Its parts are
            stored and billed.
        results: A `DeleteResult` for each key, in order, when a call for many keys fails after a
            part of its work. Empty otherwise.
        kept_file: The path of a local file with the bytes of a recording that did not reach the
            server (``open_recording(on_error="keep")``), from byte ``kept_start`` on.
        kept_start: The position of the first byte in ``kept_file``. The bytes before it are in
            the unfinished upload. If that no longer exists, the message says so.
        stored_unmarked: Whether the partial recording ``key`` is stored, but not marked as
            partial. The message names the version.
    """

    def __init__(
        self,
        message: str,
        *,
        method: str | None = None,
        operation: str | None = None,
        bucket: str | None = None,
        key: str | None = None,
        code: str | None = None,
        status: int | None = None,
        request_id: str | None = None,
        retryable: bool = False,
        hint: str | None = None,
        retry_after: float | None = None,
        unfinished_upload_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.method = method
        self.operation = operation
        self.bucket = bucket
        self.key = key
        self.code = code
        self.status = status
        self.request_id = request_id
        self.retryable = retryable
        self.hint = hint
        self.retry_after = retry_after
        self.unfinished_upload_id = unfinished_upload_id
        self.results: Sequence[Any] = ()
        self.kept_file: str | None = None
        self.kept_start: int | None = None
        self.stored_unmarked = False

    def __str__(self) -> str:
        where = [
            f"{name}={value!r}"
            for name, value in (
                ("bucket", self.bucket),
                ("key", self.key),
                ("code", self.code),
                ("status", self.status),
                ("request_id", self.request_id),
                ("unfinished_upload_id", self.unfinished_upload_id),
                ("kept_file", self.kept_file),
                ("kept_start", self.kept_start),
            )
            if value is not None
        ]
        text = self.message
        if self.method and self.operation:
            text = f"{self.method} ({self.operation}): {text}"
        elif self.method or self.operation:
            text = f"{self.method or self.operation}: {text}"
        if where:
            text += f" [{', '.join(where)}]"
        if self.hint:
            text += f" Hint: {self.hint}"
        return text

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, dict(self.__dict__))


def _rebuild(error_class: type[StorageError], message: str, state: dict[str, Any]) -> StorageError:
    error = error_class.__new__(error_class, message)
    StorageError.__init__(error, message)
    for name, value in state.items():
        setattr(error, name, value)
    return error


class NotConfiguredError(StorageError):
    """Required settings are missing; ``missing`` names their environment variables."""

    def __init__(self, missing: tuple[str, ...], **fields: Any) -> None:
        fields.setdefault("hint", _missing_hint(missing))
        super().__init__(f"Storage is not configured: {', '.join(missing)} missing.", **fields)
        self.missing = missing


def _missing_hint(missing: tuple[str, ...]) -> str:
    hint = "Set them in the environment or in a .env file, or pass StorageSettings(...)."
    pair = {"BACKBLAZE_KEY_ID", "BACKBLAZE_APPLICATION_KEY"}
    if len(pair.intersection(missing)) == 1:
        hint += " AWS_* variables never complete one half of Backblaze's key pair."
    elif pair.intersection(missing):
        hint += " An Amazon key in AWS_ACCESS_KEY_ID is not used for Backblaze."
    if "BACKBLAZE_ENDPOINT" in missing:
        hint += (
            " The console shows the endpoint beside the bucket. An Amazon region in AWS_REGION is "
            "not used for Backblaze."
        )
    return hint


class InvalidInputError(StorageError, ValueError):
    """An argument or a setting is invalid. No request was sent."""


class LocalFileError(StorageError, OSError):
    """A local file could not be read or written, for example because the disk is full.

    ``errno``, ``strerror`` and ``filename`` are those of the operating system.
    """

    def __init__(
        self,
        message: str,
        *,
        errno: int | None = None,
        strerror: str | None = None,
        filename: str | None = None,
        **fields: Any,
    ) -> None:
        super().__init__(message, **fields)
        self.errno = errno
        self.strerror = strerror
        self.filename = filename

    def __reduce__(self) -> tuple[Any, ...]:
        # OSError keeps these three outside of the instance's __dict__.
        rebuild, (error_class, message, state) = super().__reduce__()
        system = {"errno": self.errno, "strerror": self.strerror, "filename": self.filename}
        return rebuild, (error_class, message, state | system)


class InvalidPathError(LocalFileError, InvalidInputError):
    """A local path cannot be used. No request was sent."""


class FileTooLargeError(InvalidInputError):
    """The file is larger than ``max_size``. Nothing is stored.

    For a body of unknown length this shows only while it is sent.
    """


class StorageClosedError(StorageError, RuntimeError):
    """The storage is not open, or was closed during the call."""


class WrongLoopError(StorageError, RuntimeError):
    """The storage was used from another event loop, or in a forked process."""


class InvalidCredentialsError(StorageError):
    """The server does not know the key ID, or the application key does not match it."""


class AccessDeniedError(StorageError, PermissionError):
    """The application key is valid but may not do this."""


class CapExceededError(AccessDeniedError):
    """A storage, download or transaction cap of the B2 account is used up."""


class FileLockedError(AccessDeniedError):
    """Object lock protects this version: by a retention that has not ended, or a legal hold."""


class NoSuchBucketError(StorageError):
    """The bucket does not exist (or belongs to another account or region)."""


class BucketExistsError(StorageError):
    """A bucket of this name exists, perhaps in another account: names are global."""


class BucketNotEmptyError(StorageError):
    """The bucket still holds files, hidden versions, delete markers or unfinished uploads."""


class NoSuchKeyError(StorageError, FileNotFoundError):
    """The object does not exist, or is hidden by a delete marker."""


class NoSuchUploadError(StorageError):
    """The multipart upload is unknown: completed, aborted or never created."""


class NoSuchApplicationKeyError(StorageError):
    """The account has no such application key: deleted, expired, or never there."""


class NoSuchConfigurationError(StorageError):
    """The bucket (or object) has no such configuration: CORS, lifecycle, encryption, lock."""


class PreconditionFailedError(StorageError):
    """The object exists already, or is no longer the requested version."""


class InvalidRangeError(StorageError):
    """The requested range starts beyond the end of the object."""


class ChecksumMismatchError(StorageError):
    """The received bytes differ from the sent bytes."""


class SizeMismatchError(StorageError):
    """The body is longer or shorter than its declared size."""


class BodyChangedError(StorageError):
    """The body changed while it was read. Nothing was stored."""


class RecordingCutOff(StorageError, ConnectionError):  # noqa: N818 - how it ended, not a failure
    """The sender of a live recording left before it said that the recording is complete.

    Raise it in a block of ``open_recording`` when the sender is cut off. With
    ``on_error="keep"`` the bytes so far are stored as a partial recording, and the message as its
    ``partial-reason``.

    Attributes:
        close_code: The code with which its WebSocket was closed, if any.
    """

    def __init__(self, message: str, *, close_code: int | None = None, **fields: Any) -> None:
        super().__init__(message, **fields)
        self.close_code = close_code


class NotSupportedError(StorageError):
    """The server does not implement this operation or header."""


class ServiceUnavailableError(StorageError):
    """The server is busy or failed (500, 502, 503, 504, 408, 429). Try again later."""


class StorageTimeoutError(StorageError, TimeoutError):
    """No bytes moved for the idle timeout, or the call exceeded its ``timeout``."""


class PoolTimeoutError(StorageTimeoutError):
    """All connection slots stayed in use for ``pool_timeout``. Not retried."""


class BodyTimeoutError(StorageTimeoutError):
    """The body stalled for ``read_timeout``, or is slower than ``min_rate``. Nothing was stored."""


class ConnectionFailedError(StorageError, ConnectionError):
    """The server could not be reached, or the connection broke."""


class ServerResponseError(StorageError):
    """The server's response is malformed or contradicts itself."""


class SourceError(StorageError):
    """The source URL of a recording failed, or its content is refused.

    ``status`` is the source's HTTP status, ``retryable`` whether the same call may succeed
    later, ``retry_after`` the seconds that the source asked to wait. The message shows the URL
    without its query, which may contain tokens.
    """


class SourceTooLargeError(SourceError, FileTooLargeError):
    """The content of the source URL is larger than ``max_size``. Nothing is stored."""


class MissingExtraError(StorageError, ImportError):
    """The call needs an extra of this package that is not installed; ``extra`` names it."""

    def __init__(self, extra: str, **fields: Any) -> None:
        from careflow_storage._extras import install_line

        fields.setdefault("hint", install_line(extra))
        super().__init__(f"The extra {extra!r} is not installed.", **fields)
        self.extra = extra


class TransferError(StorageError):
    """The server refused the request for a reason without a class of its own."""


CONNECTION_HINT = "Check BACKBLAZE_ENDPOINT and the network."
TLS_HINT = "For a private certificate authority set BACKBLAZE_CA_FILE."

T = TypeVar("T")


def too_large(max_size: int, size: int | None = None) -> FileTooLargeError:
    """Return the error for a body of ``size`` bytes, or of an unknown number of bytes."""
    many = f"more than {max_size}" if size is None else f"{size}"
    return FileTooLargeError(
        f"The body has {many} bytes, and {max_size} are allowed; nothing was stored.",
        hint="Raise max_size if bodies of this size are expected.",
    )


def check_text(text: object, field: str) -> None:
    """Raise `InvalidInputError` unless ``text`` is a non-empty str."""
    if not isinstance(text, str) or not text:
        raise InvalidInputError(f"{field} must be a str that is not empty, not {text!r}.")


def listed(given: Iterable[T], field: str) -> list[T]:
    """Return the iterable as a list; raise `InvalidInputError` for a str, or another type."""
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise InvalidInputError(f"{field} must be a list, not {type(given).__name__}.")
    return list(given)
