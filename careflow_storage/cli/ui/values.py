"""How sizes, lengths of time, points in time and amounts are read from the command line."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation

import typer

NEVER = 0
"""What `parse_days` returns for "never": no lifecycle rule takes 0."""

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DAY = timedelta(days=1)


def parse_size(text: str) -> int:
    """Read a size such as 64MiB, 100MB or 5000 as bytes.

    Raises:
        typer.BadParameter: It is not a size, or less than one byte.
    """
    # Here, since --help and completion do without it.
    from pydantic import ByteSize, TypeAdapter, ValidationError

    # pydantic knows MiB and M, but not Mi.
    spelled = re.sub(r"(?<=[kmgt])i$", "iB", text.strip(), flags=re.IGNORECASE)
    try:
        size = int(TypeAdapter(ByteSize).validate_python(spelled))
    except (ValidationError, OverflowError):
        raise typer.BadParameter(f"{text!r} is not a size such as 64MiB, 100MB or 5000.") from None
    if size < 1:
        raise typer.BadParameter("The size must be at least one byte.")
    return size


def parse_time(text: str) -> timedelta:
    """Read a length of time such as 90s, 15m, 12h, 1d or 2w.

    Raises:
        typer.BadParameter: It is not a length of time.
    """
    match = re.fullmatch(r"(\d{1,6}(?:\.\d+)?)\s*([smhdw])", text.strip().lower())
    if match is None:
        raise typer.BadParameter(f"{text!r} is not a time such as 90s, 15m, 12h, 1d or 2w.")
    return timedelta(**{_UNITS[match[2]]: float(match[1])})


def parse_positive_time(text: str) -> timedelta:
    """Read a length of time such as 90d, 12h or 2w that is longer than zero.

    Raises:
        typer.BadParameter: It is not a length of time, or zero.
    """
    length = parse_time(text)
    if length <= timedelta(0):
        raise typer.BadParameter(f"{text!r} must be longer than zero.")
    return length


def parse_days(text: str) -> int:
    """Read whole days, such as 30d or 2w; "never" is `NEVER`.

    Raises:
        typer.BadParameter: It is not a length of time, not in whole days, or zero.
    """
    if text.strip().lower() == "never":
        return NEVER
    days, rest = divmod(parse_positive_time(text), _DAY)
    if rest:
        raise typer.BadParameter(f"{text!r} is not a number of whole days, such as 30d or 2w.")
    return days


def parse_moment(text: str) -> datetime:
    """Read a date or a time in ISO 8601: UTC if it has no time zone, midnight if it has no time.

    Raises:
        typer.BadParameter: It is neither, or outside the years 1 to 9999 in UTC.
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


def parse_amount(text: str) -> Decimal:
    """Read an amount of money such as 10 or 9.50.

    Raises:
        typer.BadParameter: It is not an amount, or negative.
    """
    try:
        amount = Decimal(text.strip())
    except InvalidOperation:
        amount = Decimal("NaN")
    if not (amount.is_finite() and amount >= 0):
        raise typer.BadParameter(f"{text!r} is not an amount such as 10 or 9.50.")
    return amount
