"""Dates in headers and forms, which other programs have written."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def parse_date(text: str | None) -> datetime | None:
    """Read a date of HTTP or of e-mail (RFC 9110, RFC 5322), in UTC; None for anything else.

    A date without a zone is in UTC.
    """
    if text is None:
        return None
    try:
        return in_utc(parsedate_to_datetime(text))
    except (ValueError, IndexError, OverflowError, TypeError):
        return None


def in_utc(moment: datetime) -> datetime:
    """Convert a time to UTC.

    Raises:
        ValueError: Its year in UTC is not one from 1 to 9999.
    """
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("the date is out of range") from error
