"""The commands and their options; what they do is in modules of their own."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from careflow_storage import __version__
from careflow_storage.cli.commands import (
    buckets,
    config,
    cors,
    doctor,
    files,
    keys,
    lifecycle,
    lock,
    migrate,
    uploads,
    usage,
    versions,
)
from careflow_storage.cli.commands import inspect as inspect_files
from careflow_storage.cli.run import Globals, errors_for_people, run
from careflow_storage.cli.ui.cleaning import clean_usage_errors
from careflow_storage.cli.ui.options import LOCAL, Json, examples, parse_size
from careflow_storage.cli.ui.output import Output


class _Commands(TyperGroup):
    """All commands; what is told of wrong arguments is clean."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        with clean_usage_errors():
            return super().make_context(*arguments, **options)

    def invoke(self, *arguments: Any, **options: Any) -> Any:
        with clean_usage_errors():
            return super().invoke(*arguments, **options)


# Without rich's tracebacks: they print local variables, and those may hold keys.
app: typer.Typer = typer.Typer(
    name="careflow-storage",
    help="Call recordings in Backblaze B2, or any S3-compatible store.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    cls=_Commands,
)


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    env_file: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Read the settings from here.",
            show_default=".env in this folder, if there is one",
        ),
    ] = None,
    bucket: Annotated[
        str | None, typer.Option(help="Another bucket than BACKBLAZE_BUCKET_NAME.")
    ] = None,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Call recordings in Backblaze B2, or any S3-compatible store."""
    context.obj = Globals(env_file, bucket)
    if version:
        print(__version__)
        raise typer.Exit


@app.command(
    rich_help_panel=LOCAL,
    epilog=examples(
        "careflow-storage demo",
        "careflow-storage demo --recording call.mp3 --size 500MB --data-dir ./storage",
    ),
)
def demo(
    recording: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            readable=True,
            help="Your own recording to store.",
            show_default="a few seconds of synthetic speech",
        ),
    ] = None,
    size: Annotated[
        int,
        typer.Option(parser=parse_size, metavar="SIZE", help="Size of the long call."),
    ] = "64MiB",  # type: ignore[assignment]  # typer parses the default, too
    data_dir: Annotated[
        Path | None,
        typer.Option(
            file_okay=False,
            help="Use the embedded server and keep its data, and the recording, here.",
        ),
    ] = None,
    local: Annotated[
        bool,
        typer.Option("--local", help="Use the embedded server even if BACKBLAZE_* is set."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Store recordings, play one back, verify every byte, and clean up.

    In your own bucket if BACKBLAZE_* is set, else on an embedded S3 server.
    """
    from careflow_storage.cli.actions.demo import run_demo

    local = local or data_dir is not None

    async def main(output: Output) -> None:
        await run_demo(output, recording=recording, size=size, data_dir=data_dir, local=local)

    run(main, as_json=as_json)


@app.command(
    "serve-local",
    rich_help_panel=LOCAL,
    epilog=examples(
        "careflow-storage serve-local --data-dir ./storage --port 9000",
        "careflow-storage serve-local --json > server.json",
    ),
)
def serve_local(
    data_dir: Annotated[
        Path | None,
        typer.Option(
            file_okay=False, help="Keep the data here.", show_default="forgotten at the end"
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Listen here.", show_default="any free port"),
    ] = None,
    bucket: Annotated[
        str, typer.Option(help="The bucket to create.")
    ] = "careflow-recordings-local",
    as_json: Json = False,
) -> None:
    """Run the embedded S3 server until Ctrl-C and print the variables that point to it."""
    from careflow_storage.cli.actions.serve_local import serve

    output = Output(as_json=as_json)
    with errors_for_people(output):
        serve(output, data_dir=data_dir, port=port, bucket=bucket)


# In the order in which `--help` lists them.
for _module in (
    *(files, inspect_files, versions, uploads, buckets, cors, lifecycle, lock, keys, usage, doctor),
    *(migrate, config),
):
    _module.add_to(app)


def _let_help_flow(commands: typer.Typer) -> None:
    """Let paragraphs of --help fill the terminal; typer keeps the line breaks of the source."""
    for command in commands.registered_commands:
        text = command.help or inspect.getdoc(command.callback) or ""
        command.help = "\n\n".join(" ".join(each.split()) for each in text.split("\n\n"))
    for group in commands.registered_groups:
        if group.typer_instance is not None:
            _let_help_flow(group.typer_instance)


_let_help_flow(app)
