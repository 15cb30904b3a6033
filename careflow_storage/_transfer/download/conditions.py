"""The conditional and range headers of a client's request (RFC 9110, sections 13 and 14)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from careflow_storage._dates import parse_date
from careflow_storage._s3.responses.lengths import LARGEST_OBJECT

_ENTITY_TAG: Final = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
# Every alternative begins with another character, so that no input takes more than linear time.
_ENTITY_TAGS: Final = re.compile(r'(?:[ \t,]|(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"(?=[ \t,]|\Z))+')
# Commas: a list of one may have empty elements. More digits than these are no offset.
_RANGE: Final = re.compile(
    r"bytes=[ \t,]*([0-9]{0,100})-([0-9]{0,100})[ \t,]*", re.ASCII | re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class ByteSpan:
    """One range: the bytes ``[start, end)``, or the last ``suffix`` bytes."""

    start: int = 0
    end: int | None = None
    suffix: int | None = None

    @property
    def possible(self) -> bool:
        """Whether an object can have bytes in this range."""
        return self.start < LARGEST_OBJECT if self.suffix is None else self.suffix > 0

    def within(self, size: int) -> tuple[int, int] | None:
        """Return ``(start, end)`` in an object of ``size`` bytes, or None where it has none."""
        if self.suffix is not None:
            start, end = max(0, size - self.suffix), size
        else:
            start, end = self.start, size if self.end is None else min(self.end, size)
        return (start, end) if start < end else None


def parse_range(value: str | None) -> ByteSpan | None:
    """Return the range that a Range header requests, or None to serve the whole object.

    A server must ignore a malformed header and other units, and may ignore several ranges.
    """
    found = _RANGE.fullmatch(value.strip(" \t")) if value is not None else None
    if found is None:
        return None
    first, last = found.groups()
    if not first:
        return ByteSpan(suffix=min(int(last), LARGEST_OBJECT)) if last else None
    start = min(int(first), LARGEST_OBJECT)
    if not last:
        return ByteSpan(start)
    if int(last) < int(first):
        return None
    return ByteSpan(start, int(last) + 1 if int(last) < LARGEST_OBJECT else None)


@dataclass(frozen=True, slots=True)
class Preconditions:
    """The If-* headers of a GET or HEAD, except If-Range."""

    if_match: str | None = None
    if_unmodified_since: str | None = None
    if_none_match: str | None = None
    if_modified_since: str | None = None

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Preconditions:
        """Read them from headers whose names are in lower case."""
        return cls(
            headers.get("if-match"),
            headers.get("if-unmodified-since"),
            headers.get("if-none-match"),
            headers.get("if-modified-since"),
        )

    def status(self, etag: str, modified: datetime) -> int | None:
        """Return 304 or 412, or None where the request goes ahead, in the order of the RFC.

        ``etag`` is a strong one, without its quotes; empty where the object has none.
        """
        if self.if_match is not None:
            if not _matches(self.if_match, etag, weak=False):
                return 412
        elif (limit := parse_date(self.if_unmodified_since)) and modified > limit:
            return 412
        if self.if_none_match is not None:
            return 304 if _matches(self.if_none_match, etag, weak=True) else None
        since = parse_date(self.if_modified_since)
        return 304 if since and modified <= since else None

    def to_forward(self) -> dict[str, str]:
        """Return the condition under which S3 itself may respond with 304, in its simplest form.

        Empty where S3 servers differ: for lists, and beside conditions that come first.
        """
        if self.if_match is not None or self.if_unmodified_since is not None:
            return {}
        if self.if_none_match is not None:
            found = _ENTITY_TAG.fullmatch(self.if_none_match.strip(" \t"))
            if found is None or not found[2].isascii():
                return {}
            return {"if-none-match": f'"{found[2]}"'}
        if since := parse_date(self.if_modified_since):
            return {"if-modified-since": http_date(since)}
        return {}


def strong_etag(if_range: str) -> str | None:
    """Return the ETag in an If-Range header without its quotes; None for a date or a weak one."""
    found = _ENTITY_TAG.fullmatch(if_range.strip(" \t"))
    return found[2] if found is not None and found[1] is None and found[2].isascii() else None


def if_range_matches(if_range: str, etag: str, modified: datetime) -> bool:
    """Whether a part of this version completes what the client has: same ETag, or same date."""
    if '"' in if_range:
        return bool(etag) and strong_etag(if_range) == etag
    return parse_date(if_range) == modified


_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)


def http_date(moment: datetime) -> str:
    """Write a date of UTC such as "Mon, 23 Nov 2026 06:48:48 GMT", in any locale."""
    day, month = _DAYS[moment.weekday()], _MONTHS[moment.month - 1]
    return f"{day}, {moment.day:02} {month} {moment.year:04} {moment:%H:%M:%S} GMT"


def _matches(value: str, etag: str, *, weak: bool) -> bool:
    text = value.strip(" \t")
    if text == "*":
        return True
    if not etag:
        return False
    if not _ENTITY_TAGS.fullmatch(text):
        # Some clients send an ETag without its quotes.
        return text == etag
    found = _ENTITY_TAG.findall(text)
    return any(tag == etag for is_weak, tag in found if weak or not is_weak)
