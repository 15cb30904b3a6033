"""Add origins to CORS rules, without a change for other origins.

S3 applies the first rule that matches a request, so a new rule can hide a later one. Each
candidate is therefore checked on all rules first. It is skipped if the origin would lack a
right, or if another origin would lose one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from careflow_storage.admin.cors.limits import check_rule
from careflow_storage.admin.cors.matching import allows_origin
from careflow_storage.admin.models import CorsRule
from careflow_storage.errors import InvalidInputError

_LONGEST_NAME = 63


def added(rules: Sequence[CorsRule], wanted: CorsRule) -> list[CorsRule]:
    """Return the rules, changed so that the origins of ``wanted`` have its rights.

    An origin that has these rights changes nothing. Unchanged rules are the same objects.

    Raises:
        InvalidInputError: B2 would refuse ``wanted``.
    """
    check_rule(wanted, named=True)
    found = list(rules)
    for origin in wanted.allowed_origins:
        if _granted(found, origin, wanted):
            continue
        found = next(
            candidate
            for candidate, changed in _candidates(found, origin, wanted)
            if _helps(found, candidate, changed, origin, wanted)
        )
    return found


Candidate = tuple[list[CorsRule], CorsRule]
"""Possible new rules, and the one of them that is new or changed."""


def _candidates(rules: list[CorsRule], origin: str, wanted: CorsRule) -> Iterator[Candidate]:
    """Yield ways to add the origin, the tidiest first. The last one always works."""
    for place, rule in enumerate(rules):
        if rule.allowed_origins == (origin,):
            yield _replaced(rules, place, _widened(rule, wanted))
    for place, rule in enumerate(rules):
        # A pattern in an earlier rule could hide later rules of the origins that it matches.
        if _alike(rule, wanted) and ("*" not in origin or place == len(rules) - 1):
            origins = (*rule.allowed_origins, origin)
            yield _replaced(rules, place, rule.model_copy(update={"allowed_origins": origins}))
    own = wanted.model_copy(
        update={"allowed_origins": (origin,), "name": _free_name(rules, wanted.name)}
    )
    yield [*rules, own], own
    # Only this origin matches the rule, so in the first place it hides nothing from others.
    exposed = _merged(own.expose_headers, _exposed(rules, origin, wanted.allowed_methods))
    first = own.model_copy(update={"expose_headers": exposed})
    yield [first, *rules], first


def _replaced(rules: list[CorsRule], place: int, rule: CorsRule) -> Candidate:
    return [*rules[:place], rule, *rules[place + 1 :]], rule


def _helps(
    before: list[CorsRule],
    after: list[CorsRule],
    changed: CorsRule,
    origin: str,
    wanted: CorsRule,
) -> bool:
    if "*" in origin:
        # In the last place it hides no other rule.
        return after[-1] is changed and _fits(changed)
    if after[0] is changed and len(after) > len(before):
        return True
    return (
        _fits(changed)
        and _granted(after, origin, wanted)
        and all(
            set(_exposed(before, origin, (method,))) <= set(_lowered(rule.expose_headers))
            for method in changed.allowed_methods
            for rule in _reached(after, origin, method)
            if rule is changed
        )
    )


def _granted(rules: Sequence[CorsRule], origin: str, wanted: CorsRule) -> bool:
    """Whether the origin has all rights of ``wanted``, with any header."""
    if "*" in origin:
        return any(_covers(rule, origin, wanted) for rule in rules)
    needed = set(_lowered(wanted.expose_headers))
    for method in wanted.allowed_methods:
        reached = _reached(rules, origin, method)
        if not reached or not _takes_all_headers(reached[-1]):
            return False
        if any(not needed <= set(_lowered(rule.expose_headers)) for rule in reached):
            return False
    return True


def _covers(rule: CorsRule, origin: str, wanted: CorsRule) -> bool:
    return (
        (origin in rule.allowed_origins or "*" in rule.allowed_origins)
        and set(wanted.allowed_methods) <= set(rule.allowed_methods)
        and _takes_all_headers(rule)
        and set(_lowered(wanted.expose_headers)) <= set(_lowered(rule.expose_headers))
    )


def _reached(rules: Sequence[CorsRule], origin: str, method: str) -> list[CorsRule]:
    """Return the rules that may apply, depending on the headers: up to one for all headers."""
    reached = []
    for rule in rules:
        if allows_origin(rule, origin) and method in rule.allowed_methods:
            reached.append(rule)
            if _takes_all_headers(rule):
                break
    return reached


def _exposed(rules: Sequence[CorsRule], origin: str, methods: Sequence[str]) -> tuple[str, ...]:
    """Return the headers that a page of the origin may read now, in lower case."""
    return _merged(
        *(
            _lowered(rule.expose_headers)
            for method in methods
            for rule in _reached(rules, origin, method)
        )
    )


def _widened(rule: CorsRule, wanted: CorsRule) -> CorsRule:
    headers = rule.allowed_headers if _takes_all_headers(rule) else wanted.allowed_headers
    return rule.model_copy(
        update={
            "allowed_methods": _merged(rule.allowed_methods, wanted.allowed_methods),
            "allowed_headers": headers,
            "expose_headers": _merged(rule.expose_headers, wanted.expose_headers),
        }
    )


def _alike(rule: CorsRule, wanted: CorsRule) -> bool:
    """Whether a rule of this name grants exactly the rights of ``wanted``."""
    stem, hyphen, number = rule.name.rpartition("-")
    return (
        (rule.name == wanted.name or (stem == wanted.name and bool(hyphen) and number.isdigit()))
        and set(rule.allowed_methods) == set(wanted.allowed_methods)
        and rule.allowed_headers == wanted.allowed_headers
        and set(_lowered(rule.expose_headers)) == set(_lowered(wanted.expose_headers))
        and rule.max_age_seconds == wanted.max_age_seconds
    )


def _fits(rule: CorsRule) -> bool:
    try:
        check_rule(rule, named=False)
    except InvalidInputError:
        return False
    return True


def _free_name(rules: Sequence[CorsRule], name: str) -> str:
    taken = {rule.name for rule in rules}
    free, number = name, 1
    while free in taken:
        number += 1
        ending = f"-{number}"
        free = f"{name[: _LONGEST_NAME - len(ending)]}{ending}"
    return free


def _takes_all_headers(rule: CorsRule) -> bool:
    return "*" in rule.allowed_headers


def _lowered(texts: Sequence[str]) -> tuple[str, ...]:
    return tuple(text.lower() for text in texts)


def _merged(*lists: Sequence[str]) -> tuple[str, ...]:
    """Return all texts in order, without duplicates that differ only in case."""
    united = {text.lower(): text for texts in reversed(lists) for text in reversed(texts)}
    return tuple(dict.fromkeys(united[text.lower()] for texts in lists for text in texts))
