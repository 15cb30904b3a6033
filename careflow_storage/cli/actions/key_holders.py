"""Keys that are in use on this machine, and the questions before one is deleted."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from careflow_storage import StorageSettings
from careflow_storage._env_file import read_env
from careflow_storage.cli.ui.confirm import confirm
from careflow_storage.cli.ui.output import Output
from careflow_storage.keys import KeyInfo
from careflow_storage.keys.naming import following, perhaps_in_use, replaced_id
from careflow_storage.keys.rotation import to_finish

_KEY_ID = "BACKBLAZE_KEY_ID"
_NAMES = (_KEY_ID, "AWS_ACCESS_KEY_ID")


@dataclass(frozen=True)
class Holders:
    """The places that hold key IDs: the environment, files, the option --key-id.

    Args:
        places: Each place in words, and the key ID that it holds.
        in_file: The key ID in the file to which the new key is written.
    """

    places: tuple[tuple[str, str], ...]
    in_file: str | None = None

    @classmethod
    def found(
        cls,
        settings: StorageSettings,
        signs_in: str | None,
        settings_file: Path,
        *,
        rotated: Path | None = None,
    ) -> Holders:
        """Find these places. Reads files.

        Args:
            settings: The settings of the command.
            signs_in: The value of ``--key-id``.
            settings_file: The file of the settings, if it exists.
            rotated: The file whose BACKBLAZE_KEY_ID the new key replaces.
        """
        places = [("the key of --key-id", signs_in)] if signs_in else []
        places += [
            (f"the {name} in the environment", key) for name, key in _keys(os.environ.items())
        ]
        in_file = None
        if rotated is not None:
            there = dict(_keys_in(rotated))
            in_file = there.pop(_KEY_ID, None)
            places += [(f"the {name} in {rotated}", key) for name, key in there.items()]
        if rotated is None or settings_file.resolve() != rotated.resolve():
            places += [
                (f"the {name} in {settings_file}", key) for name, key in _keys_in(settings_file)
            ]
        own = settings.key_id
        if own is not None and own not in (in_file, *(key for _, key in places)):
            places.append(("", own))
        named = ((_of_settings(place) if key == own else place, key) for place, key in places)
        return cls(tuple(named), in_file)

    def of(self, key_id: str) -> list[str]:
        """Return the places that hold this key."""
        return [place for place, held in self.places if held == key_id]


def _of_settings(place: str) -> str:
    return (
        f"the key of your settings ({place.removeprefix('the ')})"
        if place
        else "the key of your settings"
    )


def _keys_in(path: Path) -> list[tuple[str, str]]:
    return _keys(read_env(path).items()) if path.is_file() else []


def _keys(variables: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [
        (name.upper(), value.strip())
        for name, value in variables
        if name.upper() in _NAMES and value.strip()
    ]


def confirm_rotation(
    output: Output, old_id: str, keys: Sequence[KeyInfo], holders: Holders, *, at_once: bool
) -> None:
    """Ask if other keys are deleted with the old one, or if it is deleted at once but in use.

    Raises:
        typer.Exit: The user declined; nothing was changed.
        InvalidInputError: The user cannot be asked.
    """
    old = next((key for key in keys if key.key_id == old_id), None)
    resumed = next(
        (key for key in keys if key.key_id == holders.in_file and replaced_id(key) == old_id), None
    )
    new = resumed or (following(old) if old is not None else None)
    if new is None:
        return
    reasons = _doubts(perhaps_in_use(new, keys))
    if at_once:
        reasons += _uses([old_id], holders)
    if reasons:
        confirm(output, f"{' '.join(reasons)} Replace {old_id} anyway?", yes=False)


def confirm_finish(output: Output, new_id: str, keys: list[KeyInfo], holders: Holders) -> None:
    """Ask if a key to delete may be in use; raises as `confirm_rotation`."""
    new, replaced = to_finish(new_id, keys)
    reasons = _doubts(perhaps_in_use(new, keys)) if replaced else []
    reasons += _uses([key.key_id for key in replaced], holders)
    if reasons:
        ids = ", ".join(key.key_id for key in replaced)
        confirm(output, f"{' '.join(reasons)} Delete {ids}?", yes=False)


def _doubts(keys: Iterable[KeyInfo]) -> list[str]:
    return [
        f"{key.key_id} was also created to replace {replaced_id(key)}, and is deleted, too. It "
        "belongs to an interrupted rotation, or to another program, which would stop working."
        for key in keys
    ]


def _uses(ids: Iterable[str], holders: Holders) -> list[str]:
    return [
        f"{key_id} is {place}, and would be deleted: programs that use it would stop working."
        for key_id in ids
        for place in holders.of(key_id)
    ]
