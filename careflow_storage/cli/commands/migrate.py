"""Commands for who comes from AWS S3: the settings, and code that is there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from careflow_storage.cli.run import Globals, run, settings_of
from careflow_storage.cli.ui.options import ACCOUNT, Json, examples
from careflow_storage.cli.ui.output import Output


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    group = typer.Typer(no_args_is_help=True, help="Come from AWS S3: settings and old code.")
    for name, command, lines in _COMMANDS:
        group.command(name, epilog=examples(*lines))(command)
    app.add_typer(group, name="migrate", rich_help_panel=ACCOUNT)


def env(
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Read this .env file.",
            show_default="the environment, and .env in this folder",
        ),
    ] = None,
    target: Annotated[
        Path | None,
        typer.Option(
            "--write",
            metavar="FILE",
            dir_okay=False,
            help="Set what carries over in this .env file, secrets and all (0600).",
            show_default="only prints it, secrets masked",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Translate AWS_* to BACKBLAZE_*, and say what must be filled in by hand.

    Keys, regions, endpoints and buckets of AWS do not carry over.
    """
    from careflow_storage.cli.actions.migrate import translate

    async def main(output: Output) -> None:
        await translate(output, source, target)

    run(main, as_json=as_json)


def check(
    context: typer.Context,
    prefix: Annotated[
        str, typer.Option(metavar="PREFIX/", help="Try it below this prefix.")
    ] = "careflow-probe/",
    as_json: Json = False,
) -> None:
    """Try what S3 code does against this endpoint, and say what to change in it.

    About 45 small requests; what they store is erased again. Exits with 1 if something would
    have to change.
    """
    from careflow_storage.cli.actions.migrate import check_code

    async def main(output: Output) -> int | None:
        return await check_code(output, settings_of(context), prefix)

    run(main, as_json=as_json, given=Globals.of(context))


_COMMANDS: tuple[tuple[str, Callable[..., None], tuple[str, ...]], ...] = (
    (
        "env",
        env,
        (
            "careflow-storage migrate env",
            "careflow-storage migrate env --from aws.env --write .env",
        ),
    ),
    ("check", check, ("careflow-storage migrate check",)),
)
