"""`FileReader`: reads an object like an open file."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

from careflow_storage._s3.deadline import Deadline
from careflow_storage._s3.headers.objects import ObjectHead
from careflow_storage._transfer.context import TransferContext
from careflow_storage._transfer.download.stream import FileStream
from careflow_storage.errors import InvalidInputError, ServerResponseError, StorageClosedError
from careflow_storage.models import FileMetadata
from careflow_storage.protection import CustomerKey


class FileReader:
    """Reads an object like an async file.

    ``storage.open_file`` creates it::

        async with storage.open_file(key) as file:
            header = await file.read(44)
            await file.seek(-1024, io.SEEK_END)
            tail = await file.read()

    All reads return bytes of the version that existed when the reader was opened. Sequential
    reads share one GET request; the first read after a seek sends a new one.

    The reader holds a request slot while a GET is open. Between reads it may give the slot back,
    like a `FileStream` whose caller pauses. Memory: the bytes returned, and about 1 MiB.

    ``timeout`` limits each read separately, in seconds.

    Attributes:
        metadata: The metadata of the object.
    """

    def __init__(
        self,
        context: TransferContext,
        head: ObjectHead,
        *,
        encryption: CustomerKey | None = None,
        timeout: float | None = None,
    ) -> None:
        self.metadata: FileMetadata = head.file
        self._head = head
        self._context = context
        self._encryption = encryption
        self._timeout = timeout
        self._position = 0
        self._stream: FileStream | None = None
        self._chunks: AsyncIterator[bytes] | None = None
        self._rest = b""
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    @property
    def size(self) -> int:
        """The size of the object in bytes."""
        return self.metadata.size

    def tell(self) -> int:
        """Return the current position in bytes."""
        return self._position

    async def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to ``offset`` bytes from the start, the position or the end; return the position.

        Sends no request.
        """
        self._refuse_closed("seek")
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}.get(whence)
        if base is None or base + offset < 0:
            raise InvalidInputError(
                f"Cannot seek to {offset} (whence={whence}).", method="seek", key=self.metadata.key
            )
        target = base + offset
        ahead = target - self._position
        if 0 <= ahead <= len(self._rest):
            self._rest = self._rest[ahead:]
        else:
            await self._drop_stream()
        self._position = target
        return target

    async def read(self, size: int = -1) -> bytes:
        """Return the next ``size`` bytes, or all remaining bytes if ``size`` is negative.

        Returns fewer bytes only at the end of the object. After an error, the position is the
        same as before the call.
        """
        self._refuse_closed("read")
        left = max(0, self.size - self._position)
        wanted = left if size < 0 else min(size, left)
        pieces: list[bytes] = []
        missing = wanted
        in_flight, key = self._context.in_flight, self.metadata.key
        observer, bucket = self._context.session.observer, self._context.requests.bucket
        deadline = Deadline(
            self._timeout, in_flight, observer, method="read", bucket=bucket, key=key
        )
        try:
            while missing:
                if not self._rest:
                    self._rest = await deadline.wait(self._next_chunk())
                piece, self._rest = self._rest[:missing], self._rest[missing:]
                pieces.append(piece)
                missing -= len(piece)
        except BaseException as error:
            deadline.finish(error)
            # The bytes of this call are lost: the next read requests them again.
            await self._drop_stream()
            raise
        deadline.finish()
        self._position += wanted
        return b"".join(pieces)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while chunk := await self.read(256 * 1024):
            yield chunk

    async def aclose(self) -> None:
        """Close the reader and release its connection. Safe to call twice."""
        self._closed = True
        await self._drop_stream()

    def _refuse_closed(self, method: str) -> None:
        key = self.metadata.key
        if self._closed:
            raise StorageClosedError("The reader is closed.", method=method, key=key)
        if self._context.in_flight.refuses:
            raise self._context.in_flight.closed_error(method=method, key=key)

    async def _next_chunk(self) -> bytes:
        if self._chunks is None:
            self._stream = FileStream(
                self._context,
                self.metadata.key,
                start=self._position,
                # The response to a range has the size of the object, even if it is truncated.
                end=self.size,
                head=self._head,
                verify=False,
                encryption=self._encryption,
            )
            self._chunks = aiter(self._stream)
        chunk = await anext(self._chunks, b"")
        if not chunk:
            raise ServerResponseError(
                f"The object ends before byte {self.size}, its declared size.",
                operation="GetObject",
                key=self.metadata.key,
                retryable=True,
            )
        return chunk

    async def _drop_stream(self) -> None:
        stream, self._stream, self._chunks, self._rest = self._stream, None, None, b""
        if stream is not None:
            await stream.aclose()
