"""What a recording could not bring to the server, saved in a local file."""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from pathlib import Path
from typing import BinaryIO, NamedTuple

from careflow_storage.errors import StorageError
from careflow_storage.transfer.parts import Part
from careflow_storage.transfer.reading import Filling
from careflow_storage.transfer.threads import Threads

logger = logging.getLogger("careflow_storage")

_LONGEST_NAME = 80


class KeptFile(NamedTuple):
    """The bytes ``[start, end)`` of a recording, in a file that its user alone may read.

    The server has the first ``start`` bytes, and may have more: take that many from it, then the
    file.
    """

    path: Path
    start: int
    end: int


async def pieces_of(parts: Iterable[Part], filling: Filling | None) -> AsyncGenerator[memoryview]:
    """Yield the bytes of these parts, and of one that grows, in this order."""
    for part in parts:
        async with aclosing(part.body.slices()) as slices:
            async for piece in slices:
                yield piece
    if filling is not None:
        async with aclosing(filling.contents()) as contents:
            async for content in contents:
                yield content


async def save(
    pieces: AsyncIterator[memoryview],
    threads: Threads,
    directory: Path | None,
    name: str,
    start: int,
) -> tuple[KeptFile | None, Exception | None]:
    """Write the bytes of a recording from ``start`` on to a new file; not to be cancelled.

    Returns the file, unless nothing could be written, and what went wrong, if anything did: then
    the file ends where it did.
    """
    path, end = None, start
    try:
        path, file = await threads.run(_create, directory, name)
        try:
            async for piece in pieces:
                await threads.run(file.write, piece)
                end += piece.nbytes
            await threads.run(_sync, file)
        finally:
            await threads.run(file.close)
    except Exception as error:  # noqa: BLE001 - told beside the error that led here
        if path is None or end == start:
            return None, error
        return KeptFile(path, start, end), error
    return KeptFile(path, start, end), None


def _create(directory: Path | None, name: str) -> tuple[Path, BinaryIO]:
    # mkstemp: readable by its user alone, and no other file or link of this name is followed.
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", name)[-_LONGEST_NAME:]
    descriptor, path = tempfile.mkstemp(suffix=f"-{safe}", prefix="careflow-kept-", dir=directory)
    return Path(path), os.fdopen(descriptor, "wb", buffering=0)


def _sync(file: BinaryIO) -> None:
    os.fsync(file.fileno())


def tell_kept(
    error: BaseException,
    kept: KeptFile | None,
    failure: Exception | None,
    *,
    key: str,
    size: int,
) -> None:
    """Tell in ``error`` and in the log where the rest of a recording of ``size`` bytes is."""
    if kept is not None:
        text = f"Bytes {kept.start} to {kept.end} of the recording {key!r} are in {kept.path}"
        if isinstance(error, StorageError):
            error.kept_file, error.kept_start = str(kept.path), kept.start
    else:
        text = f"The rest of the recording {key!r}, which has {size} bytes, is lost"
    if failure is not None:
        text += f"; writing the file failed: {str(failure) or type(failure).__name__}"
    error.add_note(f"{text}.")
    logger.log(
        logging.WARNING if failure is None else logging.ERROR,
        "%s.",
        text,
        extra={"key": key, "kept_file": None if kept is None else str(kept.path)},
    )
