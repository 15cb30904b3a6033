"""Sizes and ranges in responses: bounded, and compared with the request.

No number from the server is used before it is checked. Otherwise the server would choose the size
of buffers, loops and files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

# The largest object of any S3 server known has 50 TB; of B2, 10 TB.
MAX_SIZE_DIGITS: Final = 14
LARGEST_OBJECT: Final = 10**MAX_SIZE_DIGITS - 1
# The most parts that S3 and B2 allow in one object.
MAX_PARTS: Final = 10_000

_PARTS_COUNT: Final = "x-amz-mp-parts-count"

_is_size = re.compile(rf"[0-9]{{1,{MAX_SIZE_DIGITS}}}").fullmatch
_content_range = re.compile(r"bytes ([0-9]{1,14})-([0-9]{1,14})/([0-9]{1,14}|\*)").fullmatch
_PART_COUNT: Final = re.compile(r"[0-9a-fA-F]+-([0-9]{1,5})")


class ContentRange(NamedTuple):
    """The bytes ``[start, end)`` of ``total``, which is None where the server does not know it."""

    start: int
    end: int
    total: int | None


def parse_size(text: str) -> int:
    """Parse a number of bytes; raise `ValueError` if it is malformed or too large."""
    # int() would also take "1_000", "+1" and digits of other scripts.
    if not _is_size(text):
        raise ValueError("a size that no object can have")
    return int(text)


def parse_content_range(text: str) -> ContentRange:
    """Parse a Content-Range; raise `ValueError` if it is malformed or contradicts itself."""
    found = _content_range(text)
    if found is None:
        raise ValueError("a Content-Range that is none")
    start, end = int(found[1]), int(found[2]) + 1
    total = None if found[3] == "*" else int(found[3])
    if start >= end or (total is not None and end > total):
        raise ValueError("a Content-Range that contradicts itself")
    return ContentRange(start, end, total)


def reported_size(headers: Mapping[str, str]) -> tuple[int, bool]:
    """Return an object's size, and whether it is only what an unfinished upload has so far.

    Raises:
        KeyError: No header contains it.
        ValueError: It is none.
    """
    content_range = headers.get("content-range")
    if content_range is None:
        return parse_size(headers["content-length"]), False
    found = parse_content_range(content_range)
    return (found.end, True) if found.total is None else (found.total, False)


def part_count(etag: str) -> int | None:
    """Return the number of parts in an ETag like ``"...-3"``; None if there is none."""
    found = _PART_COUNT.fullmatch(etag)
    count = int(found[1]) if found else 0
    return count if 0 < count <= MAX_PARTS else None


def first_part_size(headers: Mapping[str, str], etag: str) -> int | None:
    """Return the size of an object's first part, by the response to a HEAD of that part.

    None if the object has another ETag, or if the server ignores part numbers.
    """
    if headers.get("etag", "").strip('"') != etag:
        return None
    try:
        if "content-range" in headers:
            found = parse_content_range(headers["content-range"])
            return found.end if found.start == 0 and found.end != found.total else None
        return parse_size(headers["content-length"]) if _PARTS_COUNT in headers else None
    except (KeyError, ValueError):
        return None


def check_whole(status: int, headers: Mapping[str, str]) -> None:
    """Raise `ValueError` unless this is the response to a request for a whole object."""
    if status != 200:
        raise ValueError(f"its status is {status}, not 200")
    if "content-range" in headers:
        raise ValueError("it gives a range that was not asked for")


def is_range(status: int, headers: Mapping[str, str]) -> bool:
    """Whether the response claims to be a range.

    ``rclone serve s3`` sends a range with its Content-Range, but with the status 200.
    """
    return status == 206 or (status == 200 and "content-range" in headers)


def check_range(status: int, headers: Mapping[str, str], start: int, end: int | None) -> None:
    """Raise `ValueError` unless the response has the bytes ``[start, end)``.

    A range may be cut at the end of the object, and nowhere else.
    """
    if not is_range(status, headers):
        raise ValueError("it ignores the range" if status == 200 else f"its status is {status}")
    found = parse_content_range(headers.get("content-range", ""))
    wanted = _end_of(found, end)
    if (found.start, found.end) != (start, wanted):
        asked = f"[{start}, {'the end' if wanted is None else wanted})"
        raise ValueError(f"it has the bytes [{found.start}, {found.end}), not {asked}")
    length = headers.get("content-length")
    if length is None and status == 200:
        raise ValueError("its status is 200, and its length is unknown")
    if length is not None and parse_size(length) != found.end - found.start:
        raise ValueError("its length is not that of its range")


def check_suffix(headers: Mapping[str, str], suffix: int) -> None:
    """Hold a range to a request for the last ``suffix`` bytes; raise `ValueError`."""
    total = parse_content_range(headers.get("content-range", "")).total
    if total is None:
        raise ValueError("its range is the end of an object of unknown size")
    check_range(206, headers, max(0, total - suffix), None)


def _end_of(found: ContentRange, end: int | None) -> int | None:
    """Return where the range should end, by its total."""
    if found.total is None:
        return found.end if end is None else end
    return found.total if end is None else min(end, found.total)
