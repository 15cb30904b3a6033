"""One lifecycle rule of S3, as botocore has it: its prefix, its three clocks, and the rest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

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
    mark = hashlib.sha256(prefix.encode()).hexdigest()[:12]
    return [
        {
            "ID": f"careflow-{mark}-{what}",
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
