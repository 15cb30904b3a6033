"""Fetches ranges of one object for the cache of an open file, whose thread waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from careflow_storage.errors import MissingExtraError

try:
    from fsspec.asyn import sync
except ImportError as error:
    raise MissingExtraError("fsspec") from error

from careflow_storage.integrations.fsspec.entries import Entry
from careflow_storage.integrations.fsspec.errors import os_errors
from careflow_storage.integrations.fsspec.files.owner import FileOwner
from careflow_storage.integrations.fsspec.files.ranges import ObjectRanges


class RangeFetcher:
    """Returns the bytes of a range when it is called; see `ObjectRanges`.

    Args:
        details: The info of the file; all ranges are of the version that it describes.
    """

    def __init__(self, fs: FileOwner, path: str, details: Entry) -> None:
        self._fs = fs
        self._path = path
        self._details = details
        self._ranges: ObjectRanges | None = None

    def __call__(self, start: int, end: int) -> bytes:
        """Return the bytes ``[start, end)``."""
        with os_errors(self._path):
            data: bytes = sync(self._fs.loop, self._read, start, end)
        return data

    async def _read(self, start: int, end: int) -> bytes:
        if self._ranges is None:
            self._ranges = ObjectRanges(
                await self._fs._storage(),
                self._path,
                etag=self._details.get("ETag"),
                version_id=self._details.get("VersionId"),
            )
        return await self._ranges.read(start, end)

    def close(self) -> None:
        """Release the connection."""
        if self._ranges is not None:
            sync(self._fs.loop, self._ranges.aclose)

    def abandon(self) -> None:
        """Release the connection soon. For the garbage collector, which must not wait."""
        if self._ranges is not None:
            start_in(self._fs.loop, self._ranges.aclose)


def start_in(loop: asyncio.AbstractEventLoop | None, function: Callable[[], Any]) -> None:
    """Start a coroutine in a loop of any thread, and do not wait for it."""
    if loop is not None and loop.is_running():
        asyncio.run_coroutine_threadsafe(function(), loop)
