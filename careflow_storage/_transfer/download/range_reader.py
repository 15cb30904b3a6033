"""Reads a range of an object piece by piece; resumes after broken connections and pauses."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from careflow_storage._log_fields import log_fields
from careflow_storage._s3.limiter import PAUSE_SECONDS, HolderReference
from careflow_storage._s3.transport import ResponseStream
from careflow_storage._transfer.context import TransferContext
from careflow_storage._transfer.download.pinned import PinnedObject
from careflow_storage.errors import StorageError

logger = logging.getLogger("careflow_storage")

Piece = TypeVar("Piece", bytes, memoryview)
# Takes the next bytes from a response.
Take = Callable[[ResponseStream], Awaitable[Piece]]

# The largest chunk, and the largest request for a slow reader.
CHUNK_BYTES = 256 * 1024


class RangeReader:
    """Reads the bytes ``[start, end)`` of one object.

    Holds a request slot while a response is open. After a broken connection it requests the rest
    with a range request. The retry policy limits the attempts without progress.

    Between `pause` and `unpause` the limiter may reclaim the slot (`give_back`). From then on
    the reader is slow: it requests 256 KiB at a time, reads them at once and holds no slot
    while the caller uses them, until the caller is fast again.

    Attributes:
        slow: Whether the last pause of the caller was long.
    """

    def __init__(
        self, context: TransferContext, pinned: PinnedObject, start: int, end: int | None
    ) -> None:
        self.slow = False
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._object = pinned
        self._position = start
        self._end = end
        self._response: ResponseStream | None = None
        # Where the open response ends.
        self._until = start
        self._failures = pinned.failures
        # The bytes that had arrived when the slot was given back.
        self._received = b""
        self._buffer: memoryview | None = None
        # The limiter refers to this reader by it during a pause.
        self._reference: HolderReference | None = None
        self._paused_at = 0.0
        self._last_size = 0

    async def open(self) -> None:
        """Request the range; for a slow reader, the next 256 KiB of it."""
        end = self._end
        if self.slow:
            end = min(self._position + CHUNK_BYTES, self._expected)
        self.begin(await self._object.open(self._position, end), end)

    def begin(self, response: ResponseStream, end: int | None) -> None:
        """Read from a response that has the bytes from the current position to ``end``."""
        self._response = response
        self._until = self._expected if end is None else min(end, self._expected)

    @property
    def ended(self) -> bool:
        """Whether the last byte was returned."""
        return self._object.head is not None and self._position >= self._expected

    async def next_chunk(self) -> bytes:
        """Return up to 256 KiB; none at the end."""
        return await self.next(self._take_chunk)

    async def next(self, take: Take[Piece]) -> Piece | bytes:
        """Return the next piece that ``take`` reads; empty at the end.

        The slot is released before the last piece is returned.

        Raises:
            StorageError: The response does not match the request, or all retries failed.
        """
        while True:
            if self._received:
                return self._take_received()
            if self.ended:
                self.close()
                return b""
            response = self._response
            if response is None:
                await self.open()
                continue
            failure: StorageError | None = None
            piece: Piece | None = None
            try:
                piece = await take(response)
            except StorageError as error:
                failure = error
            if piece:
                await self._count(len(piece), response)
                return piece
            self.close()
            await self._recover(failure)

    def pause(self) -> None:
        """Allow the limiter to reclaim the slot until `unpause`."""
        self._paused_at = now = self._loop.time()
        if self._response is not None:
            if self._reference is None:
                self._reference = weakref.ref(self)
            self._context.session.limiter.pause(self._reference, now)

    def unpause(self) -> None:
        """Continue reading. After a short pause the reader is no longer slow."""
        if self._reference is not None:
            self._context.session.limiter.unpause(self._reference)
        if self.slow:
            paused = self._loop.time() - self._paused_at
            self.slow = paused > PAUSE_SECONDS * self._last_size / CHUNK_BYTES

    def give_back(self) -> None:
        """Release the slot and the connection. The limiter calls this."""
        self.slow = True
        self._buffer = None
        if self._response is not None:
            # Keep the bytes that have arrived.
            with suppress(StorageError):
                self._received = self._response.take_received()
            self.close()

    def close(self) -> None:
        """Release the slot; close the connection if bytes are unread. Safe to call twice."""
        if self._reference is not None:
            self._context.session.limiter.unpause(self._reference)
        response, self._response = self._response, None
        if response is not None:
            response.close()

    @property
    def _expected(self) -> int:
        """The end of the range; needs the size of the object."""
        head = self._object.head
        if head is None:
            raise RuntimeError("the object's size is not known yet")
        size = head.file.size
        return size if self._end is None else min(self._end, size)

    async def _take_chunk(self, response: ResponseStream) -> bytes:
        if self.slow:
            # Read all bytes, so that the slot is released before the caller gets them.
            return await response.read(CHUNK_BYTES)
        buffer = self._buffer
        if buffer is None:
            buffer = self._buffer = memoryview(bytearray(CHUNK_BYTES))
        return bytes(buffer[: await response.read_into(buffer, full=False)])

    def _take_received(self) -> bytes:
        piece, self._received = self._received, b""
        self._position += len(piece)
        self._last_size = len(piece)
        self._refuse_excess()
        return piece

    async def _count(self, size: int, response: ResponseStream) -> None:
        """Count the bytes; at the end of the response, return its connection."""
        self._position += size
        self._last_size = size
        self._failures.count = 0
        if self._position < self._until:
            return
        if not response.ended:
            # All bytes have arrived: an error of the connection no longer matters.
            with suppress(StorageError):
                self._position += await response.read_into(memoryview(bytearray(1)), full=False)
        self.close()
        self._refuse_excess()

    def _refuse_excess(self) -> None:
        if self._position > self._until:
            self.close()
            raise self._object.violation(f"it continues after byte {self._until}", retryable=False)

    async def _recover(self, failure: StorageError | None) -> None:
        """Wait before the next attempt; raise the failure after the last one."""
        position = self._position
        failure = failure or self._object.violation(f"it ends at byte {position}")
        self._failures.count += 1
        pause = self._context.retry.pause_after(failure, self._failures.count)
        if pause is None:
            raise failure
        if (observer := self._context.session.observer) is not None:
            observer.retry(failure, self._failures.count, pause)
        logger.debug(
            "resuming %r at byte %d in %.2f s",
            self._object.key,
            position,
            pause,
            extra=log_fields("read_resumed", failure, key=self._object.key, delay=pause),
        )
        await asyncio.sleep(pause)
