"""Async storage for call recordings on Backblaze B2 and any S3-compatible store."""

from __future__ import annotations

from careflow_storage._version import __version__
from careflow_storage.errors import (
    AccessDeniedError,
    CapExceededError,
    ChecksumMismatchError,
    ConnectionFailedError,
    InvalidCredentialsError,
    InvalidInputError,
    InvalidRangeError,
    NoSuchBucketError,
    NoSuchKeyError,
    NoSuchUploadError,
    NotConfiguredError,
    NotSupportedError,
    PoolTimeoutError,
    PreconditionFailedError,
    ServerResponseError,
    ServiceUnavailableError,
    SizeMismatchError,
    SourceError,
    StorageClosedError,
    StorageError,
    StorageTimeoutError,
    TransferError,
    WrongLoopError,
)
from careflow_storage.models import (
    Checksum,
    DeleteResult,
    DownloadResult,
    FileInfo,
    FileMetadata,
    IncompleteUpload,
    Progress,
    PurgeResult,
    UploadResult,
)
from careflow_storage.s3.listing import FileListing
from careflow_storage.settings import StorageSettings
from careflow_storage.storage import BackblazeStorage
from careflow_storage.transfer.live import RecordingWriter
from careflow_storage.transfer.reader import FileReader
from careflow_storage.transfer.stream import FileStream

__all__ = [
    "AccessDeniedError",
    "BackblazeStorage",
    "CapExceededError",
    "Checksum",
    "ChecksumMismatchError",
    "ConnectionFailedError",
    "DeleteResult",
    "DownloadResult",
    "FileInfo",
    "FileListing",
    "FileMetadata",
    "FileReader",
    "FileStream",
    "IncompleteUpload",
    "InvalidCredentialsError",
    "InvalidInputError",
    "InvalidRangeError",
    "NoSuchBucketError",
    "NoSuchKeyError",
    "NoSuchUploadError",
    "NotConfiguredError",
    "NotSupportedError",
    "PoolTimeoutError",
    "PreconditionFailedError",
    "Progress",
    "PurgeResult",
    "RecordingWriter",
    "ServerResponseError",
    "ServiceUnavailableError",
    "SizeMismatchError",
    "SourceError",
    "StorageClosedError",
    "StorageError",
    "StorageSettings",
    "StorageTimeoutError",
    "TransferError",
    "UploadResult",
    "WrongLoopError",
    "__version__",
]
