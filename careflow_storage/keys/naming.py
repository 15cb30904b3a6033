"""Store in a key's name which key it replaces, so that the account remembers it.

Keys cannot be edited, and B2 does not report when a key was created (apidocs/b2-list-keys). So
the name of a new key says which key it replaces, and until when that one is kept:
``careflow-prod-replaces-004abc...0007-until-1795543200`` (seconds since 1970).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime

from careflow_storage.keys.models import KeyInfo

_SUFFIX = re.compile(
    r"(?P<base>.*)-replaces-(?P<old>[0-9A-Za-z]{1,40})(?:-until-(?P<until>[0-9]{1,11}))?"
)
_LONGEST_NAME = 100


def replacement_name(old: KeyInfo, until: datetime | None) -> str:
    """Name the key that replaces ``old``. Names do not grow with each rotation."""
    suffix = f"-replaces-{old.key_id}"
    if until is not None:
        suffix += f"-until-{int(until.timestamp())}"
    return base_name(old.name)[: _LONGEST_NAME - len(suffix)] + suffix


def base_name(name: str) -> str:
    """Return a key's name without the suffix of a rotation."""
    found = _SUFFIX.fullmatch(name)
    return found["base"] if found else name


def replaced_id(key: KeyInfo) -> str | None:
    """Return the ID of the key that this one replaces."""
    found = _SUFFIX.fullmatch(key.name)
    return found["old"] if found else None


def kept_until(key: KeyInfo) -> datetime | None:
    """Return until when the replaced key is kept; None is until `finish_rotation`."""
    found = _SUFFIX.fullmatch(key.name)
    if found is None or found["until"] is None:
        return None
    return datetime.fromtimestamp(int(found["until"]), UTC)


def successors(key_id: str, keys: Iterable[KeyInfo]) -> list[KeyInfo]:
    """Return the keys that were made to replace this one; several after interrupted runs."""
    return [key for key in keys if replaced_id(key) == key_id]


def superseded(key: KeyInfo, keys: Iterable[KeyInfo]) -> list[KeyInfo]:
    """Return what may go once ``key`` is in use, the oldest first.

    These are the key that it replaces, the older ones that were to replace that one too, and
    what each of them had replaced. A newer one is in use elsewhere, and so is one that was
    replaced itself: neither is left by an interrupted rotation that ``key`` took up.
    """
    present = {each.key_id: each for each in keys if each.key_id != key.key_id}
    found: dict[str, KeyInfo] = {}
    waiting = [key]
    while waiting:
        newer = waiting.pop()
        old_id = replaced_id(newer)
        if old_id is None:
            continue
        others = [
            each
            for each in successors(old_id, present.values())
            if _made_before(each, newer) and not successors(each.key_id, present.values())
        ]
        for each in (*others, present.get(old_id)):
            if each is not None and each.key_id not in found:
                found[each.key_id] = each
                waiting.append(each)
    return list(reversed(found.values()))


def following(key: KeyInfo) -> KeyInfo:
    """Return a placeholder for the next replacement of a key: newer than all others."""
    return key.model_copy(update={"key_id": "z" * 40, "name": replacement_name(key, None)})


def perhaps_in_use(key: KeyInfo, keys: Iterable[KeyInfo]) -> list[KeyInfo]:
    """Return the keys of `superseded` that are not predecessors of ``key``.

    Their rotation was interrupted, or they were delivered to another program: the account does
    not show which.
    """
    present = {each.key_id: each for each in keys}
    stem = {key.key_id}
    old_id = replaced_id(key)
    while old_id is not None and old_id not in stem:
        stem.add(old_id)
        old = present.get(old_id)
        old_id = None if old is None else replaced_id(old)
    return [each for each in superseded(key, present.values()) if each.key_id not in stem]


def _made_before(key: KeyInfo, other: KeyInfo) -> bool:
    # Each ID ends with a number that B2 increments for each new key of the account.
    return (len(key.key_id), key.key_id) < (len(other.key_id), other.key_id)
