"""Commands for coming from AWS S3: env, check."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from careflow_storage.cli.context import run_command, settings_of
from careflow_storage.cli.ui.help import Commands
from careflow_storage.cli.ui.options import Json

if TYPE_CHECKING:
    from careflow_storage.cli.ui.output import Output

commands: Commands = Commands("Migrate settings and code from AWS S3.")


@commands.add(
    examples=(
        "careflow-storage migrate env",
        "careflow-storage migrate env --from aws.env --write .env",
    )
)
def env(
    context: typer.Context,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Read this .env file.",
            show_default="the environment, and .env in the current folder",
        ),
    ] = None,
    target: Annotated[
        Path | None,
        typer.Option(
            "--write",
            metavar="FILE",
            dir_okay=False,
            help="Write the new variables, with secrets, to this .env file (mode 0600).",
            show_default="only prints them, with secrets masked",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Translate AWS_* variables to BACKBLAZE_*, and list what you must fill in.

    Keys, regions, endpoints and buckets of AWS cannot be translated.
    """
    from careflow_storage.cli.actions.migrate import translate

    async def main(output: Output) -> None:
        await translate(output, source, target)

    run_command(context, main, as_json=as_json)


@commands.add(examples=("careflow-storage migrate check",))
def check(
    context: typer.Context,
    prefix: Annotated[
        str, typer.Option(metavar="PREFIX/", help="Store test files below this prefix.")
    ] = "careflow-probe/",
    as_json: Json = False,
) -> None:
    """Run what S3 code does against this endpoint, and show what to change in the code.

    Sends about 45 small requests, and erases what they store. Exits with 1 if code must change.
    """
    from careflow_storage.cli.actions.migrate import check_code

    async def main(output: Output) -> int | None:
        return await check_code(output, settings_of(context), prefix)

    run_command(context, main, as_json=as_json)
