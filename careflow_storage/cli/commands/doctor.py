"""The command that finds out why the storage does not work."""

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
        "careflow-storage doctor",
        "careflow-storage doctor --origin https://app.example",
        "careflow-storage --env-file prod.env doctor --strict --json > health.json || alert",
    ),
)
def doctor(
    context: typer.Context,
    origin: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Check that web pages of this origin, such as https://app.example, can upload "
            "and play.",
            show_default=False,
        ),
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Also check what this library assumes about B2.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 on warnings, too.")] = False,
    probe_prefix: Annotated[
        str,
        typer.Option(
            metavar="PREFIX",
            help="Store test files below this prefix; must be within the key's own prefix.",
        ),
    ] = "careflow-doctor/",
    as_json: Json = False,
) -> None:
    """Find out why the storage does not work, and how to fix it.

    Checks the settings, the network, the key, the bucket and its rules. Stores test files of a few
    bytes and erases them. Exits with 1 if a check fails.
    """
    from careflow_storage.cli.actions.doctor import run_doctor

    values = Globals.of(context).settings_arguments()

    async def main(output: Output) -> int:
        return await run_doctor(
            output, values, strict=strict, origin=origin, live=live, probe_prefix=probe_prefix
        )

    run_command(context, main, as_json=as_json)
