"""``careflow-storage config``: the settings, and where each comes from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from rich.text import Text

from careflow_storage.cli.exit_codes import WRONG_USE
from careflow_storage.cli.ui.cleaning import clean
from careflow_storage.cli.ui.output import Output, counted
from careflow_storage.doctor.setting_sources import (
    SettingOrigin,
    places_searched,
    settings_problems,
    settings_with_origin,
)

_DEFAULTS = ("default", "derived")


def show_settings(output: Output, arguments: dict[str, Any], *, everything: bool) -> int | None:
    """Print the settings; return an exit code unless a storage could be opened with them."""
    origins = settings_with_origin(**arguments)
    problems = settings_problems(**arguments)
    # The region follows from the endpoint.
    missing = [
        each.variable for each in origins if each.source == "missing" and each.name != "region"
    ]
    places = places_searched(**arguments)
    output.item({"settings": origins, "missing": missing, "problems": problems, "searched": places})
    shown = [each for each in origins if everything or _is_set(each)]
    output.table(("variable", "value", "from"), (_row(each) for each in shown))
    if rest := len(origins) - len(shown):
        output.note(f"Not shown: {counted(rest, 'default value')} (--all shows all).")
    for each in origins:
        for hidden in each.shadowed:
            output.warn(f"{each.where} overrides {hidden}, which has another value.")
    for problem in problems:
        output.warn(problem)
    if missing:
        output.warn(f"Missing: {', '.join(missing)}. Searched: {', '.join(places)}.")
    return WRONG_USE if missing or problems else None


def _is_set(origin: SettingOrigin) -> bool:
    return origin.source != "default" or origin.problem is not None


def _row(origin: SettingOrigin) -> tuple[Text, Text, Text]:
    if origin.problem is not None:
        value = Text("malformed", "bold red")
    elif origin.value is None:
        value = Text("missing" if origin.source == "missing" else "-", _style_of(origin))
    else:
        value = Text(clean(origin.value), _style_of(origin))
    return (Text(origin.variable), value, Text(clean(_short_place(origin)), "dim"))


def _short_place(origin: SettingOrigin) -> str:
    """The place, without the variable's name and the current folder."""
    where = origin.where.removeprefix(f"{origin.variable} in ")
    return where.replace(f"{Path.cwd()}{os.sep}", "")


def _style_of(origin: SettingOrigin) -> str:
    if origin.source == "missing":
        return "bold red"
    return "dim" if origin.source in _DEFAULTS else "cyan"
