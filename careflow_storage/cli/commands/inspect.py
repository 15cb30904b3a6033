"""Commands that show files: ls, info, exists, url."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

import typer

from careflow_storage.cli.context import run_with_storage
from careflow_storage.cli.ui.help import Commands
from careflow_storage.cli.ui.options import FILES, CustomerKeyFile, Json, Key, Prefix, VersionId
from careflow_storage.cli.ui.values import parse_time

commands: Commands = Commands()


@commands.add(
    section=FILES,
    examples=(
        "careflow-storage ls recordings/CA123/ --long --human",
        "careflow-storage ls --tree --depth 2",
        "careflow-storage ls --json | jq -r 'select(.size > 100000000).key'",
    ),
)
def ls(
    context: typer.Context,
    prefix: Prefix = "",
    long: Annotated[
        bool, typer.Option("--long", "-l", help="Show size and time, and a total.")
    ] = False,
    tree: Annotated[
        bool, typer.Option("--tree", "-t", help="Show folders, and the sum of what each holds.")
    ] = False,
    depth: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="With --tree: show N levels of folders.", show_default="all"
        ),
    ] = None,
    human: Annotated[
        bool, typer.Option("--human", "-h", help="With --long: show sizes as 24.1 KiB.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the files below a prefix, one key per line. Hidden files are left out.

    Lists folders to any depth, and prints while it lists: memory does not grow with the number of
    files. With --json, prints one object per line.
    """
    from careflow_storage.cli.actions import listing

    run_with_storage(
        context,
        lambda storage, output: (
            listing.list_tree(storage, output, prefix, depth)
            if tree
            else listing.list_files(storage, output, prefix, long=long, human=human)
        ),
        as_json=as_json,
    )


@commands.add(
    section=FILES,
    examples=(
        "careflow-storage info recordings/CA123/call.wav",
        "careflow-storage info recordings/CA123/call.webm --media --json | jq .media.duration",
    ),
)
def info(
    context: typer.Context,
    key: Key,
    media: Annotated[
        bool,
        typer.Option("--media", help="Also show format, codec and duration (extra: media)."),
    ] = False,
    version_id: VersionId = None,
    customer_key_file: CustomerKeyFile = None,
    as_json: Json = False,
) -> None:
    """Show the size, content type, time, version and metadata of a file."""
    from careflow_storage.cli.actions import inspect

    run_with_storage(
        context,
        lambda storage, output: inspect.info(
            storage, output, key, version_id, customer_key_file, media=media
        ),
        as_json=as_json,
    )


@commands.add(
    section=FILES, examples=("careflow-storage exists recordings/CA123/call.wav && echo there",)
)
def exists(context: typer.Context, key: Key, as_json: Json = False) -> None:
    """Print yes if a file exists and is not hidden; otherwise print no and exit with 3."""
    from careflow_storage.cli.actions import inspect

    run_with_storage(
        context, lambda storage, output: inspect.exists(storage, output, key), as_json=as_json
    )


@commands.add(
    section=FILES,
    examples=(
        "careflow-storage url recordings/CA123/call.wav --expires 15m",
        'curl -T call.wav "$(careflow-storage url calls/new.wav --method PUT)"',
    ),
)
def url(
    context: typer.Context,
    key: Key,
    expires: Annotated[
        timedelta,
        typer.Option(
            parser=parse_time, metavar="TIME", help="How long it works: 90s, 15m, 12h, up to 7d."
        ),
    ] = "1h",  # type: ignore[assignment]  # typer parses the default, too
    method: Annotated[
        Literal["GET", "HEAD", "PUT", "DELETE"],
        typer.Option(metavar="METHOD", help="What it allows: GET, HEAD, PUT or DELETE."),
    ] = "GET",
    download_as: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Make browsers save the file as NAME.", show_default=False
        ),
    ] = None,
    content_type: Annotated[
        str | None,
        typer.Option(
            metavar="TYPE",
            help="For PUT: the Content-Type that must be sent; for GET: the one of the response.",
            show_default=False,
        ),
    ] = None,
    version_id: VersionId = None,
    as_json: Json = False,
) -> None:
    """Print a URL with which anyone can fetch or store a file for a limited time.

    Does not contact the server: the file need not exist.
    """
    from careflow_storage.cli.actions import inspect

    run_with_storage(
        context,
        lambda storage, output: inspect.url(
            storage,
            output,
            key,
            int(expires.total_seconds()),
            method=method,
            download_as=download_as,
            content_type=content_type,
            version_id=version_id,
        ),
        as_json=as_json,
    )
