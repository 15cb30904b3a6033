"""Commands that move or remove files: upload, download, cat, rm."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from careflow_storage.cli.run import with_storage
from careflow_storage.cli.ui.options import (
    FILES,
    CustomerKeyFile,
    DryRun,
    Json,
    Key,
    VersionId,
    Yes,
    examples,
)

_Jobs = Annotated[
    int, typer.Option("--jobs", "-j", min=1, max=64, help="How many files move at once.")
]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    for command, lines in _COMMANDS:
        app.command(rich_help_panel=FILES, epilog=examples(*lines))(command)


def upload(
    context: typer.Context,
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE",
            help="Files and folders, or - for what comes through a pipe.",
            show_default=False,
        ),
    ],
    key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="The key of the one file.", show_default="its name"),
    ] = None,
    prefix: Annotated[
        str | None,
        typer.Option(metavar="PREFIX", help="The folder in the bucket.", show_default="none"),
    ] = None,
    call_id: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="Store recordings of this call, as recordings/ID/TIME-NAME.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="With --call-id: the recording's NAME.", show_default="the file's"
        ),
    ] = None,
    recorded_at: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%S.%f%z"],
            metavar="TIME",
            help="With --call-id: when it was recorded, as 2026-11-24T12:00:00+00:00.",
            show_default="now",
        ),
    ] = None,
    content_type: Annotated[
        str | None,
        typer.Option(metavar="TYPE", help="Such as audio/webm.", show_default="told by the bytes"),
    ] = None,
    metadata: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="Metadata of your own; repeatable.", show_default=False
        ),
    ] = None,
    no_overwrite: Annotated[
        bool, typer.Option("--no-overwrite", help="Fail where the key is taken.")
    ] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on where an upload was interrupted; keep what a failure leaves."
        ),
    ] = False,
    checksum: Annotated[
        Literal["md5", "crc32", "sha256"] | None,
        typer.Option(help="What the server verifies.", show_default="md5"),
    ] = None,
    encryption: Annotated[
        Literal["SSE-B2"] | None,
        typer.Option(
            metavar="SSE-B2", help="Let Backblaze encrypt it.", show_default="as the bucket does"
        ),
    ] = None,
    customer_key_file: CustomerKeyFile = None,
    jobs: _Jobs = 4,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Store files, folders or a pipe, and print the keys.

    A folder is taken with all that is below it: each key is the prefix, "/" and the path within
    the folder. Below a folder, hidden files and folders (.name) and symbolic links are left out,
    and counted; what is named itself is always taken. A file that fails does not stop the others.
    """
    from careflow_storage.cli.actions.upload import UploadJob

    job = UploadJob(
        sources=sources,
        key=key,
        prefix=prefix,
        call_id=call_id,
        name=name,
        recorded_at=recorded_at,
        content_type=content_type,
        metadata=metadata or [],
        overwrite=not no_overwrite,
        resume=resume,
        checksum=checksum,
        encryption=encryption,
        customer_key_file=customer_key_file,
        jobs=jobs,
        dry_run=dry_run,
    )
    with_storage(context, job.run, as_json=as_json)


def download(
    context: typer.Context,
    key: Annotated[
        str | None,
        typer.Argument(
            metavar="KEY", help="The key; with --prefix the FOLDER instead.", show_default=False
        ),
    ] = None,
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="PATH", help="The file, or the folder to put it in.", show_default="."
        ),
    ] = None,
    prefix: Annotated[
        str | None,
        typer.Option(
            metavar="PREFIX",
            help="All files whose keys begin so, with their folders.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace existing files.")] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on where a download was interrupted; with --prefix keep files that have "
            "the right size already.",
        ),
    ] = False,
    version_id: VersionId = None,
    customer_key_file: CustomerKeyFile = None,
    jobs: _Jobs = 4,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Fetch a file, or all below a prefix, verify the bytes, and print the paths.

    An existing file is not replaced without --force. A file appears whole or not at all. No key
    leads out of the folder: one with ".." in it is refused, and what a file name cannot have
    becomes "_".
    """
    from careflow_storage.cli.actions.download import DownloadJob

    job = DownloadJob(
        key=key,
        path=path,
        prefix=prefix,
        force=force,
        resume=resume,
        version_id=version_id,
        customer_key_file=customer_key_file,
        jobs=jobs,
        dry_run=dry_run,
    )
    with_storage(context, job.run, as_json=as_json)


def cat(
    context: typer.Context,
    key: Key,
    start: Annotated[int, typer.Option(min=0, help="The first byte.")] = 0,
    end: Annotated[
        int | None, typer.Option(min=0, help="The byte before which to stop.", show_default="all")
    ] = None,
    version_id: VersionId = None,
    customer_key_file: CustomerKeyFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print errors as JSON.")] = False,
) -> None:
    r"""Write a file's bytes to stdout.

    To a terminal only text is written, with control characters shown as \x1b.
    """
    from careflow_storage.cli.actions.cat import CatJob

    job = CatJob(key, start, end, version_id, customer_key_file)
    with_storage(context, job.run, as_json=as_json)


def rm(
    context: typer.Context,
    keys: Annotated[
        list[str] | None, typer.Argument(metavar="KEY", help="Files.", show_default=False)
    ] = None,
    prefix: Annotated[
        str | None,
        typer.Option(metavar="PREFIX", help="All files whose keys begin so.", show_default=False),
    ] = None,
    all_versions: Annotated[
        bool,
        typer.Option("--all-versions", help="Erase every version and unfinished upload, for ever."),
    ] = False,
    version_id: Annotated[
        str | None,
        typer.Option(
            "--version-id", metavar="ID", help="Erase this version, for ever.", show_default=False
        ),
    ] = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Hide files: readers no longer find them, and their versions stay (and are billed).

    "careflow-storage restore" brings them back. What erases, asks before.
    """
    from careflow_storage.cli.actions.remove import Removal

    job = Removal(
        keys=keys or [],
        prefix=prefix,
        all_versions=all_versions,
        version_id=version_id,
        yes=yes,
        dry_run=dry_run,
    )
    with_storage(context, job.run, as_json=as_json)


_COMMANDS = (
    (
        upload,
        (
            "careflow-storage upload recording.webm --call-id CA123",
            "careflow-storage upload ./recordings --prefix recordings/2026 --resume",
            "ffmpeg -i call.wav -f webm - | careflow-storage upload - --key calls/CA123.webm",
        ),
    ),
    (
        download,
        (
            "careflow-storage download recordings/CA123/1795543671686-recording.webm",
            "careflow-storage download --prefix recordings/CA123/ ./CA123 --resume",
        ),
    ),
    (
        cat,
        (
            "careflow-storage cat recordings/CA123/call.wav | ffplay -",
            "careflow-storage cat recordings/CA123/call.wav --end 44 | xxd",
        ),
    ),
    (
        rm,
        (
            "careflow-storage rm recordings/CA123/call.wav",
            "careflow-storage rm --prefix recordings/CA123/ --dry-run",
            "careflow-storage rm recordings/CA123/call.wav --all-versions",
        ),
    ),
)
