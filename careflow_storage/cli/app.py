"""The program: its options, and all of its commands.

Nothing here, nor in the modules of the commands, imports the library: `--help` and the shell's
completion need only the names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from careflow_storage._version import __version__
from careflow_storage.cli.commands import (
    buckets,
    config,
    cors,
    doctor,
    files,
    jobs,
    keys,
    lifecycle,
    local,
    lock,
    migrate,
    uploads,
    usage,
    versions,
)
from careflow_storage.cli.commands import inspect as inspect_files
from careflow_storage.cli.context import Globals
from careflow_storage.cli.exit_codes import EXIT_CODES
from careflow_storage.cli.ui.cleaning import clean_usage_errors
from careflow_storage.cli.ui.completion import complete_buckets
from careflow_storage.cli.ui.help import CONTEXT_SETTINGS, Commands, HelpGroup
from careflow_storage.cli.ui.manual import help_of_all, man_page
from careflow_storage.cli.ui.options import ACCOUNT, BUCKET, BULK, VERSIONS


class _Program(HelpGroup):
    """All commands; reports of wrong arguments are safe to print."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        with clean_usage_errors():
            return super().make_context(*arguments, **options)

    def invoke(self, *arguments: Any, **options: Any) -> Any:
        with clean_usage_errors():
            return super().invoke(*arguments, **options)


_WIDEST = max(len(code) for code, _ in EXIT_CODES)
_EPILOG = "Exit codes:\n" + "\n".join(f"  {code:<{_WIDEST}}  {text}" for code, text in EXIT_CODES)

app: Commands = Commands(
    "Store call recordings in Backblaze B2 or any S3-compatible store.",
    name="careflow-storage",
    # Tracebacks of rich print local variables, which may hold keys.
    pretty_exceptions_enable=False,
    context_settings=CONTEXT_SETTINGS,
    cls=_Program,
    epilog=_EPILOG,
)


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    env_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Read the settings from this .env file.",
            show_default=".env in the current folder",
        ),
    ] = None,
    bucket: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Use this bucket.",
            show_default="BACKBLAZE_BUCKET_NAME",
            autocompletion=complete_buckets,
        ),
    ] = None,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    help_all: Annotated[
        bool, typer.Option("--help-all", help="Show the help of all commands, and exit.")
    ] = False,
    man: Annotated[
        bool, typer.Option("--man", help="Print a manual page: careflow-storage --man | man -l -")
    ] = False,
) -> None:
    """Store call recordings in Backblaze B2 or any S3-compatible store."""
    context.obj = Globals(env_file, bucket)
    if version:
        typer.echo(__version__)
    elif help_all:
        typer.echo(help_of_all(context), color=context.color)
    elif man:
        typer.echo(man_page(context, __version__))
    if version or help_all or man:
        raise typer.Exit


# `--help` lists them in this order.
app.add_typer(local.commands)
app.add_typer(files.commands)
app.add_typer(inspect_files.commands)
app.add_typer(versions.commands)
app.add_typer(uploads.commands, name="uploads", rich_help_panel=VERSIONS)
app.add_typer(jobs.commands, name="jobs", rich_help_panel=BULK)
app.add_typer(buckets.commands, name="buckets", rich_help_panel=BUCKET)
app.add_typer(cors.commands, name="cors", rich_help_panel=BUCKET)
app.add_typer(lifecycle.commands, name="lifecycle", rich_help_panel=BUCKET)
app.add_typer(lock.commands, name="lock", rich_help_panel=BUCKET)
app.add_typer(keys.commands, name="keys", rich_help_panel=ACCOUNT)
app.add_typer(usage.commands)
app.add_typer(doctor.commands)
app.add_typer(migrate.commands, name="migrate", rich_help_panel=ACCOUNT)
app.add_typer(config.commands)
