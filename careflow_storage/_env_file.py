"""Reads a ``.env`` file, and sets variables in it without changing anything else.

Parses the file as `StorageSettings` does (python-dotenv); names match in any case. The functions
block: call them in a thread.
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
# Characters that every parser of .env files, and a shell, reads literally.
_PLAIN_VALUE = re.compile(r"[A-Za-z0-9_./:@%+=,-]*")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")
_UP_TO_VALUE = re.compile(r"\s*(?:export[^\S\r\n]+)?(?:'[^']+'|[^=#\s]+)[^\S\r\n]*(?:=[^\S\r\n]*)?")
_QUOTED = re.compile(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"", re.DOTALL)
_COMMENT = re.compile(r"\s+#.*")
_LINE_END = re.compile(r"\r\n|\n|\r")


def read_env(path: str | os.PathLike[str]) -> dict[str, str]:
    """Return the variables of a file, except those without a value.

    Raises:
        InvalidInputError: The file does not exist, or is not UTF-8 text.
        StorageError: The file cannot be read.
    """
    return variables_of(read_text(path))


def variables_of(text: str) -> dict[str, str]:
    """Return the variables in the text of a file, except those without a value."""
    return {name: value for name, value in _values(text).items() if value is not None}


def read_text(path: str | os.PathLike[str]) -> str:
    """Return a file's text with unchanged line ends. Raises the errors of `read_env`."""
    with _typed_errors(path, "read"):
        content = Path(path).read_bytes()
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        position = error.start
    # Raised here, since the context of the error would hold the whole file.
    raise InvalidInputError(
        f"{os.fspath(path)} is not UTF-8 text (byte {position}).",
        hint="Save it as UTF-8; PowerShell's redirection writes UTF-16.",
    )


def updated_env(text: str, values: Mapping[str, str]) -> str:
    """Return the text with ``values`` set and every other line unchanged.

    Replaces every assignment of a variable in its place, and keeps its ``export`` and comment.
    Adds new variables at the end, in the order of ``values``.

    Raises:
        InvalidInputError: A name is invalid, a value contains a line break, or the changed text
            would not be parsed as the new value and the unchanged rest.
    """
    for name, value in values.items():
        _check(name, value)
    body = text.removeprefix(_BYTE_ORDER_MARK)
    byte_order_mark = text[: len(text) - len(body)]
    wanted = {name.upper(): value for name, value in values.items()}
    bindings = list(parse_stream(io.StringIO(body, newline="")))
    lines = [_replaced(each, wanted) for each in bindings]
    there = {each.key.upper() for each in bindings if each.key is not None}
    missing = [name for name in values if name.upper() not in there]
    line_end = found[0] if (found := _LINE_END.search(body)) else "\n"
    if missing and lines and lines[-1] and lines[-1][-1] not in "\r\n":
        lines.append(line_end)
    lines += [f"{name}={_written(values[name])}{line_end}" for name in missing]
    changed = byte_order_mark + "".join(lines)
    _check_read_back(text, changed, values)
    return changed


def write_env(path: str | os.PathLike[str], values: Mapping[str, str]) -> None:
    """Set variables in a file atomically; afterwards only its owner can read it (0600).

    Creates the file if it does not exist. If it is a symbolic link, replaces its target. Returns
    after the change has reached the disk.

    Raises:
        InvalidInputError: See `updated_env`; or the path is not a file, or the file is not UTF-8
            text.
        StorageError: The file cannot be written. It is unchanged.
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
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if before is not None and sys.platform != "win32" and before.st_uid != os.geteuid():
                # Root may change the file of a service, which must still be able to read it.
                os.fchown(descriptor, before.st_uid, before.st_gid)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush_folder(target.parent)


def _flush_folder(folder: Path) -> None:
    # Without this, a power failure may restore the old file.
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
        raise InvalidInputError(f"{name!r} is not a valid name of a variable.")
    if not isinstance(value, str):
        raise InvalidInputError(f"{name} must be a str, not {type(value).__name__}.")
    if _UNPRINTABLE.search(value):
        raise InvalidInputError(f"{name} contains a line break or another control character.")


def _check_read_back(before: str, after: str, values: Mapping[str, str]) -> None:
    found = {name.upper(): value for name, value in _values(after).items()}
    for name, value in values.items():
        if found.get(name.upper()) != value:
            raise InvalidInputError(
                f"The value of {name} would be read back differently from the file.",
                hint="A .env file cannot hold ${...} in a value. Does it have an unclosed quote?",
            )
    # The new text could close a quote that the file left open.
    if _others(before, values) != _others(after, values):
        raise InvalidInputError(
            "Other variables of the file would change.",
            hint="Does it have an unclosed quote?",
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
            f"{name} cannot be {_DONE[verb]}: the {_MISSING[verb]} does not exist."
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
    "The new file is written to the same folder and then replaces the old one: the folder must be "
    "writable, and the file must not be a mount (Docker)."
)
