"""Every kind of body as one of three sources: memory, a file of our own, or a stream.

======================================  ==========  ==================================
body                                    size known  read
======================================  ==========  ==================================
bytes, bytearray, memoryview, str       yes         in place, without a copy
path                                    yes         in the storage's threads
file object with ``read``               if seekable in asyncio's default executor
file object with ``async def read``     no          awaited
iterable of bytes                       no          in asyncio's default executor
async iterable of bytes                 no          awaited
======================================  ==========  ==================================

``str`` is text and is stored as UTF-8; the name of a file must be a ``pathlib.Path``. Files and
iterators that the caller opened are never closed here. A file is read from where it stands.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import stat
import threading
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from io import FileIO
from pathlib import Path
from typing import IO, Any, Protocol, TypeAlias, cast

from careflow_storage.errors import InvalidInputError
from careflow_storage.transfer.checksums import Hasher
from careflow_storage.transfer.threads import Threads


class AsyncReader(Protocol):
    """An async file object, such as an ``aiofiles`` file or Starlette's ``UploadFile``."""

    async def read(self, size: int = ..., /) -> bytes: ...


UploadBody: TypeAlias = (
    bytes
    | bytearray
    | memoryview
    | str
    | os.PathLike[str]
    | IO[bytes]
    | Iterable[bytes]
    | AsyncIterable[bytes]
    | AsyncReader
)
"""What can be uploaded."""

_FILE_READ_BYTES = 1024 * 1024


@asynccontextmanager
async def open_source(
    body: UploadBody, threads: Threads, *, size: int | None = None
) -> AsyncIterator[Source]:
    """Take any kind of body; ``size`` declares the length of one that does not tell it.

    Raises `InvalidInputError` for anything that cannot be read as bytes, and for a file that
    is missing, a folder, or opened in text mode.
    """
    if isinstance(body, os.PathLike):
        file = await threads.open(_open_path, body)
        try:
            yield _with_size(FileSource(file, os.fstat(file.fileno()).st_size), size)
        finally:
            await threads.clean_up(file.close)
        return
    yield _with_size(await _take(body), size)


def _with_size(source: Source, declared: int | None) -> Source:
    if declared is not None:
        if type(declared) is not int or declared < 0:
            raise InvalidInputError(f"size must be a number of bytes, not {declared!r}.")
        if source.size is not None and source.size != declared:
            raise InvalidInputError(
                f"The body has {source.size} bytes, but size={declared} was declared."
            )
        source.size = declared
    return source


async def _take(body: UploadBody) -> Source:
    if isinstance(body, str):
        try:
            return MemorySource(memoryview(body.encode("utf-8")))
        except UnicodeEncodeError as error:
            raise InvalidInputError(f"The text is not valid Unicode: {error.reason}.") from error
    if isinstance(body, bytes | bytearray | memoryview):
        view = memoryview(body)
        if not view.c_contiguous:
            raise InvalidInputError("A memoryview must be contiguous.")
        return MemorySource(view.cast("B"))
    read = getattr(body, "read", None)
    if callable(read):
        if inspect.iscoroutinefunction(read):
            return StreamSource(_read_async(read))
        return await _take_file(body)
    if isinstance(body, AsyncIterable):
        return StreamSource(aiter(body))
    if isinstance(body, Iterable) and not isinstance(body, dict):
        return StreamSource(_iterate_in_thread(iter(body)))
    raise InvalidInputError(
        f"A body of type {type(body).__name__} cannot be uploaded.",
        hint="Give bytes, str, a Path, a file opened in binary mode, or an iterable of bytes.",
    )


def _open_path(path: os.PathLike[str]) -> FileIO:
    try:
        file = Path(path).open("rb", buffering=0)  # noqa: SIM115 - open_source closes it
    except OSError as error:
        raise InvalidInputError(f"{os.fspath(path)!r} cannot be read: {error.strerror}.") from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise InvalidInputError(f"{os.fspath(path)!r} is not a regular file.")
    return file


class MemorySource:
    """Bytes that the caller holds already; parts are views of them."""

    rewindable = True

    def __init__(self, view: memoryview) -> None:
        self.size: int | None = view.nbytes
        self._view = view
        self._position = 0

    def take(self, size: int) -> memoryview:
        """Return the next ``size`` bytes, or what is left."""
        piece = self._view[self._position : self._position + size]
        self._position += piece.nbytes
        return piece

    async def skip(self, size: int) -> None:
        """Pass over the next ``size`` bytes."""
        self._position += size

    async def rewind(self) -> bool:
        """Go back to the start."""
        self._position = 0
        return True


