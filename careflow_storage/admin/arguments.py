"""The check of arguments that several areas share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from careflow_storage.errors import InvalidInputError

T = TypeVar("T")


def check_text(text: object, field: str) -> None:
    """Raise `InvalidInputError` unless it is a text; pydantic would raise an error of its own."""
    if not isinstance(text, str) or not text:
        raise InvalidInputError(f"{field} must be a str that is not empty, not {text!r}.")


def listed(given: Iterable[T], field: str) -> list[T]:
    """Return what was given as a list; raise `InvalidInputError` if it is none, or one text."""
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise InvalidInputError(f"{field} must be a list, not {type(given).__name__}.")
    return list(given)
