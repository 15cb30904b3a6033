"""The methods of `CareflowFileSystem` that read whole files and ranges."""

from __future__ import annotations

import os
from glob import has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Any

from careflow_storage._executor import in_thread
from careflow_storage.errors import InvalidRangeError, MissingExtraError

try:
    from fsspec.asyn import sync
    from fsspec.callbacks import DEFAULT_CALLBACK
except ImportError as error:
    raise MissingExtraError("fsspec") from error

from careflow_storage.integrations.fsspec.errors import os_errors
from careflow_storage.integrations.fsspec.methods.base import StorageMethods
from careflow_storage.integrations.fsspec.methods.progress import reporter
from careflow_storage.integrations.fsspec.methods.selection import files_of

if TYPE_CHECKING:
    from fsspec.callbacks import Callback


class ReadMethods(StorageMethods):
    """Reads into memory and into local files."""

    async def _cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any
    ) -> bytes:
        path = self._strip_protocol(path)
        storage = await self._storage()
        if min(start or 0, end or 0) < 0:
            start, end, _ = slice(start, end).indices((await self._info(path))["size"])
        with os_errors(path):
            if not start and end is None:
                return await storage.get_file(path)
            if end is not None and end <= (start or 0):
                return b""
            stream = storage.stream_file(path, start=start or 0, end=end, verify=False)
            try:
                return await stream.read()
            except InvalidRangeError:
                return b""  # it begins after the end

    async def _cat(self, path: Any, recursive: bool = False, **kwargs: Any) -> Any:
        paths = [path] if isinstance(path, str | os.PathLike) else path
        if recursive or any(map(has_magic, map(os.fspath, paths))):
            # fsspec's would read the directories, too.
            path = []
            for each in self._strip_protocol([*paths]):
                path += await files_of(self, each, recursive=recursive)
        return await super()._cat(path, **kwargs)

    async def _get(self, rpath: Any, lpath: Any, *args: Any, **kwargs: Any) -> Any:
        kwargs.setdefault("batch_size", self._transfers_at_once)
        return await super()._get(rpath, lpath, *args, **kwargs)

    async def _get_file(
        self, rpath: str, lpath: str, callback: Callback = DEFAULT_CALLBACK, **kwargs: Any
    ) -> None:
        if await in_thread(Path(lpath).is_dir):
            return  # fsspec has made it for the files below it
        rpath = self._strip_protocol(rpath)
        storage = await self._storage()
        with os_errors(rpath):
            await storage.download_file(rpath, lpath, progress=reporter(callback))

    async def _sign(self, path: str, expiration: int = 100, **options: Any) -> str:
        path = self._strip_protocol(path)
        storage = await self._storage()
        return await storage.get_signed_url(path, expiration, **options)

    def sign(self, path: str, expiration: int = 100, **options: Any) -> str:
        """Return a URL that lets any client read the file for ``expiration`` seconds.

        Sends no request.

        Args:
            options: Those of `BackblazeStorage.get_signed_url`, such as ``download_as``.
        """
        url: str = sync(self.loop, self._sign, path, expiration, **options)
        return url
