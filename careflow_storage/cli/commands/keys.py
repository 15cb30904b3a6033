"""Commands for application keys: create, list, rotate, finish, delete."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from careflow_storage.cli.context import Globals, run_command, settings_of
from careflow_storage.cli.ui.help import Commands
from careflow_storage.cli.ui.options import Json, Yes
from careflow_storage.cli.ui.values import parse_positive_time, parse_time

if TYPE_CHECKING:
    from careflow_storage import StorageSettings
    from careflow_storage.cli.ui.output import Output

commands: Commands = Commands(
    "Create, list, rotate and delete application keys, with B2's native API."
)

_MASTER_KEY_ID = "BACKBLAZE_MASTER_KEY_ID"

# The secret is not an option: every user of the machine can read command lines (ps).
_SignIn = Annotated[
    str | None,
    typer.Option(
        "--key-id",
        metavar="ID",
        envvar=_MASTER_KEY_ID,
        help="Sign in with this key, such as the master key. Asks for its secret, unless "
        "BACKBLAZE_MASTER_APPLICATION_KEY is set.",
        show_default="the key of the settings",
    ),
]
_Key = Annotated[
    str, typer.Argument(metavar="KEY_ID", help="The ID of the key.", show_default=False)
]


@commands.add(
    examples=(
        "careflow-storage keys create careflow-prod --preset app --env-file prod.env",
        "careflow-storage keys create reports --preset analytics --expires 90d",
        "careflow-storage keys create ivr --preset uploader --prefix recordings/",
    )
)
def create(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="The name of the key, such as careflow-prod.", show_default=False
        ),
    ],
    preset: Annotated[
        Literal["uploader", "analytics", "app", "admin"] | None,
        typer.Option(
            metavar="PRESET",
            help="What the key may do: uploader, analytics, app or admin.",
            show_default=False,
        ),
    ] = None,
    capability: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Instead of a preset: a capability of B2, such as readFiles; can be repeated.",
            show_default=False,
        ),
    ] = None,
    bucket: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Limit it to this bucket.", show_default="BACKBLAZE_BUCKET_NAME"
        ),
    ] = None,
    all_buckets: Annotated[
        bool, typer.Option("--all-buckets", help="Allow every bucket of the account.")
    ] = False,
    prefix: Annotated[
        str | None,
        typer.Option(
            metavar="PREFIX",
            help="Limit it to files whose keys begin with this prefix.",
            show_default=False,
        ),
    ] = None,
    expires: Annotated[
        timedelta | None,
        typer.Option(
            parser=parse_positive_time,
            metavar="TIME",
            help="Let it expire after this time, such as 90d.",
            show_default="never",
        ),
    ] = None,
    env_file: Annotated[
        Path | None,
        typer.Option(
            "--env-file",
            metavar="FILE",
            dir_okay=False,
            help="Write it to this .env file (mode 0600).",
            show_default="prints it",
        ),
    ] = None,
    key_id: _SignIn = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Create an application key with limited rights.

    B2 returns the secret only once: it is printed, or written to --env-file.
    """
    from careflow_storage.cli.actions.keys import KeyCreation

    if (preset is None) == (not capability):
        raise typer.BadParameter("Give either --preset or --capability.")
    if bucket is not None and all_buckets:
        raise typer.BadParameter("Give either --bucket or --all-buckets.")

    async def job(output: Output, settings: StorageSettings) -> None:
        limited_to = None if all_buckets else bucket or settings.bucket_name
        wanted = preset or capability or ()
        creation = KeyCreation(name, wanted, limited_to, prefix, expires, env_file, yes)
        await creation.run(output, settings, key_id)

    _run(context, job, as_json=as_json)


@commands.add("list", examples=("careflow-storage keys list", "careflow-storage keys list --json"))
def list_keys(context: typer.Context, key_id: _SignIn = None, as_json: Json = False) -> None:
    """List the keys of the account, without their secrets."""
    from careflow_storage.cli.actions.keys import print_keys

    async def job(output: Output, settings: StorageSettings) -> None:
        await print_keys(output, settings, key_id)

    _run(context, job, as_json=as_json)


@commands.add(
    examples=(
        "careflow-storage keys rotate 004f1c2d3e4a5b60000000007 --env-file prod.env --grace 1d",
    )
)
def rotate(
    context: typer.Context,
    old: _Key,
    env_file: Annotated[
        Path,
        typer.Option(
            "--env-file",
            metavar="FILE",
            dir_okay=False,
            help="Write the new key to this .env file.",
            show_default=False,
        ),
    ],
    grace: Annotated[
        timedelta | None,
        typer.Option(
            parser=parse_time,
            metavar="TIME",
            help="Keep the old key for this time; 0s deletes it now.",
            show_default="until `keys finish`",
        ),
    ] = None,
    expires: Annotated[
        timedelta | None,
        typer.Option(
            parser=parse_positive_time,
            metavar="TIME",
            help="Let the new key expire after this time, such as 90d.",
            show_default="when the old one expires",
        ),
    ] = None,
    key_id: _SignIn = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Replace a key with a new one that has the same rights.

    Tests the new key, then writes it to the file. The old key, and URLs signed with it, work until
    it is deleted. If the command is interrupted, run it again. Asks if another key was already
    created to replace the old one, or if --grace 0s deletes a key that is still in use.
    """
    from careflow_storage.cli.actions.keys import KeyRotation

    async def job(output: Output, settings: StorageSettings) -> None:
        rotation = KeyRotation(old, env_file, grace, expires, yes)
        await rotation.run(output, settings, key_id, _settings_file(context))

    _run(context, job, as_json=as_json)


@commands.add(examples=("careflow-storage keys finish 004f1c2d3e4a5b60000000008",))
def finish(
    context: typer.Context,
    new: Annotated[
        str,
        typer.Argument(
            metavar="KEY_ID", help="The ID of the new key, now in use.", show_default=False
        ),
    ],
    key_id: _SignIn = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Delete the keys that this one has replaced, once their grace time is over.

    Can run every day. Asks if one of them may still be in use: if the settings name it, or if its
    own rotation was interrupted or was for another program.
    """
    from careflow_storage.cli.actions.keys import finish_rotation

    async def job(output: Output, settings: StorageSettings) -> None:
        file = _settings_file(context)
        await finish_rotation(output, settings, key_id, new, file, yes=yes)

    _run(context, job, as_json=as_json)


@commands.add(examples=("careflow-storage keys delete 004f1c2d3e4a5b60000000007",))
def delete(
    context: typer.Context,
    target: _Key,
    key_id: _SignIn = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Delete a key. Programs and signed URLs that use it stop working. Asks."""
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

    run_command(context, main, as_json=as_json)
