"""The check of arguments that several areas share."""

from __future__ import annotations

from careflow_storage.errors import InvalidInputError


def check_text(text: object, field: str) -> None:
    """Raise `InvalidInputError` unless it is a text; pydantic would raise an error of its own."""
    if not isinstance(text, str) or not text:
        raise InvalidInputError(f"{field} must be a str that is not empty, not {text!r}.")
