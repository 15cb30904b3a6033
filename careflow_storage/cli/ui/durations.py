"""How days and points in time are read from the command line."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

import typer

from careflow_storage.cli.ui.options import parse_time

NEVER = 0
"""What `parse_days` gives for "never": no lifecycle clock takes 0."""

_DAY = timedelta(days=1)


def parse_days(text: str) -> int:
    """Read whole days, such as 30d or 2w; "never" is `NEVER`.

    Raises:
        typer.BadParameter: It is no length of time, not whole days, or none at all.
    """
    if text.strip().lower() == "never":
        return NEVER
    length = parse_length(text)
    days, rest = divmod(length, _DAY)
    if rest:
        raise typer.BadParameter(f"{text!r} is not a number of whole days, such as 30d or 2w.")
    return days


def parse_length(text: str) -> timedelta:
    """Read a length of time such as 90d, 12h or 2w that is more than nothing.

    Raises:
        typer.BadParameter: It is none.
    """
    length = parse_time(text)
    if length <= timedelta(0):
        raise typer.BadParameter(f"{text!r} is no time at all.")
    return length


def parse_moment(text: str) -> datetime:
    """Read a date or a time in ISO 8601; UTC if it names no zone, 0 o'clock if it has no time.

    Raises:
        typer.BadParameter: It is none, or lies outside the years 1 to 9999 in UTC.
    """
    text = text.strip()
    try:
        return datetime.combine(date.fromisoformat(text), time(), UTC)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{text!r} is not a time such as 2027-01-31 or 2027-01-31T12:00+01:00."
        ) from None


def days_in_words(days: int) -> str:
    """1 day, 30 days."""
    return "1 day" if days == 1 else f"{days:,} days"
