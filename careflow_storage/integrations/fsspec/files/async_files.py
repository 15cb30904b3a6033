"""The files that ``CareflowFileSystem.open_async`` opens, for code in an event loop."""

from __future__ import annotations

import io
from types import TracebackType
from typing import TYPE_CHECKING, Self

from careflow_storage.integrations.fsspec.errors import os_errors

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from careflow_storage._transfer.download.reader import FileReader
    from careflow_storage.integrations.fsspec.files.owner import FileOwner
    from careflow_storage.integrations.fsspec.files.writer import ObjectWriter
    from careflow_storage.models import UploadResult


class AsyncReadFile:
    """An object that is open for reading; close it, or use it with ``async with``."""

    mode = "rb"

    def __init__(self, path: str, reader: FileReader) -> None:
        self.path = path
        self.size: int = reader.size
        self._reader = reader

    async def read(self, length: int = -1) -> bytes:
        """Return the next ``length`` bytes, or all remaining ones; fewer only at the end."""
        with os_errors(self.path):
            return await self._reader.read(length)

    async def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to ``offset`` bytes from the start, the position or the end. Sends no request."""
        return await self._reader.seek(offset, whence)

    def tell(self) -> int:
        """Return the current position in bytes."""
        return self._reader.tell()

    async def close(self) -> None:
        """Release the connection."""
        await self._reader.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


class AsyncWriteFile:
    """An object that is open for writing. It is stored by `close`.

    An exception that leaves the ``async with`` block aborts the upload, and nothing is stored.
    """

    def __init__(self, fs: FileOwner, path: str, mode: str, writer: ObjectWriter) -> None:
        self.path = path
        self.mode = mode
        self._fs = fs
        self._writer = writer
        self._closed = False

    async def write(self, data: Buffer) -> int:
        """Append ``data``; return its length in bytes."""
        if self._closed:
            raise ValueError("I/O operation on closed file.")
        with os_errors(self.path):
            await self._writer.write(data)
        return memoryview(data).nbytes

    def tell(self) -> int:
        """Return how many bytes were written."""
        return self._writer.size

    async def close(self) -> UploadResult | None:
        """Store the object and return the result; None if it was closed before."""
        if self._closed:
            return None
        self._closed = True
        with os_errors(self.path, exclusive=self.mode == "xb"):
            result = await self._writer.commit()
        self._fs.invalidate_cache(self.path)
        return result

    async def discard(self) -> None:
        """Abort the upload and store nothing."""
        self._closed = True
        with os_errors(self.path):
            await self._writer.discard()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc is not None:
            await self.discard()
        else:
            await self.close()
