"""``careflow-storage buckets``: list, create, inspect and delete buckets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

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
from careflow_storage.admin import BucketInfo, ObjectLock
from careflow_storage.cli.ui.cleaning import clean
from careflow_storage.cli.ui.confirm import confirm_by_typing
from careflow_storage.cli.ui.output import Output, counted, moment

T = TypeVar("T")
Job = Callable[[BackblazeStorage, Output], Awaitable[None]]

_NO_NAME = "no-bucket-configured"
"""The bucket in the settings of commands that need none, when none is set."""


async def run_on_bucket(
    output: Output,
    settings: StorageSettings,
    job: Job,
    *,
    name: str | None = None,
    needs_bucket: bool = True,
) -> None:
    """Run a job with a storage for the bucket ``name``, or for that of the settings.

    Raises:
        InvalidInputError: A bucket cannot have this name.
    """
    if name is not None:
        problem = bucket_name_problem(name, b2=settings.is_b2)
        if problem is not None:
            raise InvalidInputError(f"The bucket's name {name!r} {problem}.")
        settings = settings.model_copy(update={"bucket_name": name})
    elif settings.bucket_name is None and not needs_bucket:
        settings = settings.model_copy(update={"bucket_name": _NO_NAME})
    async with BackblazeStorage(settings) as storage:
        await job(storage, output)


async def print_buckets(storage: BackblazeStorage, output: Output) -> None:
    """Print the buckets of the account."""
    buckets = await storage.admin.list_buckets()
    output.items(buckets)
    output.table(("bucket", "created"), (_row(each, storage) for each in buckets))
    if not buckets:
        output.note("This key can see no buckets.")


def _row(bucket: BucketInfo, storage: BackblazeStorage) -> tuple[Text, Text]:
    own = bucket.name == storage.settings.bucket_name
    created = moment(bucket.created) if bucket.created else "-"
    return Text(clean(bucket.name), "bold cyan" if own else ""), Text(created)


@dataclass(frozen=True)
class BucketCreation:
    """A bucket to create."""

    name: str | None
    env: str | None
    object_lock: bool
    encrypt: bool

    async def run(self, storage: BackblazeStorage, output: Output) -> None:
        """Create it."""
        bucket = await storage.admin.create_bucket(
            self.name,
            env=self.env,
            object_lock=self.object_lock,
            encryption="SSE-B2" if self.encrypt else None,
        )
        output.item(bucket)
        features = [
            "private",
            *(["encrypted (SSE-B2)"] if self.encrypt else []),
            *(["object lock enabled"] if self.object_lock else []),
        ]
        output.done(f"Created {bucket.name}: {', '.join(features)}.")
        if bucket.name != storage.settings.bucket_name:
            output.note(f"To use it: BACKBLAZE_BUCKET_NAME={bucket.name}")


async def print_info(storage: BackblazeStorage, output: Output) -> None:
    """Print where the bucket is and how it is set up."""
    admin, unreadable = storage.admin, list[str]()

    async def read(what: str, request: Callable[[], Awaitable[T]]) -> T | None:
        try:
            return await request()
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
    output.item(
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
        "lifecycle rules": ", ".join(rule.prefix or "(all)" for rule in lifecycle or ()) or "none",
    }
    output.fields({what: text for what, text in fields.items() if what not in unreadable})
    if unreadable:
        output.note(f"This key may not read: {', '.join(unreadable)}.")


def _lock_in_words(lock: ObjectLock | None) -> str:
    if lock is None or not lock.enabled:
        return "disabled"
    if lock.default is None:
        return "enabled; new files are not locked by default"
    kept = f"{counted(lock.default.days, 'day')} ({lock.default.mode})"
    return f"enabled; new files are locked for {kept}"


@dataclass(frozen=True)
class Deletion:
    """A bucket to delete."""

    name: str
    confirmed: str | None

    async def run(self, storage: BackblazeStorage, output: Output) -> None:
        """Ask for its name, unless that was given, and delete it."""
        if self.confirmed is None:
            confirm_by_typing(output, f"Delete the bucket {self.name}?", self.name, yes=False)
        try:
            await storage.admin.delete_bucket(self.name, confirm=self.confirmed or self.name)
        except BucketNotEmptyError as error:
            error.hint = (
                "Deleted files are only hidden. To erase everything in it permanently: "
                f'careflow-storage --bucket {self.name} rm --prefix "" --all-versions'
            )
            raise
        output.item({"name": self.name, "deleted": True})
        output.done(f"Deleted {self.name}.")


@dataclass(frozen=True)
class EncryptionChange:
    """Whether to show or set the default encryption."""

    change: Literal["show", "SSE-B2", "none"]

    async def run(self, storage: BackblazeStorage, output: Output) -> None:
        """Set it, unless it is only shown, and print what the server has."""
        if self.change != "show":
            await storage.admin.set_bucket_encryption("SSE-B2" if self.change == "SSE-B2" else None)
        now = await storage.admin.get_bucket_encryption()
        output.item({"bucket": storage.settings.bucket_name, "encryption": now})
        output.line(now or "none")
        if self.change == "SSE-B2":
            output.done("New files are encrypted with keys that Backblaze manages.")
        elif self.change == "none" and now is not None:
            output.warn("This server always encrypts new files.")
