"""CORS and lifecycle rules in JSON, in whichever spelling somebody has them."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from careflow_storage.admin import CorsRule, LifecycleRule
from careflow_storage.errors import InvalidInputError
from careflow_storage.models import Model

M = TypeVar("M", bound=Model)

# Ours, S3's, B2's own and that of CareFlow's guide, without upper case and underscores.
_CORS_FIELDS = {
    "name": "name",
    "id": "name",
    "corsrulename": "name",
    "allowedorigins": "allowed_origins",
    "allowedmethods": "allowed_methods",
    "allowedoperations": "allowed_methods",
    "allowedheaders": "allowed_headers",
    "exposeheaders": "expose_headers",
    "maxageseconds": "max_age_seconds",
}
_LIFECYCLE_FIELDS = {
    "prefix": "prefix",
    "filenameprefix": "prefix",
    "hideafterdays": "hide_after_days",
    "daysfromuploadingtohiding": "hide_after_days",
    "eraseafterdays": "erase_after_days",
    "daysfromhidingtodeleting": "erase_after_days",
    "cancelunfinishedafterdays": "cancel_unfinished_after_days",
    "daysfromstartingtocancelingunfinishedlargefiles": "cancel_unfinished_after_days",
    "unsupported": "unsupported",
}
_ENVELOPES = ("rules", "corsrules", "lifecyclerules")
_OPERATION = re.compile(r"s3_(get|head|put|post|delete)")


def read_rules_text(path: Path) -> str:
    """Read a file of rules, or stdin for "-".

    Raises:
        InvalidInputError: It cannot be read, or is not UTF-8.
    """
    try:
        content = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path} is not UTF-8 text (byte {error.start}).") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InvalidInputError(f"{path} cannot be read: {reason}.") from None


def cors_rules(text: str) -> list[CorsRule]:
    """Read CORS rules; those without a name get one by their place.

    Raises:
        InvalidInputError: It is no such JSON; the field is named. The limits of what a rule may
            say are not checked here.
    """
    found = []
    for position, given in enumerate(_objects(text)):
        where = f"rules[{position}]"
        fields, spelled = _translated(given, _CORS_FIELDS, where)
        methods = fields.get("allowed_methods")
        if spelled.get("allowed_methods", "").lower().endswith("operations"):
            fields["allowed_methods"] = _methods(methods, f"{where}.{spelled['allowed_methods']}")
        if fields.get("name") is None:
            fields["name"] = f"careflow-rule-{position + 1}"
        found.append(_model(CorsRule, fields, spelled, where))
    return found


def lifecycle_rules(text: str) -> list[LifecycleRule]:
    """Read lifecycle rules; raises as `cors_rules`."""
    found = []
    for position, given in enumerate(_objects(text)):
        where = f"rules[{position}]"
        fields, spelled = _translated(given, _LIFECYCLE_FIELDS, where)
        found.append(_model(LifecycleRule, fields, spelled, where))
    return found


def _objects(text: str) -> list[Mapping[str, Any]]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"The rules are not JSON: {error}.") from None
    if isinstance(content, dict):
        inner = [value for name, value in content.items() if _bare(name) in _ENVELOPES]
        content = inner[0] if inner else [content]
    if not isinstance(content, list):
        raise InvalidInputError("The rules must be a list of objects: [{...}, {...}].")
    for position, each in enumerate(content):
        if not isinstance(each, dict):
            raise InvalidInputError(f"rules[{position}] must be an object, {{...}}.")
    return content


def _translated(
    given: Mapping[str, Any], known: Mapping[str, str], where: str
) -> tuple[dict[str, Any], dict[str, str]]:
    """A rule by our names, and how the file spells them."""
    fields: dict[str, Any] = {}
    spelled: dict[str, str] = {}
    for name, value in given.items():
        field = known.get(_bare(name))
        if field is None:
            raise InvalidInputError(
                f"{where}.{name}: there is no such field.",
                hint=f"A rule has {', '.join(dict.fromkeys(known.values()))}.",
            )
        if field in fields:
            raise InvalidInputError(f"{where}.{name} is the same as {where}.{spelled[field]}.")
        spelled[field] = name
        if value is not None or field == "name":
            fields[field] = value
    return fields, spelled


def _methods(operations: object, where: str) -> object:
    """B2's operations, such as ``s3_put``, as methods."""
    if not isinstance(operations, list):
        return operations
    methods = []
    for position, operation in enumerate(operations):
        match = _OPERATION.fullmatch(str(operation))
        if match is None:
            raise InvalidInputError(
                f"{where}[{position}]: {operation!r} does not open the S3 endpoint.",
                hint="Use s3_get, s3_head, s3_put, s3_post or s3_delete; those of the native API "
                "(b2_...) are set with Backblaze's own command.",
            )
        methods.append(match[1].upper())
    return methods


def _model(model: type[M], fields: dict[str, Any], spelled: Mapping[str, str], where: str) -> M:
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    field, *inside = first["loc"]
    place = f"{where}.{spelled.get(str(field), field)}" + "".join(f"[{each}]" for each in inside)
    message = first["msg"]
    raise InvalidInputError(f"{place}: {message[:1].lower()}{message[1:]}.")


def _bare(name: str) -> str:
    return name.replace("_", "").lower()
