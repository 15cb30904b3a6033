"""Turns each kind of body into one of three sources: memory, regular file or stream.

======================================  ==========  ======================================
body                                    size known  read
======================================  ==========  ======================================
bytes, str, any buffer                  yes         in place, without a copy
path, file object on a regular file     yes         in threads of the storage, by position
other file objects                      if claimed  in its own thread
file object with ``async def read``     if claimed  awaited
responses of httpx, aiohttp, requests   if claimed  as their kind
async iterable of bytes                 no          awaited
iterable of bytes                       no          in its own thread
======================================  ==========  ======================================

A ``str`` is stored as UTF-8 text; pass a ``pathlib.Path`` to upload a file by name. A file that
the caller opened is read from its current position and never closed. docs/bodies.md describes
the whole contract.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import io
import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import IO, TYPE_CHECKING, Any, Protocol, TypeAlias

from careflow_storage._transfer.bodies.buffers import is_immutable, view_of
from careflow_storage._transfer.bodies.checksums import Hasher
from careflow_storage._transfer.bodies.limits import NO_LIMITS, BodyLimits
from careflow_storage._transfer.bodies.local_file import (
    RegularFile,
    move,
    open_copy,
    open_path,
    refuse_end,
    snapshot_of,
)
from careflow_storage._transfer.bodies.refused import (
    refusal,
    refuse_closed_and_text,
    refuse_others,
)
from careflow_storage._transfer.bodies.responses import (
    claimed_length,
    refuse_read_response,
    take_response,
    takes_size,
)
from careflow_storage._transfer.bodies.streams import (
    END,
    FileReads,
    StreamSource,
    from_async_iterable,
    from_async_reader,
    from_iterable,
    position_of,
)
from careflow_storage._transfer.threads import Threads
from careflow_storage.errors import InvalidInputError

if TYPE_CHECKING:
    from typing_extensions import Buffer
else:
    Buffer = bytes | bytearray | memoryview


class AsyncReader(Protocol):
    """An async file object, such as an ``aiofiles`` file or Starlette's ``UploadFile``."""

    async def read(self, size: int, /) -> bytes: ...


class SyncReader(Protocol):
    """A file object of any class; only ``read`` is needed."""

    def read(self, size: int, /) -> bytes: ...


class FormPart(Protocol):
    """A form part of aiohttp."""

    async def read_chunk(self, size: int = ...) -> bytes: ...


class AsyncResponse(Protocol):
    """A response or request of aiohttp."""

    @property
    def content(self) -> AsyncReader: ...

    async def read(self) -> bytes: ...


class BytesResponse(Protocol):
    """A response of httpx."""

    def aiter_bytes(self, chunk_size: int | None = ...) -> AsyncIterator[bytes]: ...


UploadBody: TypeAlias = (
    Buffer
    | str
    | os.PathLike[str]
    | os.PathLike[bytes]
    | IO[bytes]
    | Iterable[Buffer]
    | AsyncIterable[Buffer]
    | SyncReader
    | AsyncReader
    | AsyncResponse
    | BytesResponse
    | FormPart
)
"""The types that can be uploaded."""


@asynccontextmanager
async def open_source(
    body: UploadBody,
    threads: Threads,
    *,
    size: int | None = None,
    limits: BodyLimits = NO_LIMITS,
) -> AsyncIterator[Source]:
    """Open a body of any kind; ``size`` declares its size if the body does not know it.

    Raises:
        FileTooLargeError: It is known to have more bytes than the limits allow.
        InvalidInputError: The body cannot be read as bytes: a file that is missing, closed or
            open in text mode, a folder, a generator that has ended.
    """
    taken = await _take(body, threads)
    if not isinstance(taken, RegularFile):
        try:
            yield _limited(_with_size(taken, size), limits)
        finally:
            if isinstance(taken, StreamSource):
                await taken.aclose()
        if isinstance(taken, MemorySource):
            taken.move_behind()
        return
    try:
        if taken.wait_seconds:
            await asyncio.sleep(taken.wait_seconds)
        yield _limited(_with_size(_source_of(taken, threads), size), limits)
        if taken.original is not None:
            await threads.run_apart(taken.move_behind)
    finally:
        await threads.clean_up(taken.close)


def _with_size(source: Source, declared: int | None) -> Source:
    if declared is not None:
        if type(declared) is not int or declared < 0:
            raise InvalidInputError(f"size must be an int of 0 or more, not {declared!r}.")
        if source.size is not None and source.size != declared:
            raise InvalidInputError(
                f"The body has {source.size} bytes, but size={declared} was declared."
            )
        source.size = declared
    return source


def _limited(source: Source, limits: BodyLimits) -> Source:
    limits.check_size(source.size)
    if isinstance(source, StreamSource):
        source.limit(limits)
    return source


def _source_of(file: RegularFile, threads: Threads) -> Source:
    if file.size is not None:
        return FileSource(file, threads)
    position = 0

    async def next_chunk() -> Any:
        nonlocal position
        block = await threads.run_apart(file.read_block, position)
        position += len(block)
        return block or END

    return StreamSource(next_chunk)


