"""Commands for application keys: create, list, rotate, finish, delete."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

import typer

from careflow_storage import StorageSettings
from careflow_storage.cli.run import Globals, run, settings_of
from careflow_storage.cli.ui.durations import parse_length
from careflow_storage.cli.ui.options import ACCOUNT, Json, Yes, examples, parse_time
from careflow_storage.cli.ui.output import Output

MASTER_KEY_ID = "BACKBLAZE_MASTER_KEY_ID"

# The key itself is no option: command lines can be read by everybody on the machine (ps).
_SignIn = Annotated[
    str | None,
    typer.Option(
        "--key-id",
        metavar="ID",
        envvar=MASTER_KEY_ID,
        help="Sign in with this key, such as the master key; asks for the key itself, unless "
        "BACKBLAZE_MASTER_APPLICATION_KEY is set.",
        show_default="that of the settings",
    ),
]
_Key = Annotated[str, typer.Argument(metavar="KEY_ID", help="The ID of a key.", show_default=False)]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    group = typer.Typer(
        no_args_is_help=True, help="Application keys, by B2's native API: create, list, rotate."
    )
    for name, command, lines in _COMMANDS:
        group.command(name, epilog=examples(*lines))(command)
    app.add_typer(group, name="keys", rich_help_panel=ACCOUNT)


def create(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="Of the key, such as careflow-prod.", show_default=False
        ),
    ],
    preset: Annotated[
        Literal["uploader", "analytics", "app", "admin"] | None,
        typer.Option(
            metavar="PRESET", help="uploader, analytics, app or admin.", show_default=False
        ),
    ] = None,
    capability: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="One of B2's, such as readFiles, in place of a preset; repeatable.",
            show_default=False,
        ),
    ] = None,
    bucket: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The only bucket it may use.", show_default="BACKBLAZE_BUCKET_NAME"
        ),
    ] = None,
    all_buckets: Annotated[
        bool, typer.Option("--all-buckets", help="Let it use every bucket of the account.")
    ] = False,
    prefix: Annotated[
        str | None,
        typer.Option(metavar="PREFIX", help="Only keys that begin so.", show_default=False),
    ] = None,
    expires: Annotated[
        timedelta | None,
        typer.Option(
            parser=parse_length,
            metavar="TIME",
            help="Let it end by itself, such as 90d.",
            show_default="never",
        ),
    ] = None,
    env_file: Annotated[
        Path | None,
        typer.Option(
            "--env-file",
            metavar="FILE",
            dir_okay=False,
            help="Write it into this .env file (0600).",
            show_default="prints it",
        ),
    ] = None,
    key_id: _SignIn = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Create a key that may do no more than it must.

    B2 tells the key itself this one time: it is printed, or written to --env-file.
    """
    from careflow_storage.cli.actions.keys import Creation

    if (preset is None) == (not capability):
        raise typer.BadParameter("Give either --preset or --capability.")
    if bucket is not None and all_buckets:
        raise typer.BadParameter("Give either --bucket or --all-buckets.")

    async def job(output: Output, settings: StorageSettings) -> None:
        limited_to = None if all_buckets else bucket or settings.bucket_name
        wanted = preset or capability or ()
        creation = Creation(name, wanted, limited_to, prefix, expires, env_file, yes)
        await creation.run(output, settings, key_id)

    _run(context, job, as_json=as_json)


def list_keys(context: typer.Context, key_id: _SignIn = None, as_json: Json = False) -> None:
    """List the keys of the account. Nobody can list the keys' secrets."""
    from careflow_storage.cli.actions.keys import list_all

    async def job(output: Output, settings: StorageSettings) -> None:
        await list_all(output, settings, key_id)

    _run(context, job, as_json=as_json)


def rotate(
    context: typer.Context,
    old: _Key,
    env_file: Annotated[
        Path,
        typer.Option(
            "--env-file",
            metavar="FILE",
            dir_okay=False,
            help="The .env file that gets the new key.",
            show_default=False,
        ),
    ],
    grace: Annotated[
        timedelta | None,
        typer.Option(
            parser=parse_time,
            metavar="TIME",
            help="Keep the old one for so long; 0s deletes it now.",
            show_default="until `keys finish`",
        ),
    ] = None,
    expires: Annotated[
        timedelta | None,
        typer.Option(
            parser=parse_length,
            metavar="TIME",
            help="Let the new one end by itself, such as 90d.",
            show_default="when the old one ends",
        ),
    ] = None,
    key_id: _SignIn = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Replace a key by a new one that may do the same.

    The new one is tried, then written to the file; the old one works until it is deleted, and
    so do URLs that were signed with it. Run it again if it was interrupted. Asks if another key
    was made to replace the old one already, or if 0s deletes a key that is still in use.
    """
    from careflow_storage.cli.actions.keys import Rotation

    async def job(output: Output, settings: StorageSettings) -> None:
        rotation = Rotation(old, env_file, grace, expires, yes)
        await rotation.run(output, settings, key_id, _settings_file(context))

    _run(context, job, as_json=as_json)


def finish(
    context: typer.Context,
    new: Annotated[
        str,
        typer.Argument(
            metavar="KEY_ID", help="The new key, which is in use now.", show_default=False
        ),
    ],
    key_id: _SignIn = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Delete the keys that this one has replaced, once their grace is over.

    Safe to run every day. Asks if one of them may still be in use: if the settings have it, or
    if its own rotation was interrupted or was for another program.
    """
    from careflow_storage.cli.actions.keys import finish_rotation

    async def job(output: Output, settings: StorageSettings) -> None:
        file = _settings_file(context)
        await finish_rotation(output, settings, key_id, new, file, yes=yes)

    _run(context, job, as_json=as_json)


def delete(
    context: typer.Context,
    target: _Key,
    key_id: _SignIn = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Delete a key. What uses it stops, and URLs signed with it. Asks."""
    from careflow_storage.cli.actions.keys import delete_key

    async def job(output: Output, settings: StorageSettings) -> None:
        await delete_key(output, settings, key_id, target, yes=yes)

    _run(context, job, as_json=as_json)


def _settings_file(context: typer.Context) -> Path:
    return Globals.of(context).env_file or Path(".env")


def _run(
    context: typer.Context,
    job: Callable[[Output, StorageSettings], Awaitable[None]],
    *,
    as_json: bool,
) -> None:
    async def main(output: Output) -> None:
        await job(output, settings_of(context))

    run(main, as_json=as_json, given=Globals.of(context))


_COMMANDS: tuple[tuple[str, Callable[..., None], tuple[str, ...]], ...] = (
    (
        "create",
        create,
        (
            "careflow-storage keys create careflow-prod --preset app --env-file prod.env",
            "careflow-storage keys create reports --preset analytics --expires 90d",
            "careflow-storage keys create ivr --preset uploader --prefix recordings/",
        ),
    ),
    ("list", list_keys, ("careflow-storage keys list", "careflow-storage keys list --json")),
    (
        "rotate",
        rotate,
        ("careflow-storage keys rotate 004f1c2d3e4a5b60000000007 --env-file prod.env --grace 1d",),
    ),
    ("finish", finish, ("careflow-storage keys finish 004f1c2d3e4a5b60000000008",)),
    ("delete", delete, ("careflow-storage keys delete 004f1c2d3e4a5b60000000007",)),
)
