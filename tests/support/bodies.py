"""The kinds of bodies that users upload, all made of the same bytes."""

from __future__ import annotations

import io
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

KIB = 1024
MIB = 1024 * 1024

MakeBody = Callable[[bytes, Path, ExitStack], Any]


def noise(size: int) -> bytes:
    """The same bytes every time, without a pattern that a wrong order could hide in."""
    return random.Random(size).randbytes(size)


def pieces(data: bytes, size: int = 30_011) -> Iterator[bytes]:
    """The bytes in chunks whose size divides nothing."""
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def stream(data: bytes, size: int = 30_011) -> AsyncIterator[bytes]:
    """As `pieces`, for ``async for``."""
    for piece in pieces(data, size):
        yield piece


class ShortReads(io.RawIOBase):
    """A file that gives less than it is asked for, as sockets and pipes do."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        return self._data.readinto(memoryview(buffer)[:7_001])


class AsyncFile:
    """An async file like those of aiofiles: ``read`` is a coroutine function."""

    def __init__(self, data: bytes, most: int = 1 << 30) -> None:
        self._data = io.BytesIO(data)
        self._most = most
        self.closed = False

    async def read(self, size: int = -1) -> bytes:
        return self._data.read(min(size, self._most))

    async def close(self) -> None:
        self.closed = True


class AwaitableReader:
    """An async file whose ``read`` is a plain function that returns an awaitable."""

    def __init__(self, data: bytes) -> None:
        self._file = AsyncFile(data)

    def read(self, size: int = -1) -> Any:
        return self._file.read(size)


class OneByOne:
    """An async iterator that is not a generator and mixes the types of its chunks."""

    def __init__(self, data: bytes) -> None:
        self._pieces = pieces(data)
        self._number = 0

    def __aiter__(self) -> OneByOne:
        return self

    async def __anext__(self) -> bytes | bytearray | memoryview:
        piece = next(self._pieces, None)
        if piece is None:
            raise StopAsyncIteration
        self._number += 1
        return (bytes, bytearray, memoryview)[self._number % 3](piece)


def _path(data: bytes, folder: Path, _: ExitStack) -> Path:
    path = folder / "body.bin"
    path.write_bytes(data)
    return path


def _file(data: bytes, folder: Path, stack: ExitStack) -> Any:
    return stack.enter_context(_path(data, folder, stack).open("rb"))


def _unbuffered(data: bytes, folder: Path, stack: ExitStack) -> Any:
    return stack.enter_context(_path(data, folder, stack).open("rb", buffering=0))


def _upload_file(data: bytes, _: Path, stack: ExitStack) -> Any:
    from starlette.datastructures import UploadFile

    return UploadFile(stack.enter_context(io.BytesIO(data)), filename="a.bin", size=len(data))


BODIES: dict[str, MakeBody] = {
    "bytes": lambda data, *_: data,
    "bytearray": lambda data, *_: bytearray(data),
    "memoryview": lambda data, *_: memoryview(data),
    "memoryview of numbers": lambda data, *_: memoryview(data).cast("H"),
    "path": _path,
    "file": _file,
    "unbuffered file": _unbuffered,
    "file in memory": lambda data, *_: io.BytesIO(data),
    "file with short reads": lambda data, *_: ShortReads(data),
    "async file": lambda data, *_: AsyncFile(data),
    "async file with short reads": lambda data, *_: AsyncFile(data, most=7_001),
    "awaitable reader": lambda data, *_: AwaitableReader(data),
    "uploaded file of Starlette": _upload_file,
    "list": lambda data, *_: list(pieces(data)),
    "generator": lambda data, *_: pieces(data),
    "generator of tiny chunks": lambda data, *_: pieces(data, 37),
    "async generator": lambda data, *_: stream(data),
    "async iterator": lambda data, *_: OneByOne(data),
}
"""What makes each kind, by its name; sizes must be even."""