async def _take(body: Any, threads: Threads) -> Source | RegularFile:
    if type(body) is bytes:  # the most frequent body
        return MemorySource(memoryview(body))
    if isinstance(body, str):
        try:
            return MemorySource(memoryview(str.encode(body, "utf-8")))
        except UnicodeEncodeError as error:
            raise InvalidInputError(f"The text is not valid Unicode: {error.reason}.") from error
    if isinstance(body, os.PathLike):
        return await threads.open(open_path, body)
    if (view := view_of(body)) is not None:
        return MemorySource(view)
    response = await take_response(body, threads)
    if response is not None:
        return MemorySource(memoryview(response)) if isinstance(response, bytes) else response
    refuse_others(body)
    read = getattr(body, "read", None)
    if callable(read) and takes_size(read):
        return await _take_reader(body, threads)
    if isinstance(body, AsyncIterable):
        return from_async_iterable(body, size=claimed_length(body))
    if isinstance(body, Iterable):
        return StreamSource(from_iterable(body, threads), size=claimed_length(body))
    raise refusal(body)


async def _take_reader(file: Any, threads: Threads) -> Source | RegularFile:
    refuse_closed_and_text(file)
    if (snapshot := snapshot_of(file)) is not None:
        return MemorySource(snapshot, file)
    if _is_async(file):
        return StreamSource(from_async_reader(file.read), size=_claimed_size(file))
    if (opened := await threads.open(open_copy, file)) is not None:
        return opened
    refuse_read_response(file)
    size, start = await threads.run_of_caller(
        contextvars.copy_context(), lambda: (_claimed_size(file), position_of(file))
    )
    reads = FileReads(file, start, threads)
    return StreamSource(reads.next_chunk, size=size, rewind=reads.rewind)


def _is_async(file: Any) -> bool:
    """Whether to call ``read`` on the event loop: a plain function may return an awaitable."""
    asynchronous = hasattr(type(file), "__aiter__") or hasattr(type(file), "__aenter__")
    return inspect.iscoroutinefunction(file.read) or (
        asynchronous and not isinstance(file, io.IOBase)
    )


def _claimed_size(file: Any) -> int | None:
    """Return how many bytes follow the current position, if the object says so.

    Uploaded files of Starlette and Django do, and responses. The upload must match this size. No
    file is moved to its end to find its size, because some cannot seek back.
    """
    size = getattr(file, "size", None)
    if type(size) is not int or size < 0:
        return claimed_length(file)
    start = _position(file)
    following = max(0, size - start)
    refuse_end(start, following)
    return following


def _position(file: Any) -> int:
    for each in (file, getattr(file, "file", None)):
        tell = getattr(each, "tell", None)
        if tell is not None and not inspect.iscoroutinefunction(tell):
            try:
                position = tell()
            except (OSError, ValueError, AttributeError):
                continue
            if type(position) is int and position >= 0:
                return position
    return 0


class MemorySource:
    """Bytes in the caller's memory; the parts are views of them."""

    rewindable = True

    def __init__(self, view: memoryview, original: Any = None) -> None:
        self.size: int | None = view.nbytes
        self.view = view
        self.position: int = 0
        self._original = original
        self._end = original.tell() + view.nbytes if original is not None else 0

    @property
    def immutable(self) -> bool:
        """Whether the bytes cannot change during the upload."""
        return is_immutable(self.view)

    def move_behind(self) -> None:
        """Move the position of the caller's in-memory file to its end, as reading it does."""
        if self._original is not None:
            move(self._original, self._end)

    def take(self, size: int) -> memoryview:
        """Return the next ``size`` bytes, or the rest."""
        piece = self.view[self.position : self.position + size]
        self.position += piece.nbytes
        return piece

    async def skip(self, size: int) -> None:
        """Skip the next ``size`` bytes."""
        self.position += size

    async def rewind(self) -> bool:
        """Go back to the start."""
        self.position = 0
        return True

    async def check_unchanged(self) -> None:
        """Do nothing: the checksums detect a change."""


class FileSource:
    """A regular file of known size."""

    rewindable = True

    def __init__(self, file: RegularFile, threads: Threads) -> None:
        self.size: int | None = file.size
        self.file = file
        self._length = file.size or 0
        self._threads = threads
        self._position = 0

    async def read_into(self, buffer: memoryview, hasher: Hasher | None = None) -> int:
        """Fill ``buffer`` with the next bytes; return how many. Fewer than its size mean the end.

        After a cancellation the thread may still write to the buffer: do not reuse it.
        """
        filled = await self._threads.run_apart(self.file.read_into, self._position, buffer, hasher)
        self._position += filled
        return filled

    def take_region(self, size: int) -> tuple[int, int]:
        """Skip the next ``size`` bytes, or the rest; return start and length."""
        start = self._position
        length = min(size, max(0, self._length - start))
        self._position += length
        return start, length

    async def skip(self, size: int) -> None:
        """Skip the next ``size`` bytes."""
        self._position += size

    async def rewind(self) -> bool:
        """Go back to the start."""
        self._position = 0
        return True

    async def check_unchanged(self) -> None:
        """Raise an error if the file changed; see `RegularFile.check_unchanged`."""
        await self._threads.run_apart(self.file.check_unchanged)


Source: TypeAlias = MemorySource | FileSource | StreamSource
