"""The command that shows the settings and where each is from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from careflow_storage.cli.run import WRONG_USE, Globals, errors_for_people
from careflow_storage.cli.ui.cleaning import clean
from careflow_storage.cli.ui.options import ACCOUNT, Json, examples
from careflow_storage.cli.ui.output import Output

if TYPE_CHECKING:
    from careflow_storage.doctor.setting_sources import SettingOrigin

_NOBODY_SET = ("default", "derived")


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(
        "config",
        rich_help_panel=ACCOUNT,
        epilog=examples(
            "careflow-storage config",
            "careflow-storage --env-file prod.env config --all",
        ),
    )(config)


def config(
    context: typer.Context,
    everything: Annotated[
        bool, typer.Option("--all", help="Those that nobody has set, too.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show the settings, and where each of them is from. Sends nothing.

    The application key is masked. Exits with 2 when one is missing or malformed.
    """
    output = Output(as_json=as_json)
    with errors_for_people(output):
        if not _show(output, _arguments(context), everything=everything):
            raise typer.Exit(WRONG_USE)


def _arguments(context: typer.Context) -> dict[str, Any]:
    given: Globals = context.find_root().obj or Globals()
    arguments: dict[str, Any] = {}
    if given.bucket is not None:
        arguments["bucket_name"] = given.bucket
    if given.env_file is not None:
        arguments["_env_file"] = given.env_file
    return arguments


def _show(output: Output, arguments: dict[str, Any], *, everything: bool) -> bool:
    """Print them; return whether a storage could be opened with them."""
    from careflow_storage.doctor.setting_sources import (
        places_searched,
        settings_problems,
        settings_with_origin,
    )

    origins = settings_with_origin(**arguments)
    problems = settings_problems(**arguments)
    # The region follows from the endpoint.
    missing = [
        each.variable for each in origins if each.source == "missing" and each.name != "region"
    ]
    places = places_searched(**arguments)
    output.data({"settings": origins, "missing": missing, "problems": problems, "searched": places})
    needed = origins if everything else [each for each in origins if _worth_showing(each)]
    output.table(("variable", "value", "from"), (_row(each) for each in needed))
    if len(needed) < len(origins):
        rest = len(origins) - len(needed)
        output.note(f"{rest} more have their defaults; --all shows them.")
    for each in origins:
        for hidden in each.shadowed:
            output.warn(f"{each.where} hides {hidden}, which has another value.")
    for problem in problems:
        output.warn(problem)
    if missing:
        output.warn(f"Missing: {', '.join(missing)}. Looked into {', '.join(places)}.")
    return not (missing or problems)


def _worth_showing(origin: SettingOrigin) -> bool:
    return origin.source != "default" or origin.problem is not None


def _row(origin: SettingOrigin) -> tuple[Text, Text, Text]:
    if origin.problem is not None:
        value = Text("malformed", "bold red")
    elif origin.value is None:
        value = Text("missing" if origin.source == "missing" else "-", _style_of(origin))
    else:
        value = Text(clean(origin.value), _style_of(origin))
    return (Text(origin.variable), value, Text(clean(_shortened(origin)), "dim"))


def _shortened(origin: SettingOrigin) -> str:
    """The place without what can be seen beside it: its name, and this folder."""
    where = origin.where.removeprefix(f"{origin.variable} in ")
    return where.replace(f"{Path.cwd()}{os.sep}", "")


def _style_of(origin: SettingOrigin) -> str:
    if origin.source == "missing":
        return "bold red"
    return "dim" if origin.source in _NOBODY_SET else "cyan"
