"""Commands for unfinished uploads: list, abort, keep."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from careflow_storage.cli.context import run_with_storage
from careflow_storage.cli.ui.completion import complete_upload_ids, complete_upload_keys
from careflow_storage.cli.ui.help import Commands
from careflow_storage.cli.ui.options import DryRun, Json, Prefix, Yes
from careflow_storage.cli.ui.values import parse_positive_time

commands: Commands = Commands("List, abort or keep unfinished multipart uploads.")

_ID = typer.Argument(
    metavar="UPLOAD_ID",
    help="The ID that `uploads list` shows.",
    show_default=False,
    autocompletion=complete_upload_ids,
)
_KEY = typer.Argument(
    metavar="KEY",
    help="The key of the upload.",
    show_default=False,
    autocompletion=complete_upload_keys,
)


@commands.add("list", examples=("careflow-storage uploads list recordings/",))
def list_uploads(context: typer.Context, prefix: Prefix = "", as_json: Json = False) -> None:
    """List unfinished uploads: those that are running, and those that crashed processes left.

    Their parts are stored, and billed, until they are aborted.
    """
    from careflow_storage.cli.actions import uploads

    run_with_storage(
        context,
        lambda storage, output: uploads.list_uploads(storage, output, prefix),
        as_json=as_json,
    )


@commands.add(
    examples=(
        "careflow-storage uploads abort --older-than 1d",
        "careflow-storage uploads abort recordings/CA123/call.wav 4_z27c88f1d",
    )
)
def abort(
    context: typer.Context,
    key: Annotated[str | None, _KEY] = None,
    upload_id: Annotated[str | None, _ID] = None,
    older_than: Annotated[
        timedelta | None,
        typer.Option(
            parser=parse_positive_time,
            metavar="TIME",
            help="Abort all uploads that started longer ago: 12h, 1d, 1w.",
            show_default=False,
        ),
    ] = None,
    prefix: Annotated[
        str,
        typer.Option(
            metavar="PREFIX", help="With --older-than: only keys that begin with this prefix."
        ),
    ] = "",
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Abort one unfinished upload, or all that are older than a time, and erase their parts."""
    from careflow_storage.cli.actions.uploads import Abort

    job = Abort(key, upload_id, older_than, prefix, yes=yes, dry_run=dry_run)
    run_with_storage(context, job.run, as_json=as_json)


@commands.add(examples=("careflow-storage uploads keep recordings/CA123/call.wav 4_z27c88f1d",))
def keep(
    context: typer.Context,
    key: Annotated[str, _KEY],
    upload_id: Annotated[str, _ID],
    as_json: Json = False,
) -> None:
    """Complete an interrupted upload with the parts that it has stored.

    Saves a live recording whose process crashed. Its metadata says that it is partial.
    """
    from careflow_storage.cli.actions import uploads

    run_with_storage(
        context,
        lambda storage, output: uploads.keep(storage, output, key, upload_id),
        as_json=as_json,
    )
