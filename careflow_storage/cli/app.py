"""The commands and their options; what they do is in modules of their own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import aiohttp
import typer
from pydantic import ValidationError
from rich.console import Console
from rich.text import Text

from careflow_storage import StorageError, __version__

# Without rich's tracebacks: they print local variables, and those may hold keys.
app = typer.Typer(
    name="careflow-storage",
    help="Call recordings in Backblaze B2, or any S3-compatible store.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_UNITS = {"": 1, "K": 1000, "M": 1000**2, "G": 1000**3}
_BINARY = {"Ki": 1024, "Mi": 1024**2, "Gi": 1024**3}
_INTERRUPTED = 130


@app.callback(invoke_without_command=True)
def options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Call recordings in Backblaze B2, or any S3-compatible store."""
    if version:
        print(__version__)
        raise typer.Exit


def parse_size(text: str) -> int:
    """Read a size such as 64MiB, 100MB or 5000 as bytes."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]i?)?B?", text.strip(), re.IGNORECASE)
    if match is None:
        raise typer.BadParameter(f"{text!r} is not a size such as 64MiB, 100MB or 5000.")
    unit = (match[2] or "").capitalize()
    size = int(float(match[1]) * (_UNITS | _BINARY)[unit])
    if size < 1:
        raise typer.BadParameter("The size must be at least one byte.")
    return size


@app.command()
def demo(
    recording: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            readable=True,
            help="Your own recording to store.  [default: a few seconds of synthetic speech]",
            show_default=False,
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
) -> None:
    """Store recordings, play one back, verify every byte, and clean up.

    In your own bucket if BACKBLAZE_* is set, else on an embedded S3 server.
    """
    from careflow_storage.cli.demo import run_demo

    local = local or data_dir is not None
    with _errors_for_people():
        run_demo(
            Console(highlight=False), recording=recording, size=size, data_dir=data_dir, local=local
        )


@app.command("serve-local")
def serve_local(
    data_dir: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Keep the data here.  [default: forgotten at the end]"),
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Listen here.  [default: any free port]")
    ] = None,
    bucket: Annotated[
        str, typer.Option(help="The bucket to create.")
    ] = "careflow-recordings-local",
) -> None:
    """Run the embedded S3 server until Ctrl-C and print the variables that point to it."""
    from careflow_storage.cli.serve_local import serve

    with _errors_for_people():
        serve(Console(stderr=True, highlight=False), data_dir=data_dir, port=port, bucket=bucket)


@contextmanager
def _errors_for_people() -> Iterator[None]:
    """What went wrong and what to do about it, in place of a traceback."""
    console = Console(stderr=True, highlight=False)
    try:
        yield
    except StorageError as error:
        hint, error.hint = error.hint, None
        _complain(console, f"{type(error).__name__}: {error}", hint)
        raise typer.Exit(1) from None
    except (OSError, aiohttp.ClientError, ValidationError) as error:
        _complain(console, f"{type(error).__name__}: {error}", None)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        console.print("Interrupted.", style="yellow")
        raise typer.Exit(_INTERRUPTED) from None


def _complain(console: Console, what: str, hint: str | None) -> None:
    console.print(Text.assemble(("Failed ", "bold red"), what))
    if hint:
        console.print(Text.assemble(("Hint   ", "bold yellow"), hint))
