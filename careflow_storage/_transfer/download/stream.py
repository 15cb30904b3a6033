"""`FileStream`: iterates over the bytes of an object."""

from __future__ import annotations

import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeVar

from careflow_storage._s3.deadline import Deadline
from careflow_storage._s3.headers.objects import ObjectHead
from careflow_storage._s3.transport import ResponseStream
from careflow_storage._transfer.context import TransferContext
from careflow_storage._transfer.download.pinned import PinnedObject
from careflow_storage._transfer.download.range_reader import Piece, RangeReader, Take
from careflow_storage._transfer.download.verify import EtagHasher, part_ends, verify_digests
from careflow_storage.errors import ChecksumMismatchError, InvalidInputError, StorageClosedError
from careflow_storage.models import FileMetadata
from careflow_storage.protection import CustomerKey

T = TypeVar("T")

# A block is hashed while the next one arrives.
_BLOCK_BYTES = 1024 * 1024


class FileStream:
    """An async iterator over the bytes ``[start, end)`` of one object.

    ``storage.stream_file`` creates it::

        async with storage.stream_file(key) as stream:
            print(stream.metadata.content_type)
            async for chunk in stream:
                ...

    You can also iterate over it without ``async with``.

    **Broken connections.** The stream requests the rest with a range request, pinned to the same
    version or ETag. The retry policy limits the attempts without progress.

    **Verification.** The length is always verified; the MD5 is verified for a whole object whose
    ETag contains it. The MD5 is known only after the last chunk, so a mismatch is raised at the
    end. If the MD5s of an object in parts do not match, one HEAD shows whether another tool has
    copied it in parts of other sizes, whose MD5s are unknown.

    **Slow callers.** The stream holds one request slot from the first chunk to the last, or until
    `aclose`. A caller that pauses loses the slot and its connection: after 0.5 seconds if another
    request waits for a slot (sooner if many wait), otherwise after 30 seconds. The stream then
    requests 256 KiB at a time, one GET each, until the caller is fast again. Memory: about 1 MiB;
    256 KiB during a pause.

    Raises:
        NoSuchKeyError: The object does not exist.
        AccessDeniedError: The application key may not read it.
        InvalidRangeError: ``start`` is beyond the end of the object.
        PreconditionFailedError: The object was replaced during the read, in a bucket without
            versions.
        ChecksumMismatchError: The bytes do not match the ETag.
        StorageError: Any other failure. All errors are raised from the first chunk on.
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
        opened: tuple[PinnedObject, ResponseStream] | None = None,
    ) -> None:
        """``head`` is the response to a HEAD request, which all responses must match.

        ``opened`` is the first response, and the object that it has pinned.
        """
        check_range(start, end)
        self._deadline = Deadline(
            timeout,
            context.in_flight,
            # Without a method it is a part of another call.
            context.session.observer if method is not None else None,
            method=method,
            bucket=context.requests.bucket,
            key=key,
        )
        self._context = context
        self._key = key
        self._empty = start == end
        self._hashes = verify and start == 0 and end is None
        self._object = (
            opened[0]
            if opened is not None
            else PinnedObject(context, key, version_id=version_id, head=head, encryption=encryption)
        )
        self._reader = RangeReader(context, self._object, start, end)
        if opened is not None:
            self._reader.begin(opened[1], end)
            self._reader.pause()
        # Weak: a loop that ends early drops the generator, which then releases its slot at once.
        # A reference cycle with this object would delay that until garbage collection.
        self._pieces: weakref.ref[AsyncGenerator[Any]] | None = None
        self._was_started = False
        self._closed = False

    @property
    def metadata(self) -> FileMetadata:
        """The metadata of the object, available once the stream is open.

        ``size`` is the size of the whole object, even for a range.
        """
        head = self._object.head
        if head is None:
            raise self._closed_error("The stream is not open yet.", "Use it with 'async with'.")
        return head.file

    @property
    def _pinned_head(self) -> ObjectHead:
        """The head of the first response; the stream is open."""
        if self._object.head is None:
            raise RuntimeError("the stream is not open yet")
        return self._object.head

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
        return self._started(self._chunks())

    def _into(
        self, free: Callable[[], Awaitable[memoryview]]
    ) -> AsyncGenerator[memoryview | bytes]:
        """Iterate over buffers that are obtained from ``free`` and filled.

        Every buffer is full except the last one and those cut short by a broken connection.
        """

        async def take(response: ResponseStream) -> memoryview:
            buffer = await free()
            return buffer[: await response.read_into(buffer, full=True)]

        return self._started(self._taken(take))

    def _started(self, pieces: AsyncGenerator[T]) -> AsyncGenerator[T]:
        self._start()
        self._pieces = weakref.ref(pieces)
        return pieces

    def _start(self) -> None:
        if self._closed:
            raise self._closed_error("The stream is closed.")
        if self._was_started:
            raise self._closed_error("The stream was already read.")
        self._was_started = True

    def _closed_error(self, message: str, hint: str | None = None) -> StorageClosedError:
        error = StorageClosedError(message, hint=hint)
        self._deadline.describe(error)
        return error

    async def aclose(self) -> None:
        """Close the stream and release its connection. Safe to call twice."""
        self._closed = True
        pieces = self._pieces() if self._pieces is not None else None
        if pieces is not None:
            await pieces.aclose()
        self._reader.close()
        self._deadline.finish()

    async def read(self) -> bytes:
        """Return all bytes of the range at once."""
        self._start()
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
        except BaseException as error:
            reader.close()
            self._deadline.finish(error)
            raise
        finally:
            reader.close()
            self._deadline.finish()
            if hasher is not None:
                await hasher.aclose()
        return b"".join(pieces) if len(pieces) != 1 else pieces[0]

    async def _chunks(self) -> AsyncGenerator[bytes]:
        """Yield chunks to a caller that may pause between them."""
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
        except BaseException as error:
            reader.close()
            self._deadline.finish(error)
            raise
        finally:
            reader.close()
            self._deadline.finish()
            if hasher is not None:
                await hasher.aclose()

    async def _taken(self, take: Take[Piece]) -> AsyncGenerator[Piece | bytes]:
        """Yield pieces to our own code, which does not pause."""
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
        except BaseException as error:
            reader.close()
            self._deadline.finish(error)
            raise
        finally:
            reader.close()
            self._deadline.finish()
            if hasher is not None:
                await hasher.aclose()

    def _new_hasher(self) -> EtagHasher:
        head = self._object.head
        if not self._hashes or head is None:
            return EtagHasher([], self._context.threads)
        ends = part_ends(head.file.size, head.file.etag, head.headers, head.upload_marker)
        return EtagHasher(ends, self._context.threads)

    async def _check_end(self, hasher: EtagHasher | None) -> None:
        digests = await (hasher or self._new_hasher()).digests()
        head = self._object.head
        if self._hashes and not digests and head is not None and head.upload_marker is not None:
            # The marker does not fit the ETag: the object is a copy with other parts, or both the
            # response and its length were cut short. A HEAD request decides, as the slot is free.
            found = await self._deadline.wait(self._object.request_head())
            if found.file.etag == head.file.etag and found.file.size != head.file.size:
                raise self._object.violation(
                    f"it has {head.file.size} bytes, but the object has {found.file.size}",
                    retryable=False,
                )
        try:
            await self._deadline.wait(
                verify_digests(self._context.requests, self._pinned_head, digests)
            )
        except ChecksumMismatchError as error:
            self._deadline.describe(error)
            raise


async def _take_block(response: ResponseStream) -> bytes:
    return await response.read(_BLOCK_BYTES)


def check_range(start: int, end: int | None) -> None:
    """Raise `InvalidInputError` unless 0 <= ``start`` <= ``end``; ``end`` is exclusive."""
    for offset in (start, end if end is not None else 0):
        if type(offset) is not int:
            raise InvalidInputError(f"start and end must be int, not {offset!r}.")
    if start < 0 or (end is not None and end < start):
        raise InvalidInputError(
            f"The range [{start}, {end}) is invalid.",
            hint="start must be 0 or more, and end must not be below start; end is exclusive.",
        )
