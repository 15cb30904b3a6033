"""Deliver a new key: to a ``.env`` file, or to a function of the caller."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol, TypeVar

from careflow_storage._env_file import read_text, updated_env, variables_of, write_env
from careflow_storage._executor import in_thread
from careflow_storage._local_paths import as_path
from careflow_storage._uninterrupted import run_to_end
from careflow_storage.errors import InvalidInputError
from careflow_storage.keys.models import CreatedKey

T = TypeVar("T")

Deliver = Callable[[CreatedKey], Awaitable[None] | None]
"""Receives a new application key, and stores it where the applications read it."""

_KEY_ID = "BACKBLAZE_KEY_ID"
_APPLICATION_KEY = "BACKBLAZE_APPLICATION_KEY"


class Sink(Protocol):
    """A way to deliver one key.

    ``delivered`` is right even after a cancellation: a thread continues, and a key that it has
    delivered must not be deleted. A sink that ``remembers`` knows what an earlier run has
    delivered.
    """

    remembers: bool
    delivered: bool

    async def prepare(self) -> str | None:
        """Check that the delivery is possible; return the ID of the key that is there now."""
        ...

    async def deliver(self, key: CreatedKey) -> None:
        """Deliver the key. If this raises, the key was not delivered."""
        ...


class EnvFile:
    """A ``.env`` file. All other lines stay byte for byte."""

    remembers = True

    def __init__(self, path: Path) -> None:
        self.delivered: bool = False
        self._path = path

    async def prepare(self) -> str | None:
        """Read the file, and check that its folder is writable.

        Raises:
            InvalidInputError: The folder is not writable. Nothing was changed.
        """
        return await in_thread(self._prepare)

    def _prepare(self) -> str | None:
        try:
            target = self._path.resolve()
            text = read_text(target) if target.exists() else ""
            # The new file is written next to the old one.
            with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}."):
                pass
        except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links
            raise InvalidInputError(
                f"env_file {str(self._path)!r} cannot be written "
                f"({getattr(error, 'strerror', None) or error}).",
                hint="Its folder must exist and be writable.",
            ) from error
        updated_env(text, {_KEY_ID: "a", _APPLICATION_KEY: "b"})
        return self._held()

    async def deliver(self, key: CreatedKey) -> None:
        """Write both variables atomically; afterwards only the owner can read the file."""
        await run_to_end(in_thread(lambda: self._write(key)))

    def _write(self, key: CreatedKey) -> None:
        secret = key.application_key.get_secret_value()
        try:
            write_env(self._path, {_KEY_ID: key.key_id, _APPLICATION_KEY: secret})
        finally:
            # The file may be in place even if the write failed, at the last flush to the disk.
            self.delivered = self._held() == key.key_id

    def _held(self) -> str | None:
        text = read_text(self._path) if self._path.exists() else ""
        names = {name.upper(): value for name, value in variables_of(text).items()}
        return names.get(_KEY_ID) or None


class Callback:
    """A function of the caller, which delivers to a vault, to Kubernetes or to the services."""

    remembers = False

    def __init__(self, function: Deliver) -> None:
        self.delivered: bool = False
        self._function = function

    async def prepare(self) -> str | None:
        """Return None: earlier deliveries are unknown."""
        return None

    async def deliver(self, key: CreatedKey) -> None:
        """Call the function; a sync one runs in a thread."""
        if inspect.iscoroutinefunction(self._function):
            response: object = self._function(key)
        else:
            response = await run_to_end(in_thread(lambda: self._called(key)))
        if inspect.isawaitable(response):
            await response
        self.delivered = True

    def _called(self, key: CreatedKey) -> object:
        response = self._function(key)
        self.delivered = not inspect.isawaitable(response)
        return response


def chosen(env_file: Path | str | None, deliver: Deliver | None) -> Sink:
    """Return the sink for the argument that is set; refuse none and both."""
    if (env_file is None) == (deliver is None):
        raise InvalidInputError("Pass exactly one of env_file and deliver.")
    if deliver is not None:
        if not callable(deliver):
            raise InvalidInputError(f"deliver must be a function, not {deliver!r}.")
        return Callback(deliver)
    if not isinstance(env_file, (str, Path)) or not str(env_file):
        raise InvalidInputError(f"env_file must be a path, not {env_file!r}.")
    return EnvFile(as_path(env_file, "env_file"))
