"""Check the limits of CORS rules before a request is sent.

The limits are B2's. They apply on every server, so that rules that work in a test work on B2:
Backblaze, "Cross-Origin Resource Sharing Rules" and "Enable CORS with the S3-Compatible API".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import get_args
from urllib.parse import urlsplit

from careflow_storage.admin.models import CorsMethod, CorsRule
from careflow_storage.errors import InvalidInputError

METHODS: tuple[str, ...] = get_args(CorsMethod)
MAX_RULES = 100
"""Per bucket."""

_MAX_BYTES = 1000  # exclusive
_MAX_AGE = 86_400
_NAME = re.compile(r"[A-Za-z0-9-]{6,63}")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# Apps in a web view have their own schemes, such as capacitor://localhost.
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[a-z0-9._*-]+)(?::([0-9]{1,5}))?")
_DEFAULT_PORTS = {"http": "80", "https": "443"}


def check_rules(rules: Sequence[CorsRule]) -> None:
    """Raise `InvalidInputError` for rules that B2 would refuse; name the field."""
    if len(rules) > MAX_RULES:
        raise InvalidInputError(f"rules: {len(rules)} are too many; B2 allows {MAX_RULES}.")
    places: dict[str, int] = {}
    for position, rule in enumerate(rules):
        check_rule(rule, f"rules[{position}]", named=False)
        if not rule.name:
            continue
        if rule.name in places:
            raise InvalidInputError(
                f"rules[{position}].name: {rule.name!r} is the name of "
                f"rules[{places[rule.name]}] already."
            )
        places[rule.name] = position


def check_rule(rule: CorsRule, where: str = "", *, named: bool) -> None:
    """As `check_rules`, for the rule at ``where``. ``named`` requires a name."""
    if not isinstance(rule, CorsRule):
        raise InvalidInputError(f"{where or 'rule'} must be a CorsRule, not {rule!r}.")
    for field, problem in _problems(rule, named=named):
        raise InvalidInputError(f"{where}{'.' if where else ''}{field}: {problem}.")
    size = _size(rule)
    if size >= _MAX_BYTES:
        raise InvalidInputError(
            f"{where or 'rule'}: its texts have {size} bytes in total; B2 allows less than "
            f"{_MAX_BYTES} per rule.",
            hint="Spread the origins over several rules with different names.",
        )


def _problems(rule: CorsRule, *, named: bool) -> list[tuple[str, str]]:
    """Return each field of a rule that is wrong, and the problem."""
    age = rule.max_age_seconds
    found = [
        ("name", _name_problem(rule.name) if rule.name or named else None),
        ("allowed_origins", None if rule.allowed_origins else "must not be empty"),
        *_each("allowed_origins", rule.allowed_origins, origin_problem),
        ("allowed_methods", None if rule.allowed_methods else "must not be empty"),
        *_each("allowed_methods", rule.allowed_methods, method_problem),
        *_each("allowed_headers", rule.allowed_headers, header_problem),
        *_each("expose_headers", rule.expose_headers, _exposed_problem),
        ("max_age_seconds", None if age is None or 0 <= age <= _MAX_AGE else _age_problem(age)),
    ]
    return [(field, problem) for field, problem in found if problem is not None]


def _each(
    field: str, texts: Sequence[str], problem_of: Callable[[str], str | None]
) -> list[tuple[str, str | None]]:
    return [(f"{field}[{number}]", problem_of(text)) for number, text in enumerate(texts)]


def _size(rule: CorsRule) -> int:
    """Count the bytes of a rule's texts as B2 does; methods count as ``s3_put`` etc."""
    operations = [f"s3_{method}" for method in rule.allowed_methods]
    texts = [rule.name, *rule.allowed_origins, *operations]
    texts += [*rule.allowed_headers, *rule.expose_headers]
    return sum(len(text.encode(errors="surrogatepass")) for text in texts)


def _name_problem(name: str) -> str | None:
    if not name:
        return "it must have one, by which it is found again"
    if not _NAME.fullmatch(name):
        return f"{name!r} must have 6 to 63 letters, digits or hyphens"
    if name.lower().startswith("b2-"):
        return f"{name!r} must not begin with b2-, which Backblaze reserves"
    return None


def origin_problem(origin: str) -> str | None:
    """Return what is wrong with an origin of a rule, or None."""
    if origin == "*":
        return None
    if origin.lower() == "null":
        return (
            f"{origin!r} cannot be allowed: sandboxed frames and file:// pages of any site send "
            "it; serve the page from an origin such as http://localhost:3000"
        )
    if "://" not in origin:
        local = origin.startswith(("localhost", "127.", "[::1]"))
        return f"{origin!r} has no scheme: perhaps {'http' if local else 'https'}://{origin}"
    if origin.count("*") > 1:
        return f"{origin!r} may have only one *"
    match = _ORIGIN.fullmatch(origin)
    if match is None:
        return f"{origin!r} {_not_an_origin(origin)}"
    scheme, host, port = match.groups()
    if port is not None and not 0 < int(port) <= 65_535:
        return f"{origin!r} has no valid port"
    if port is not None and port == _DEFAULT_PORTS.get(scheme):
        return f"{origin!r} must be {scheme}://{host}: browsers omit a default port"
    return None


def _not_an_origin(origin: str) -> str:
    """Return why a text with a scheme is not an origin as browsers send it."""
    if _ORIGIN.fullmatch(origin.lower()):
        return f"must be in lower case, as browsers send it: {origin.lower()}"
    scheme, _, rest = origin.partition("://")
    bare = f"{scheme}://{re.split('[/?#]', rest)[0]}"
    if bare != origin and _ORIGIN.fullmatch(bare):
        return f"must end after the host and port: {bare}"
    if not origin.isascii():
        return "must be ASCII: an international name as browsers send it (xn--...)"
    if "@" in _authority(origin):
        return "must not hold a user name or password"
    return "must be scheme://host or scheme://host:port"


def _authority(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:  # unbalanced brackets
        return ""


def method_problem(method: str) -> str | None:
    """Return what is wrong with a method, or None."""
    if method in METHODS:
        return None
    if method == "OPTIONS":
        return "OPTIONS is the method of preflights: it is always allowed and never in a rule"
    return f"{method!r} must be one of {', '.join(METHODS)}"


def header_problem(header: str) -> str | None:
    """Return what is wrong with the name of a request header, or None."""
    if not _HEADER.fullmatch(header):
        return f"{header!r} must be the name of a header"
    if header.count("*") > 1:
        return f"{header!r} may have only one *"
    return None


def _exposed_problem(header: str) -> str | None:
    if "*" in header:
        return f"{header!r}: S3 does not support * here"
    return header_problem(header)


def _age_problem(age: int) -> str:
    return f"must be 0 to {_MAX_AGE} (a day), not {age}"
