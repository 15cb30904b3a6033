"""Async storage for call recordings on Backblaze B2 and any S3-compatible store.

Each class is loaded when it is first used, so that ``import careflow_storage`` takes little time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from careflow_storage._lazy import lazy_exports
from careflow_storage._version import __version__
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

if TYPE_CHECKING:
    from careflow_storage._s3.requests.listing import FileListing, FolderListing
    from careflow_storage._s3.requests.presign import SignedMethod
    from careflow_storage._transfer.bodies.sources import (
        UploadBody,
    )
    from careflow_storage._transfer.download.reader import FileReader
    from careflow_storage._transfer.download.serve import ServedBody, ServedFile
    from careflow_storage._transfer.download.stream import FileStream
    from careflow_storage._transfer.live.checks import OnError
    from careflow_storage._transfer.live.writer import RecordingWriter
    from careflow_storage._transfer.progress import ProgressCallback
    from careflow_storage.hooks import Hooks
    from careflow_storage.models import (
        Checksum,
        ChecksumAlgorithm,
        DeleteResult,
        DownloadResult,
        FileInfo,
        FileMetadata,
        FolderContents,
        IncompleteUpload,
        Progress,
        PurgeResult,
        SignedRequest,
        UploadResult,
    )
    from careflow_storage.options import CommonOptions, IfExists, ObjectOptions
    from careflow_storage.protection import CustomerKey, Encryption, Retention, RetentionMode
    from careflow_storage.rate_limit import RateLimit
    from careflow_storage.settings import StorageSettings
    from careflow_storage.storage import BackblazeStorage
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "careflow_storage._s3.requests.listing": ("FileListing", "FolderListing"),
            "careflow_storage._s3.requests.presign": ("SignedMethod",),
            "careflow_storage._transfer.bodies.sources": ("UploadBody",),
            "careflow_storage._transfer.download.reader": ("FileReader",),
            "careflow_storage._transfer.download.serve": ("ServedBody", "ServedFile"),
            "careflow_storage._transfer.download.stream": ("FileStream",),
            "careflow_storage._transfer.live.checks": ("OnError",),
            "careflow_storage._transfer.live.writer": ("RecordingWriter",),
            "careflow_storage._transfer.progress": ("ProgressCallback",),
            "careflow_storage.hooks": ("Hooks",),
            "careflow_storage.models": (
                *("Checksum", "ChecksumAlgorithm", "DeleteResult", "DownloadResult"),
                *("FileInfo", "FileMetadata", "FolderContents", "IncompleteUpload", "Progress"),
                *("PurgeResult", "SignedRequest", "UploadResult"),
            ),
            "careflow_storage.options": ("CommonOptions", "IfExists", "ObjectOptions"),
            "careflow_storage.protection": (
                "CustomerKey",
                "Encryption",
                "Retention",
                "RetentionMode",
            ),
            "careflow_storage.rate_limit": ("RateLimit",),
            "careflow_storage.settings": ("StorageSettings",),
            "careflow_storage.storage": ("BackblazeStorage",),
        },
        submodules=("models", "options", "protection", "recordings", "settings", "storage"),
    )

__all__ = [
    "AccessDeniedError",
    "BackblazeStorage",
    "BodyChangedError",
    "BodyTimeoutError",
    "BucketExistsError",
    "BucketNotEmptyError",
    "CapExceededError",
    "Checksum",
    "ChecksumAlgorithm",
    "ChecksumMismatchError",
    "CommonOptions",
    "ConnectionFailedError",
    "CustomerKey",
    "DeleteResult",
    "DownloadResult",
    "Encryption",
    "FileInfo",
    "FileListing",
    "FileLockedError",
    "FileMetadata",
    "FileReader",
    "FileStream",
    "FileTooLargeError",
    "FolderContents",
    "FolderListing",
    "Hooks",
    "IfExists",
    "IncompleteUpload",
    "InvalidCredentialsError",
    "InvalidInputError",
    "InvalidPathError",
    "InvalidRangeError",
    "LocalFileError",
    "MissingExtraError",
    "NoSuchApplicationKeyError",
    "NoSuchBucketError",
    "NoSuchConfigurationError",
    "NoSuchKeyError",
    "NoSuchUploadError",
    "NotConfiguredError",
    "NotSupportedError",
    "ObjectOptions",
    "OnError",
    "PoolTimeoutError",
    "PreconditionFailedError",
    "Progress",
    "ProgressCallback",
    "PurgeResult",
    "RateLimit",
    "RecordingCutOff",
    "RecordingWriter",
    "Retention",
    "RetentionMode",
    "ServedBody",
    "ServedFile",
    "ServerResponseError",
    "ServiceUnavailableError",
    "SignedMethod",
    "SignedRequest",
    "SizeMismatchError",
    "SourceError",
    "SourceTooLargeError",
    "StorageClosedError",
    "StorageError",
    "StorageSettings",
    "StorageTimeoutError",
    "TransferError",
    "UploadBody",
    "UploadResult",
    "WrongLoopError",
    "__version__",
]
