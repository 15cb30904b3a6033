"""The bytes of an object as they come, going on after every broken connection."""

from __future__ import annotations

import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeVar

from careflow_storage._s3.deadline import Deadline
from careflow_storage._s3.objects import ObjectHead
from careflow_storage._s3.transport import ResponseStream
from careflow_storage._transfer.context import TransferContext
from careflow_storage._transfer.download.pinned import PinnedObject
from careflow_storage._transfer.download.range_reader import Piece, RangeReader, Take
from careflow_storage._transfer.download.verify import EtagHasher, check_digests, part_ends
from careflow_storage.errors import ChecksumMismatchError, InvalidInputError, StorageClosedError
from careflow_storage.models import FileMetadata
from careflow_storage.protection import CustomerKey

T = TypeVar("T")

# So much of a large object is hashed while the next of it arrives.
_BLOCK_BYTES = 1024 * 1024


class FileStream:
    """An async iterator over the bytes ``[start, end)`` of one object.

    ::

        async with storage.stream_file(key) as stream:
            print(stream.metadata.content_type)
            async for chunk in stream:
                ...

    Iterating without ``async with`` works as well. When the connection breaks, the rest is
    asked for with a range request pinned to the same version (or ETag), as often as the retry
    policy allows without any byte in between. The length is always verified, and the MD5 of a
    whole object where its ETag tells it: after the last chunk, so that what is wrong is known
    at the end.

    Holds one request slot from the first chunk until the last has come, or `aclose`. A reader
    that pauses gives the slot and its connection back: after 0.5 seconds when another request
    waits for one, else after 30 seconds. What follows is then asked for in pieces of 256 KiB, 1
    GET each, until the reader is fast again. Memory: about 1 MiB; 256 KiB while it pauses.

    Raises, from the first chunk on: `NoSuchKeyError`, `AccessDeniedError`,
    `InvalidRangeError` (``start`` is beyond the end), `PreconditionFailedError` (replaced
    meanwhile, where there are no versions), `ChecksumMismatchError`, and what else
    `StorageError` stands for.
    """

    def __init__(
        self,
        context: TransferContext,
        key: str,
        *,
        start: int = 0,
        end: int | None = None,
        version_id: str | None = None,
        head: ObjectHead | None = None,
        verify: bool = True,
        encryption: CustomerKey | None = None,
        timeout: float | None = None,
        method: str | None = None,
    ) -> None:
        """``head`` is what a HEAD has told; no response may then contradict it."""
        check_range(start, end)
        self._deadline = Deadline(
            timeout,
            context.in_flight,
            method=method,
            bucket=context.requests.bucket,
            key=key,
        )
        self._context = context
        self._key = key
        self._empty = start == end
        self._hashes = verify and start == 0 and end is None
        self._object = PinnedObject(
            context, key, version_id=version_id, head=head, encryption=encryption
        )
        self._reader = RangeReader(context, self._object, start, end)
        # Weak: a loop that is left drops the generator, which then gives its slot back at once.
        # In a cycle with this object it would wait for the garbage collector.
        self._pieces: weakref.ref[AsyncGenerator[Any]] | None = None
        self._begun_already = False
        self._closed = False

    @property
    def metadata(self) -> FileMetadata:
        """The object's metadata, known once the stream is open; ``size`` is the whole's."""
        head = self._object.head
        if head is None:
            raise self._closed_error("The stream is not open yet.", "Use it with 'async with'.")
        return head.file

    async def __aenter__(self) -> Self:
        if self._empty:
            await self._deadline.wait(self._object.open_head())
        else:
            await self._deadline.wait(self._reader.open())
            self._reader.pause()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> AsyncGenerator[bytes]:
        return self._begun(self._chunks())

    def into(self, free: Callable[[], Awaitable[memoryview]]) -> AsyncGenerator[memoryview | bytes]:
        """Iterate over filled buffers instead, which ``free`` gives when they are needed.

        Each is filled but the last, and those before which the connection broke.
        """

        async def take(response: ResponseStream) -> memoryview:
            buffer = await free()
            return buffer[: await response.read_into(buffer, full=True)]

        return self._begun(self._taken(take))

    def _begun(self, pieces: AsyncGenerator[T]) -> AsyncGenerator[T]:
        self._begin()
        self._pieces = weakref.ref(pieces)
        return pieces

    def _begin(self) -> None:
        if self._closed:
            raise self._closed_error("The stream is closed.")
        if self._begun_already:
            raise self._closed_error("The stream was read already.")
        self._begun_already = True

    def _closed_error(self, message: str, hint: str | None = None) -> StorageClosedError:
        error = StorageClosedError(message, hint=hint)
        self._deadline.describe(error)
        return error

    async def aclose(self) -> None:
        """Give up the rest and free the connection. Safe to call twice."""
        self._closed = True
        pieces = self._pieces() if self._pieces is not None else None
        if pieces is not None:
            await pieces.aclose()
        self._reader.close()

    async def read(self) -> bytes:
        """Return all the bytes at once: the whole range in memory."""
        self._begin()
        if self._empty:
            return b""
        reader = self._reader
        reader.unpause()
        pieces: list[bytes] = []
        hasher: EtagHasher | None = None
        try:
            while not reader.ended:
                piece = await self._deadline.wait(reader.next(_take_block))
                pieces.append(piece)
                hasher = hasher or self._new_hasher()
                await hasher.update(piece)
            await self._check_end(hasher)
        finally:
            reader.close()
            if hasher is not None:
                await hasher.aclose()
        return b"".join(pieces) if len(pieces) != 1 else pieces[0]

    async def _chunks(self) -> AsyncGenerator[bytes]:
        """Read for a caller who may do anything between two chunks."""
        if self._empty:
            return
        reader = self._reader
        reader.unpause()
        hasher: EtagHasher | None = None
        try:
            while chunk := await self._deadline.wait(reader.next_chunk()):
                hasher = hasher or self._new_hasher()
                await hasher.update(chunk, at_once=reader.slow)
                reader.pause()
                yield chunk
                reader.unpause()
            await self._check_end(hasher)
        finally:
            reader.close()
            if hasher is not None:
                await hasher.aclose()

    async def _taken(self, take: Take[Piece]) -> AsyncGenerator[Piece | bytes]:
        """Read for code of ours, which never pauses for long."""
        if self._empty:
            return
        reader = self._reader
        reader.unpause()
        hasher: EtagHasher | None = None
        try:
            while piece := await self._deadline.wait(reader.next(take)):
                hasher = hasher or self._new_hasher()
                await hasher.update(piece)
                yield piece
            await self._check_end(hasher)
        finally:
            reader.close()
            if hasher is not None:
                await hasher.aclose()

    def _new_hasher(self) -> EtagHasher:
        head = self._object.head
        if not self._hashes or head is None:
            return EtagHasher([], self._context.threads)
        ends = part_ends(head.file.size, head.file.etag, head.headers, head.upload_mark)
        return EtagHasher(ends, self._context.threads)

    async def _check_end(self, hasher: EtagHasher | None) -> None:
        digests = await (hasher or self._new_hasher()).digests()
        head = self._object.head
        if self._hashes and not digests and head is not None and head.upload_mark is not None:
            # A mark that does not fit: a copy with other parts, or a response that was cut short
            # together with its length? A second opinion, now that the slot is free.
            found = await self._deadline.wait(self._object.ask())
            if found.file.etag == head.file.etag and found.file.size != head.file.size:
                raise self._object.violation(
                    f"it has {head.file.size} bytes, but the object has {found.file.size}",
                    retryable=False,
                )
        try:
            check_digests(self.metadata.etag, digests, key=self._key)
        except ChecksumMismatchError as error:
            self._deadline.describe(error)
            raise


async def _take_block(response: ResponseStream) -> bytes:
    return await response.read(_BLOCK_BYTES)


def check_range(start: int, end: int | None) -> None:
    """Refuse ranges that are upside down; offsets are in bytes, ``end`` is exclusive."""
    for offset in (start, end if end is not None else 0):
        if type(offset) is not int:
            raise InvalidInputError(f"start and end must be whole bytes, not {offset!r}.")
    if start < 0 or (end is not None and end < start):
        raise InvalidInputError(
            f"The range [{start}, {end}) is not one.",
            hint="start must be 0 or more, and end not below start; end is exclusive.",
        )
