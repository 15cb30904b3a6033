"""The pages of the control plane's listings, from botocore's dictionaries to typed entries.

A field that must be there and is not raises `KeyError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from careflow_storage._dates import parse_date
from careflow_storage.models import IncompleteUpload


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
    date = response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    return UploadPage(uploads, parse_date(date))
