"""One open storage for each event loop: opened when it is first used, closed at the end."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
import weakref
from collections.abc import AsyncGenerator
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

from careflow_storage._executor import in_thread
from careflow_storage._log_fields import log_fields
from careflow_storage.errors import InvalidInputError, StorageError
from careflow_storage.settings import StorageSettings
from careflow_storage.storage import BackblazeStorage

logger: logging.Logger = logging.getLogger("careflow_storage")

_CLOSE_SECONDS = 5.0


class LoopStorages:
    """Opens a `BackblazeStorage` in each event loop that asks for one.

    Reads the settings of this process, and keeps no secret itself. A storage is closed

    - by `aclose`, which closes that of the running loop;
    - when its loop ends its asynchronous generators, as ``asyncio.run`` does;
    - when the process exits, for a loop that still runs in a thread.

    A forked child leaves the storages of its parent alone, and opens its own.
    """

    def __init__(self, env_file: str | None, overrides: dict[str, Any]) -> None:
        self._env_file = env_file
        self._overrides = overrides
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._open: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopStorage]
        self._open = weakref.WeakKeyDictionary()
        # Closing the connections of the parent would end its TLS sessions.
        self._of_parent: list[Any] = []
        at_exit = partial(_close_at_exit, weakref.ref(self))
        atexit.register(at_exit)
        weakref.finalize(self, atexit.unregister, at_exit).atexit = False

    async def get(self) -> BackblazeStorage:
        """Return the storage of the running loop, which this opens if it is not open.

        Raises:
            NotConfiguredError: Required settings are missing.
            InvalidInputError: ``env_file`` is no file on this machine.
        """
        loop = asyncio.get_running_loop()
        if os.getpid() != self._process:
            self._leave_parent()
        with self._lock:
            entry = self._open.get(loop)
            if entry is None:
                entry = self._open[loop] = _LoopStorage()
        return entry.storage or await entry.open(self._new)

    async def aclose(self) -> None:
        """Close the storage of the running loop. The next use opens another one."""
        with self._lock:
            entry = self._open.pop(asyncio.get_running_loop(), None)
        if entry is not None:
            await entry.close()

    def close_at_exit(self) -> None:
        """Close the storages of the loops that still run, within a few seconds."""
        if os.getpid() != self._process:
            return
        with self._lock:
            entries = [*self._open.items()]
            self._open.clear()
        closing: list[Future[None]] = [
            asyncio.run_coroutine_threadsafe(entry.close(), loop)
            for loop, entry in entries
            if loop.is_running()
        ]
        for each in closing:
            try:
                each.result(_CLOSE_SECONDS)
            except (OSError, RuntimeError, StorageError) as error:
                logger.warning(
                    "A storage could not be closed at exit: %s",
                    error,
                    extra=log_fields("storage_not_closed", error),
                )

    def _leave_parent(self) -> None:
        self._of_parent += [self._open]
        self._open = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()
        self._process = os.getpid()

    def _new(self) -> BackblazeStorage:
        """Read the settings. Blocking."""
        given: dict[str, Any] = dict(self._overrides)
        if self._env_file is not None:
            if not Path(self._env_file).is_file():
                raise InvalidInputError(
                    f"env_file {self._env_file!r} is not a file on this machine.",
                    hint="The settings are read where the files are: each worker needs its own.",
                )
            given["_env_file"] = self._env_file
        return BackblazeStorage(StorageSettings(**given))


class _LoopStorage:
    """The storage of one loop."""

    def __init__(self) -> None:
        self.storage: BackblazeStorage | None = None
        self._opening = asyncio.Lock()
        self._lifetime: AsyncGenerator[None] | None = None

    async def open(self, new: Any) -> BackblazeStorage:
        async with self._opening:
            if self.storage is None:
                storage: BackblazeStorage = await in_thread(new)
                # Ends when the loop ends its generators, or when this object is dropped.
                self._lifetime = _lifetime(storage)
                await anext(self._lifetime)
                self.storage = storage
            return self.storage

    async def close(self) -> None:
        async with self._opening:
            self.storage = None
            if self._lifetime is not None:
                await self._lifetime.aclose()


async def _lifetime(storage: BackblazeStorage) -> AsyncGenerator[None]:
    async with storage:
        yield


def _close_at_exit(reference: weakref.ref[LoopStorages]) -> None:
    storages = reference()
    if storages is not None:
        storages.close_at_exit()
