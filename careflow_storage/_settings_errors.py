"""Errors of settings, which name the variables and contain none of the values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from careflow_storage._aws_names import AWS_NAMES
from careflow_storage.errors import InvalidInputError


def variable_of(name: str) -> str:
    """Return the environment variable of a field."""
    return f"BACKBLAZE_{name.upper()}"


def label_of(name: str) -> str:
    """Return the variable of a field, and its AWS name, from which the value may come."""
    return f"{variable_of(name)} (or {AWS_NAMES[name]})" if name in AWS_NAMES else variable_of(name)


def without_values(validate: Callable[..., None], values: dict[str, Any]) -> None:
    """Call ``validate(**values)``, and remove all values from the error that it raises.

    pydantic can remove values from the text of its errors, but not from ``errors()``. Error
    trackers record ``errors()`` and local variables, and a decoding error contains the whole
    file. Clears ``values`` before an error is raised.

    Raises:
        pydantic.ValidationError: A value is invalid. The error names its variable.
        InvalidInputError: A settings file is not UTF-8 text.
    """
    refusal: Exception | None = None
    try:
        validate(**values)
    except ValidationError as error:
        lines = [_readable_line(line) for line in error.errors(include_url=False)]
        refusal = ValidationError.from_exception_data(error.title, lines, hide_input=True)
    except UnicodeDecodeError:
        refusal = InvalidInputError(
            "A settings file is not UTF-8 text.",
            hint="Save .env and secrets as UTF-8; PowerShell's redirection writes UTF-16.",
        )
    # Raised here, so that the original error, which has the values, is not the context.
    if refusal is not None:
        values.clear()
        del validate
        raise refusal


def _readable_line(line: ErrorDetails) -> InitErrorDetails:
    text = line["msg"]
    name = str(line["loc"][0]) if line["loc"] else None
    if line["type"] == "value_error":
        text = str(line["ctx"]["error"])
        if name is not None:
            text = f"{label_of(name)} {text}"
    elif name is not None:
        text = f"{label_of(name)}: {text}"
    return InitErrorDetails(
        type=PydanticCustomError(line["type"], "{problem}", {"problem": text}),
        loc=line["loc"],
        input="<hidden>",
    )
