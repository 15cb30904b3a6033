"""The contents of an emulator's bucket, for assertions without a request."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """One version of an object, or a delete marker (whose ``body`` is empty)."""

    key: str
    version_id: str
    is_latest: bool
    is_delete_marker: bool
    body: bytes = field(default=b"", repr=False)
    etag: str = ""
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoredUpload:
    """An unfinished multipart upload; ``parts`` are sizes in bytes by part number."""

    key: str
    upload_id: str
    initiated: datetime
    parts: dict[int, int]
