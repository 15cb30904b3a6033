"""The local files to upload, and the names for their keys."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from careflow_storage.errors import InvalidInputError


@dataclass(frozen=True)
class LocalFile:
    """A file to upload. ``name`` is its path within the given folder, with "/"."""

    path: Path
    name: str
    size: int


@dataclass
class Found:
    """The files to upload, and the number of skipped ones."""

    files: list[LocalFile] = field(default_factory=list)
    hidden: int = 0
    links: int = 0
    special: int = 0
    unreadable: list[OSError] = field(default_factory=list)

    @property
    def size(self) -> int:
        """The sum of all sizes."""
        return sum(file.size for file in self.files)

    def skipped(self) -> str:
        """Return what was skipped in words, "" if nothing was."""
        counts = (
            (self.hidden, "hidden"),
            (self.links, "symbolic links"),
            (self.special, "special files"),
        )
        return ", ".join(f"{count} {kind}" for count, kind in counts if count)


def find_files(sources: Iterable[str]) -> Found:
    """Find the given files, and all files below the given folders.

    Raises:
        InvalidInputError: A path does not exist, or is neither a file nor a folder.
    """
    found = Found()
    for source in sources:
        path = Path(source)
        try:
            status = path.stat()
        except OSError as error:
            raise InvalidInputError(f"{source!r} cannot be read: {error.strerror}.") from error
        if stat.S_ISDIR(status.st_mode):
            found.files.extend(_below(path, found))
        elif stat.S_ISREG(status.st_mode):
            found.files.append(LocalFile(path, path.name, status.st_size))
        else:
            raise InvalidInputError(f"{source!r} is neither a file nor a folder.")
    return found


def _below(folder: Path, found: Found) -> Iterator[LocalFile]:
    pending = [(folder, "")]
    while pending:
        here, names = pending.pop()
        try:
            with os.scandir(here) as entries:
                ordered = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            found.unreadable.append(error)
            continue
        folders: list[tuple[Path, str]] = []
        for entry in ordered:
            name = names + entry.name
            if entry.name.startswith("."):
                found.hidden += 1
            elif entry.is_symlink():
                found.links += 1
            elif entry.is_dir(follow_symlinks=False):
                folders.append((Path(entry.path), f"{name}/"))
            elif entry.is_file(follow_symlinks=False):
                yield LocalFile(Path(entry.path), name, entry.stat().st_size)
            else:
                found.special += 1
        pending += reversed(folders)
