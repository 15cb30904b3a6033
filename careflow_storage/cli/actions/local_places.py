"""The local paths for the files of a prefix: all below one folder, no two the same."""

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

_HINT = "To choose its path, use `careflow-storage download KEY PATH`."


class LocalPlaces:
    """Gives each key of one download a path of its own below ``folder``.

    Two keys collide if their names differ only in case, or in the Unicode form of an accented
    letter, and the file system does not distinguish these.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, str] = {}
        self._folders: set[str] = set()
        self._fold: Callable[[str], str] = str

    def detect_case(self) -> None:
        """Find out which names the file system treats as equal. Blocks: call it in a thread."""
        self._fold = folding(self._folder)

    def path_of(self, key: str, base: int) -> Path:
        """Return the path for a key without its first ``base`` characters.

        Raises:
            InvalidInputError: The path would leave the folder, or is that of another key.
        """
        segments = key[base:].split("/")
        if not {"", ".", ".."}.isdisjoint(segments) or "\\" in key:
            raise InvalidInputError("This key could leave the folder.", key=key, hint=_HINT)
        names = [safe_filename(segment) for segment in segments]
        self._claim(key, names)
        return self._folder.joinpath(*names)

    def make_folders(self, path: Path, *, dry_run: bool = False) -> None:
        """Create the folders above ``path``, without following symbolic links.

        With ``dry_run``, only check those that exist.

        Raises:
            InvalidPathError: A symbolic link or a file is in the way.
            LocalFileError: A folder cannot be created.
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
                    f"{str(path)!r} is a symbolic link, which could leave the folder.",
                    path,
                    errno.ELOOP,
                    hint="Remove it, or download to its target.",
                )

    def _claim(self, key: str, names: list[str]) -> None:
        folded = [self._fold(name) for name in names]
        place = "/".join(folded)
        above = ["/".join(folded[:count]) for count in range(1, len(folded))]
        other = next((one for one in (place, *above) if one in self._files), None)
        if other is not None or place in self._folders:
            what = f"{self._files[other]!r}" if other is not None else "a folder of other keys"
            raise InvalidInputError(
                f"Its path, {os.path.join(*names)!r}, is also that of {what}.",  # noqa: PTH118
                key=key,
                hint=_HINT,
            )
        self._files[place] = key
        self._folders.update(above)


def folding(folder: Path) -> Callable[[str], str]:
    """Return a function that makes names equal if the file system treats them as equal."""
    if ignores_case(folder):
        return lambda name: unicodedata.normalize("NFC", name).casefold()
    if sys.platform == "darwin":
        # Its file systems ignore the Unicode form, even where they distinguish case.
        return lambda name: unicodedata.normalize("NFC", name)
    return lambda name: name


def ignores_case(folder: Path) -> bool:
    """Whether the file system of ``folder`` ignores case. The folder need not exist yet.

    Writes nothing: looks up an existing name in the other case.
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
            f"{str(path)!r} is a symbolic link, which could leave the folder.",
            path,
            errno.ELOOP,
            hint="Replace it with a folder.",
        )
    if not stat.S_ISDIR(mode):
        raise invalid_path(f"{str(path)!r} is not a folder.", path, errno.ENOTDIR)
