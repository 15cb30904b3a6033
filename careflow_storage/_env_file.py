"""A ``.env`` file: read it, and change variables in it with everything else left as it is.

It is understood as `StorageSettings` understands it (python-dotenv), names in any case. The
calls here block: an event loop runs them in a thread.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import secrets
import stat
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import dotenv
from dotenv.parser import Binding, parse_stream

from careflow_storage._local_paths import as_path
from careflow_storage.errors import InvalidInputError, StorageError

_BYTE_ORDER_MARK = "\ufeff"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# What every reader of such files, a shell too, takes as it stands.
_PLAIN_VALUE = re.compile(r"[A-Za-z0-9_./:@%+=,-]*")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")
_UP_TO_VALUE = re.compile(r"\s*(?:export[^\S\r\n]+)?(?:'[^']+'|[^=#\s]+)[^\S\r\n]*(?:=[^\S\r\n]*)?")
_QUOTED = re.compile(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"", re.DOTALL)
_COMMENT = re.compile(r"\s+#.*")
_LINE_END = re.compile(r"\r\n|\n|\r")


def read_env(path: str | os.PathLike[str]) -> dict[str, str]:
    """Return the variables of a file; one that stands there without a value is left out.

    Raises:
        InvalidInputError: There is no such file, or it is not UTF-8 text.
        StorageError: It cannot be read.
    """
    return variables_of(read_text(path))


def variables_of(text: str) -> dict[str, str]:
    """Return the variables of a file's text."""
    return {name: value for name, value in _values(text).items() if value is not None}


def read_text(path: str | os.PathLike[str]) -> str:
    """Return a file's text with its line ends as they are; raises as `read_env`."""
    with _typed_errors(path, "read"):
        content = Path(path).read_bytes()
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        position = error.start
    # Out here, since the error above holds the whole file.
    raise InvalidInputError(
        f"{os.fspath(path)} is not UTF-8 text (byte {position}).",
        hint="Save it as UTF-8; PowerShell's redirection writes UTF-16.",
    )


def updated_env(text: str, values: Mapping[str, str]) -> str:
    """Return the text with these variables set; every other line stays as it is.

    A variable that is there keeps its place, its ``export`` and its comment, wherever it is
    set more than once; what is not there comes at the end, in the order given.

    Raises:
        InvalidInputError: A name is none, or a value has a line break or cannot be written so
            that it is read back the same, and all else as before.
    """
    for name, value in values.items():
        _check(name, value)
    body = text.removeprefix(_BYTE_ORDER_MARK)
    mark = text[: len(text) - len(body)]
    wanted = {name.upper(): value for name, value in values.items()}
    bindings = list(parse_stream(io.StringIO(body, newline="")))
    lines = [_replaced(each, wanted) for each in bindings]
    there = {each.key.upper() for each in bindings if each.key is not None}
    missing = [name for name in values if name.upper() not in there]
    line_end = found[0] if (found := _LINE_END.search(body)) else "\n"
    if missing and lines and lines[-1] and lines[-1][-1] not in "\r\n":
        lines.append(line_end)
    lines += [f"{name}={_written(values[name])}{line_end}" for name in missing]
    changed = mark + "".join(lines)
    _check_read_back(text, changed, values)
    return changed


def write_env(path: str | os.PathLike[str], values: Mapping[str, str]) -> None:
    """Set variables in a file: at once or not at all, readable to its owner only (0600).

    A file that is not there is created. A symbolic link stays one, and its target changes.
    When this returns, the change has reached the disk.

    Raises:
        InvalidInputError: See `updated_env`; or the file is not UTF-8 text, or not a file.
        StorageError: It cannot be written. It is as it was then.
    """
    target = Path(path)
    with _typed_errors(path, "write"):
        target = target.resolve()
        before = target.stat() if target.exists() else None
    if before is not None and not stat.S_ISREG(before.st_mode):
        raise InvalidInputError(f"{os.fspath(path)} is not a file.")
    changed = updated_env("" if before is None else read_text(target), values)
    with _typed_errors(path, "write"):
        _replace(target, changed.encode(), before)


