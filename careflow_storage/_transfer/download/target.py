"""The target file of a download, checked before the first request."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from careflow_storage._local_paths import as_path, invalid_path, local_file_error
from careflow_storage.errors import InvalidPathError

_SEPARATORS = tuple(filter(None, (os.sep, os.altsep)))
# Names of open files of this process: the file behind such a name must not be replaced.
_OPEN_FILES = ("/dev/fd/", "/dev/stdin", "/dev/stdout", "/dev/stderr", "/proc/")


@dataclass(frozen=True, slots=True)
class LocalTarget:
    """The file that a download writes.

    Attributes:
        path: The path as the caller passed it.
        file: The same path with the symbolic links of its folder resolved. A link at the path
            itself is replaced, because it may lead to a file that the caller does not mean.
    """

    path: Path
    file: Path

    @classmethod
    def checked(cls, given: str | os.PathLike[str]) -> LocalTarget:
        """Check the path without changing anything. Call it in a thread.

        Raises:
            InvalidPathError: No file can be written there.
            InvalidInputError: It is not a path.
        """
        path = as_path(given)
        if os.fspath(given).endswith(_SEPARATORS):
            raise _is_folder(path)
        if str(path.absolute()).startswith(_OPEN_FILES):
            raise _not_regular(path)
        try:
            file = Path(os.path.realpath(path.parent), path.name)
            about = _status(path)
            _check_folder(file.parent, path)
        except OSError as error:
            if isinstance(error, InvalidPathError):
                raise
            raise local_file_error(error, "write", path, error_class=InvalidPathError) from error
        if about is not None:
            _check_existing(path, file, about)
        return cls(path, file)


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _check_folder(folder: Path, path: Path) -> None:
    about = _status(folder)
    if about is None:
        raise invalid_path(f"The folder {str(folder)!r} does not exist.", path, errno.ENOENT)
    if not stat.S_ISDIR(about.st_mode):
        raise invalid_path(f"{str(folder)!r} is not a folder.", path, errno.ENOTDIR)
    if not _may(folder, os.W_OK | os.X_OK):
        raise invalid_path(
            f"The folder {str(folder)!r} is not writable.",
            path,
            errno.EACCES,
            hint="A download first writes a temporary file beside the target.",
        )


def _check_existing(path: Path, file: Path, about: os.stat_result) -> None:
    if stat.S_ISDIR(about.st_mode):
        raise _is_folder(path)
    if not stat.S_ISREG(about.st_mode):
        # Otherwise a file would replace a device or a pipe.
        raise _not_regular(path)
    if not file.is_symlink() and not _may(file, os.W_OK):
        raise invalid_path(f"{str(path)!r} is read-only.", path, errno.EACCES)


def _may(path: Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def _is_folder(path: Path) -> InvalidPathError:
    return invalid_path(f"{str(path)!r} is a folder; pass the name of a file.", path, errno.EISDIR)


def _not_regular(path: Path) -> InvalidPathError:
    return invalid_path(f"{str(path)!r} is not a regular file.", path, errno.EINVAL)
