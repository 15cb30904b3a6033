"""Lifecycle rules: their limits, and their form in S3.

B2 has one rule for a prefix, with three clocks. S3 has a list of rules with one or more actions
each. They map as Backblaze's "S3 Put Lifecycle Configuration" and "S3 Get Lifecycle
Configuration" say: hide is Expiration, erase is NoncurrentVersionExpiration, cancel is
AbortIncompleteMultipartUpload. A rule that hides comes with a second one that removes delete
markers of files without any other version (ExpiredObjectDeleteMarker); B2 does this anyway.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from careflow_storage._s3.requests.listing import checked_prefix
from careflow_storage.admin.models import LifecycleRule
from careflow_storage.errors import InvalidInputError

MAX_RULES = 100
"""Per bucket."""

_CLOCKS = ("hide_after_days", "erase_after_days", "cancel_unfinished_after_days")


def recordings_rule(
    *,
    hide_after_days: int | None,
    erase_after_days: int | None,
    cancel_unfinished_after_days: int | None,
    prefix: str,
) -> LifecycleRule:
    """Make the rule of `expire_recordings`. Raise `InvalidInputError` for wrong days or prefix."""
    clocks = dict(
        zip(
            _CLOCKS,
            (hide_after_days, erase_after_days, cancel_unfinished_after_days),
            strict=True,
        )
    )
    _check_clocks(clocks, "")
    return LifecycleRule(prefix=checked_prefix(prefix), **clocks)


def from_s3(found: Iterable[Mapping[str, Any]]) -> list[LifecycleRule]:
    """Merge S3's rules into one per prefix, in S3's order.

    If two rules have the same clock, the shorter one counts, as it does for the files.
    """
    clocks: dict[str, dict[str, int]] = {}
    unsupported: dict[str, list[str]] = {}
    for each in found:
        prefix = prefix_of(each)
        mine, foreign = clocks.setdefault(prefix, {}), unsupported.setdefault(prefix, [])
        parts = foreign_parts(each)
        foreign += parts
        if parts:
            continue  # its days do not apply to all files
        for name, days in zip(_CLOCKS, actions_of(each), strict=True):
            if days is not None:
                mine[name] = min(days, mine.get(name, days))
    for prefix, mine in clocks.items():
        if not mine and not unsupported[prefix]:
            unsupported[prefix].append("removes nothing but delete markers")
    return [
        LifecycleRule(prefix=prefix, unsupported=tuple(unsupported[prefix]), **mine)
        for prefix, mine in clocks.items()
    ]


def check_rules(rules: Sequence[LifecycleRule]) -> None:
    """Raise `InvalidInputError` for rules that B2 would refuse; name the field.

    The limits are those of Backblaze's "Lifecycle Rules".
    """
    if len(rules) > MAX_RULES:
        raise InvalidInputError(f"rules: {len(rules)} are too many; B2 allows {MAX_RULES}.")
    places: dict[str, int] = {}
    for position, rule in enumerate(rules):
        check_rule(rule, f"rules[{position}]")
        if rule.prefix in places:
            raise InvalidInputError(
                f"rules[{position}].prefix: {rule.prefix!r} is the prefix of "
                f"rules[{places[rule.prefix]}] already."
            )
        places[rule.prefix] = position


def check_rule(rule: LifecycleRule, where: str = "") -> None:
    """As `check_rules`, for one rule."""
    if not isinstance(rule, LifecycleRule):
        raise InvalidInputError(f"{where or 'rule'} must be a LifecycleRule, not {rule!r}.")
    field = f"{where}." if where else ""
    try:
        checked_prefix(rule.prefix)
    except InvalidInputError as error:
        raise InvalidInputError(f"{field}{error.message}") from error
    if rule.unsupported:
        raise InvalidInputError(
            f"{field}unsupported: {'; '.join(rule.unsupported)}: this cannot be written.",
            hint="Nothing was changed. Write such rules with the S3 client of "
            "`await storage.client()`.",
        )
    _check_clocks({name: getattr(rule, name) for name in _CLOCKS}, field)


def _check_clocks(clocks: Mapping[str, object], field: str) -> None:
    for name, days in clocks.items():
        if days is not None and (type(days) is not int or days < 1):
            raise InvalidInputError(
                f"{field}{name} must be 1 day or more, or None for never, not {days!r}."
            )
    if all(days is None for days in clocks.values()):
        raise InvalidInputError(
            f"{field}{', '.join(_CLOCKS)}: at least one must be set, or the rule does nothing."
        )


_FILTERS = {
    "Tag": "only files with a tag",
    "Tags": "only files with tags",
    "ObjectSizeGreaterThan": "only files above a size",
    "ObjectSizeLessThan": "only files below a size",
}
_ACTIONS = {
    "Transitions": "moves files to another storage class",
    "NoncurrentVersionTransitions": "moves old versions to another storage class",
}
_KNOWN = frozenset(
    {
        *("ID", "Prefix", "Filter", "Status", "Expiration"),
        *("NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload"),
    }
)


def to_s3(rule: LifecycleRule) -> list[dict[str, Any]]:
    """Write a rule as S3's rules, in the form in which B2 returns them.

    Makes one for each clock, and for hiding a second one that removes old delete markers.
    """
    hide, erase, cancel = (getattr(rule, name) for name in _CLOCKS)
    actions: dict[str, dict[str, Any]] = {}
    if hide is not None:
        actions["hide"] = {"Expiration": {"Days": hide}}
        actions["markers"] = {"Expiration": {"ExpiredObjectDeleteMarker": True}}
    if erase is not None:
        actions["erase"] = {"NoncurrentVersionExpiration": {"NoncurrentDays": erase}}
    if cancel is not None:
        actions["cancel"] = {"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": cancel}}
    # An ID must be short and unique in the bucket; a prefix may have 1024 bytes.
    digest = hashlib.sha256(rule.prefix.encode()).hexdigest()[:12]
    return [
        {
            "ID": f"careflow-{digest}-{what}",
            "Status": "Enabled",
            "Filter": {"Prefix": rule.prefix},
            **action,
        }
        for what, action in actions.items()
    ]


def prefix_of(rule: Mapping[str, Any]) -> str:
    """Return the prefix in the rule's filter, or next to it as in S3's first version, or ""."""
    chosen = rule.get("Filter") or {}
    return str(
        chosen.get("And", {}).get("Prefix") or chosen.get("Prefix") or rule.get("Prefix") or ""
    )


def actions_of(rule: Mapping[str, Any]) -> tuple[int | None, int | None, int | None]:
    """Return the days until hiding, erasing and canceling; None for a clock that is not set."""
    return (
        rule.get("Expiration", {}).get("Days"),
        rule.get("NoncurrentVersionExpiration", {}).get("NoncurrentDays"),
        rule.get("AbortIncompleteMultipartUpload", {}).get("DaysAfterInitiation"),
    )


def foreign_parts(rule: Mapping[str, Any]) -> list[str]:
    """Describe the parts of a rule that `LifecycleRule` cannot express."""
    name = f"rule {rule['ID']!r}" if rule.get("ID") else "a rule without an ID"
    return [f"{name}: {part}" for part in _foreign(rule)]


def _foreign(rule: Mapping[str, Any]) -> Iterator[str]:
    if rule.get("Status") != "Enabled":
        yield "is disabled"
    chosen = rule.get("Filter") or {}
    for name in (*chosen, *chosen.get("And", {})):
        if name not in ("Prefix", "And"):
            yield _FILTERS.get(name, f"has the filter {name}")
    for name in rule:
        if name not in _KNOWN:
            yield _ACTIONS.get(name, f"has {name}")
    if "Date" in rule.get("Expiration", {}):
        yield "hides on a date"
    if "NewerNoncurrentVersions" in rule.get("NoncurrentVersionExpiration", {}):
        yield "keeps a number of old versions"