def _replace(target: Path, content: bytes, before: os.stat_result | None) -> None:
    beside = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if before is not None and sys.platform != "win32" and before.st_uid != os.geteuid():
                # Root changes the file of the service, which must be able to read it after.
                os.fchown(descriptor, before.st_uid, before.st_gid)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        beside.replace(target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    _flush_folder(target.parent)


def _flush_folder(folder: Path) -> None:
    # Else a power failure may bring the old file back.
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replaced(binding: Binding, wanted: Mapping[str, str]) -> str:
    original = binding.original.string
    if binding.key is None or binding.key.upper() not in wanted:
        return original
    start = _UP_TO_VALUE.match(original)
    if start is None:
        return original
    head, tail = start[0], original[start.end() :]
    if not head.rstrip().endswith("="):
        head = f"{head.rstrip()}="
    quoted = _QUOTED.match(tail)
    rest = tail[quoted.end() :] if quoted else _after_unquoted(head, tail)
    return f"{head}{_written(wanted[binding.key.upper()])}{rest}"


def _after_unquoted(head: str, tail: str) -> str:
    line_end = _LINE_END.search(tail)
    line = tail if line_end is None else tail[: line_end.start()]
    # "NAME= # comment" has no value; "NAME=#1" has one.
    space = head[len(head.rstrip()) :] if line.startswith("#") else ""
    comment = _COMMENT.search(space + line)
    return (comment[0] if comment else "") + ("" if line_end is None else line_end[0])


def _written(value: str) -> str:
    if _PLAIN_VALUE.fullmatch(value):
        return value
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _check(name: object, value: object) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidInputError(f"{name!r} is not the name of a variable.")
    if not isinstance(value, str):
        raise InvalidInputError(f"{name} must be a str, not {type(value).__name__}.")
    if _UNPRINTABLE.search(value):
        raise InvalidInputError(f"{name} has a line break or another control character in it.")


def _check_read_back(before: str, after: str, values: Mapping[str, str]) -> None:
    found = {name.upper(): value for name, value in _values(after).items()}
    for name, value in values.items():
        if found.get(name.upper()) != value:
            raise InvalidInputError(
                f"{name} would not be read back from the file as it is.",
                hint="Values with ${...} cannot stand in a .env file. Is a quote left open there?",
            )
    # A quote that was left open could take what is written now for its end.
    if _others(before, values) != _others(after, values):
        raise InvalidInputError(
            "Other variables of the file would not be read as before.",
            hint="Is a quote left open there?",
        )


def _others(text: str, values: Mapping[str, str]) -> dict[str, str | None]:
    changed = {name.upper() for name in values}
    found = _values(text, interpolate=False)
    return {name: value for name, value in found.items() if name.upper() not in changed}


def _values(text: str, *, interpolate: bool = True) -> dict[str, str | None]:
    stream = io.StringIO(text.removeprefix(_BYTE_ORDER_MARK), newline="")
    return dotenv.dotenv_values(stream=stream, interpolate=interpolate)


@contextlib.contextmanager
def _typed_errors(path: str | os.PathLike[str], verb: str) -> Iterator[None]:
    name = str(as_path(path))
    try:
        yield
    except FileNotFoundError as error:
        raise InvalidInputError(
            f"{name} cannot be {_DONE[verb]}: there is no such {_MISSING[verb]}."
        ) from error
    except IsADirectoryError as error:
        raise InvalidInputError(f"{name} is not a file.") from error
    except OSError as error:
        raise StorageError(
            f"{name} cannot be {_DONE[verb]} ({error.strerror or type(error).__name__}); "
            "nothing was changed.",
            hint=_WRITE_HINT if verb == "write" else None,
        ) from error


_DONE = {"read": "read", "write": "written"}
_MISSING = {"read": "file", "write": "folder"}
_WRITE_HINT = (
    "It is written beside the old one and then takes its place: the folder must be writable, and "
    "the file no mount of its own (Docker)."
)
