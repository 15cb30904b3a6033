"""The methods of `CareflowFileSystem` that store, copy, move and remove files."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from careflow_storage._executor import in_thread
from careflow_storage.errors import MissingExtraError

try:
    from fsspec.asyn import sync
    from fsspec.callbacks import DEFAULT_CALLBACK
except ImportError as error:
    raise MissingExtraError("fsspec") from error

from careflow_storage.integrations.fsspec.errors import not_found, os_errors
from careflow_storage.integrations.fsspec.methods.base import StorageMethods
from careflow_storage.integrations.fsspec.methods.deletion import check_deleted
from careflow_storage.integrations.fsspec.methods.progress import reporter
from careflow_storage.integrations.fsspec.methods.selection import keys_of

if TYPE_CHECKING:
    from fsspec.callbacks import Callback


class WriteMethods(StorageMethods):
    """Changes what is in the bucket."""

    async def _pipe_file(
        self, path: str, value: Any, mode: str = "overwrite", **options: Any
    ) -> None:
        await self._upload(path, value, mode, **options)

    async def _put(self, lpath: Any, rpath: Any, *args: Any, **kwargs: Any) -> Any:
        kwargs.setdefault("batch_size", self._transfers_at_once)
        return await super()._put(lpath, rpath, *args, **kwargs)

    async def _put_file(
        self,
        lpath: str,
        rpath: str,
        callback: Callback = DEFAULT_CALLBACK,
        mode: str = "overwrite",
        **options: Any,
    ) -> None:
        if await in_thread(Path(lpath).is_dir):
            return  # a directory is made by the files in it
        await self._upload(rpath, Path(lpath), mode, progress=reporter(callback), **options)

    async def _upload(self, path: str, body: Any, mode: str, **options: Any) -> None:
        path = self._strip_protocol(path)
        exclusive = mode == "create"
        storage = await self._storage()
        with os_errors(path, exclusive=exclusive):
            await storage.upload_file(
                path, body, if_exists="error" if exclusive else "replace", **options
            )
        self.invalidate_cache(path)

    async def _touch(self, path: str, truncate: bool = True, **options: Any) -> None:
        if not truncate and await self._exists(path):
            raise NotImplementedError("The time of an object cannot be changed.")
        await self._upload(path, b"", "overwrite", **options)

    def touch(self, path: str, truncate: bool = True, **options: Any) -> None:
        """Store an empty file.

        Raises:
            NotImplementedError: ``truncate`` is False, and the file exists: its time cannot be
                changed.
        """
        sync(self.loop, self._touch, path, truncate, **options)

    async def _cp_file(self, path1: str, path2: str, **options: Any) -> None:
        path1, path2 = self._strip_protocol(path1), self._strip_protocol(path2)
        storage = await self._storage()
        try:
            with os_errors(path1):
                await storage.admin.copy_file(path1, path2, **options)
        except FileNotFoundError:
            # Copies of directories include the directories themselves, which need no copy.
            if not await self._directories.is_directory(path1):
                raise
        self.invalidate_cache(path2)

    async def _rm_file(self, path: str, **kwargs: Any) -> None:
        path = self._strip_protocol(path)
        storage = await self._storage()
        with os_errors(path):
            await storage.delete_file(path)
        self.invalidate_cache(path)

    async def _rm(
        self,
        path: Any,
        recursive: bool = False,
        batch_size: int | None = None,
        maxdepth: int | None = None,
        **kwargs: Any,
    ) -> None:
        paths = [path] if isinstance(path, str | os.PathLike) else path
        keys: dict[str, None] = {}
        for each in self._strip_protocol([*paths]):
            found = await keys_of(
                self, self._directories, each, recursive=recursive, maxdepth=maxdepth
            )
            keys.update(dict.fromkeys(found))
        storage = await self._storage()
        try:
            with os_errors(str(path)):
                check_deleted(await storage.delete_files(keys))
        finally:
            for key in keys:
                self.invalidate_cache(key)

    async def _rmdir(self, path: str) -> None:
        path = self._strip_protocol(path)
        keys = await self._directories.keys_below(path, at_most=2)
        if not keys:
            raise not_found(path)
        if keys != [f"{path}/"]:
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), path)
        await (await self._storage()).delete_file(keys[0])
        self.invalidate_cache(path)

    def rmdir(self, path: str) -> None:
        """Remove the object that marks an empty folder; other directories are not there.

        Raises:
            OSError: The directory is not empty.
            FileNotFoundError: There is no such directory.
        """
        sync(self.loop, self._rmdir, path)

    def mv(
        self,
        path1: Any,
        path2: Any,
        recursive: bool = False,
        maxdepth: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Copy files on the server, then remove the sources."""
        if path1 != path2:
            self.copy(path1, path2, recursive=recursive, maxdepth=maxdepth, on_error="raise")
            # Without the depth, fsspec's own removes files that it did not copy.
            self.rm(path1, recursive=recursive, maxdepth=maxdepth)
