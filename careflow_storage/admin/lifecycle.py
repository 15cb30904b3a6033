"""Lifecycle rules: B2's three clocks for each prefix, as S3's XML has them.

B2 has one rule for a prefix, with three clocks. S3 has a list of rules with one or more actions
each. They map as Backblaze's "S3 Put Lifecycle Configuration" and "S3 Get Lifecycle
Configuration" say: hide is Expiration, erase is NoncurrentVersionExpiration, cancel is
AbortIncompleteMultipartUpload, and a rule that hides comes with another one that removes delete
markers below which nothing is left (ExpiredObjectDeleteMarker), which B2 does anyway.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import StrictInt

from careflow_storage._s3.boto.pages import nothing
from careflow_storage._s3.listing import checked_prefix
from careflow_storage._transfer.context import TransferContext
from careflow_storage.errors import (
    InvalidInputError,
    NoSuchConfigurationError,
    NotSupportedError,
    listed,
)
from careflow_storage.models import Model

_MAX_RULES = 100
_CLOCKS = ("hide_after_days", "erase_after_days", "cancel_unfinished_after_days")
_MINIMUM_SIZE = "TransitionDefaultMinimumObjectSize"


class LifecycleRule(Model):
    """What happens by itself to the files below ``prefix``; days are positive, None is never.

    ``unsupported`` tells of rules for the same prefix that have no place in these fields, such
    as transitions to other storage classes, which other servers know. B2 has none. A rule with
    such parts can be read, not written.
    """

    prefix: str
    hide_after_days: StrictInt | None = None
    erase_after_days: StrictInt | None = None
    cancel_unfinished_after_days: StrictInt | None = None
    unsupported: tuple[str, ...] = ()


def recordings_rule(
    *,
    hide_after_days: int | None,
    erase_after_days: int | None,
    cancel_unfinished_after_days: int | None,
    prefix: str,
) -> LifecycleRule:
    """Make the rule of `expire_recordings`; raise `InvalidInputError` if it cannot be one."""
    clocks = dict(
        zip(
            _CLOCKS,
            (hide_after_days, erase_after_days, cancel_unfinished_after_days),
            strict=True,
        )
    )
    _check_clocks(clocks, "")
    return LifecycleRule(prefix=checked_prefix(prefix), **clocks)


def rules_from_s3(found: Iterable[Mapping[str, Any]]) -> list[LifecycleRule]:
    """Join rules as S3 has them to one for each prefix; what B2 lacks is in ``unsupported``."""
    return _from_s3(found)


async def get_rules(context: TransferContext) -> list[LifecycleRule]:
    found, _ = await _read(context)
    return _from_s3(found)


async def set_rules(context: TransferContext, rules: Iterable[LifecycleRule]) -> None:
    wanted = listed(rules, "rules")
    check_rules(wanted)
    await _write(context, [each for rule in wanted for each in _to_s3(rule)], {})


async def put_rule(context: TransferContext, rule: LifecycleRule) -> list[LifecycleRule]:
    _check_rule(rule, "")
    found, extras = await _read(context)
    others = _without(found, rule.prefix)
    merged = others + _to_s3(rule)
    rules = _from_s3(merged)
    if len(rules) > _MAX_RULES:
        raise InvalidInputError(
            f"The bucket has rules for {len(rules) - 1} prefixes already, B2 has {_MAX_RULES}.",
            hint="Nothing was changed. get_lifecycle_rules() tells which there are.",
        )
    await _write(context, merged, extras)
    return rules


async def remove_rule(context: TransferContext, prefix: str) -> list[LifecycleRule]:
    checked_prefix(prefix)
    found, extras = await _read(context)
    left = _without(found, prefix)
    if len(left) < len(found):
        await _write(context, left, extras)
    return _from_s3(left)


def _without(found: Sequence[dict[str, Any]], prefix: str) -> list[dict[str, Any]]:
    """All rules but those of this prefix, as S3 gave them; none is lost unsaid."""
    gone = [each for each in found if prefix_of(each) == prefix]
    unsupported = [part for each in gone for part in foreign_parts(each)]
    if unsupported:
        raise NotSupportedError(
            f"The prefix {prefix!r} has rules that cannot be kept: {'; '.join(unsupported)}.",
            hint="Nothing was changed. The client that (await storage.client()) gives can change "
            "them.",
        )
    return [each for each in found if prefix_of(each) != prefix]


async def _read(context: TransferContext) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rules as S3 gives them, and what else must be sent back with them."""
    try:
        return await context.control.call(
            "get_bucket_lifecycle_configuration",
            None,
            {},
            lambda response: (
                list(response["Rules"]),
                {name: response[name] for name in (_MINIMUM_SIZE,) if response.get(name)},
            ),
        )
    except NoSuchConfigurationError:
        return [], {}


