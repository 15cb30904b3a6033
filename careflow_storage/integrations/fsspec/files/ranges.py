"""Reads ranges of one version of an object, for one open file."""

from __future__ import annotations

import asyncio

from careflow_storage._s3.deadline import Deadline
from careflow_storage._s3.transport import ResponseStream
from careflow_storage._transfer.download.pinned import PinnedObject
from careflow_storage._transfer.download.range_reader import RangeReader
from careflow_storage.errors import PreconditionFailedError
from careflow_storage.storage import BackblazeStorage

_BLOCK_BYTES = 1024 * 1024


class ObjectRanges:
    """Reads ranges of one version of an object.

    A read that continues the one before shares one GET with the reads that follow. Other reads
    are a range request each, and return their connection at once.

    Args:
        etag: That of the object when the file was opened; None if it is not known.
        version_id: The version to read; None for the newest, which the first response pins.
    """

    def __init__(
        self, storage: BackblazeStorage, key: str, *, etag: str | None, version_id: str | None
    ) -> None:
        self._context = storage._context()
        self._key = key
        self._etag = etag
        self._pinned = PinnedObject(self._context, key, version_id=version_id)
        self._deadline = Deadline(
            None,
            self._context.in_flight,
            method="open_file",
            bucket=self._context.requests.bucket,
            key=key,
        )
        self._reader: RangeReader | None = None
        # What the reader has returned beyond the last read.
        self._rest = b""
        # Where the last read ended.
        self._position: int | None = None
        # Some caches of fsspec read from several threads.
        self._turn = asyncio.Lock()

    async def read(self, start: int, end: int) -> bytes:
        """Return the bytes ``[start, end)``, which exist.

        Raises:
            PreconditionFailedError: The object was replaced since the file was opened, in a
                bucket without versions or since it was listed.
        """
        if start >= end:
            return b""
        async with self._turn:
            continued = start == self._position
            reader = self._reader if continued else None
            if reader is None:
                self._close()
                reader = RangeReader(self._context, self._pinned, start, None if continued else end)
                if continued:
                    self._reader = reader
            try:
                data = await self._deadline.wait(self._take(reader, end - start))
            except BaseException:
                reader.close()
                self._close()
                raise
            self._position = end
            return data

    async def aclose(self) -> None:
        """Release the connection."""
        async with self._turn:
            self._close()

    def _close(self) -> None:
        reader, self._reader, self._position, self._rest = self._reader, None, None, b""
        if reader is not None:
            reader.close()

    async def _take(self, reader: RangeReader, size: int) -> bytes:
        pieces = [self._rest[:size]] if self._rest else []
        self._rest = self._rest[size:]
        left = size - sum(map(len, pieces))

        async def take(response: ResponseStream) -> bytes:
            self._check_version()
            return await response.read(min(left, _BLOCK_BYTES))

        reader.unpause()
        while left:
            piece = await reader.next(take)
            if not piece:
                break
            # After a pause a piece is what had arrived by then.
            self._rest = piece[left:]
            pieces.append(piece[:left] if self._rest else piece)
            left -= len(pieces[-1])
        reader.pause()
        return b"".join(pieces) if len(pieces) != 1 else pieces[0]

    def _check_version(self) -> None:
        head = self._pinned.head
        if self._etag is not None and head is not None and head.file.etag != self._etag:
            raise PreconditionFailedError(
                "The object was replaced since it was listed or opened.",
                operation="GetObject",
                key=self._key,
                hint="Open it again.",
            )
