"""``Retry-After``: seconds, or a date in any of HTTP's forms (RFC 9110, 5.6.7 and 10.2.3)."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

_MONTHS: Final = (
    "Jan",
    "Feb",
    "Mar",
    "Apr",
    "May",
    "Jun",
    "Jul",
    "Aug",
    "Sep",
    "Oct",
    "Nov",
    "Dec",
)
_MONTH: Final = rf"(?P<month>{'|'.join(_MONTHS)})"
_TIME: Final = r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_DAY: Final = r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_FORMS: Final = (
    # Sun, 06 Nov 1994 08:49:37 GMT
    re.compile(rf"{_DAY}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT"),
    # Sunday, 06-Nov-94 08:49:37 GMT
    re.compile(rf"{_DAY}[a-z]*day, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT"),
    # Sun Nov  6 08:49:37 1994
    re.compile(rf"{_DAY} {_MONTH} (?P<day>[ 0-9][0-9]) {_TIME} (?P<year>[0-9]{{4}})"),
)
_seconds = re.compile(r"-?[0-9]+").fullmatch
# Thirty years.
_LONGEST: Final = 999_999_999


def seconds_to_wait(retry_after: str | None, date: str | None = None) -> float | None:
    """Return how long the server asks to wait, None where it does not say, or not clearly.

    ``date`` is the header ``Date`` of the same response. A date to wait for is compared with
    that: both are of the server's clock, and this machine's may be wrong. What has passed is 0.
    """
    text = (retry_after or "").strip(" \t")
    if _seconds(text):
        digits = text.lstrip("0") or "0"
        return 0.0 if text.startswith("-") else float(min(int(digits[:10]), _LONGEST))
    moment = http_date(text)
    if moment is None:
        return None
    now = http_date((date or "").strip(" \t")) or datetime.now(UTC)
    return max(0.0, (moment - now).total_seconds())


def http_date(text: str) -> datetime | None:
    """Read a date in one of HTTP's forms; None for all else."""
    for form in _FORMS:
        found = form.fullmatch(text)
        if found is not None:
            break
    else:
        return None
    year = int(found["year"])
    if len(found["year"]) == 2:
        # The latest year with these digits that is at most 50 years ahead.
        latest = datetime.now(UTC).year + 50
        year = latest - (latest - year) % 100
    try:
        return datetime(
            year,
            _MONTHS.index(found["month"]) + 1,
            int(found["day"]),
            int(found["hour"]),
            int(found["minute"]),
            # A leap second is taken for the one before.
            59 if found["second"] == "60" else int(found["second"]),
            tzinfo=UTC,
        )
    except ValueError:
        return None
