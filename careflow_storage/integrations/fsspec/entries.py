"""What fsspec calls the info of a path: a dict, with the names that s3fs uses."""

from __future__ import annotations

from typing import Any

from careflow_storage.models import FileInfo, FileMetadata

Entry = dict[str, Any]


def directory(path: str) -> Entry:
    """Return the info of a directory."""
    return {"name": path, "size": 0, "type": "directory"}


def listed_file(file: FileInfo) -> Entry:
    """Return the info of a file in a listing."""
    return {
        "name": file.key,
        "size": file.size,
        "type": "file",
        "ETag": file.etag,
        "LastModified": file.last_modified,
    }


def described_file(file: FileMetadata) -> Entry:
    """Return the info of a file in the response to a HEAD."""
    return {
        "name": file.key,
        "size": file.size,
        "type": "file",
        "ETag": file.etag,
        "LastModified": file.last_modified,
        "ContentType": file.content_type,
        "VersionId": file.version_id,
    }


def parents(path: str) -> list[str]:
    """Return the directories above a path, the nearest first; the last is the root, ``""``."""
    found = []
    while path:
        path = path.rpartition("/")[0]
        found.append(path)
    return found
