"""Commands that need no account: demo, sample, serve-local."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from careflow_storage.cli.ui.help import Commands
from careflow_storage.cli.ui.options import LOCAL, Json
from careflow_storage.cli.ui.values import parse_size

if TYPE_CHECKING:
    from careflow_storage.cli.ui.output import Output

commands: Commands = Commands()


@commands.add(
    section=LOCAL,
    examples=(
        "careflow-storage demo",
        "careflow-storage demo --recording call.mp3 --size 500MB --data-dir ./storage",
        "careflow-storage demo --web",
    ),
)
def demo(
    recording: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            readable=True,
            help="Store this recording.",
            show_default="a few seconds of synthetic speech",
        ),
    ] = None,
    size: Annotated[
        int,
        typer.Option(parser=parse_size, metavar="SIZE", help="The size of the long call."),
    ] = "64MiB",  # type: ignore[assignment]  # typer parses the default, too
    data_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            file_okay=False,
            help="Use the embedded server, and keep its data and the recording in this folder.",
        ),
    ] = None,
    local: Annotated[
        bool,
        typer.Option("--local", help="Use the embedded server even if BACKBLAZE_* is set."),
    ] = False,
    web: Annotated[
        bool,
        typer.Option(
            "--web",
            help="Open a web app instead, on the embedded server: record, upload, play, restore.",
        ),
    ] = False,
    port: Annotated[
        int | None,
        typer.Option(
            metavar="PORT",
            min=1,
            max=65535,
            help="With --web: listen on this port.",
            show_default="any free port",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Store recordings, play one back, verify every byte, and clean up.

    Uses your own bucket if BACKBLAZE_* is set, and an embedded S3 server otherwise.
    """
    from careflow_storage.cli.run import run

    local = local or data_dir is not None

    async def main(output: Output) -> None:
        if web:
            from careflow_storage.cli.actions.web_demo import run_web_demo

            await run_web_demo(output, recording=recording, data_dir=data_dir, port=port)
            return
        from careflow_storage.cli.actions.demo import run_demo

        await run_demo(output, recording=recording, size=size, data_dir=data_dir, local=local)

    run(main, as_json=as_json)


@commands.add(
    section=LOCAL,
    examples=("careflow-storage sample", "careflow-storage sample call.ogg"),
)
def sample(
    path: Annotated[
        Path,
        typer.Argument(metavar="PATH", help="The file to write: its name ends in .webm or .ogg."),
    ] = Path("recording.webm"),
    as_json: Json = False,
) -> None:
    """Write a recording of a few seconds, to try things with.

    Never replaces a file.
    """
    from careflow_storage.cli.run import run

    async def main(output: Output) -> None:
        from careflow_storage.cli.actions.sample import write_sample

        await write_sample(output, path)

    run(main, as_json=as_json)


@commands.add(
    "serve-local",
    section=LOCAL,
    examples=(
        "careflow-storage serve-local --data-dir ./storage --port 9000",
        "careflow-storage serve-local --json > server.json",
    ),
)
def serve_local(
    data_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            file_okay=False,
            help="Keep the data in this folder.",
            show_default="deleted at the end",
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            metavar="PORT",
            min=1,
            max=65535,
            help="Listen on this port.",
            show_default="any free port",
        ),
    ] = None,
    bucket: Annotated[
        str, typer.Option(metavar="NAME", help="Create this bucket.")
    ] = "careflow-recordings-local",
    as_json: Json = False,
) -> None:
    """Run an embedded S3 server until Ctrl-C, and print the variables that point to it."""
    from careflow_storage.cli.actions.serve_local import serve

    serve(as_json=as_json, data_dir=data_dir, port=port, bucket=bucket)
