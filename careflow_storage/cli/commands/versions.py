"""Commands for versions and copies: versions, restore, cp, mv."""

from __future__ import annotations

from typing import Annotated

import typer

from careflow_storage.cli.run import with_storage
from careflow_storage.cli.ui.options import FILES, VERSIONS, Json, Key, Prefix, VersionId, examples

_Source = Annotated[
    str, typer.Argument(metavar="SOURCE", help="The key to copy.", show_default=False)
]
_Target = Annotated[str, typer.Argument(metavar="TARGET", help="The new key.", show_default=False)]
_NoOverwrite = Annotated[bool, typer.Option("--no-overwrite", help="Fail where TARGET is taken.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    for command, panel, lines in _COMMANDS:
        app.command(rich_help_panel=panel, epilog=examples(*lines))(command)


def cp(
    context: typer.Context,
    source: _Source,
    target: _Target,
    version_id: VersionId = None,
    content_type: Annotated[
        str | None, typer.Option(metavar="TYPE", help="A new type.", show_default="the source's")
    ] = None,
    no_overwrite: _NoOverwrite = False,
    as_json: Json = False,
) -> None:
    """Copy a file within the bucket, on the server: no byte of it comes here."""
    from careflow_storage.cli.actions import versions

    with_storage(
        context,
        lambda storage, output: versions.copy(
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


def mv(
    context: typer.Context,
    source: _Source,
    target: _Target,
    no_overwrite: _NoOverwrite = False,
    as_json: Json = False,
) -> None:
    """Copy a file within the bucket, then hide the source; its versions stay."""
    from careflow_storage.cli.actions import versions

    with_storage(
        context,
        lambda storage, output: versions.move(
            storage, output, source, target, overwrite=not no_overwrite
        ),
        as_json=as_json,
    )


def versions(context: typer.Context, prefix: Prefix = "", as_json: Json = False) -> None:
    """List all versions and delete markers, the newest first.

    What readers see is "latest"; "hidden" is a delete marker, behind which a file is hidden;
    "old" is kept (and billed) until a lifecycle rule or a purge erases it.
    """
    from careflow_storage.cli.actions import versions

    with_storage(
        context,
        lambda storage, output: versions.list_versions(storage, output, prefix),
        as_json=as_json,
    )


def restore(
    context: typer.Context, key: Key, version_id: VersionId = None, as_json: Json = False
) -> None:
    """Bring a hidden file back, or put an old version on top of all others."""
    from careflow_storage.cli.actions import versions

    with_storage(
        context,
        lambda storage, output: versions.restore(storage, output, key, version_id),
        as_json=as_json,
    )


_COMMANDS = (
    (cp, FILES, ("careflow-storage cp recordings/CA123/call.wav archive/call.wav",)),
    (mv, FILES, ("careflow-storage mv incoming/call.wav recordings/CA123/call.wav",)),
    (
        versions,
        VERSIONS,
        (
            "careflow-storage versions recordings/CA123/",
            "careflow-storage versions --json | jq -r 'select(.delete_marker).key'",
        ),
    ),
    (
        restore,
        VERSIONS,
        (
            "careflow-storage restore recordings/CA123/call.wav",
            "careflow-storage restore recordings/CA123/call.wav --version-id 4_z27c88f1d",
        ),
    ),
)
