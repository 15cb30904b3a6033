"""The bytes of an object as they come, going on after every broken connection."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self, TypeVar

from careflow_storage.errors import (
    InvalidInputError,
    InvalidRangeError,
    PreconditionFailedError,
    ServerResponseError,
    StorageClosedError,
    StorageError,
)
from careflow_storage.http.heads import AnswerHead
from careflow_storage.models import FileMetadata
from careflow_storage.protection import CustomerKey
from careflow_storage.s3.deadline import Deadline
from careflow_storage.s3.exchange import AnswerStream
from careflow_storage.s3.protection_headers import key_headers
from careflow_storage.s3.requests import ObjectHead
from careflow_storage.s3.retry import Failures
from careflow_storage.transfer.engine import Engine
from careflow_storage.transfer.verify import EtagHasher, check_digests, part_ends

logger = logging.getLogger("careflow_storage")

Piece = TypeVar("Piece", bytes, memoryview)
# Takes the next bytes from an answer.
_Take = Callable[[AnswerStream], Awaitable[Piece]]

_CHUNK_BYTES = 256 * 1024
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

    Holds one request slot from the first chunk to the end of the iteration, or `aclose`.
    Memory: about 1 MiB.

    Raises, from the first chunk on: `NoSuchKeyError`, `AccessDeniedError`,
    `InvalidRangeError` (``start`` is beyond the end), `PreconditionFailedError` (replaced
    meanwhile, where there are no versions), `ChecksumMismatchError`, and what else
    `StorageError` stands for.
    """

    def __init__(
        self,
        engine: Engine,
        key: str,
        *,
        start: int = 0,
        end: int | None = None,
        version_id: str | None = None,
        if_match: str | None = None,
        verify: bool = True,
        encryption: CustomerKey | None = None,
        timeout: float | None = None,
    ) -> None:
        check_range(start, end)
        self._deadline = Deadline(
            timeout,
            engine.in_flight,
            operation="stream_file",
            bucket=engine.requests.bucket,
            key=key,
        )
        self._engine = engine
        self._key = key
        self._start = start
        self._end = end
        self._version_id = version_id
        self._if_match = if_match
        self._verify = verify
        self._key_headers = key_headers(encryption)
        self._head: ObjectHead | None = None
        self._answer: AnswerStream | None = None
        # Weak: who leaves the loop drops the generator, and at once it gives its slot back. In
        # a cycle with this object it would wait for the garbage collector.
        self._pieces: weakref.ref[AsyncGenerator[Any]] | None = None
        self._closed = False
        self._failures = Failures()

    @property
    def metadata(self) -> FileMetadata:
        """The object's metadata, known once the stream is open; ``size`` is the whole's."""
        if self._head is None:
            raise StorageClosedError(
                "The stream is not open yet.", key=self._key, hint="Use it with 'async with'."
            )
        return self._head.file

    async def __aenter__(self) -> Self:
        if self._start == self._end:
            # No range request asks for nothing.
            self._head = await self._deadline.wait(self._head_object())
        else:
            await self._deadline.wait(self._open(self._start))
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> AsyncGenerator[bytes]:
        chunk = memoryview(bytearray(_CHUNK_BYTES))

        async def take(answer: AnswerStream) -> bytes:
            return bytes(chunk[: await answer.read_into(chunk, full=False)])

        return self._begun(take)

    def into(self, free: Callable[[], Awaitable[memoryview]]) -> AsyncGenerator[memoryview]:
        """Iterate over filled buffers instead, which ``free`` gives when they are needed.

        Each is filled but the last, and those before which the connection broke.
        """

        async def take(answer: AnswerStream) -> memoryview:
            buffer = await free()
            return buffer[: await answer.read_into(buffer, full=True)]

        return self._begun(take)

    def _begun(self, take: _Take[Piece]) -> AsyncGenerator[Piece]:
        if self._closed:
            raise StorageClosedError("The stream is closed.", key=self._key)
        if self._pieces is not None:
            raise StorageClosedError("The stream was read already.", key=self._key)
        pieces = self._read(take)
        self._pieces = weakref.ref(pieces)
        return pieces

    async def aclose(self) -> None:
        """Give up the rest and free the connection. Safe to call twice."""
        self._closed = True
        pieces = self._pieces() if self._pieces is not None else None
        if pieces is not None:
            await pieces.aclose()
        if self._answer is not None:
            await self._answer.aclose()

    async def read(self) -> bytes:
        """Return all the bytes at once: the whole range in memory."""
        async with aclosing(self._begun(_take_block)) as blocks:
            pieces = [block async for block in blocks]
        return b"".join(pieces) if len(pieces) != 1 else pieces[0]

    async def _open(self, position: int) -> AnswerStream:
        """Open what begins at ``position``."""
        try:
            answer = await self._get(position, self._end)
        except InvalidRangeError:
            # Of an empty object even the range from 0 on cannot be had.
            if position > 0 or self._end is None:
                raise
            answer = await self._get(0, None)
        self._answer = answer
        return answer

    async def _get(self, start: int, end: int | None) -> AnswerStream:
        return await self._engine.requests.get_object(
            self._key,
            start=start,
            end=end,
            if_match=self._if_match,
            version_id=self._version_id,
            headers=self._key_headers,
            check=lambda head: self._check_head(head, start),
            failures=self._failures,
        )

    async def _head_object(self) -> ObjectHead:
        return await self._engine.requests.head_object(
            self._key, version_id=self._version_id, headers=self._key_headers
        )

    def _check_head(self, answer: AnswerHead, position: int) -> None:
        """Believe no server that it has heeded the pin and the range."""
        head = self._engine.requests.describe(self._key, answer.headers)
        pinned = self._if_match if self._head is None else self._head.file.etag
        if pinned is not None and head.file.etag != pinned:
            raise PreconditionFailedError(
                "The object was replaced while it was read.", operation="GetObject", key=self._key
            )
        found = answer.headers.get("content-range", "")
        if answer.status == 206 and not found.startswith(f"bytes {position}-"):
            raise self._violation(f"it is {found!r}, not from byte {position} on")
        if self._head is None:
            self._head = head
            self._pin(head.file)

    def _pin(self, file: FileMetadata) -> None:
        if self._version_id is None:
            self._version_id = file.version_id
        # Where there are no versions only the ETag tells one content from the next.
        if self._version_id is None and self._if_match is None:
            self._if_match = file.etag

    async def _read(self, take: _Take[Piece]) -> AsyncGenerator[Piece]:
        if self._start == self._end:
            return
        position, failures, complete = self._start, self._failures, False
        hasher: EtagHasher | None = None
        try:
            while not complete:
                answer = self._answer
                if answer is None:
                    answer = await self._deadline.wait(self._open(position))
                hasher = hasher or self._new_hasher(answer)
                complete = self._is_complete(position)
                begun = position
                failure: StorageError | None = None
                try:
                    while not complete and (piece := await self._deadline.wait(take(answer))):
                        position += len(piece)
                        complete = self._is_complete(position)
                        await hasher.update(piece)
                        yield piece
                    # The end of the answer, which gives its connection back; or too many bytes.
                    position += await self._deadline.wait(
                        answer.read_into(memoryview(bytearray(1)), full=False)
                    )
                except StorageError as error:
                    failure = error
                finally:
                    self._answer = None
                    await answer.aclose()
                complete = self._is_complete(position)
                if not complete:
                    failures.count = 1 if position > begun else failures.count + 1
                    await self._pause(failure, position)
            digests = await hasher.digests() if hasher is not None else []
            await self._check_end(digests)
        finally:
            if hasher is not None:
                await hasher.aclose()

    async def _pause(self, failure: StorageError | None, position: int) -> None:
        """Wait before the rest is asked for; raise when that has failed too often."""
        failure = failure or self._violation(f"it ends at byte {position}", retryable=True)
        pause = self._engine.retry.pause_after(failure, self._failures.count)
        if pause is None:
            raise failure
        logger.debug("resuming %r at byte %d in %.2f s", self._key, position, pause)
        await self._deadline.wait(asyncio.sleep(pause))

    def _violation(self, why: str, *, retryable: bool = False) -> ServerResponseError:
        return ServerResponseError(
            f"The server's answer is not what was asked for: {why}.",
            operation="GetObject",
            key=self._key,
            retryable=retryable,
        )

    def _new_hasher(self, answer: AnswerStream) -> EtagHasher:
        head = self._head
        if not self._hashes or head is None:
            return EtagHasher([], self._engine.threads)
        ends = part_ends(head.file.size, head.file.etag, answer.headers, head.upload_mark)
        return EtagHasher(ends, self._engine.threads)

    @property
    def _hashes(self) -> bool:
        return self._verify and self._start == 0 and self._end is None

    async def _check_end(self, digests: list[bytes]) -> None:
        head = self._head
        if self._hashes and not digests and head is not None and head.upload_mark is not None:
            # A mark that does not fit: a copy with other parts, or an answer that was cut short
            # together with its length? A second opinion, now that the slot is free.
            found = await self._deadline.wait(self._head_object())
            if found.file.etag == head.file.etag and found.file.size != head.file.size:
                raise self._violation(
                    f"it has {head.file.size} bytes, but the object has {found.file.size}"
                )
        check_digests(self.metadata.etag, digests, key=self._key)

    @property
    def _expected(self) -> int:
        """Where the range ends, once the object's size is known."""
        size = self.metadata.size
        return size if self._end is None else min(self._end, size)

    def _is_complete(self, position: int) -> bool:
        expected = self._expected
        if position > expected:
            raise self._violation(f"it goes on after byte {expected}")
        return position == expected


async def _take_block(answer: AnswerStream) -> bytes:
    return await answer.read(_BLOCK_BYTES)


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
