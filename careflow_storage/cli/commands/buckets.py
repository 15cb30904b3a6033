"""Commands for buckets: list, create, info, delete, encryption."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from careflow_storage.cli.context import run_command, settings_of
from careflow_storage.cli.ui.completion import complete_buckets
from careflow_storage.cli.ui.help import Commands
from careflow_storage.cli.ui.options import Json

if TYPE_CHECKING:
    from careflow_storage.cli.actions.buckets import Job
    from careflow_storage.cli.ui.output import Output

commands: Commands = Commands("List, create, inspect and delete buckets.")

_Name = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME",
        help="The bucket.",
        show_default="BACKBLAZE_BUCKET_NAME",
        autocompletion=complete_buckets,
    ),
]


@commands.add("list", examples=("careflow-storage buckets list",))
def list_buckets(context: typer.Context, as_json: Json = False) -> None:
    """List the buckets of the account. The key needs listAllBucketNames."""
    from careflow_storage.cli.actions.buckets import print_buckets

    _run(context, print_buckets, as_json=as_json, needs_bucket=False)


@commands.add(
    examples=(
        "careflow-storage buckets create --env prod",
        "careflow-storage buckets create careflow-recordings-audit --object-lock",
    )
)
def create(
    context: typer.Context,
    name: _Name = None,
    env: Annotated[
        str | None,
        typer.Option(
            metavar="ENV",
            help="Create careflow-recordings-ENV, such as prod.",
            show_default=False,
        ),
    ] = None,
    object_lock: Annotated[
        bool,
        typer.Option("--object-lock", help="Enable object lock, which cannot be disabled again."),
    ] = False,
    no_encryption: Annotated[
        bool, typer.Option("--no-encryption", help="Do not encrypt new files (SSE-B2).")
    ] = False,
    as_json: Json = False,
) -> None:
    """Create a private bucket, encrypted by default."""
    from careflow_storage.cli.actions.buckets import BucketCreation

    job = BucketCreation(name, env, object_lock=object_lock, encrypt=not no_encryption)
    _run(context, job.run, as_json=as_json, needs_bucket=name is None and env is None)


@commands.add(examples=("careflow-storage buckets info",))
def info(context: typer.Context, name: _Name = None, as_json: Json = False) -> None:
    """Show where a bucket is and how it is set up. Sends 6 requests.

    Leaves out what the key may not read.
    """
    from careflow_storage.cli.actions.buckets import print_info

    _run(context, print_info, as_json=as_json, name=name)


@commands.add(
    examples=(
        "careflow-storage buckets delete careflow-recordings-old",
        "careflow-storage buckets delete careflow-old --confirm careflow-old",
    )
)
def delete(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="The bucket.",
            show_default=False,
            autocompletion=complete_buckets,
        ),
    ],
    confirm: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The name again, for scripts.", show_default="asks for it"
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Delete an empty bucket. Asks you to type its name."""
    from careflow_storage.cli.actions.buckets import Deletion

    _run(context, Deletion(name, confirm).run, as_json=as_json, needs_bucket=False)


@commands.add(
    examples=(
        "careflow-storage buckets encryption",
        "careflow-storage buckets encryption SSE-B2",
    )
)
def encryption(
    context: typer.Context,
    change: Annotated[
        Literal["show", "SSE-B2", "none"],
        typer.Argument(metavar="show|SSE-B2|none", help="Show the default, or set it."),
    ] = "show",
    as_json: Json = False,
) -> None:
    """Show or set how new files are encrypted by default.

    Existing files do not change.
    """
    from careflow_storage.cli.actions.buckets import EncryptionChange

    _run(context, EncryptionChange(change).run, as_json=as_json)


def _run(
    context: typer.Context,
    job: Job,
    *,
    as_json: bool,
    name: str | None = None,
    needs_bucket: bool = True,
) -> None:
    """Run the job on the bucket ``name``, or on that of the settings."""
    from careflow_storage.cli.actions.buckets import run_on_bucket

    async def main(output: Output) -> None:
        settings = settings_of(context)
        await run_on_bucket(output, settings, job, name=name, needs_bucket=needs_bucket)

    run_command(context, main, as_json=as_json)
