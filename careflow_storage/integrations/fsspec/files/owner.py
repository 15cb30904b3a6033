"""What an open file needs of its file system."""

from __future__ import annotations

import asyncio
from typing import Protocol

from careflow_storage.integrations.fsspec.entries import Entry
from careflow_storage.storage import BackblazeStorage


class FileOwner(Protocol):
    """The file system that has opened a file."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop that runs the requests; None if only coroutines use the file system."""

    def info(self, path: str) -> Entry:
        """Return the info of a path."""

    def invalidate_cache(self, path: str | None = None) -> None:
        """Drop the cached listings that a change of ``path`` makes wrong."""

    async def _storage(self) -> BackblazeStorage: ...
