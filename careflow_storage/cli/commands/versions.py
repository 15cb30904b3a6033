"""Commands for versions and copies: versions, restore, cp, mv."""

from __future__ import annotations

from typing import Annotated

import typer

from careflow_storage.cli.context import run_with_storage
from careflow_storage.cli.ui.completion import complete_hidden_keys, complete_keys
from careflow_storage.cli.ui.help import Commands
from careflow_storage.cli.ui.options import FILES, VERSIONS, Json, Prefix, VersionId

commands: Commands = Commands()

_Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="The key to copy.",
        show_default=False,
        autocompletion=complete_keys,
    ),
]
_Target = Annotated[
    str,
    typer.Argument(
        metavar="TARGET", help="The new key.", show_default=False, autocompletion=complete_keys
    ),
]
_HiddenKey = Annotated[
    str,
    typer.Argument(
        metavar="KEY",
        help="The key of a file in the bucket.",
        show_default=False,
        autocompletion=complete_hidden_keys,
    ),
]
_NoOverwrite = Annotated[bool, typer.Option("--no-overwrite", help="Fail if TARGET exists.")]


@commands.add(
    section=FILES,
    examples=("careflow-storage cp recordings/CA123/call.wav archive/call.wav",),
)
def cp(
    context: typer.Context,
    source: _Source,
    target: _Target,
    version_id: VersionId = None,
    content_type: Annotated[
        str | None,
        typer.Option(
            metavar="TYPE", help="The content type of the copy.", show_default="the source's"
        ),
    ] = None,
    no_overwrite: _NoOverwrite = False,
    as_json: Json = False,
) -> None:
    """Copy a file within the bucket. The server copies; nothing is downloaded."""
    from careflow_storage.cli.actions import copy

    run_with_storage(
        context,
        lambda storage, output: copy.copy(
            storage,
            output,
            source,
            target,
            version_id=version_id,
            content_type=content_type,
            overwrite=not no_overwrite,
        ),
        as_json=as_json,
    )


@commands.add(
    section=FILES,
    examples=("careflow-storage mv incoming/call.wav recordings/CA123/call.wav",),
)
def mv(
    context: typer.Context,
    source: _Source,
    target: _Target,
    no_overwrite: _NoOverwrite = False,
    as_json: Json = False,
) -> None:
    """Copy a file within the bucket, then hide the source. The source's versions are kept."""
    from careflow_storage.cli.actions import copy

    run_with_storage(
        context,
        lambda storage, output: copy.move(
            storage, output, source, target, overwrite=not no_overwrite
        ),
        as_json=as_json,
    )


@commands.add(
    section=VERSIONS,
    examples=(
        "careflow-storage versions recordings/CA123/",
        "careflow-storage versions --json | jq -r 'select(.delete_marker).key'",
    ),
)
def versions(context: typer.Context, prefix: Prefix = "", as_json: Json = False) -> None:
    """List all versions and delete markers, newest first.

    "latest" is what readers get. "hidden" is a delete marker that hides the file. "old" is kept,
    and billed, until a lifecycle rule or a purge erases it.
    """
    from careflow_storage.cli.actions import versions

    run_with_storage(
        context,
        lambda storage, output: versions.list_versions(storage, output, prefix),
        as_json=as_json,
    )


@commands.add(
    section=VERSIONS,
    examples=(
        "careflow-storage restore recordings/CA123/call.wav",
        "careflow-storage restore recordings/CA123/call.wav --version-id 4_z27c88f1d",
    ),
)
def restore(
    context: typer.Context, key: _HiddenKey, version_id: VersionId = None, as_json: Json = False
) -> None:
    """Bring back a hidden file, or make an old version the newest."""
    from careflow_storage.cli.actions import versions

    run_with_storage(
        context,
        lambda storage, output: versions.restore(storage, output, key, version_id),
        as_json=as_json,
    )
