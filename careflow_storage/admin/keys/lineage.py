"""Which key replaces which: told by the keys' names, so that the account remembers it.

Keys cannot be edited, and B2 does not tell when one was made (apidocs/b2-list-keys). So the
name of a key that replaces another says so when it is made, and until when the other is kept:
``careflow-prod-replaces-004abc...0007-until-1795543200`` (seconds since 1970).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime

from careflow_storage.admin.keys.models import KeyInfo

_MARK = re.compile(
    r"(?P<base>.*)-replaces-(?P<old>[0-9A-Za-z]{1,40})(?:-until-(?P<until>[0-9]{1,11}))?"
)
_LONGEST_NAME = 100


def replacement_name(old: KeyInfo, until: datetime | None) -> str:
    """Name the key that replaces ``old``; names do not grow from rotation to rotation."""
    mark = f"-replaces-{old.key_id}"
    if until is not None:
        mark += f"-until-{int(until.timestamp())}"
    return base_name(old.name)[: _LONGEST_NAME - len(mark)] + mark


def base_name(name: str) -> str:
    """Return a key's name without the mark of a rotation."""
    found = _MARK.fullmatch(name)
    return found["base"] if found else name


def replaced_id(key: KeyInfo) -> str | None:
    """Return the ID of the key that this one replaces."""
    found = _MARK.fullmatch(key.name)
    return found["old"] if found else None


def kept_until(key: KeyInfo) -> datetime | None:
    """Return until when the key that this one replaces is kept; None: until it is told."""
    found = _MARK.fullmatch(key.name)
    if found is None or found["until"] is None:
        return None
    return datetime.fromtimestamp(int(found["until"]), UTC)


def successors(key_id: str, keys: Iterable[KeyInfo]) -> list[KeyInfo]:
    """Return the keys that were made to replace this one; several after interrupted runs."""
    return [key for key in keys if replaced_id(key) == key_id]


def superseded(key: KeyInfo, keys: Iterable[KeyInfo]) -> list[KeyInfo]:
    """Return all that nobody needs once ``key`` is in use, the oldest first.

    That is the key that it replaces, those that were to replace that one and never came into
    use, and what each of them had replaced in its time.
    """
    present = {each.key_id: each for each in keys if each.key_id != key.key_id}
    found: dict[str, KeyInfo] = {}
    waiting = [key]
    while waiting:
        newer = waiting.pop()
        old_id = replaced_id(newer)
        if old_id is None:
            continue
        for each in (*successors(old_id, present.values()), present.get(old_id)):
            if each is not None and each.key_id not in found:
                found[each.key_id] = each
                waiting.append(each)
    return list(reversed(found.values()))
