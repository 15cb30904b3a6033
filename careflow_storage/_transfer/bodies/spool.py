"""One temporary file per storage, for parts that have no room in memory."""

from __future__ import annotations

import heapq
import os
import tempfile
import threading
from typing import IO, Protocol

from careflow_storage._local_paths import local_file_errors
from careflow_storage._transfer.threads import Threads

# Small enough to waste little on a short call, large enough not to fragment a part.
_BLOCK_BYTES = 256 * 1024
_HINT = "Parts wait in TMPDIR: free space there, or set it to a folder on another disk."


class SharedSpool:
    """A temporary file that all waiting parts share, in blocks of 256 KiB.

    A thousand calls need only one file descriptor. On POSIX the file has no name: it is unlinked
    before anything is written, and only its owner can read it. It is opened with the first block
    and closed with the last. The lowest free block is always used first, so the file shrinks when
    the blocks at its end become free. It is in ``TMPDIR`` (`tempfile.gettempdir`), which should
    be on a disk: the bytes of a tmpfs are in memory.

    Call all methods from threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._file: _File | None = None
        self._length = 0
        self._free: set[int] = set()
        self._lowest: list[int] = []

    @property
    def blocks(self) -> int:
        """How many blocks are in use."""
        return self._length - len(self._free)

    @property
    def size(self) -> int:
        """The length of the file in bytes, including free blocks."""
        return self._length * _BLOCK_BYTES

    def take(self) -> int:
        """Reserve a block; return its number."""
        with self._lock:
            if self._file is None:
                self._file = _open()
            while self._lowest:
                number = heapq.heappop(self._lowest)
                if number in self._free:
                    self._free.remove(number)
                    return number
            self._length += 1
            return self._length - 1

    def free(self, blocks: list[int]) -> None:
        """Free these blocks, and shorten the file if possible."""
        with self._lock:
            self._free.update(blocks)
            for number in blocks:
                heapq.heappush(self._lowest, number)
            shorter = self._length
            while shorter - 1 in self._free:
                shorter -= 1
                self._free.remove(shorter)
            if shorter == self._length:
                return
            self._length = shorter
            if shorter == 0:
                self._lowest.clear()
                self._close()
            elif self._file is not None:
                self._file.truncate(shorter * _BLOCK_BYTES)

    def write(self, block: int, offset: int, data: memoryview) -> None:
        """Write within one block."""
        self._opened().write_at(block * _BLOCK_BYTES + offset, data)

    def read(self, block: int, offset: int, size: int) -> bytes:
        """Read within one block."""
        return self._opened().read_at(block * _BLOCK_BYTES + offset, size)

    def _opened(self) -> _File:
        file = self._file
        if file is None:
            raise RuntimeError("no block of the spool is in use")
        return file

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()


class SpoolArea:
    """The bytes of one part in the spool, in any blocks; append-only.

    `hold` and `release` count the readers. The last `release` frees the blocks, so no reader
    ever gets the bytes of another part.
    """

    def __init__(self, spool: SharedSpool, threads: Threads) -> None:
        self.size = 0
        self._spool = spool
        self._threads = threads
        self._blocks: list[int] = []
        self._holders = 1

    async def append(self, data: bytes | bytearray | memoryview) -> None:
        """Append ``data``. If this fails or is cancelled, the area stays as it was."""
        view = memoryview(data)
        try:
            await self._threads.run(self._write, view)
        except BaseException:
            await self._free_blocks(self._blocks[-(-self.size // _BLOCK_BYTES) :])
            raise
        self.size += view.nbytes

    def _write(self, data: memoryview) -> None:
        position = self.size
        with local_file_errors("write", hint=_HINT):
            while data:
                index, offset = divmod(position, _BLOCK_BYTES)
                if index == len(self._blocks):
                    self._blocks.append(self._spool.take())
                piece = data[: _BLOCK_BYTES - offset]
                self._spool.write(self._blocks[index], offset, piece)
                position += piece.nbytes
                data = data[piece.nbytes :]

    def read_at(self, start: int, size: int) -> bytes:
        """Return up to ``size`` bytes from ``start`` on. Call it in a thread."""
        pieces: list[bytes] = []
        end = min(start + size, self.size)
        while start < end:
            index, offset = divmod(start, _BLOCK_BYTES)
            length = min(_BLOCK_BYTES - offset, end - start)
            with local_file_errors("read", hint=_HINT):
                pieces.append(self._spool.read(self._blocks[index], offset, length))
            start += length
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def hold(self) -> None:
        """Add a reader, which calls `release` when it is done."""
        self._holders += 1

    async def release(self) -> None:
        """Remove a reader; the last one frees the blocks."""
        self._holders -= 1
        if self._holders == 0:
            await self._free_blocks(self._blocks)

    async def _free_blocks(self, blocks: list[int]) -> None:
        if blocks:
            self._blocks = self._blocks[: -len(blocks)]
            await self._threads.clean_up(lambda: self._spool.free(blocks))


class _File(Protocol):
    def write_at(self, position: int, data: memoryview) -> None: ...

    def read_at(self, position: int, size: int) -> bytes: ...

    def truncate(self, size: int) -> None: ...

    def close(self) -> None: ...


class _PositionedFile:
    """Positioned reads and writes, which several threads can do at once."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._descriptor = file.fileno()

    def write_at(self, position: int, data: memoryview) -> None:
        while data:
            count = os.pwrite(self._descriptor, data, position)
            position += count
            data = data[count:]

    def read_at(self, position: int, size: int) -> bytes:
        return os.pread(self._descriptor, size, position)

    def truncate(self, size: int) -> None:
        os.ftruncate(self._descriptor, size)

    def close(self) -> None:
        self._file.close()


class _SeekingFile:
    """The same for Windows, which has no positioned reads and writes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._lock = threading.Lock()

    def write_at(self, position: int, data: memoryview) -> None:
        with self._lock:
            self._file.seek(position)
            while data:
                data = data[self._file.write(data) :]

    def read_at(self, position: int, size: int) -> bytes:
        with self._lock:
            self._file.seek(position)
            return self._file.read(size)

    def truncate(self, size: int) -> None:
        with self._lock:
            self._file.truncate(size)

    def close(self) -> None:
        self._file.close()


def _open() -> _File:
    file: IO[bytes] = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - the spool closes it
    return _PositionedFile(file) if hasattr(os, "pread") else _SeekingFile(file)
