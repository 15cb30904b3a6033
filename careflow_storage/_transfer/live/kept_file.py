"""A local file for the bytes of a recording that did not reach the server."""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from io import FileIO
from pathlib import Path
from typing import NamedTuple

from careflow_storage._log_fields import log_fields
from careflow_storage._transfer.bodies.growing_part import GrowingPart
from careflow_storage._transfer.bodies.parts import Part
from careflow_storage._transfer.threads import Threads
from careflow_storage.errors import StorageError

logger = logging.getLogger("careflow_storage")

_LONGEST_NAME = 80


class KeptFile(NamedTuple):
    """The bytes ``[start, end)`` of a recording, in a file that only its owner can read.

    The server holds at least the first ``start`` bytes. To restore the recording, take exactly
    ``start`` bytes from the server and append the file. If the server no longer has the upload,
    the notes of the exception say so.
    """

    path: Path
    start: int
    end: int


async def bytes_of(
    parts: Iterable[Part], growing: GrowingPart | None
) -> AsyncGenerator[memoryview]:
    """Yield the bytes of ``parts``, then those of ``growing``."""
    for part in parts:
        async with aclosing(part.body.slices()) as slices:
            async for piece in slices:
                yield piece
    if growing is not None:
        async with aclosing(growing.contents()) as contents:
            async for content in contents:
                yield content


async def save(
    pieces: Callable[[], AsyncGenerator[memoryview]],
    threads: Threads,
    directory: Path | None,
    name: str,
    start: int,
) -> tuple[KeptFile | None, list[str]]:
    """Write the bytes of a recording from ``start`` on to a new file. Must not be cancelled.

    If writing to ``directory`` fails, write all bytes to the temporary folder instead. If both
    fail, the file with more bytes stays.

    Returns the file, or None if no byte could be written, and the error of each folder that
    failed.
    """
    kept: KeptFile | None = None
    failures: list[str] = []
    for folder in dict.fromkeys((directory, None)):
        written, error = await _write(pieces, threads, folder, name, start)
        if error is not None:
            where = folder or "the temporary folder"
            failures.append(f"{where}: {str(error) or type(error).__name__}")
        better = kept is None or error is None or (written is not None and written.end > kept.end)
        dropped = kept if better else written
        kept = written if better else kept
        if dropped is not None:
            await threads.run(_remove, dropped.path)
        if error is None:
            break
    return kept, failures


async def _write(
    pieces: Callable[[], AsyncGenerator[memoryview]],
    threads: Threads,
    directory: Path | None,
    name: str,
    start: int,
) -> tuple[KeptFile | None, Exception | None]:
    path, end = None, start
    try:
        path, file = await threads.run(_create, directory, name)
        try:
            async with aclosing(pieces()) as contents:
                async for piece in contents:
                    rest = piece
                    # A disk that is almost full writes part of a piece, then refuses the next.
                    while rest.nbytes:
                        written = await threads.run(file.write, rest)
                        end += written
                        rest = rest[written:]
            await threads.run(_sync, file)
        finally:
            await threads.run(file.close)
    except Exception as error:  # noqa: BLE001 - reported in the notes of the first error
        if path is not None and end == start:
            await threads.run(_remove, path)
            path = None
        return None if path is None else KeptFile(path, start, end), error
    return KeptFile(path, start, end), None


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        logger.warning(
            "The unneeded file %s could not be removed: %s",
            path,
            error,
            extra=log_fields("file_left", error, path=str(path)),
        )


def _create(directory: Path | None, name: str) -> tuple[Path, FileIO]:
    # mkstemp creates a new file that only its owner can read, and follows no existing link.
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", name)[-_LONGEST_NAME:]
    descriptor, path = tempfile.mkstemp(suffix=f"-{safe}", prefix="careflow-kept-", dir=directory)
    return Path(path), FileIO(descriptor, "wb")


def _sync(file: FileIO) -> None:
    os.fsync(file.fileno())


def report_kept(
    error: BaseException,
    kept: KeptFile | None,
    failures: list[str],
    *,
    key: str,
    size: int,
) -> None:
    """Add to ``error`` and to the log where the unsent rest of the recording is.

    ``size`` is the number of bytes of the whole recording.
    """
    if kept is not None:
        text = f"Bytes {kept.start} to {kept.end} of the recording {key!r} are in {kept.path}"
        if kept.end < size:
            text += f"; bytes {kept.end} to {size} are lost"
        if isinstance(error, StorageError):
            error.kept_file, error.kept_start = str(kept.path), kept.start
    else:
        text = f"The unsent rest of the recording {key!r} ({size} bytes in total) is lost"
    if failures:
        text += f"; writing the file failed in {', and in '.join(failures)}"
    error.add_note(f"{text}.")
    logger.log(
        logging.WARNING if kept is not None and kept.end == size else logging.ERROR,
        "%s.",
        text,
        extra=log_fields("bytes_kept", key=key, path=None if kept is None else str(kept.path)),
    )


def report_lost(error: BaseException, end: int, *, key: str) -> None:
    """Add to ``error`` and to the log that the server no longer has the first ``end`` bytes."""
    text = (
        f"Bytes 0 to {end} of the recording {key!r} are lost, unless another process has "
        "completed the upload: the server no longer has it."
    )
    if isinstance(error, StorageError):
        error.message += f" {text}"
    error.add_note(text)
    logger.error("%s", text, extra=log_fields("bytes_lost", key=key))
