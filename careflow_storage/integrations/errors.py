"""The errors of a client's request, which no storage raises."""

from __future__ import annotations

from careflow_storage.errors import InvalidInputError


class FormError(InvalidInputError):
    """The request body is not a well-formed form, or it ended early. HTTP: 400."""


class FormTypeError(FormError):
    """The request is no form: its type is not ``multipart/form-data``. HTTP: 415."""
