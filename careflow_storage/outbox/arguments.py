"""Checks of the numbers and durations that users pass."""

from __future__ import annotations

from datetime import timedelta

from careflow_storage.errors import InvalidInputError


def check_numbers(**numbers: object) -> None:
    """Refuse what is no positive number.

    Raises:
        InvalidInputError: It names the argument.
    """
    for name, number in numbers.items():
        if not isinstance(number, int | float) or not number > 0:
            raise InvalidInputError(f"{name} must be more than 0, not {number!r}.")


def check_spans(**spans: object) -> None:
    """Refuse what is no `timedelta`.

    Raises:
        InvalidInputError: It names the argument.
    """
    for name, span in spans.items():
        if not isinstance(span, timedelta):
            raise InvalidInputError(f"{name} must be a timedelta, not {span!r}.")
