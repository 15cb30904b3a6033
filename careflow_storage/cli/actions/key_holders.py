"""Which keys are known to be in use here, and the questions before one of them is deleted."""

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
    """Where key IDs stand: in the environment, in files, in what signs in.

    Args:
        places: A place in words, and the key ID there.
        in_file: The key ID in the file that gets the new key.
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
        """Look for them. Reads files.

        Args:
            settings: Those of the command.
            signs_in: The key ID of ``--key-id``.
            settings_file: The file that the settings are read from, if it is there.
            rotated: The file that gets the new key: its BACKBLAZE_KEY_ID is about to change.
        """
        places = [("the one of --key-id", signs_in)] if signs_in else []
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
    """Ask if other keys go with the old one, or if that one goes at once and is in use.

    Raises:
        typer.Exit: The question was not answered with yes; nothing was done.
        InvalidInputError: Nobody can answer.
    """
    old = next((key for key in keys if key.key_id == old_id), None)
    resumed = next(
        (key for key in keys if key.key_id == holders.in_file and replaced_id(key) == old_id), None
    )
    new = resumed or (following(old) if old is not None else None)
    if new is None:
        return
    reasons = _unsure(perhaps_in_use(new, keys))
    if at_once:
        reasons += _held([old_id], holders)
    if reasons:
        confirm(output, f"{' '.join(reasons)} Replace {old_id} all the same?", yes=False)


def confirm_finish(output: Output, new_id: str, keys: list[KeyInfo], holders: Holders) -> None:
    """Ask if a key that is to go may be in use; raises as `confirm_rotation`."""
    new, useless = to_finish(new_id, keys)
    reasons = _unsure(perhaps_in_use(new, keys)) if useless else []
    reasons += _held([key.key_id for key in useless], holders)
    if reasons:
        going = ", ".join(key.key_id for key in useless)
        confirm(output, f"{' '.join(reasons)} Delete {going}?", yes=False)


def _unsure(keys: Iterable[KeyInfo]) -> list[str]:
    return [
        f"{key.key_id} was made to replace {replaced_id(key)}, too, and is deleted with it: by a "
        "rotation that was interrupted, or for another program, which would stop."
        for key in keys
    ]


def _held(ids: Iterable[str], holders: Holders) -> list[str]:
    return [
        f"{key_id} is deleted, and it is {place}: what uses it stops!"
        for key_id in ids
        for place in holders.of(key_id)
    ]
