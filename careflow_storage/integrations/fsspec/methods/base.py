"""What the methods of `CareflowFileSystem` share: the storage, its loop and the listings."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, ClassVar

from careflow_storage.errors import MissingExtraError

try:
    from fsspec.asyn import AsyncFileSystem, get_loop, sync
except ImportError as error:
    raise MissingExtraError("fsspec") from error

if TYPE_CHECKING:
    from careflow_storage.integrations.fsspec.directories import Directories
    from careflow_storage.integrations.fsspec.storages import LoopStorages
    from careflow_storage.storage import BackblazeStorage


class StorageMethods(AsyncFileSystem):
    """Opens and closes the storage. Methods with an underscore are those of coroutines."""

    protocol: ClassVar[str] = "careflow"
    root_marker: ClassVar[str] = ""

    _storages: LoopStorages
    _directories: Directories
    # The most files that one call up- or downloads at once.
    _transfers_at_once: int

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop that runs the requests; None with ``asynchronous=True``.

        In a forked child it is that of the child.
        """
        if self._pid != os.getpid():
            self._pid: int = os.getpid()
            self._loop = None if self.asynchronous else get_loop()
        running: asyncio.AbstractEventLoop | None = self._loop
        return running

    def close(self) -> None:
        """Close the connections. The next use opens others."""
        if self.loop is not None:
            sync(self.loop, self.aclose)

    async def aclose(self) -> None:
        """Close the storage of the running event loop. The next use opens another."""
        await self._storages.aclose()

    async def _storage(self) -> BackblazeStorage:
        return await self._storages.get()

    def invalidate_cache(self, path: str | None = None) -> None:
        """Drop the cached listings of a path and of the directories above it; None drops all."""
        self._directories.forget(None if path is None else self._strip_protocol(path))
        super().invalidate_cache(path)
