"""The directories that the keys of a bucket form, and the cache of their listings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, MutableMapping

from careflow_storage.errors import (
    AccessDeniedError,
    CapExceededError,
    MissingExtraError,
    NoSuchKeyError,
)

try:
    from fsspec.asyn import _run_coros_in_chunks
except ImportError as error:
    raise MissingExtraError("fsspec") from error

from careflow_storage.integrations.fsspec import entries
from careflow_storage.integrations.fsspec.entries import Entry, parents
from careflow_storage.integrations.fsspec.errors import not_found, os_errors
from careflow_storage.storage import BackblazeStorage

_FOLDERS_AT_ONCE = 16


class Directories:
    """Looks paths up. A directory is what has keys below it; it cannot be empty.

    An object whose key ends with ``/``, which some tools store for an empty folder, makes a
    directory and is no file.
    """

    def __init__(
        self,
        cache: MutableMapping[str, list[Entry]],
        storage: Callable[[], Awaitable[BackblazeStorage]],
    ) -> None:
        self._cache = cache
        self._storage = storage

    async def listing(self, path: str, *, prefix: str = "", refresh: bool = False) -> list[Entry]:
        """Return what is directly in a directory, by name; none if there is no such directory.

        1 request per 1000 entries. ``prefix``: only names that begin with it.
        """
        if not prefix and not refresh and (cached := self._cached(path)) is not None:
            return cached
        storage, folder = await self._storage(), _folder(path)
        found: dict[str, Entry] = {}
        with os_errors(path):
            async for page in storage.list_folder(folder + prefix).pages():
                for each in page.common_prefixes:
                    found[each[:-1]] = entries.directory(each[:-1])
                for file in page.files:
                    if not file.key.endswith("/"):
                        found[file.key] = entries.listed_file(file)
                    elif file.key == folder:
                        # A folder without files, until another program stores one.
                        found.setdefault("", entries.directory(path))
        marker = found.pop("", None)
        listing = [found[name] for name in sorted(found)]
        if not prefix and (listing or marker is not None):
            self._cache[path] = listing
        return listing

    async def info(self, path: str, *, refresh: bool = False) -> Entry:
        """Return the info of a file or directory.

        No request if it was listed; otherwise 1 for a file, and 2 for another path.

        Raises:
            FileNotFoundError: It is neither.
        """
        if not path:
            return entries.directory(path)
        if not refresh and (cached := self._cached_info(path)) is not None:
            return cached
        storage = await self._storage()
        with os_errors(path):
            try:
                return entries.described_file(await storage.get_file_metadata(path))
            except NoSuchKeyError:
                pass
            except CapExceededError:
                raise
            except AccessDeniedError:
                # B2 denies access to a missing file if the key lacks listBuckets.
                found = await storage.list_files(path, max_keys=1)
                if found and found[0].key == path:
                    raise
        if await self.is_directory(path):
            return entries.directory(path)
        raise not_found(path)

    async def is_directory(self, path: str) -> bool:
        """Return whether a key begins with this path and a slash. 1 request."""
        storage = await self._storage()
        with os_errors(path):
            return bool(await storage.list_files(_folder(path), max_keys=1))

    async def keys_below(self, path: str, *, at_most: int | None = None) -> list[str]:
        """Return all keys below a directory. 1 request per 1000."""
        storage = await self._storage()
        with os_errors(path):
            return [file.key async for file in storage.list_files(_folder(path), at_most)]

    async def find(self, path: str, *, prefix: str = "") -> list[Entry]:
        """Return all files below a directory, and all directories. 1 request per 1000 keys."""
        storage, folder = await self._storage(), _folder(path)
        files: dict[str, Entry] = {}
        below: dict[str, Entry] = {}
        with os_errors(path):
            async for file in storage.list_files(folder + prefix):
                if not file.key.endswith("/"):
                    files[file.key] = entries.listed_file(file)
                _add_parents(file.key, path, below)
        if not prefix:
            self._keep(path, files, below)
        return [*files.values(), *below.values()]

    async def find_to_depth(self, path: str, depth: int, *, prefix: str = "") -> list[Entry]:
        """Return what is in a directory, and in those below it down to ``depth`` levels.

        1 request per directory and 1000 entries, 16 at once.
        """
        level = await self.listing(path, prefix=prefix)
        found = [*level]
        for _ in range(depth - 1):
            folders = [each["name"] for each in level if each["type"] == "directory"]
            if not folders:
                break
            listings: list[list[Entry]] = await _run_coros_in_chunks(
                [self.listing(each) for each in folders], batch_size=_FOLDERS_AT_ONCE, nofiles=True
            )
            level = [each for listing in listings for each in listing]
            found += level
        return found

    def forget(self, path: str | None) -> None:
        """Drop the cached listings that a change of ``path`` makes wrong; None drops all."""
        if path is None:
            self._cache.clear()
            return
        for each in (path, *parents(path)):
            self._cache.pop(each, None)

    def _keep(self, path: str, files: dict[str, Entry], below: dict[str, Entry]) -> None:
        """Cache the listing of every directory that `find` has seen whole."""
        listings: dict[str, list[Entry]] = defaultdict(list)
        for name, entry in (*files.items(), *below.items()):
            if name != path:
                listings[name.rpartition("/")[0]].append(entry)
        for name, listing in listings.items():
            self._cache[name] = sorted(listing, key=lambda each: str(each["name"]))

    def _cached(self, path: str) -> list[Entry] | None:
        # An expired listing is dropped by the look-up.
        try:
            return [*self._cache[path]]
        except KeyError:
            return None

    def _cached_info(self, path: str) -> Entry | None:
        siblings = self._cached(path.rpartition("/")[0])
        for each in siblings if siblings is not None else ():
            if each["name"] == path:
                return each
        return entries.directory(path) if self._cached(path) is not None else None


def _folder(path: str) -> str:
    """Return the prefix of the keys in a directory."""
    return f"{path}/" if path else ""


def _add_parents(key: str, top: str, below: dict[str, Entry]) -> None:
    """Add the directories from the key's up to ``top``."""
    for each in parents(key):
        if each in below or len(each) < len(top):
            return
        if each:
            below[each] = entries.directory(each)
