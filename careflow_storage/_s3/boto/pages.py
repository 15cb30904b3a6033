"""The pages of the control plane's listings, from botocore's dictionaries to typed entries.

A field that must be there and is not raises `KeyError`.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from careflow_storage._s3.responses.lengths import LARGEST_OBJECT, MAX_PARTS
from careflow_storage._s3.xml.documents import unquote_etag
from careflow_storage.errors import ServerResponseError
from careflow_storage.models import ChecksumAlgorithm, IncompleteUpload


class ListedPart(NamedTuple):
    """A part in ListParts, with the checksum of the upload's algorithm if it has one."""

    number: int
    size: int
    etag: str
    checksum: tuple[ChecksumAlgorithm, bytes] | None
    modified: datetime | None = None


class UploadPage(NamedTuple):
    """A page of unfinished multipart uploads, and what time it was for the server."""

    uploads: list[IncompleteUpload]
    server_time: datetime | None


def nothing(_: Mapping[str, Any]) -> None:
    """Read a response of which all that matters is that it was no error."""


def checked_page(response: dict[str, Any]) -> dict[str, Any]:
    """Return a page as it is; raise `KeyError` for what is none."""
    # botocore takes an empty 200, or the web page of a proxy, for a listing of nothing. Every
    # real one says whether it is truncated; without it a KeyError leads to another attempt.
    response["IsTruncated"]
    return response


def upload_page(response: dict[str, Any], prefix: str) -> UploadPage:
    """Read a page of ListMultipartUploads."""
    uploads = [
        IncompleteUpload(
            key=upload["Key"],
            upload_id=upload["UploadId"],
            initiated=upload["Initiated"].astimezone(UTC),
        )
        for upload in response.get("Uploads", ())
        # Some servers take the prefix for a folder.
        if upload["Key"].startswith(prefix)
    ]
    date = response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "")
    try:
        return UploadPage(uploads, parsedate_to_datetime(date).astimezone(UTC))
    except ValueError:
        return UploadPage(uploads, None)


def listed_parts(response: dict[str, Any]) -> list[ListedPart]:
    """Read a page of ListParts."""
    return [_part(part) for part in response.get("Parts", ())]


def _part(part: dict[str, Any]) -> ListedPart:
    number, size, etag = part["PartNumber"], part["Size"], unquote_etag(part["ETag"])
    modified = part.get("LastModified")
    if modified is not None:
        modified = modified.astimezone(UTC)
    if not (1 <= number <= MAX_PARTS and 0 <= size <= LARGEST_OBJECT):
        raise ServerResponseError(
            "Malformed response: it lists a part that no upload can have.", operation="ListParts"
        )
    algorithms: tuple[ChecksumAlgorithm, ...] = ("sha256", "crc32")
    for algorithm in algorithms:
        if encoded := part.get(f"Checksum{algorithm.upper()}"):
            return ListedPart(number, size, etag, (algorithm, base64.b64decode(encoded)), modified)
    return ListedPart(number, size, etag, None, modified)
