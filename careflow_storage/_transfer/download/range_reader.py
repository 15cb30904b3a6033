"""Some bytes of an object, piece by piece, going on after broken connections and long pauses."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from careflow_storage._s3.limiter import PAUSE_SECONDS, HolderReference
from careflow_storage._s3.transport import ResponseStream
from careflow_storage._transfer.context import TransferContext
from careflow_storage._transfer.download.pinned import PinnedObject
from careflow_storage.errors import StorageError

logger = logging.getLogger("careflow_storage")

Piece = TypeVar("Piece", bytes, memoryview)
# Takes the next bytes from a response.
Take = Callable[[ResponseStream], Awaitable[Piece]]

# No chunk is larger; no more is asked for at once on behalf of a slow reader.
CHUNK_BYTES = 256 * 1024


class RangeReader:
    """Reads the bytes ``[start, end)`` of one object.

    Holds a request slot while a response is open. When the connection breaks, the rest is asked
    for with a range request, as often as the retry policy allows without any byte in between.

    Between `pause` and `unpause` its slot may be taken back (`give_back`). From then on it asks
    for 256 KiB at a time, reads them whole and keeps no slot while they are used, until it
    learns that its reader is fast.

    Attributes:
        slow: Whether the reader has paused for long, last time.
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
        # What a response that was given back had brought.
        self._received = b""
        self._buffer: memoryview | None = None
        # The slots know it by this while it pauses.
        self._reference: HolderReference | None = None
        self._paused_at = 0.0
        self._last_size = 0

    async def open(self) -> None:
        """Ask for the bytes; of a slow reader only for the next."""
        end = self._end
        if self.slow:
            end = min(self._position + CHUNK_BYTES, self._expected)
        self._response = await self._object.open(self._position, end)
        self._until = self._expected if end is None else min(end, self._expected)

    @property
    def ended(self) -> bool:
        """Whether the last byte was returned."""
        return self._object.head is not None and self._position >= self._expected

    async def next_chunk(self) -> bytes:
        """Return the next bytes, at most 256 KiB; none at the end."""
        return await self.next(self._take_chunk)

    async def next(self, take: Take[Piece]) -> Piece | bytes:
        """Return what ``take`` takes next; nothing at the end.

        The slot is free again before the last piece is returned.

        Raises:
            StorageError: The response is not what was asked for, or there is none any more.
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
        """Let the slot be taken back until `unpause`."""
        self._paused_at = now = self._loop.time()
        if self._response is not None:
            if self._reference is None:
                self._reference = weakref.ref(self)
            self._context.session.limiter.pause(self._reference, now)

    def unpause(self) -> None:
        """Go on; a slow reader that was quick this time is not slow any more."""
        if self._reference is not None:
            self._context.session.limiter.unpause(self._reference)
        if self.slow:
            paused = self._loop.time() - self._paused_at
            self.slow = paused > PAUSE_SECONDS * self._last_size / CHUNK_BYTES

    def give_back(self) -> None:
        """Release the slot and the connection; for the slots to call."""
        self.slow = True
        self._buffer = None
        if self._response is not None:
            # What has come already is paid for.
            with suppress(StorageError):
                self._received = self._response.take_received()
            self.close()

    def close(self) -> None:
        """Release the slot; an unread rest closes the connection. Safe to call twice."""
        if self._reference is not None:
            self._context.session.limiter.unpause(self._reference)
        response, self._response = self._response, None
        if response is not None:
            response.close()

    @property
    def _expected(self) -> int:
        """Where the range ends, once the object's size is known."""
        head = self._object.head
        if head is None:
            raise RuntimeError("the object's size is not known yet")
        size = head.file.size
        return size if self._end is None else min(self._end, size)

    async def _take_chunk(self, response: ResponseStream) -> bytes:
        if self.slow:
            # All of it, so that the slot is free again before the reader has it.
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
        """Count what was taken; at the response's end give its connection back."""
        self._position += size
        self._last_size = size
        self._failures.count = 0
        if self._position < self._until:
            return
        if not response.ended:
            # All is there: how the connection ends does not matter.
            with suppress(StorageError):
                self._position += await response.read_into(memoryview(bytearray(1)), full=False)
        self.close()
        self._refuse_excess()

    def _refuse_excess(self) -> None:
        if self._position > self._until:
            self.close()
            raise self._object.violation(f"it goes on after byte {self._until}", retryable=False)

    async def _recover(self, failure: StorageError | None) -> None:
        """Wait before the rest is asked for; raise when that has failed too often."""
        position = self._position
        failure = failure or self._object.violation(f"it ends at byte {position}")
        self._failures.count += 1
        pause = self._context.retry.pause_after(failure, self._failures.count)
        if pause is None:
            raise failure
        logger.debug("resuming %r at byte %d in %.2f s", self._object.key, position, pause)
        await asyncio.sleep(pause)
