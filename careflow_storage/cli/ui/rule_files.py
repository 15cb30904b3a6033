"""Read CORS and lifecycle rules from JSON in the formats of this library, of S3 and of B2.

A file holds a list of rules, one rule on each line, or an object whose only member is the list. The
name of that member shows which setting the list belongs to, so an object with other members is
refused: a list of something else must not replace the rules of a bucket.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pydantic import ValidationError

from careflow_storage.admin import CorsRule, LifecycleRule
from careflow_storage.cli.ui.rule_s3 import is_s3_lifecycle, s3_lifecycle_rules
from careflow_storage.errors import InvalidInputError
from careflow_storage.models import Model

M = TypeVar("M", bound=Model)

# The names of this library, S3, B2 and CareFlow's guide, in lower case without underscores.
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
# Case-sensitive: "Rules" is S3's name, for lifecycle rules only. "rules" is this command's name.
_CORS_ENVELOPES = ("rules", "CORSRules", "corsRules", "cors_rules")
_LIFECYCLE_ENVELOPES = ("rules", "Rules", "lifecycleRules", "lifecycle_rules")
# `aws s3api get-bucket-lifecycle-configuration` prints this beside the rules. It applies to
# transitions, which are refused.
_BESIDE_LIFECYCLE = ("TransitionDefaultMinimumObjectSize",)
_CORS_EXPECTED = (
    'Expected: the output of `careflow-storage cors show --json`, [{"name": "...", '
    '"allowed_origins": ["https://app.example"], "allowed_methods": ["GET"]}], S3\'s '
    '{"CORSRules": [...]} or B2\'s {"corsRules": [...]}, with no other members.'
)
_LIFECYCLE_EXPECTED = (
    'Expected: the output of `careflow-storage lifecycle show --json`, [{"prefix": '
    '"recordings/", "hide_after_days": 365}], S3\'s {"Rules": [...]} or B2\'s '
    '{"lifecycleRules": [...]}, with no other members.'
)
_OPERATION = re.compile(r"s3_(get|head|put|post|delete)")
_SHOWN = 60


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
        raise InvalidInputError(f"Cannot read {path}: {reason}.") from None


def cors_rules(text: str) -> list[CorsRule]:
    """Read CORS rules. A rule without a name gets one by its position.

    Raises:
        InvalidInputError: The text is not JSON of rules; the message names the field. The limits of
            S3 and B2 are not checked here.
    """
    found = []
    for position, given in enumerate(
        _objects(text, _CORS_ENVELOPES, (), _CORS_FIELDS, _CORS_EXPECTED)
    ):
        where = f"rules[{position}]"
        fields, spelled = _translated(given, _CORS_FIELDS, where, _CORS_EXPECTED)
        methods = fields.get("allowed_methods")
        if spelled.get("allowed_methods", "").lower().endswith("operations"):
            fields["allowed_methods"] = _http_methods(
                methods, f"{where}.{spelled['allowed_methods']}"
            )
        if fields.get("name") is None:
            fields["name"] = f"careflow-rule-{position + 1}"
        found.append(_model(CorsRule, fields, spelled, where))
    return found


def lifecycle_rules(text: str) -> list[LifecycleRule]:
    """Read lifecycle rules; raises as `cors_rules`.

    Joins the rules of one prefix: S3 has several, B2 one.
    """
    given = _objects(
        text,
        _LIFECYCLE_ENVELOPES,
        _BESIDE_LIFECYCLE,
        _LIFECYCLE_FIELDS,
        _LIFECYCLE_EXPECTED,
    )
    if any(is_s3_lifecycle(each) for each in given):
        return s3_lifecycle_rules(given, _LIFECYCLE_EXPECTED)
    found = []
    for position, each in enumerate(given):
        where = f"rules[{position}]"
        fields, spelled = _translated(each, _LIFECYCLE_FIELDS, where, _LIFECYCLE_EXPECTED)
        found.append(_model(LifecycleRule, fields, spelled, where))
    return found


def _objects(
    text: str,
    envelopes: tuple[str, ...],
    beside: tuple[str, ...],
    known: Mapping[str, str],
    expected: str,
) -> list[Mapping[str, Any]]:
    """The rules of a file, each an object. Only an empty list counts as no rules."""
    content = _parsed(text, expected)
    if isinstance(content, dict):
        content = _unwrapped(content, envelopes, beside, known, expected)
    if not isinstance(content, list):
        raise InvalidInputError(
            "The rules must be a list of objects: [{...}, {...}].", hint=expected
        )
    for position, each in enumerate(content):
        if not isinstance(each, dict):
            raise InvalidInputError(f"rules[{position}] must be an object, {{...}}.", hint=expected)
    return content


def _parsed(text: str, expected: str) -> Any:
    try:
        return _document_or_lines(text)
    except InvalidInputError as error:
        error.hint = expected
        raise
    except (ValueError, RecursionError) as error:
        problem = f"The rules are not JSON: {error}."
        if not text.strip():
            problem = "The file is empty. A list without rules is []."
        raise InvalidInputError(problem, hint=expected) from None


def _document_or_lines(text: str) -> Any:
    try:
        return _loaded(text)
    except json.JSONDecodeError:
        lines = [line for line in text.split("\n") if line.strip()]
        if len(lines) < 2 or not all(line.startswith("{") for line in lines):
            raise
        return [_loaded(line) for line in lines]


def _loaded(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)


def _unwrapped(
    content: Mapping[str, Any],
    envelopes: tuple[str, ...],
    beside: tuple[str, ...],
    known: Mapping[str, str],
    expected: str,
) -> Any:
    """The list within an object, or the object in a list if it is one rule."""
    found = [name for name in content if name in envelopes]
    others = [name for name in content if name not in (*envelopes, *beside)]
    if not found and others and all(_bare(name) in known for name in others):
        return [content]
    if not found and is_s3_lifecycle(content) and "Rules" in envelopes:
        return [content]
    if len(found) != 1 or others:
        shown = _shown(others if found or others else list(content))
        raise InvalidInputError(
            f"The file does not hold these rules: it has {shown}.", hint=expected
        )
    return content[found[0]]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise InvalidInputError(f"The rules have an object with {name!r} twice.")
    return dict(pairs)


def _no_constant(name: str) -> NoReturn:
    raise InvalidInputError(f"The rules are not JSON: {name} is not a JSON number.")


def _shown(names: list[str]) -> str:
    if not names:
        return "no list of rules"
    text = ", ".join(map(repr, names))
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} ..."


def _translated(
    given: Mapping[str, Any], known: Mapping[str, str], where: str, expected: str
) -> tuple[dict[str, Any], dict[str, str]]:
    """The fields of a rule by our names, and the names in the file by ours."""
    fields: dict[str, Any] = {}
    spelled: dict[str, str] = {}
    for name, value in given.items():
        field = known.get(_bare(name))
        if field is None:
            raise InvalidInputError(
                f"{where}.{name}: unknown field.",
                hint=f"Fields of a rule: {', '.join(dict.fromkeys(known.values()))}. {expected}",
            )
        if field in fields:
            raise InvalidInputError(
                f"{where}.{name} and {where}.{spelled[field]} are the same field."
            )
        spelled[field] = name
        if value is not None or field == "name":
            fields[field] = value
    return fields, spelled


def _http_methods(operations: object, where: str) -> object:
    """Translate B2's operations, such as ``s3_put``, to methods."""
    if not isinstance(operations, list):
        return operations
    methods = []
    for position, operation in enumerate(operations):
        match = _OPERATION.fullmatch(str(operation))
        if match is None:
            raise InvalidInputError(
                f"{where}[{position}]: {operation!r} is not an operation of the S3 API.",
                hint="Use s3_get, s3_head, s3_put, s3_post or s3_delete. For operations of "
                "the native API (b2_...), use Backblaze's own command.",
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
