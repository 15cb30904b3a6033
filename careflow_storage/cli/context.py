"""The options before the command's name, and how a command starts.

The modules of the commands import this one, and so does every ``--help``: what runs a command, and
the library itself, are imported when a command runs.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from careflow_storage import BackblazeStorage, StorageSettings
    from careflow_storage.cli.ui.output import Output

_BUCKET_VARIABLE = re.compile(r"BACKBLAZE_BUCKET_NAME( \(or [A-Z0-9_]+\))?")


@dataclass(frozen=True)
class Globals:
    """The options before the command's name."""

    env_file: Path | None = None
    bucket: str | None = None

    @classmethod
    def of(cls, context: typer.Context) -> Globals:
        """Return those of the running command."""
        return context.find_root().obj or cls()

    def words(self) -> list[str]:
        """Return them as they are typed."""
        given = {"--env-file": self.env_file, "--bucket": self.bucket}
        return [text for name, value in given.items() if value for text in (name, str(value))]

    def settings_arguments(self) -> dict[str, Any]:
        """Return them as arguments for `StorageSettings`."""
        given = {"_env_file": self.env_file, "bucket_name": self.bucket}
        return {name: value for name, value in given.items() if value is not None}


def settings_of(context: typer.Context) -> StorageSettings:
    """Read the settings, with ``--env-file`` and ``--bucket``.

    Raises:
        InvalidInputError: A setting is malformed.
    """
    from careflow_storage.errors import InvalidInputError
    from careflow_storage.settings import settings_from_environment

    given = Globals.of(context)
    try:
        return settings_from_environment(**given.settings_arguments())
    except InvalidInputError as error:
        if given.bucket is not None:
            # The option has the wrong value, not the variable.
            error.message = _BUCKET_VARIABLE.sub("--bucket", error.message)
        raise


def run_command(
    context: typer.Context, main: Callable[[Output], Awaitable[int | None]], *, as_json: bool
) -> None:
    """Run ``main`` on an event loop, and exit with the code that it returns."""
    from careflow_storage.cli.run import run

    run(main, as_json=as_json, options=Globals.of(context).words())


def run_with_storage(
    context: typer.Context,
    job: Callable[[BackblazeStorage, Output], Awaitable[int | None]],
    *,
    as_json: bool,
) -> None:
    """Run ``job`` with an open storage, and exit with the code that it returns."""
    from careflow_storage import BackblazeStorage

    async def main(output: Output) -> int | None:
        async with BackblazeStorage(settings_of(context)) as storage:
            return await job(storage, output)

    run_command(context, main, as_json=as_json)
