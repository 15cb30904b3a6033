"""Files of keys: the input of a job, and the errors of one, which are input of the next."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from careflow_storage._local_paths import as_path, local_file_errors
from careflow_storage.errors import InvalidInputError
from careflow_storage.jobs.results import ObjectError

_SURROGATES: Final = re.compile("[\ud800-\udfff]")


def error_lines(errors: Iterable[ObjectError]) -> bytes:
    """Return errors as JSON lines, each of which has a ``key``."""
    return b"".join(error.model_dump_json().encode() + b"\n" for error in errors)


def read_keys(path: Path) -> list[str]:
    """Return the keys of a file, each once, in the order of their UTF-8 bytes. Blocks.

    The file has one key on each line; or a JSON object with a ``key`` on each line, if the first
    line is one. Empty lines are left out. All keys are in memory.

    Raises:
        LocalFileError: The file cannot be read.
        InvalidInputError: It has no keys, is not UTF-8, or a line is not as the first one.
    """
    path = as_path(path, "keys_file").expanduser()
    try:
        with local_file_errors("read", path), path.open(encoding="utf-8-sig", newline="\n") as file:
            keys = set(_keys(path, file))
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"The keys in {path} are not UTF-8 text.") from error
    if not keys:
        raise InvalidInputError(f"There are no keys in {path}.")
    return sorted(keys, key=str.encode)


def _keys(path: Path, lines: Iterable[str]) -> Iterator[str]:
    as_json: bool | None = None
    for number, line in enumerate(lines, 1):
        text = line.rstrip("\r\n")
        if not text:
            continue
        key = _key_of(text)
        if as_json is None:
            as_json = key is not None
        if as_json and key is None:
            raise InvalidInputError(
                f"Line {number} of {path} is not a JSON object with a key, as the first line is."
            )
        yield key if as_json and key is not None else text


def _key_of(text: str) -> str | None:
    """Return the ``key`` of a JSON object; None for another text."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        found = json.loads(text)
    except ValueError:
        return None
    key = found.get("key") if isinstance(found, dict) else None
    # No key has lone surrogates, which JSON can spell.
    return key if isinstance(key, str) and key and not _SURROGATES.search(key) else None
