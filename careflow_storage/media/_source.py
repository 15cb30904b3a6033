"""Serves the ranges of an object that the child process requests."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from careflow_storage._s3.headers.objects import ObjectHead
from careflow_storage._transfer.context import TransferContext
from careflow_storage._transfer.download.reader import FileReader
from careflow_storage._transfer.download.stream import FileStream
from careflow_storage.media._worker.protocol import MAX_GET_BYTES
from careflow_storage.media.errors import MediaProcessError, UnsupportedMediaError
from careflow_storage.protection import CustomerKey

# From here on one GET without an end is cheaper than one per block.
_STREAMED_BYTES = 256 * 1024
_MAX_JUMPS = 1000
_MAX_READS_OF_EACH_BYTE = 8


class ObjectSource:
    """Reads ranges of one version of an object.

    Small reads are range requests, which keep their connection. A run of sequential reads is one
    GET. Limits the requests and bytes, which the content of the object decides.
    """

    def __init__(
        self, context: TransferContext, head: ObjectHead, encryption: CustomerKey | None
    ) -> None:
        self.size: int = head.file.size
        self._context = context
        self._head = head
        self._encryption = encryption
        self._stream: FileReader | None = None
        self._next = 0
        self._jumps = 0
        self._bytes_left = _MAX_READS_OF_EACH_BYTE * self.size + _MAX_JUMPS * MAX_GET_BYTES // 10

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._end_stream()

    async def read(self, offset: int, length: int) -> bytes:
        """Return the bytes ``[offset, offset + length)``.

        Raises:
            UnsupportedMediaError: The file needs too many requests.
            MediaProcessError: There are no such bytes.
        """
        if type(offset) is not int or type(length) is not int:
            raise MediaProcessError("The media process sent a malformed message.")
        if not (offset >= 0 and 1 <= length <= MAX_GET_BYTES and offset + length <= self.size):
            raise MediaProcessError("The media process requested bytes that do not exist.")
        sequential = offset == self._next
        self._next = offset + length
        self._jumps += not sequential
        self._bytes_left -= length
        if self._jumps > _MAX_JUMPS or self._bytes_left < 0:
            raise UnsupportedMediaError(
                "The file's content is so scattered that it needs too many requests."
            )
        if sequential and (self._stream is not None or length >= _STREAMED_BYTES):
            return await self._read_on(offset, length)
        await self._end_stream()
        return await self._range(offset, length).read()

    def _range(self, offset: int, length: int) -> FileStream:
        return FileStream(
            self._context,
            self._head.file.key,
            start=offset,
            end=offset + length,
            head=self._head,
            verify=False,
            encryption=self._encryption,
        )

    async def _read_on(self, offset: int, length: int) -> bytes:
        if self._stream is None:
            self._stream = FileReader(self._context, self._head, encryption=self._encryption)
            await self._stream.seek(offset)
        return await self._stream.read(length)

    async def _end_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.aclose()
