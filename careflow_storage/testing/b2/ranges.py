"""Range and If-Range on GET and HEAD, by RFC 9110, sections 13.1.5 and 14.

Malformed and multiple ranges are ignored: the response has the whole object. B2's responses to such
requests are unknown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from careflow_storage._dates import parse_date
from careflow_storage.testing.b2.errors import B2Response, RefusedError

_HEADERS = ("range", "if-range")
_SPEC = re.compile(r"([0-9]*)-([0-9]*)")
_MOST_DIGITS = 30  # more than any size has, and fewer than slow int() down


def without_range(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers without those of a range."""
    return {name: value for name, value in headers.items() if name not in _HEADERS}


def in_range(response: B2Response, headers: Mapping[str, str]) -> B2Response:
    """Turn the response with the whole object into one for these headers.

    Raises:
        RefusedError: 416, with the size in Content-Range.
    """
    if response.status != 200 or "range" not in headers:
        return response
    shown = {name.lower(): value for name, value in response.headers.items()}
    if not _is_same(headers.get("if-range"), shown):
        return response
    size = len(response.body) or int(shown.get("content-length", "0"))
    span = _wanted(headers["range"], size)
    return response if span is None else part_of(response, *span, size)


def part_of(response: B2Response, start: int, end: int, size: int) -> B2Response:
    """Return the response with the bytes ``[start, end]``; a HEAD has no bytes."""
    given = {name: v for name, v in response.headers.items() if name.lower() != "content-length"}
    span = {
        "Content-Range": f"bytes {start}-{end}/{size}",
        "Content-Length": str(end - start + 1),
    }
    return replace(
        response, status=206, headers={**given, **span}, body=response.body[start : end + 1]
    )


def _wanted(text: str, size: int) -> tuple[int, int] | None:
    unit, separator, rest = text.partition("=")
    specs = [spec for spec in (each.strip(" \t") for each in rest.split(",")) if spec]
    if unit.strip(" \t").lower() != "bytes" or not separator or len(specs) != 1:
        return None
    found = _SPEC.fullmatch(specs[0])
    if found is None or found[0] == "-":
        return None
    first, last = (_number(digits) for digits in found.groups())
    if first is None:
        # A suffix: the last bytes.
        start, end = max(0, size - (last or 0)), size - 1
        satisfiable = bool(last and size)
    else:
        if last is not None and last < first:
            return None
        start, end = first, size - 1 if last is None else min(last, size - 1)
        satisfiable = first < size
    if not satisfiable:
        raise RefusedError(
            416,
            "InvalidRange",
            "The requested range is not satisfiable",
            {"Content-Range": f"bytes */{size}"},
        )
    return start, end


def _number(digits: str) -> int | None:
    if not digits:
        return None
    return int(digits) if len(digits) <= _MOST_DIGITS else 10**_MOST_DIGITS


def _is_same(validator: str | None, shown: Mapping[str, str]) -> bool:
    """Whether If-Range names the object: its strong ETag, or exactly its date."""
    if validator is None:
        return True
    validator = validator.strip()
    if validator.startswith(('"', "W/")):
        return validator == shown.get("etag")
    asked = parse_date(validator)
    return asked is not None and asked == parse_date(shown.get("last-modified"))
