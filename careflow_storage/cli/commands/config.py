"""The command that shows the settings and where each comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from careflow_storage.cli.context import Globals, run_command
from careflow_storage.cli.ui.help import Commands
from careflow_storage.cli.ui.options import ACCOUNT, Json

if TYPE_CHECKING:
    from careflow_storage.cli.ui.output import Output

commands: Commands = Commands()


@commands.add(
    section=ACCOUNT,
    examples=(
        "careflow-storage config",
        "careflow-storage --env-file prod.env config --all",
    ),
)
def config(
    context: typer.Context,
    everything: Annotated[
        bool, typer.Option("--all", help="Include the settings that have their defaults.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show the settings, and where each comes from. Does not contact the server.

    Masks the application key. Exits with 2 if a setting is missing or malformed.
    """
    from careflow_storage.cli.actions.config import show_settings

    async def main(output: Output) -> int | None:
        arguments = Globals.of(context).settings_arguments()
        return show_settings(output, arguments, everything=everything)

    run_command(context, main, as_json=as_json)
