"""The child's end of the pipes, and the object's bytes as a file."""

from __future__ import annotations

import io
import json
import os
from collections import deque
from typing import Any, NamedTuple, Self

from careflow_storage.media._worker.errors import ParentGoneError
from careflow_storage.media._worker.protocol import DATA, GET, MAX_GET_BYTES, MESSAGE

_FIRST_GET_BYTES = 64 * 1024
_CACHED_BLOCKS = 16


class Channel:
    """Sends messages to the parent process, and receives bytes from it."""

    def __init__(self, receiving: int, sending: int) -> None:
        self._receiving = receiving
        self._sending = sending

    @classmethod
    def take_over(cls) -> Self:
        """Use stdin and stdout, and replace them, so that nothing else reads or writes there."""
        channel = cls(os.dup(0), os.dup(1))
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        os.close(null)
        return channel

    def send(self, kind: bytes, content: Any = None) -> None:
        """Send one message."""
        payload = json.dumps(content).encode()
        left = memoryview(MESSAGE.pack(kind, len(payload)) + payload)
        try:
            while left:
                left = left[os.write(self._sending, left) :]
        except OSError as error:
            raise ParentGoneError from error

    def receive_job(self) -> dict[str, Any]:
        """Wait for the job."""
        job = json.loads(self._receive())
        if not isinstance(job, dict):
            raise TypeError("the job is not an object")
        return job

    def get(self, offset: int, length: int) -> bytes:
        """Return bytes of the object."""
        self.send(GET, [offset, length])
        return self._receive()

    def _receive(self) -> bytes:
        (length,) = DATA.unpack(self._receive_exactly(DATA.size))
        return self._receive_exactly(length)

    def _receive_exactly(self, length: int) -> bytes:
        received = bytearray(length)
        left = memoryview(received)
        while left:
            count = os.readv(self._receiving, [left]) if hasattr(os, "readv") else self._read(left)
            if count == 0:
                raise ParentGoneError
            left = left[count:]
        left.release()
        return bytes(received)

    def _read(self, into: memoryview) -> int:
        data = os.read(self._receiving, len(into))
        into[: len(data)] = data
        return len(data)


class _Block(NamedTuple):
    start: int
    data: bytes

    @property
    def end(self) -> int:
        return self.start + len(self.data)


class RangeFile(io.RawIOBase):
    """The object as a read-only file, which requests the blocks that are read.

    The blocks grow from 64 KiB to 1 MiB while the reading is sequential. The last 16 are kept.
    """

    def __init__(self, channel: Channel, size: int) -> None:
        super().__init__()
        self.size = size
        self._channel = channel
        self._position = 0
        self._blocks: deque[_Block] = deque(maxlen=_CACHED_BLOCKS)
        self._last = _Block(0, b"")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise OSError("a position before the start")
        self._position = base + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes; fewer than ``size`` only at the end of the object."""
        left = max(0, self.size - self._position)
        wanted = left if size < 0 else min(size, left)
        pieces: list[bytes] = []
        while wanted:
            block = self._block(self._position)
            start = self._position - block.start
            piece = block.data[start : start + wanted]
            pieces.append(piece)
            wanted -= len(piece)
            self._position += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def read_at(self, offset: int, size: int) -> bytes:
        """Return the bytes at a position, without moving the position of the file."""
        before = self._position
        self._position = offset
        try:
            return self.read(size)
        finally:
            self._position = before

    def _block(self, position: int) -> _Block:
        if self._last.start <= position < self._last.end:
            return self._last
        for block in self._blocks:
            if block.start <= position < block.end:
                self._last = block
                return block
        newest = self._blocks[-1] if self._blocks else _Block(0, b"")
        grown = 2 * len(newest.data) if newest.data and position == newest.end else 0
        length = min(max(grown, _FIRST_GET_BYTES), MAX_GET_BYTES, self.size - position)
        data = self._channel.get(position, length)
        if len(data) != length:
            raise ParentGoneError
        self._last = _Block(position, data)
        self._blocks.append(self._last)
        return self._last
