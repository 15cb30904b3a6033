"""Commands that ask about files: ls, info, exists, url."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from careflow_storage.cli.run import NOT_THERE, with_storage
from careflow_storage.cli.ui.options import (
    FILES,
    CustomerKeyFile,
    Json,
    Key,
    Prefix,
    VersionId,
    examples,
    parse_time,
)


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    for command, lines in _COMMANDS:
        app.command(rich_help_panel=FILES, epilog=examples(*lines))(command)


def ls(
    context: typer.Context,
    prefix: Prefix = "",
    long: Annotated[
        bool, typer.Option("--long", "-l", help="With size and time, and a total.")
    ] = False,
    tree: Annotated[
        bool, typer.Option("--tree", "-t", help="Folders, with what is below each.")
    ] = False,
    depth: Annotated[
        int | None,
        typer.Option(min=1, help="With --tree: how many levels.", show_default="all"),
    ] = None,
    human: Annotated[
        bool, typer.Option("--human", "-h", help="With --long: sizes as 24.1 KiB.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the files below a prefix, one key to a line; hidden ones are left out.

    All of them, however deep, as they come: memory stays the same for any number. --json gives
    one object to a line.
    """
    from careflow_storage.cli.actions import listing

    with_storage(
        context,
        lambda storage, output: (
            listing.list_tree(storage, output, prefix, depth)
            if tree
            else listing.list_files(storage, output, prefix, long=long, human=human)
        ),
        as_json=as_json,
    )


def info(
    context: typer.Context,
    key: Key,
    version_id: VersionId = None,
    customer_key_file: CustomerKeyFile = None,
    as_json: Json = False,
) -> None:
    """Show size, content type, time, version and metadata of a file."""
    from careflow_storage.cli.actions import listing

    with_storage(
        context,
        lambda storage, output: listing.info(storage, output, key, version_id, customer_key_file),
        as_json=as_json,
    )


def exists(context: typer.Context, key: Key, as_json: Json = False) -> None:
    """Say whether a file is there and not hidden: yes, or no and exit code 3."""
    from careflow_storage import BackblazeStorage
    from careflow_storage.cli.ui.output import Output

    async def job(storage: BackblazeStorage, output: Output) -> int:
        there = await storage.file_exists(key)
        output.line("yes" if there else "no")
        output.item({"key": key, "exists": there})
        return 0 if there else NOT_THERE

    with_storage(context, job, as_json=as_json)


def url(
    context: typer.Context,
    key: Key,
    expires: Annotated[
        str, typer.Option(metavar="TIME", help="How long it works: 90s, 15m, 12h, up to 7d.")
    ] = "1h",
    method: Annotated[
        Literal["GET", "HEAD", "PUT", "DELETE"], typer.Option(help="What it lets its holder do.")
    ] = "GET",
    download_as: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Let browsers save it under this name.", show_default=False
        ),
    ] = None,
    content_type: Annotated[
        str | None,
        typer.Option(
            metavar="TYPE",
            help="For PUT: the Content-Type that must be sent; for GET: what the response says.",
            show_default=False,
        ),
    ] = None,
    version_id: VersionId = None,
    as_json: Json = False,
) -> None:
    """Print a URL by which anybody can fetch (or store) a file for some time.

    It is made here, nobody is asked: the file need not be there.
    """
    from careflow_storage.cli.actions import listing

    seconds = int(parse_time(expires).total_seconds())
    with_storage(
        context,
        lambda storage, output: listing.url(
            storage,
            output,
            key,
            seconds,
            method=method,
            download_as=download_as,
            content_type=content_type,
            version_id=version_id,
        ),
        as_json=as_json,
    )


_COMMANDS = (
    (
        ls,
        (
            "careflow-storage ls recordings/CA123/ --long --human",
            "careflow-storage ls --tree --depth 2",
            "careflow-storage ls --json | jq -r 'select(.size > 100000000).key'",
        ),
    ),
    (info, ("careflow-storage info recordings/CA123/call.wav",)),
    (exists, ("careflow-storage exists recordings/CA123/call.wav && echo there",)),
    (
        url,
        (
            "careflow-storage url recordings/CA123/call.wav --expires 15m",
            'curl -T call.wav "$(careflow-storage url calls/new.wav --method PUT)"',
        ),
    ),
)
