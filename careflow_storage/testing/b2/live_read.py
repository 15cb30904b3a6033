"""Live Read: B2's extension for reading an upload's finished parts while it runs.

apidocs/s3-create-multipart-upload, s3-upload-part and s3-get-object on www.backblaze.com.
Undocumented details, such as the response for a range that does not exist yet, are guesses: see
``docs/testing.md``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from careflow_storage.testing.b2.errors import B2Response, RefusedError, invalid

if TYPE_CHECKING:
    from careflow_storage.testing.b2.store import Upload

ENABLED = "x-backblaze-live-read-enabled"
PART_SIZE = "x-backblaze-live-read-part-size"
_CLOSED_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


def begin(upload: Upload, headers: Mapping[str, str]) -> None:
    """Record at the upload's creation whether it can be read while it runs."""
    upload.live_read = headers.get(ENABLED, "").lower() == "true"
    if upload.live_read and PART_SIZE in headers:
        upload.live_part_size = int(headers[PART_SIZE])


def check_part(upload: Upload, number: int, size: int) -> None:
    """Refuse a part that is not the last and has not the declared size.

    Raises:
        RefusedError: 400 InvalidArgument.
    """
    declared = upload.live_part_size
    if not upload.live_read or declared is None or size == declared:
        return
    is_last = all(other <= number for other in upload.parts)
    if size > declared or not is_last:
        raise invalid(f"Part size must be {declared} with Live Read")


def check_order(upload: Upload, number: int) -> None:
    """Refuse a part after a short one, since a short one must be the last.

    Raises:
        RefusedError: 400 InvalidArgument.
    """
    declared = upload.live_part_size
    if not upload.live_read or declared is None:
        return
    if any(n < number and part.contentsize != declared for n, part in upload.parts.items()):
        raise invalid(f"Part size must be {declared} with Live Read")


def read(upload: Upload, headers: Mapping[str, str], query: Mapping[str, str]) -> B2Response:
    """Return the response to a GET whose versionId is the upload's ID.

    Raises:
        RefusedError: The request has no closed range or part number, or it does not exist yet.
    """
    finished: list[bytes] = []
    for number in range(1, len(upload.parts) + 1):
        if number not in upload.parts:
            break
        finished.append(upload.parts[number].value)
    start, end = _wanted(headers, query, finished)
    data = b"".join(finished)
    if not start <= end < len(data):
        raise RefusedError(416, "InvalidRange", "The requested range is not satisfiable")
    return B2Response(
        206,
        {
            "Content-Type": upload.metadata.get("content-type", "binary/octet-stream"),
            "Content-Range": f"bytes {start}-{end}/*",
            "x-amz-version-id": upload.id,
        },
        data[start : end + 1],
    )


def _wanted(
    headers: Mapping[str, str], query: Mapping[str, str], finished: list[bytes]
) -> tuple[int, int]:
    if "partNumber" in query:
        number = int(query["partNumber"])
        if number > len(finished):
            return 1, 0
        start = sum(map(len, finished[: number - 1]))
        return start, start + len(finished[number - 1]) - 1
    found = _CLOSED_RANGE.fullmatch(headers.get("range", ""))
    if found is None:
        raise invalid("Live Read needs a part number or a range with both ends")
    return int(found[1]), int(found[2])
