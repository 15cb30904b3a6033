"""Commands for buckets: list, create, info, delete, encryption."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import typer
from rich.text import Text

from careflow_storage import (
    AccessDeniedError,
    BackblazeStorage,
    BucketNotEmptyError,
    CapExceededError,
    InvalidInputError,
    NotSupportedError,
    StorageSettings,
)
from careflow_storage._endpoint import bucket_name_problem
from careflow_storage.cli.run import Globals, run, settings_of
from careflow_storage.cli.ui.cleaning import clean
from careflow_storage.cli.ui.confirm import confirm_by_typing
from careflow_storage.cli.ui.durations import days_in_words
from careflow_storage.cli.ui.options import BUCKET, Json, examples
from careflow_storage.cli.ui.output import Output, moment

if TYPE_CHECKING:
    from careflow_storage.admin import BucketInfo, ObjectLock

T = TypeVar("T")

_NO_NAME = "no-bucket-configured"
"""Stands in the settings where a command needs no bucket of them, and none is set."""

_Name = Annotated[
    str | None,
    typer.Argument(metavar="[NAME]", help="The bucket.", show_default="BACKBLAZE_BUCKET_NAME"),
]
_BucketToDelete = Annotated[
    str, typer.Argument(metavar="NAME", help="The bucket.", show_default=False)
]
_Job = Callable[[BackblazeStorage, Output], Awaitable[None]]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    group = typer.Typer(no_args_is_help=True, help="List, create, inspect and delete buckets.")
    for name, command, lines in _COMMANDS:
        group.command(name, epilog=examples(*lines))(command)
    app.add_typer(group, name="buckets", rich_help_panel=BUCKET)


def list_buckets(context: typer.Context, as_json: Json = False) -> None:
    """List the buckets of the account. The key needs listAllBucketNames."""

    async def job(storage: BackblazeStorage, output: Output) -> None:
        buckets = await storage.admin.list_buckets()
        output.data(buckets)
        output.table(("bucket", "created"), (_row(each, storage) for each in buckets))
        if not buckets:
            output.note("There are no buckets that this key may see.")

    _run(context, job, as_json=as_json, needs_bucket=False)


def _row(bucket: BucketInfo, storage: BackblazeStorage) -> tuple[Text, Text]:
    own = bucket.name == storage.settings.bucket_name
    created = moment(bucket.created) if bucket.created else "-"
    return Text(clean(bucket.name), "bold cyan" if own else ""), Text(created)


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
        bool, typer.Option("--object-lock", help="Let it lock files; for ever.")
    ] = False,
    no_encryption: Annotated[
        bool, typer.Option("--no-encryption", help="Do not encrypt new files (SSE-B2).")
    ] = False,
    as_json: Json = False,
) -> None:
    """Create a private bucket, encrypted by default."""

    async def job(storage: BackblazeStorage, output: Output) -> None:
        bucket = await storage.admin.create_bucket(
            name,
            env=env,
            object_lock=object_lock,
            encryption=None if no_encryption else "SSE-B2",
        )
        output.data(bucket)
        output.done(f"Created {bucket.name}: private{_extras(object_lock, no_encryption)}.")
        if bucket.name != storage.settings.bucket_name:
            output.note(f"To use it: BACKBLAZE_BUCKET_NAME={bucket.name}")

    _run(context, job, as_json=as_json, needs_bucket=name is None and env is None)


def _extras(object_lock: bool, no_encryption: bool) -> str:
    encrypted = "" if no_encryption else ", encrypted (SSE-B2)"
    return encrypted + (", can lock files" if object_lock else "")


def info(context: typer.Context, name: _Name = None, as_json: Json = False) -> None:
    """Show where a bucket is and how it is set up. 6 requests.

    What the key may not read is left out.
    """

    async def job(storage: BackblazeStorage, output: Output) -> None:
        admin, unreadable = storage.admin, list[str]()

        async def read(what: str, ask: Callable[[], Awaitable[T]]) -> T | None:
            try:
                return await ask()
            except CapExceededError:
                raise
            except (AccessDeniedError, NotSupportedError):
                unreadable.append(what)
                return None

        bucket = await admin.head_bucket()
        lock = await read("object lock", admin.get_object_lock)
        encryption = await read("encryption", admin.get_bucket_encryption)
        cors = await read("CORS rules", admin.get_cors_rules)
        lifecycle = await read("lifecycle rules", admin.get_lifecycle_rules)
        output.data(
            {
                "name": bucket.name,
                "region": bucket.region,
                "endpoint": storage.settings.endpoint,
                "encryption": encryption,
                "object_lock": lock,
                "cors_rules": cors,
                "lifecycle_rules": lifecycle,
                "unreadable": unreadable,
            }
        )
        fields = {
            "bucket": bucket.name,
            "region": bucket.region,
            "endpoint": storage.settings.endpoint,
            "encryption": encryption or "none",
            "object lock": _lock_in_words(lock),
            "CORS rules": ", ".join(rule.name for rule in cors or ()) or "none",
            "lifecycle": ", ".join(rule.prefix or "(all)" for rule in lifecycle or ()) or "none",
        }
        output.fields({what: text for what, text in fields.items() if what not in unreadable})
        if unreadable:
            output.note(f"This key may not read: {', '.join(unreadable)}.")

    _run(context, job, as_json=as_json, name=name)


def _lock_in_words(lock: ObjectLock | None) -> str:
    if lock is None or not lock.enabled:
        return "no"
    if lock.default is None:
        return "possible; new files are not locked"
    return f"new files for {days_in_words(lock.default.days)} ({lock.default.mode})"


def delete(
    context: typer.Context,
    name: _BucketToDelete,
    confirm: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The name once more, for scripts.", show_default="asks for it"
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Delete an empty bucket. Asks to type its name."""

    async def job(storage: BackblazeStorage, output: Output) -> None:
        if confirm is None:
            question = f"Delete the bucket {name}?"
            confirm_by_typing(output, question, name, yes=False)
        try:
            await storage.admin.delete_bucket(name, confirm=confirm or name)
        except BucketNotEmptyError as error:
            error.hint = (
                "Deleted files are only hidden. This erases everything in it for ever: "
                f'careflow-storage --bucket {name} rm --prefix "" --all-versions'
            )
            raise
        output.data({"name": name, "deleted": True})
        output.done(f"Deleted {name}.")

    _run(context, job, as_json=as_json, needs_bucket=False)


