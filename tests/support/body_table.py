"""Every kind of body and what becomes of it: stored whole, or refused before any request."""

# ruff: noqa: SIM115 - what must be closed is entered into the ExitStack

from __future__ import annotations

import array
import asyncio
import bz2
import contextlib
import ctypes
import functools
import gzip
import io
import lzma
import mmap
import os
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import types
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.support.bodies import AsyncFile, AwaitableReader, ShortReads, pieces, stream

Make = Callable[[bytes, Path, ExitStack], Any]


# --- memory -----------------------------------------------------------------------------


def _ctypes(data: bytes) -> Any:
    return (ctypes.c_uint16 * (len(data) // 2)).from_buffer_copy(data)


def _mmap(data: bytes, stack: ExitStack) -> mmap.mmap:
    memory = stack.enter_context(contextlib.closing(mmap.mmap(-1, max(1, len(data)))))
    memory[: len(data)] = data
    return memory


class SubclassedBytes(bytes):
    def __len__(self) -> int:
        return 1

    def __bytes__(self) -> bytes:
        return b"something else"


MEMORY: dict[str, Make] = {
    "bytes": lambda data, *_: data,
    "a subclass of bytes": lambda data, *_: SubclassedBytes(data),
    "bytearray": lambda data, *_: bytearray(data),
    "memoryview": lambda data, *_: memoryview(data),
    "read-only memoryview of a bytearray": lambda data, *_: memoryview(
        bytearray(data)
    ).toreadonly(),
    "memoryview of numbers": lambda data, *_: memoryview(data).cast("H"),
    "memoryview in two dimensions": lambda data, *_: memoryview(data).cast(
        "B", shape=[2, len(data) // 2]
    ),
    "slice of a memoryview": lambda data, *_: memoryview(b"xx" + data + b"yy")[2:-2],
    "array.array": lambda data, *_: array.array("H", data),
    "ctypes array": lambda data, *_: _ctypes(data),
    "mmap": lambda data, _, stack: _mmap(data, stack),
}


# --- iterables that use their memory again ----------------------------------------------


def _reusing(data: bytes, size: int = 4_096) -> Iterator[memoryview]:
    buffer, file = bytearray(size), io.BytesIO(data)
    while count := file.readinto(buffer):
        yield memoryview(buffer)[:count]


def _one_bytearray(data: bytes, size: int = 4_096) -> Iterator[bytearray]:
    buffer = bytearray()
    for piece in pieces(data, size):
        buffer[:] = piece
        yield buffer


def _one_array(data: bytes) -> Iterator[array.array[int]]:
    numbers = array.array("H")
    for piece in pieces(data, 4_096):
        del numbers[:]
        numbers.frombytes(piece)
        yield numbers


def _one_ctypes(data: bytes) -> Iterator[Any]:
    memory = (ctypes.c_uint8 * 2)()
    for piece in pieces(data, 2):
        memory[0], memory[1] = piece
        yield memory


def _one_mmap(data: bytes) -> Iterator[mmap.mmap]:
    with mmap.mmap(-1, 2) as memory:
        for piece in pieces(data, 2):
            memory[:] = piece
            yield memory


def _erased_when_asked_on(data: bytes) -> Iterator[bytearray]:
    for piece in pieces(data, 1_000):
        chunk = bytearray(piece)
        yield chunk
        chunk.clear()  # a BufferError, if anything still held it


async def _async(chunks: Iterator[Any]) -> AsyncIterator[Any]:
    for chunk in chunks:
        yield chunk
        await asyncio.sleep(0)


class ReadsIntoOneBuffer:
    """A reader whose ``read`` returns a view of its only buffer."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)
        self._buffer = bytearray(3_000)

    def read(self, size: int = -1) -> memoryview:
        return memoryview(self._buffer)[: self._file.readinto(self._buffer)]


class AsyncReadsIntoOneBuffer(ReadsIntoOneBuffer):
    async def read(self, size: int = -1) -> memoryview:  # type: ignore[override]  # as it says
        return super().read(size)


REUSED: dict[str, Make] = {
    "views of one buffer": lambda data, *_: _reusing(data),
    "one bytearray, filled again": lambda data, *_: _one_bytearray(data),
    "one array, filled again": lambda data, *_: _one_array(data),
    "one ctypes array, filled again": lambda data, *_: _one_ctypes(data),
    "one mmap, filled again": lambda data, *_: _one_mmap(data),
    "bytearrays that are erased": lambda data, *_: _erased_when_asked_on(data),
    "async views of one buffer": lambda data, *_: _async(_reusing(data)),
    "async bytearray, filled again": lambda data, *_: _async(_one_bytearray(data)),
    "async array, filled again": lambda data, *_: _async(_one_array(data)),
    "async ctypes array, filled again": lambda data, *_: _async(_one_ctypes(data)),
    "async mmap, filled again": lambda data, *_: _async(_one_mmap(data)),
    "async bytearrays that are erased": lambda data, *_: _async(_erased_when_asked_on(data)),
    "reads into one buffer": lambda data, *_: ReadsIntoOneBuffer(data),
    "async reads into one buffer": lambda data, *_: AsyncReadsIntoOneBuffer(data),
}


# --- iterables --------------------------------------------------------------------------


class Chunks:
    """An iterable that is no iterator, and mixes bytes-like types and empty chunks."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __iter__(self) -> Iterator[Any]:
        for number, piece in enumerate(pieces(self._data, 1_111)):
            yield b""
            yield (bytes, bytearray, memoryview)[number % 3](piece)


ITERABLES: dict[str, Make] = {
    "list": lambda data, *_: list(pieces(data)),
    "tuple": lambda data, *_: tuple(pieces(data)),
    "deque of bytearrays": lambda data, *_: list(map(bytearray, pieces(data))),
    "generator": lambda data, *_: pieces(data),
    "generator of single bytes": lambda data, *_: pieces(data, 1),
    "map": lambda data, *_: map(bytes, pieces(data)),
    "iter(f, b'')": lambda data, *_: iter(functools.partial(io.BytesIO(data).read, 999), b""),
    "iterable of mixed types": lambda data, *_: Chunks(data),
    "async generator": lambda data, *_: stream(data),
    "async generator of tiny chunks": lambda data, *_: stream(data, 7),
}


# --- file objects -----------------------------------------------------------------------


def _write(data: bytes, folder: Path, name: str = "body.bin") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def _opened(mode: str, *, buffering: int = -1, before: bytes = b"") -> Make:
    def make(data: bytes, folder: Path, stack: ExitStack) -> Any:
        path = _write(before + data, folder)
        file = stack.enter_context(path.open(mode, buffering=buffering))
        file.seek(len(before))
        return file

    return make


def _temporary(data: bytes, _: Path, stack: ExitStack, *, make: Any) -> Any:
    file = stack.enter_context(make())
    file.write(b"before" + data)
    file.seek(6)
    return file


def _pipe(data: bytes, stack: ExitStack, buffering: int = -1) -> Any:
    """The reading end of a pipe that a thread writes to in small pieces."""
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb", buffering=0) as file:
            for piece in pieces(data, 3_333):
                file.write(piece)

    writer = threading.Thread(target=write)
    writer.start()
    stack.callback(writer.join)
    return stack.enter_context(os.fdopen(reading, "rb", buffering=buffering))


def _socket(data: bytes, stack: ExitStack) -> Any:
    ours, theirs = socket.socketpair()

    def write() -> None:
        with theirs:
            theirs.sendall(data)

    writer = threading.Thread(target=write)
    writer.start()
    stack.callback(writer.join)
    stack.enter_context(ours)
    return stack.enter_context(ours.makefile("rb"))


def _process(data: bytes, folder: Path, stack: ExitStack) -> Any:
    script = "import sys; sys.stdout.buffer.write(open(sys.argv[1], 'rb').read())"
    path = str(_write(data, folder))
    process = stack.enter_context(
        subprocess.Popen([sys.executable, "-c", script, path], stdout=subprocess.PIPE)
    )
    return process.stdout


def _zip_member(data: bytes, stack: ExitStack) -> Any:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("call.wav", data)
    opened = stack.enter_context(zipfile.ZipFile(packed))
    return stack.enter_context(opened.open("call.wav"))


def _tar(data: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        member = tarfile.TarInfo("call.wav")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    return packed.getvalue()


def _tar_member(source: Any, mode: Any, stack: ExitStack) -> Any:
    archive = stack.enter_context(tarfile.TarFile.open(fileobj=source, mode=mode))
    member = archive.next()
    assert member is not None
    return archive.extractfile(member)


class Lying(io.BytesIO):
    """Claims that it can seek, and stays where it is."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return 0 if whence == 0 else 7

    def tell(self) -> int:
        return 0


class SeekRaises(io.BytesIO):
    def seek(self, offset: int, whence: int = 0, /) -> int:
        raise RuntimeError("no way")


class WrongMetadata:
    """Returns wrong values for everything but its bytes."""

    size: Any = "many"

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def seekable(self) -> Any:
        return "perhaps"

    def tell(self) -> Any:
        return -5

    def seek(self, *_: Any) -> Any:
        return None

    def fileno(self) -> int:
        return 0

    def readinto(self, _: Any) -> int:
        raise AssertionError("not asked for")

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)


class MoreThanAsked(WrongMetadata):
    """Gives all at once, whatever it is asked for."""

    def read(self, size: int = -1) -> bytes:
        return self._file.read()


class AsyncAll(WrongMetadata):
    """All methods are plain functions that return awaitables."""

    def read(self, size: int = -1) -> Any:
        async def read() -> bytes:
            return self._file.read(size)

        return read()

    def __aenter__(self) -> Any:
        raise AssertionError("not entered")


def _spooled(size: int) -> Callable[[], Any]:
    return lambda: tempfile.SpooledTemporaryFile(size)


def _gzip(data: bytes) -> io.BytesIO:
    return io.BytesIO(gzip.compress(data))


FILES: dict[str, Make] = {
    "file": _opened("rb"),
    "unbuffered file": _opened("rb", buffering=0),
    "file open for both": _opened("r+b"),
    "unbuffered file open for both": _opened("r+b", buffering=0),
    "file in append mode": _opened("a+b"),
    "file at an offset": _opened("rb", before=b"header"),
    "unbuffered file at an offset": _opened("rb", buffering=0, before=b"header"),
    "file in memory": lambda data, *_: io.BytesIO(data),
    "file with short reads": lambda data, *_: ShortReads(data),
    "buffered file with short reads": lambda data, *_: io.BufferedReader(ShortReads(data)),
    "temporary file": functools.partial(_temporary, make=tempfile.TemporaryFile),
    "named temporary file": functools.partial(_temporary, make=tempfile.NamedTemporaryFile),
    "spooled file in memory": functools.partial(_temporary, make=_spooled(1 << 30)),
    "spooled file on the disk": functools.partial(_temporary, make=_spooled(1)),
    "pipe": lambda data, _, stack: _pipe(data, stack),
    "unbuffered pipe": lambda data, _, stack: _pipe(data, stack, 0),
    "socket": lambda data, _, stack: _socket(data, stack),
    "stdout of a process": _process,
    "gzip": lambda data, *_: gzip.GzipFile(fileobj=_gzip(data)),
    "gzip from a file": lambda data, folder, stack: stack.enter_context(
        gzip.open(_write(gzip.compress(data), folder))
    ),
    "gzip from a pipe": lambda data, _, stack: gzip.GzipFile(
        fileobj=_pipe(gzip.compress(data), stack)
    ),
    "bz2": lambda data, *_: bz2.BZ2File(io.BytesIO(bz2.compress(data))),
    "bz2 from a pipe": lambda data, _, stack: bz2.BZ2File(_pipe(bz2.compress(data), stack)),
    "lzma": lambda data, *_: lzma.LZMAFile(io.BytesIO(lzma.compress(data))),
    "lzma from a pipe": lambda data, _, stack: lzma.LZMAFile(_pipe(lzma.compress(data), stack)),
    "member of a zip": lambda data, _, stack: _zip_member(data, stack),
    "member of a tar": lambda data, _, stack: _tar_member(io.BytesIO(_tar(data)), "r:gz", stack),
    "member of a tar from a pipe": lambda data, _, stack: _tar_member(
        _pipe(_tar(data), stack), "r|gz", stack
    ),
    "file that lies about seek": lambda data, *_: Lying(data),
    "file whose seek raises": lambda data, *_: SeekRaises(data),
    "file with wrong metadata": lambda data, *_: WrongMetadata(data),
    "file that gives more than asked": lambda data, *_: MoreThanAsked(data),
    "async file": lambda data, *_: AsyncFile(data),
    "async file with short reads": lambda data, *_: AsyncFile(data, most=701),
    "awaitable reader": lambda data, *_: AwaitableReader(data),
    "awaitables for everything": lambda data, *_: AsyncAll(data),
}


# --- paths ------------------------------------------------------------------------------


class BytesPath(os.PathLike[bytes]):
    def __init__(self, path: Path) -> None:
        self._path = path

    def __fspath__(self) -> bytes:
        return os.fsencode(self._path)


def _link(data: bytes, folder: Path, _: ExitStack) -> Path:
    link = folder / "link"
    link.unlink(missing_ok=True)
    link.symlink_to(_write(data, folder))
    return link


def _entry(data: bytes, folder: Path, _: ExitStack) -> Any:
    path = _write(data, folder, "entry.bin")
    with os.scandir(folder) as entries:
        return next(entry for entry in entries if entry.name == path.name)


PATHS: dict[str, Make] = {
    "path": lambda data, folder, _: _write(data, folder),
    "bytes path": lambda data, folder, _: BytesPath(_write(data, folder)),
    "link": _link,
    "directory entry": _entry,
    "path with an odd name": lambda data, folder, _: _write(data, folder, "a b\n\u00e4?#%.bin"),
}


STORED: dict[str, Make] = {**MEMORY, **REUSED, **ITERABLES, **FILES, **PATHS}
"""All are stored whole. Their size is even and above 0."""


# --- refused ----------------------------------------------------------------------------


def _released() -> memoryview:
    view = memoryview(b"abc")
    view.release()
    return view


def _closed(file: Any) -> Any:
    file.close()
    return file


def _read_to_its_end(data: bytes) -> io.BytesIO:
    file = io.BytesIO(data)
    file.read()
    return file


def _exhausted(data: bytes) -> Iterator[bytes]:
    generator = pieces(data)
    list(generator)
    return generator


def _fifo(_: bytes, folder: Path, __: ExitStack) -> Path:
    os.mkfifo(folder / "fifo")
    return folder / "fifo"


def _loop(_: bytes, folder: Path, __: ExitStack) -> Path:
    (folder / "loop").symlink_to("loop")
    return folder / "loop"


def _dangling(_: bytes, folder: Path, __: ExitStack) -> Path:
    (folder / "dangling").symlink_to("nothing")
    return folder / "dangling"


async def _coroutine() -> bytes:
    return b"never awaited"


class ReadsAll:
    """Its ``read`` takes no size, as that of some responses."""

    def read(self) -> bytes:
        return b"all"


class AsyncReadsAll:
    async def read(self) -> bytes:
        return b"all"


class AwaitableObject:
    def __await__(self) -> Iterator[Any]:
        yield


class PathOfNumbers:
    def __fspath__(self) -> int:
        return 5


@contextlib.asynccontextmanager
async def _context() -> AsyncIterator[bytes]:
    yield b""


def _read_returns(value: Any) -> Any:
    return types.SimpleNamespace(read=lambda size: value)


def _async_read_returns(value: Any) -> Any:
    async def read(size: int) -> Any:
        return value

    return types.SimpleNamespace(read=read)


async def _async_chunks(*chunks: Any) -> AsyncIterator[Any]:
    for chunk in chunks:
        yield chunk


def _text_file(data: bytes, folder: Path, stack: ExitStack) -> Any:
    return stack.enter_context(_write(data, folder).open("r", encoding="latin-1"))


def _text_temporary(_: bytes, __: Path, stack: ExitStack, *, make: Any) -> Any:
    file = stack.enter_context(make(mode="w+", encoding="utf-8"))
    file.write("words")
    file.seek(0)
    return file


def _write_only_file(_: bytes, folder: Path, stack: ExitStack) -> Any:
    return stack.enter_context((folder / "new").open("wb"))


def _non_blocking(_: bytes, __: Path, stack: ExitStack, *, buffering: int = -1) -> Any:
    reading, writing = os.pipe()
    stack.callback(os.close, writing)
    os.set_blocking(reading, False)
    return stack.enter_context(os.fdopen(reading, "rb", buffering=buffering))


def _at_its_end(data: bytes, folder: Path, stack: ExitStack) -> Any:
    file = stack.enter_context((folder / "new").open("w+b"))
    file.write(data)
    return file


REFUSED: dict[str, tuple[Make, str]] = {
    "None": (lambda *_: None, "NoneType"),
    "int": (lambda *_: 5, "int"),
    "float": (lambda *_: 1.5, "float"),
    "object": (lambda *_: object(), "object"),
    "class": (lambda *_: bytes, "class"),
    "dict": (lambda *_: {b"a": b"b"}, "json"),
    "dict view": (lambda *_: {b"a": b"b"}.keys(), "order"),
    "set": (lambda *_: {b"a", b"b"}, "order"),
    "frozenset": (lambda *_: frozenset({b"a"}), "order"),
    "function": (lambda *_: pieces, "call it"),
    "async generator function": (lambda *_: stream, "call it"),
    "coroutine": (lambda *_: _coroutine(), "Await"),
    "awaitable": (lambda *_: AwaitableObject(), "Await"),
    "async context manager": (lambda *_: _context(), "async with"),
    "read() without a size": (lambda *_: ReadsAll(), r"body\.read\(\)"),
    "async read() without a size": (lambda *_: AsyncReadsAll(), r"await body\.read\(\)"),
    "text that has no UTF-8": (lambda *_: "\ud83d", "Unicode"),
    "list of text": (lambda *_: ["text"], "str"),
    "list of numbers": (lambda *_: [1, 2], "int"),
    "list of None": (lambda *_: [None], "NoneType"),
    "nested list": (lambda *_: [[b"a"]], "list"),
    "async text": (lambda *_: _async_chunks("text"), "binary"),
    "async None": (lambda *_: _async_chunks(None), "NoneType"),
    "memoryview with gaps": (lambda *_: memoryview(b"abcdef")[::2], "contiguous"),
    "memoryview backwards": (lambda *_: memoryview(b"abcdef")[::-1], "contiguous"),
    "released memoryview": (lambda *_: _released(), "released"),
    "list of a released memoryview": (lambda *_: [_released()], "released"),
    "list of a memoryview with gaps": (lambda *_: [memoryview(b"abc")[::2]], "contiguous"),
    "closed mmap": (lambda *_: _closed(mmap.mmap(-1, 1)), "closed"),
    "closed file in memory": (lambda *_: _closed(io.BytesIO(b"a")), "closed"),
    "closed file": (
        lambda data, folder, stack: _closed(_opened("rb")(data, folder, stack)),
        "closed",
    ),
    "closed gzip": (lambda data, *_: _closed(gzip.GzipFile(fileobj=_gzip(data))), "closed"),
    "file in memory at its end": (lambda data, *_: _read_to_its_end(data), r"seek\(0\)"),
    "file at its end": (_at_its_end, r"seek\(0\)"),
    "generator that has ended": (lambda data, *_: _exhausted(data), "ended"),
    "text file": (_text_file, "binary"),
    "text in memory": (lambda *_: io.StringIO("words"), "binary"),
    "temporary text file": (
        functools.partial(_text_temporary, make=tempfile.NamedTemporaryFile),
        "binary",
    ),
    "spooled text file": (
        functools.partial(_text_temporary, make=tempfile.SpooledTemporaryFile),
        "binary",
    ),
    "file that is only written": (_write_only_file, "reading"),
    "pipe in non-blocking mode": (_non_blocking, "non-blocking"),
    "unbuffered pipe in non-blocking mode": (
        functools.partial(_non_blocking, buffering=0),
        "non-blocking",
    ),
    "read that returns None": (lambda *_: _read_returns(None), "None"),
    "read that returns text": (lambda *_: _read_returns("text"), "binary"),
    "read that returns no text": (lambda *_: _read_returns(""), "binary"),
    "read that returns a number": (lambda *_: _read_returns(-1), "int"),
    "read that returns 0": (lambda *_: _read_returns(0), "int"),
    "async read that returns None": (lambda *_: _async_read_returns(None), "None"),
    "async read that returns text": (lambda *_: _async_read_returns("text"), "binary"),
    "folder": (lambda _, folder, __: folder, "folder"),
    "FIFO": (_fifo, "regular"),
    "/dev/zero": (lambda *_: Path("/dev/zero"), "regular"),
    "/dev/null": (lambda *_: Path("/dev/null"), "regular"),
    "link to itself": (_loop, "symbolic links"),
    "link to nothing": (_dangling, "No such file"),
    "missing path": (lambda _, folder, __: folder / "missing", "No such file"),
    "path below a file": (lambda data, folder, _: _write(data, folder) / "x", "Not a directory"),
    "path with a NUL": (lambda *_: Path("a\0b"), "null"),
    "path with a name too long": (lambda *_: Path("a" * 256), "too long"),
    "path without UTF-8": (lambda *_: Path("\ud800"), "cannot be a path"),
    "path of numbers": (lambda *_: PathOfNumbers(), "cannot be read"),
}
"""With what the error says. Refused as `InvalidInputError`, before any request."""

OF_THE_SYSTEM = {
    *("folder", "link to itself", "link to nothing", "missing path", "path below a file"),
    "path with a name too long",
}
"""Those that are an `OSError`, too."""
