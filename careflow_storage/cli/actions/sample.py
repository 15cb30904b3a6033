"""``careflow-storage sample``: a recording to try with."""

from __future__ import annotations

import asyncio
from importlib import resources
from pathlib import Path

from careflow_storage.cli.ui.output import Output
from careflow_storage.errors import InvalidInputError

_TYPES = (".webm", ".ogg")


async def write_sample(output: Output, path: Path) -> None:
    """Write the packaged recording of this type.

    Raises:
        InvalidInputError: The name has another ending, or the file cannot be created.
    """
    if path.suffix not in _TYPES:
        raise InvalidInputError(
            f"The name must end in {' or '.join(_TYPES)}, unlike {path.name!r}."
        )
    size = await asyncio.to_thread(_write, path)
    output.item({"path": str(path), "size": size})
    output.line(str(path))


def _write(path: Path) -> int:
    data = (
        resources.files("careflow_storage") / f"testing/data/greeting{path.suffix}"
    ).read_bytes()
    try:
        file = path.open("xb")
    except FileExistsError as error:
        raise InvalidInputError(f"{path} exists. Nothing was written.") from error
    except OSError as error:
        raise _cannot_create(path, error) from error
    try:
        with file:
            return file.write(data)
    except OSError as error:
        # Part of a recording would not play, and the next attempt would find that the file exists.
        path.unlink()
        raise _cannot_create(path, error) from error


def _cannot_create(path: Path, error: OSError) -> InvalidInputError:
    return InvalidInputError(f"{path} cannot be created: {error.strerror}.")