async def _write(
    context: TransferContext, rules: Sequence[dict[str, Any]], extras: Mapping[str, Any]
) -> None:
    if not rules:
        await context.control.call("delete_bucket_lifecycle", None, {}, nothing)
        return
    await context.control.call(
        "put_bucket_lifecycle_configuration",
        None,
        {"LifecycleConfiguration": {"Rules": list(rules)}, **extras},
        nothing,
    )


def _from_s3(found: Iterable[Mapping[str, Any]]) -> list[LifecycleRule]:
    """Join S3's rules to one for each prefix, in the order in which S3 has them.

    Of two clocks of one kind the shorter counts, as it does for the files.
    """
    clocks: dict[str, dict[str, int]] = {}
    unsupported: dict[str, list[str]] = {}
    for each in found:
        prefix = prefix_of(each)
        mine, foreign = clocks.setdefault(prefix, {}), unsupported.setdefault(prefix, [])
        parts = foreign_parts(each)
        foreign += parts
        if parts:
            continue  # its days are not those of all files
        for name, days in zip(_CLOCKS, actions_of(each), strict=True):
            if days is not None:
                mine[name] = min(days, mine.get(name, days))
    for prefix, mine in clocks.items():
        if not mine and not unsupported[prefix]:
            unsupported[prefix].append("nothing but delete markers is removed")
    return [
        LifecycleRule(prefix=prefix, unsupported=tuple(unsupported[prefix]), **mine)
        for prefix, mine in clocks.items()
    ]


def _to_s3(rule: LifecycleRule) -> list[dict[str, Any]]:
    return to_s3(
        rule.prefix,
        rule.hide_after_days,
        rule.erase_after_days,
        rule.cancel_unfinished_after_days,
    )


def check_rules(rules: Sequence[LifecycleRule]) -> None:
    """Raise `InvalidInputError` for rules that B2 would not take; it names the field.

    The limits are those of Backblaze's "Lifecycle Rules".
    """
    if len(rules) > _MAX_RULES:
        raise InvalidInputError(f"rules: {len(rules)} are too many, B2 has {_MAX_RULES} a bucket.")
    places: dict[str, int] = {}
    for position, rule in enumerate(rules):
        _check_rule(rule, f"rules[{position}]")
        if rule.prefix in places:
            raise InvalidInputError(
                f"rules[{position}].prefix: {rule.prefix!r} is the prefix of "
                f"rules[{places[rule.prefix]}] already."
            )
        places[rule.prefix] = position


def _check_rule(rule: LifecycleRule, where: str) -> None:
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
            hint="Nothing was changed. The client that (await storage.client()) gives can write "
            "such rules.",
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
            f"{field}{', '.join(_CLOCKS)}: one of them must be set, else the rule does nothing."
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


def to_s3(
    prefix: str, hide: int | None, erase: int | None, cancel: int | None
) -> list[dict[str, Any]]:
    """Make S3's rules of the three clocks of a prefix, in the form in which B2 gives them back.

    One for each action, and with hiding another one for the delete markers that it leaves.
    """
    actions: dict[str, dict[str, Any]] = {}
    if hide is not None:
        actions["hide"] = {"Expiration": {"Days": hide}}
        actions["markers"] = {"Expiration": {"ExpiredObjectDeleteMarker": True}}
    if erase is not None:
        actions["erase"] = {"NoncurrentVersionExpiration": {"NoncurrentDays": erase}}
    if cancel is not None:
        actions["cancel"] = {"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": cancel}}
    # IDs are unique in a bucket and short; prefixes may be 1024 bytes.
    marker = hashlib.sha256(prefix.encode()).hexdigest()[:12]
    return [
        {
            "ID": f"careflow-{marker}-{what}",
            "Status": "Enabled",
            "Filter": {"Prefix": prefix},
            **action,
        }
        for what, action in actions.items()
    ]


def prefix_of(rule: Mapping[str, Any]) -> str:
    """The prefix of a rule: within its filter, or beside it as in the first S3; "" without one."""
    chosen = rule.get("Filter") or {}
    return str(
        chosen.get("And", {}).get("Prefix") or chosen.get("Prefix") or rule.get("Prefix") or ""
    )


def actions_of(rule: Mapping[str, Any]) -> tuple[int | None, int | None, int | None]:
    """The days until hiding, erasing and cancelling, None for what the rule does not do."""
    return (
        rule.get("Expiration", {}).get("Days"),
        rule.get("NoncurrentVersionExpiration", {}).get("NoncurrentDays"),
        rule.get("AbortIncompleteMultipartUpload", {}).get("DaysAfterInitiation"),
    )


def foreign_parts(rule: Mapping[str, Any]) -> list[str]:
    """Say what of a rule does not fit into prefix and clocks; empty if all of it does."""
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