class FileSource:
    """A regular file of our own opening; its methods that touch it are for threads."""

    rewindable = True

    def __init__(self, file: FileIO, size: int) -> None:
        self.size: int | None = size
        self._file = file
        self._position = 0
        self._lock = threading.Lock()

    def read_into(self, buffer: memoryview, hasher: Hasher | None = None) -> int:
        """Fill ``buffer`` with what follows; fewer bytes than it holds mean the end.

        They are hashed while the processor's cache still holds them.
        """
        filled = 0
        with self._lock:
            self._file.seek(self._position)
            while filled < buffer.nbytes:
                block = buffer[filled : filled + _FILE_READ_BYTES]
                count = self._file.readinto(block)
                if not count:
                    break
                if hasher is not None:
                    hasher.update(block[:count])
                filled += count
        self._position += filled
        return filled

    def take_region(self, size: int) -> tuple[int, int]:
        """Pass over the next ``size`` bytes, or what is left; return start and length."""
        start = self._position
        left = max(0, os.fstat(self._file.fileno()).st_size - start)
        self._position += min(size, left)
        return start, min(size, left)

    async def skip(self, size: int) -> None:
        """Pass over the next ``size`` bytes."""
        self._position += size

    def read_at(self, start: int, size: int) -> bytes:
        """Read from anywhere."""
        with self._lock:
            self._file.seek(start)
            return self._file.read(size)

    async def rewind(self) -> bool:
        """Go back to the start."""
        self._position = 0
        return True


class StreamSource:
    """Bytes that come in chunks of any size from somebody else, when it pleases them."""

    def __init__(
        self,
        chunks: AsyncIterator[Any],
        *,
        size: int | None = None,
        rewind: Callable[[], Awaitable[AsyncIterator[Any]]] | None = None,
    ) -> None:
        self.size = size
        self._chunks = chunks
        self._rewind = rewind
        self._rest = memoryview(b"")

    async def next_piece(self, size: int) -> memoryview:
        """Return the next bytes, at most ``size`` of them; none at the end."""
        while not self._rest:
            try:
                self._rest = _as_view(await anext(self._chunks))
            except StopAsyncIteration:
                break
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece

    @property
    def rewindable(self) -> bool:
        """Whether `rewind` can go back."""
        return self._rewind is not None

    async def skip(self, size: int) -> None:
        """Pass over the next ``size`` bytes, or what is left."""
        while size > 0 and (piece := await self.next_piece(size)):
            size -= piece.nbytes

    async def rewind(self) -> bool:
        """Go back to the start; False when the bytes are gone."""
        if self._rewind is None:
            return False
        self._chunks = await self._rewind()
        self._rest = memoryview(b"")
        return True


Source: TypeAlias = MemorySource | FileSource | StreamSource


def _as_view(chunk: Any) -> memoryview:
    if isinstance(chunk, bytes | bytearray | memoryview):
        return memoryview(chunk).cast("B")
    hint = "Open the file in binary mode ('rb')." if isinstance(chunk, str) else None
    raise InvalidInputError(
        f"The body gave {type(chunk).__name__} where bytes were expected.", hint=hint
    )


async def _read_async(read: Callable[[int], Awaitable[Any]]) -> AsyncIterator[Any]:
    # A short read is not the end: only an empty one is.
    while chunk := await read(_FILE_READ_BYTES):
        yield chunk


async def _take_file(file: Any) -> Source:
    start, size = await asyncio.to_thread(_measure, file)

    async def chunks() -> AsyncIterator[Any]:
        while True:
            chunk = await asyncio.to_thread(file.read, _FILE_READ_BYTES)
            if inspect.isawaitable(chunk):
                chunk = await chunk
            if chunk is None:
                raise InvalidInputError("The file is in non-blocking mode and has no data.")
            if not chunk:
                return
            yield chunk

    if start is None:
        return StreamSource(chunks())

    async def rewind() -> AsyncIterator[Any]:
        await asyncio.to_thread(file.seek, start)
        return chunks()

    return StreamSource(chunks(), size=size, rewind=rewind)


def _measure(file: Any) -> tuple[int | None, int | None]:
    """Return where a seekable file stands and how many bytes follow."""
    try:
        if not file.seekable():
            return None, None
        start = cast(int, file.tell())
        end = cast(int, file.seek(0, os.SEEK_END))
        file.seek(start)
    except (AttributeError, OSError):
        return None, None
    return start, max(0, end - start)


async def _iterate_in_thread(iterator: Iterator[Any]) -> AsyncIterator[Any]:
    # One trip to the thread per batch: a generator of tiny chunks must not cost a trip each.
    ended = False
    while not ended:
        batch, ended, error = await asyncio.to_thread(_next_batch, iterator)
        for chunk in batch:
            yield chunk
        if error is not None:
            raise error


def _next_batch(iterator: Iterator[Any]) -> tuple[list[Any], bool, BaseException | None]:
    batch: list[Any] = []
    total = 0
    while total < _FILE_READ_BYTES:
        try:
            chunk = next(iterator)
        except StopIteration:
            return batch, True, None
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's task
            return batch, True, error
        batch.append(chunk)
        if not isinstance(chunk, bytes | bytearray | memoryview):
            break
        total += max(1, memoryview(chunk).nbytes)
    return batch, False, None
