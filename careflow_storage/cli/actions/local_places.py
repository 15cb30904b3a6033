"""Where the files of a prefix go: each below one folder, none in the place of another."""

from __future__ import annotations

import errno
import os
import stat
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

from careflow_storage._local_paths import invalid_path, local_file_errors
from careflow_storage.errors import InvalidInputError
from careflow_storage.recordings import safe_filename

_HINT = "`careflow-storage download KEY PATH` stores it where you say."


class LocalPlaces:
    """Gives each key of one download a path of its own below ``folder``.

    Two keys have one path where their names differ in case only, or in how an accented letter is
    written, and the file system takes them for the same.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, str] = {}
        self._folders: set[str] = set()
        self._fold: Callable[[str], str] = str

    def learn(self) -> None:
        """Look which names the file system takes for the same; for a thread."""
        self._fold = folding(self._folder)

    def path_of(self, key: str, base: int) -> Path:
        """Return the path for a key, whose first ``base`` characters stand for the folder.

        Raises:
            InvalidInputError: It would lead out of the folder, or has the path of another key.
        """
        segments = key[base:].split("/")
        if not {"", ".", ".."}.isdisjoint(segments) or "\\" in key:
            raise InvalidInputError("This key could lead out of the folder.", key=key, hint=_HINT)
        names = [safe_filename(segment) for segment in segments]
        self._claim(key, names)
        return self._folder.joinpath(*names)

    def make_folders(self, path: Path, *, dry_run: bool = False) -> None:
        """Make the folders above ``path``; follow no symbolic link below the folder.

        With ``dry_run`` only look at those that are there.

        Raises:
            InvalidPathError: A link or a file is in the place of a folder, or of the file.
            LocalFileError: A folder cannot be made.
        """
        with local_file_errors("make", path.parent):
            if not dry_run:
                self._folder.mkdir(parents=True, exist_ok=True)
            here = self._folder
            for name in path.relative_to(self._folder).parts[:-1]:
                here = here / name
                if not _is_free(here):
                    _require_folder(here)
                elif not dry_run:
                    here.mkdir(exist_ok=True)
            if path.is_symlink():
                raise invalid_path(
                    f"{str(path)!r} is a symbolic link, which could lead out of the folder.",
                    path,
                    errno.ELOOP,
                    hint="Remove it, or name its target yourself.",
                )

    def _claim(self, key: str, names: list[str]) -> None:
        folded = [self._fold(name) for name in names]
        place = "/".join(folded)
        above = ["/".join(folded[:count]) for count in range(1, len(folded))]
        other = next((one for one in (place, *above) if one in self._files), None)
        if other is not None or place in self._folders:
            what = f"{self._files[other]!r}" if other is not None else "a folder of other keys"
            raise InvalidInputError(
                f"It has the path of {what} here, {os.path.join(*names)!r}.",  # noqa: PTH118
                key=key,
                hint=_HINT,
            )
        self._files[place] = key
        self._folders.update(above)


def folding(folder: Path) -> Callable[[str], str]:
    """Return what makes names equal that the file system of ``folder`` takes for the same."""
    if ignores_case(folder):
        return lambda name: unicodedata.normalize("NFC", name).casefold()
    if sys.platform == "darwin":
        # Its file systems ignore the form of Unicode, also where they heed the case.
        return lambda name: unicodedata.normalize("NFC", name)
    return lambda name: name


def ignores_case(folder: Path) -> bool:
    """Whether the file system of ``folder``, which need not exist yet, ignores the case.

    Nothing is written to find out: an existing name is looked for in the other case.
    """
    place = Path(os.path.realpath(folder))
    while not place.is_dir() and place != place.parent:
        place = place.parent
    try:
        names = [place / name for name in os.listdir(place)]  # noqa: PTH208
    except OSError:
        names = []
    for path in [*names, place]:
        other = path.with_name(path.name.swapcase()) if path.name else path
        if other.name != path.name:
            return _is_same(path, other)
    return sys.platform in ("darwin", "win32")


def _is_same(one: Path, other: Path) -> bool:
    try:
        return os.path.samestat(one.lstat(), other.lstat())
    except OSError:
        return False


def _is_free(path: Path) -> bool:
    return not os.path.lexists(path)


def _require_folder(path: Path) -> None:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        raise invalid_path(
            f"{str(path)!r} is a symbolic link, which could lead out of the folder.",
            path,
            errno.ELOOP,
            hint="Remove it, or make it a folder.",
        )
    if not stat.S_ISDIR(mode):
        raise invalid_path(f"{str(path)!r} is not a folder.", path, errno.ENOTDIR)
