"""Commands that move or remove files: upload, download, cat, rm."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from careflow_storage.cli.context import run_with_storage
from careflow_storage.cli.ui.completion import complete_keys, complete_version_ids
from careflow_storage.cli.ui.help import Commands
from careflow_storage.cli.ui.options import (
    FILES,
    CustomerKeyFile,
    DryRun,
    Json,
    Key,
    VersionId,
    Yes,
)

if TYPE_CHECKING:
    from careflow_storage import BackblazeStorage
    from careflow_storage.cli.ui.output import Output

commands: Commands = Commands()

_Jobs = Annotated[
    int,
    typer.Option("--jobs", "-j", metavar="N", min=1, max=64, help="Transfer N files at a time."),
]


@commands.add(
    section=FILES,
    examples=(
        "careflow-storage upload recording.webm --call-id CA123",
        "careflow-storage upload ./recordings --prefix recordings/2026 --resume",
        "ffmpeg -i call.wav -f webm - | careflow-storage upload - --key calls/CA123.webm",
    ),
)
def upload(
    context: typer.Context,
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE",
            help="Files and folders, or - for standard input.",
            show_default=False,
        ),
    ],
    key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY", help="Store a single file under this key.", show_default="its name"
        ),
    ] = None,
    prefix: Annotated[
        str | None,
        typer.Option(
            metavar="PREFIX", help="Store below this folder of the bucket.", show_default="none"
        ),
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
            metavar="NAME",
            help="With --call-id: the NAME in the key.",
            show_default="the name of the file",
        ),
    ] = None,
    recorded_at: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%S.%f%z"],
            metavar="TIME",
            help="With --call-id: the TIME in the key, such as 2026-11-24T12:00:00+00:00.",
            show_default="now",
        ),
    ] = None,
    content_type: Annotated[
        str | None,
        typer.Option(
            metavar="TYPE",
            help="The content type, such as audio/webm.",
            show_default="detected from the bytes",
        ),
    ] = None,
    metadata: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="Add metadata; can be repeated.", show_default=False
        ),
    ] = None,
    no_overwrite: Annotated[
        bool, typer.Option("--no-overwrite", help="Fail if the key exists.")
    ] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Continue an interrupted upload; after a failure, keep the parts for the next "
            "attempt.",
        ),
    ] = False,
    checksum: Annotated[
        Literal["md5", "crc32", "sha256"] | None,
        typer.Option(
            metavar="ALGORITHM",
            help="The checksum that the server verifies: md5, crc32 or sha256.",
            show_default="md5",
        ),
    ] = None,
    encryption: Annotated[
        Literal["SSE-B2"] | None,
        typer.Option(
            metavar="SSE-B2",
            help="Encrypt with keys that Backblaze manages.",
            show_default="the bucket's default",
        ),
    ] = None,
    customer_key_file: CustomerKeyFile = None,
    jobs: _Jobs = 4,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Upload files, folders or standard input, and print the keys.

    A folder is uploaded with everything below it: each key is the prefix, "/" and the path within
    the folder. Hidden files and folders (.name) and symbolic links below a folder are skipped and
    counted; a SOURCE that you name is always uploaded. If a file fails, the others continue.
    """
    from careflow_storage.cli.actions.upload import UploadJob, UploadTarget, object_options

    async def job(storage: BackblazeStorage, output: Output) -> int | None:
        options = object_options(
            metadata or (),
            encryption,
            customer_key_file,
            content_type=content_type,
            checksum=checksum,
        )
        target = UploadTarget(key, prefix, call_id, name, recorded_at)
        upload = UploadJob(
            sources,
            target,
            options,
            overwrite=not no_overwrite,
            resume=resume,
            jobs=jobs,
            dry_run=dry_run,
        )
        return await upload.run(storage, output)

    run_with_storage(context, job, as_json=as_json)


@commands.add(
    section=FILES,
    examples=(
        "careflow-storage download recordings/CA123/1795543671686-recording.webm",
        "careflow-storage download --prefix recordings/CA123/ ./CA123 --resume",
    ),
)
def download(
    context: typer.Context,
    key: Annotated[
        str | None,
        typer.Argument(
            metavar="KEY",
            help="The key to download; with --prefix, the FOLDER to download to.",
            show_default=False,
            autocompletion=complete_keys,
        ),
    ] = None,
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="PATH", help="The file, or the folder for it.", show_default="current folder"
        ),
    ] = None,
    prefix: Annotated[
        str | None,
        typer.Option(
            metavar="PREFIX",
            help="Download all files whose keys begin with this prefix.",
            show_default=False,
            autocompletion=complete_keys,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace existing files.")] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Continue an interrupted download; with --prefix, skip files that already have "
            "the right size.",
        ),
    ] = False,
    version_id: VersionId = None,
    customer_key_file: CustomerKeyFile = None,
    jobs: _Jobs = 4,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Download a file, or all files below a prefix, verify the bytes, and print the paths.

    Existing files are kept unless --force is given. A file appears only when it is complete. No
    key can lead out of the folder: keys with ".." are refused, and characters that a file name
    cannot have become "_".
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
    run_with_storage(context, job.run, as_json=as_json)


@commands.add(
    section=FILES,
    examples=(
        "careflow-storage cat recordings/CA123/call.wav | ffplay -",
        "careflow-storage cat recordings/CA123/call.wav --end 44 | xxd",
    ),
)
def cat(
    context: typer.Context,
    key: Key,
    start: Annotated[
        int, typer.Option(metavar="N", min=0, help="Start at this byte, counted from 0.")
    ] = 0,
    end: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=0, help="Stop before this byte.", show_default="the file's end"
        ),
    ] = None,
    version_id: VersionId = None,
    customer_key_file: CustomerKeyFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print errors as JSON.")] = False,
) -> None:
    r"""Write the bytes of a file to stdout.

    A terminal shows only text, with control characters as \x1b.
    """
    from careflow_storage.cli.actions.cat import CatJob

    job = CatJob(key, start, end, version_id, customer_key_file)
    run_with_storage(context, job.run, as_json=as_json)


@commands.add(
    section=FILES,
    examples=(
        "careflow-storage rm recordings/CA123/call.wav",
        "careflow-storage rm --prefix recordings/CA123/ --dry-run",
        "careflow-storage rm recordings/CA123/call.wav --all-versions",
    ),
)
def rm(
    context: typer.Context,
    keys: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY",
            help="The keys to remove.",
            show_default=False,
            autocompletion=complete_keys,
        ),
    ] = None,
    prefix: Annotated[
        str | None,
        typer.Option(
            metavar="PREFIX",
            help="Remove all files whose keys begin with this prefix.",
            show_default=False,
            autocompletion=complete_keys,
        ),
    ] = None,
    all_versions: Annotated[
        bool,
        typer.Option(
            "--all-versions", help="Permanently erase every version and unfinished upload."
        ),
    ] = False,
    version_id: Annotated[
        str | None,
        typer.Option(
            "--version-id",
            metavar="ID",
            help="Permanently erase this version.",
            show_default=False,
            autocompletion=complete_version_ids,
        ),
    ] = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Hide files from readers. Their versions are kept, and billed.

    "careflow-storage restore" brings them back. Asks before it erases anything.
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
    run_with_storage(context, job.run, as_json=as_json)
