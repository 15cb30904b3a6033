"""Commands for unfinished uploads: list, abort, keep."""

from __future__ import annotations

from typing import Annotated

import typer

from careflow_storage.cli.run import with_storage
from careflow_storage.cli.ui.options import (
    VERSIONS,
    DryRun,
    Json,
    Key,
    Prefix,
    Yes,
    examples,
    parse_time,
)

_UploadId = Annotated[
    str, typer.Argument(metavar="UPLOAD_ID", help="As `uploads list` shows it.", show_default=False)
]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    uploads = typer.Typer(
        help="Multipart uploads that nobody completed: list, abort or keep them.",
        no_args_is_help=True,
    )
    for name, command, lines in _COMMANDS:
        uploads.command(name, epilog=examples(*lines))(command)
    app.add_typer(uploads, name="uploads", rich_help_panel=VERSIONS)


def list_uploads(context: typer.Context, prefix: Prefix = "", as_json: Json = False) -> None:
    """List unfinished uploads: what crashed processes left, and what is running now.

    Their parts are stored and billed until they are aborted.
    """
    from careflow_storage.cli.actions import uploads

    with_storage(
        context,
        lambda storage, output: uploads.list_uploads(storage, output, prefix),
        as_json=as_json,
    )


def abort(
    context: typer.Context,
    key: Annotated[str | None, typer.Argument(metavar="KEY", show_default=False)] = None,
    upload_id: Annotated[
        str | None,
        typer.Argument(metavar="UPLOAD_ID", help="As `uploads list` shows it.", show_default=False),
    ] = None,
    older_than: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="All that began longer ago: 12h, 1d, 1w.", show_default=False
        ),
    ] = None,
    prefix: Annotated[
        str, typer.Option(metavar="PREFIX", help="With --older-than: only keys that begin so.")
    ] = "",
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Abort an unfinished upload, or all that are older than a time: their parts are erased."""
    from careflow_storage.cli.actions.uploads import Abortion

    age = None if older_than is None else parse_time(older_than)
    job = Abortion(key, upload_id, age, prefix, yes=yes, dry_run=dry_run)
    with_storage(context, job.run, as_json=as_json)


def keep(context: typer.Context, key: Key, upload_id: _UploadId, as_json: Json = False) -> None:
    """Make a recording of the parts that an interrupted upload has stored.

    For a live recording whose process died. It is marked as partial in its metadata.
    """
    from careflow_storage.cli.actions import uploads

    with_storage(
        context,
        lambda storage, output: uploads.keep(storage, output, key, upload_id),
        as_json=as_json,
    )


_COMMANDS = (
    ("list", list_uploads, ("careflow-storage uploads list recordings/",)),
    (
        "abort",
        abort,
        (
            "careflow-storage uploads abort --older-than 1d",
            "careflow-storage uploads abort recordings/CA123/call.wav 4_z27c88f1d",
        ),
    ),
    ("keep", keep, ("careflow-storage uploads keep recordings/CA123/call.wav 4_z27c88f1d",)),
)
