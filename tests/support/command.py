"""The command, run within the test's own process, as quickly as a function."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import pytest
import typer.main
import typer.testing

from careflow_storage.cli.app import app
from careflow_storage.settings import StorageSettings

COMMAND = typer.main.get_command(app)


@dataclass(frozen=True)
class Ran:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def json(self) -> Any:
        """The one document."""
        return json.loads(self.out)

    @property
    def items(self) -> list[Any]:
        """One object to a line."""
        return [json.loads(line) for line in self.lines]

    @property
    def error(self) -> Any:
        """The last line of stderr, as an object."""
        return json.loads(self.err.splitlines()[-1])["error"]


class Command:
    """``careflow-storage`` with these settings in its environment."""

    def __init__(self, settings: StorageSettings) -> None:
        assert settings.application_key is not None
        self.environment = {
            "BACKBLAZE_KEY_ID": settings.key_id,
            "BACKBLAZE_APPLICATION_KEY": settings.application_key.get_secret_value(),
            "BACKBLAZE_BUCKET_NAME": settings.bucket_name,
            "BACKBLAZE_ENDPOINT": settings.endpoint,
            "BACKBLAZE_REGION": settings.region,
            "BACKBLAZE_RETRY_BASE_DELAY": "0.001",
            "BACKBLAZE_RETRY_MAX_DELAY": "0.01",
        }

    async def __call__(
        self, *arguments: object, stdin: str | bytes | None = None, **environment: str
    ) -> Ran:
        """Run it in a thread, since it makes an event loop of its own."""
        return await asyncio.to_thread(
            self._run, [str(each) for each in arguments], stdin, environment
        )

    def _run(
        self, arguments: list[str], stdin: str | bytes | None, environment: dict[str, str]
    ) -> Ran:
        with pytest.MonkeyPatch.context() as patch:
            # The tree of commands is made once, not for each run.
            patch.setattr(typer.testing, "_get_command", lambda _: COMMAND)
            result = typer.testing.CliRunner().invoke(
                app, arguments, input=stdin, env={**self.environment, **environment}
            )
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ran(result.exit_code, result.stdout, result.stderr)
