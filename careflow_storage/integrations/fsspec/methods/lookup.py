"""The methods of `CareflowFileSystem` that look paths up."""

from __future__ import annotations

from datetime import datetime
from hashlib import sha256
from typing import Any

from careflow_storage.errors import MissingExtraError

try:
    from fsspec.asyn import sync
except ImportError as error:
    raise MissingExtraError("fsspec") from error

from careflow_storage.integrations.fsspec.entries import Entry
from careflow_storage.integrations.fsspec.errors import is_a_directory, os_errors
from careflow_storage.integrations.fsspec.methods.base import StorageMethods


class LookupMethods(StorageMethods):
    """Lists and describes files."""

    async def _ls(
        self, path: str, detail: bool = True, refresh: bool = False, **kwargs: Any
    ) -> list[Any]:
        path = self._strip_protocol(path)
        found = await self._directories.listing(path, refresh=refresh)
        if not found:
            entry = await self._directories.info(path, refresh=refresh)
            if entry["type"] == "file":
                found = [entry]
        return found if detail else [each["name"] for each in found]

    async def _info(self, path: str, refresh: bool = False, **kwargs: Any) -> Entry:
        return await self._directories.info(self._strip_protocol(path), refresh=refresh)

    async def _isfile(self, path: str) -> bool:
        # fsspec's would call every failure a missing file.
        try:
            return bool((await self._info(path))["type"] == "file")
        except FileNotFoundError:
            return False

    async def _isdir(self, path: str) -> bool:
        try:
            return bool((await self._info(path))["type"] == "directory")
        except FileNotFoundError:
            return False

    async def _find(
        self,
        path: str,
        maxdepth: int | None = None,
        withdirs: bool = False,
        detail: bool = False,
        prefix: str = "",
        **kwargs: Any,
    ) -> Any:
        path = self._strip_protocol(path)
        if maxdepth is not None and maxdepth < 1:
            raise ValueError("maxdepth must be at least 1")
        if maxdepth is None:
            found = await self._directories.find(path, prefix=prefix)
        else:
            found = await self._directories.find_to_depth(path, maxdepth, prefix=prefix)
            if found and path:
                found = [await self._info(path), *found]
        if not (found or prefix) and path and await self._isfile(path):
            found = [await self._info(path)]
        entries: dict[str, Entry] = {
            each["name"]: each
            for each in sorted(found, key=lambda each: str(each["name"]))
            if withdirs or each["type"] == "file"
        }
        return entries if detail else list(entries)

    async def _du(
        self,
        path: str,
        total: bool = True,
        maxdepth: int | None = None,
        withdirs: bool = False,
        **kwargs: Any,
    ) -> Any:
        found = await self._find(path, maxdepth=maxdepth, withdirs=withdirs, detail=True)
        sizes = {name: each["size"] for name, each in found.items()}
        return sum(sizes.values()) if total else sizes

    async def _ukey(self, path: str) -> str:
        info = await self._info(path)
        # A HEAD and a listing report these three, and in the same form.
        return sha256(f"{info['name']} {info.get('ETag')} {info['size']}".encode()).hexdigest()

    def ukey(self, path: str) -> str:
        """Return a text that changes when the content of a file does, by its ETag."""
        found: str = sync(self.loop, self._ukey, path)
        return found

    def checksum(self, path: str) -> int:
        """Return a number that changes when the content of a file does, by its ETag."""
        return int(self.ukey(path), 16)

    async def _modified(self, path: str) -> datetime:
        info = await self._info(path)
        if info["type"] == "directory":
            raise is_a_directory(path)
        modified: datetime = info["LastModified"]
        return modified

    def modified(self, path: str) -> datetime:
        """Return when the newest version of a file was stored, in UTC."""
        found: datetime = sync(self.loop, self._modified, path)
        return found

    def created(self, path: str) -> datetime:
        """Return the same as `modified`: an object never changes, it is replaced."""
        return self.modified(path)

    async def _metadata(self, path: str) -> dict[str, str]:
        path = self._strip_protocol(path)
        storage = await self._storage()
        with os_errors(path):
            return (await storage.get_file_metadata(path)).metadata

    def metadata(self, path: str) -> dict[str, str]:
        """Return the names and values that a file was stored with. 1 HEAD."""
        found: dict[str, str] = sync(self.loop, self._metadata, path)
        return found
