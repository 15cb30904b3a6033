"""Where a new key goes: into a file of variables, or to whoever the caller names."""

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

_KEY_ID = "BACKBLAZE_KEY_ID"
_APPLICATION_KEY = "BACKBLAZE_APPLICATION_KEY"


class Sink(Protocol):
    """One way of delivering, once.

    ``delivered`` also tells it of a task that was cancelled: what runs in a thread goes on, and
    a key that was delivered must not be deleted because somebody gave up waiting. One that
    ``remembers`` knows what was delivered by an earlier run.
    """

    remembers: bool
    delivered: bool

    async def prepare(self) -> str | None:
        """Check that it will be possible; return the ID of the key that is there now."""
        ...

    async def deliver(self, key: CreatedKey) -> None:
        """Do it. When it raises, the key was not delivered."""
        ...


class EnvFile:
    """A ``.env`` file: every other line stays byte for byte."""

    remembers = True

    def __init__(self, path: Path) -> None:
        self.delivered: bool = False
        self._path = path

    async def prepare(self) -> str | None:
        """Read the file, and try whether its folder can be written.

        Raises:
            InvalidInputError: It cannot; nothing was changed.
        """
        return await in_thread(self._prepare)

    def _prepare(self) -> str | None:
        try:
            target = self._path.resolve()
            text = read_text(target) if target.exists() else ""
            # The new file is written beside the old one.
            with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}."):
                pass
        except (OSError, RuntimeError) as error:  # RuntimeError: links that go in circles
            raise InvalidInputError(
                f"env_file {str(self._path)!r} cannot be written "
                f"({getattr(error, 'strerror', None) or error}).",
                hint="Its folder must be there and be writable.",
            ) from error
        updated_env(text, {_KEY_ID: "a", _APPLICATION_KEY: "b"})
        return self._held()

    async def deliver(self, key: CreatedKey) -> None:
        """Write both variables at once; the file is readable to its owner only then."""
        await run_to_end(in_thread(lambda: self._write(key)))

    def _write(self, key: CreatedKey) -> None:
        secret = key.application_key.get_secret_value()
        try:
            write_env(self._path, {_KEY_ID: key.key_id, _APPLICATION_KEY: secret})
        finally:
            # It may have failed after the file was there, at the last flush to the disk.
            self.delivered = self._held() == key.key_id

    def _held(self) -> str | None:
        text = read_text(self._path) if self._path.exists() else ""
        names = {name.upper(): value for name, value in variables_of(text).items()}
        return names.get(_KEY_ID) or None


class Callback:
    """The caller's own function: to a vault, to Kubernetes, to the services themselves."""

    remembers = False

    def __init__(self, function: Deliver) -> None:
        self.delivered: bool = False
        self._function = function

    async def prepare(self) -> str | None:
        """Nobody can know which key was delivered before."""
        return None

    async def deliver(self, key: CreatedKey) -> None:
        """Call it; a function that is not async runs in a thread."""
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
    """Return the one way that was given; raise `InvalidInputError` for none and for both."""
    if (env_file is None) == (deliver is None):
        raise InvalidInputError("Give exactly one of env_file and deliver.")
    if deliver is not None:
        if not callable(deliver):
            raise InvalidInputError(f"deliver must be a function, not {deliver!r}.")
        return Callback(deliver)
    if not isinstance(env_file, (str, Path)) or not str(env_file):
        raise InvalidInputError(f"env_file must be a path, not {env_file!r}.")
    return EnvFile(as_path(env_file, "env_file"))