def encryption(
    context: typer.Context,
    change: Annotated[
        Literal["show", "SSE-B2", "none"],
        typer.Argument(metavar="[show|SSE-B2|none]", help="Show it, or set it."),
    ] = "show",
    as_json: Json = False,
) -> None:
    """Show or set what new files are encrypted with by default.

    Files that are there stay as they are.
    """

    async def job(storage: BackblazeStorage, output: Output) -> None:
        if change != "show":
            await storage.admin.set_bucket_encryption("SSE-B2" if change == "SSE-B2" else None)
        now = await storage.admin.get_bucket_encryption()
        output.data({"bucket": storage.settings.bucket_name, "encryption": now})
        output.line(now or "none")
        if change == "SSE-B2":
            output.done("New files are encrypted with keys that Backblaze manages.")
        elif change == "none" and now is not None:
            output.warn("The server encrypts new files by itself, whatever it is told.")

    _run(context, job, as_json=as_json)


def _run(
    context: typer.Context,
    job: _Job,
    *,
    as_json: bool,
    name: str | None = None,
    needs_bucket: bool = True,
) -> None:
    """Run it on the bucket ``name``, or on that of the settings."""

    async def main(output: Output) -> None:
        settings = _settings(context, name, needs_bucket=needs_bucket)
        async with BackblazeStorage(settings) as storage:
            await job(storage, output)

    run(main, as_json=as_json, given=Globals.of(context))


def _settings(context: typer.Context, name: str | None, *, needs_bucket: bool) -> StorageSettings:
    settings = settings_of(context)
    if name is not None:
        problem = bucket_name_problem(name, b2=settings.is_b2)
        if problem is not None:
            raise InvalidInputError(f"The bucket's name {name!r} {problem}.")
        return settings.model_copy(update={"bucket_name": name})
    if settings.bucket_name is None and not needs_bucket:
        return settings.model_copy(update={"bucket_name": _NO_NAME})
    return settings


_COMMANDS: tuple[tuple[str, Callable[..., None], tuple[str, ...]], ...] = (
    ("list", list_buckets, ("careflow-storage buckets list",)),
    (
        "create",
        create,
        (
            "careflow-storage buckets create --env prod",
            "careflow-storage buckets create careflow-recordings-audit --object-lock",
        ),
    ),
    ("info", info, ("careflow-storage buckets info",)),
    (
        "delete",
        delete,
        (
            "careflow-storage buckets delete careflow-recordings-old",
            "careflow-storage buckets delete careflow-old --confirm careflow-old",
        ),
    ),
    (
        "encryption",
        encryption,
        ("careflow-storage buckets encryption", "careflow-storage buckets encryption SSE-B2"),
    ),
)
