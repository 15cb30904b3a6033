"""The contents of an emulator's bucket, for assertions without a request."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple


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


class MotoVersion(NamedTuple):
    """moto's object or delete marker, and its place among the versions of its key."""

    version: Any
    is_latest: bool
    is_marker: bool


@dataclass(frozen=True, slots=True)
class StoredUpload:
    """An unfinished multipart upload; ``parts`` are sizes in bytes by part number."""

    key: str
    upload_id: str
    initiated: datetime
    parts: dict[int, int]
