"""The files that a path or a pattern means."""

from __future__ import annotations

from glob import has_magic
from typing import Any, Protocol

from careflow_storage.errors import InvalidInputError
from careflow_storage.integrations.fsspec.directories import Directories
from careflow_storage.integrations.fsspec.entries import Entry
from careflow_storage.integrations.fsspec.errors import is_a_directory, not_found


class PathFinder(Protocol):
    """A file system that finds files."""

    async def _glob(self, path: str, **options: Any) -> dict[str, Entry]: ...

    async def _find(self, path: str, maxdepth: int | None = None) -> list[str]: ...

    async def _info(self, path: str) -> Entry: ...


async def files_of(fs: PathFinder, path: str, *, recursive: bool) -> list[str]:
    """Return the files that a path or a pattern means; with ``recursive`` all below, too."""
    if not has_magic(path):
        return await fs._find(path) if recursive else [path]
    matched = await fs._glob(path, detail=True)
    found = [name for name, each in matched.items() if each["type"] == "file"]
    for name, each in matched.items() if recursive else ():
        if each["type"] == "directory":
            found += await fs._find(name)
    return sorted({*found})


async def keys_of(
    fs: PathFinder,
    directories: Directories,
    path: str,
    *,
    recursive: bool,
    maxdepth: int | None,
) -> list[str]:
    """Return the keys that removing a path or a pattern removes.

    Raises:
        FileNotFoundError: There is nothing.
        IsADirectoryError: It is a directory, and ``recursive`` is False.
        InvalidInputError: It is the root.
    """
    if not path:
        raise InvalidInputError(
            "This would remove everything in the bucket.",
            hint="Remove what it holds by name: fs.rm(fs.ls('', detail=False), recursive=True).",
        )
    is_pattern = has_magic(path)
    matched = await fs._glob(path, detail=True) if is_pattern else {path: await fs._info(path)}
    keys = [name for name, each in matched.items() if each["type"] == "file"]
    for name in matched if recursive else ():
        if maxdepth is None:
            keys += await directories.keys_below(name)
        else:
            keys += await fs._find(name, maxdepth=maxdepth)
    if not keys and matched and not is_pattern:
        raise is_a_directory(path)
    if not keys:
        raise not_found(path)
    return keys
