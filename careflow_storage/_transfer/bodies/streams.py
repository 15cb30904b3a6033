"""Bodies that give their bytes in chunks: iterables and readers, sync and async."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import os
import time
import zlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any

from careflow_storage._transfer.bodies.buffers import owned
from careflow_storage._transfer.threads import Threads
from careflow_storage._transfer.turns import Turns
from careflow_storage._transfer.workers import Outcome
from careflow_storage.errors import BodyChangedError, InvalidInputError

READ_BYTES = 1024 * 1024
# Chunks that come this quickly share one trip to the thread. Slower ones flow on at once.
_BATCH_SECONDS = 0.005


class _End:
    def __repr__(self) -> str:
        return "<the end>"


END = _End()
"""What a chunk function returns when no chunk follows."""

NextChunk = Callable[[], Awaitable[Any]]
Rewind = Callable[[], Awaitable[bool]]


class StreamSource:
    """Bytes that come in chunks of any size, at any time.

    ``next_chunk`` returns bytes-like chunks, and at last `END`; it is not called after that.
    ``size`` is what the body claims: the upload is held to it. ``rewind`` goes back to the
    start, if it can: what is then read again must be the same bytes.
    """

    def __init__(
        self, next_chunk: NextChunk, *, size: int | None = None, rewind: Rewind | None = None
    ) -> None:
        self.size = size
        self._next_chunk = next_chunk
        self._rewind = rewind
        self._rest = memoryview(b"")
        self._ended = False
        self._turns = Turns()
        self._record = _Record() if rewind is not None else None

    async def next_piece(self, size: int) -> memoryview:
        """Return the next bytes, at most ``size`` of them; none at the end.

        Raises:
            InvalidInputError: The body gave something else than bytes.
            BodyChangedError: It gives other bytes than before it was rewound.
        """
        while not self._rest and not self._ended:
            # Before the chunk: a cancellation here loses none.
            await self._turns.yield_if_due()
            chunk = await self._next_chunk()
            if chunk is END:
                self._ended = True
                if self._record is not None:
                    self._record.end()
                break
            self._rest = owned(chunk)
            if self._record is not None:
                self._record.add(self._rest)
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece

    @property
    def rewindable(self) -> bool:
        """Whether `rewind` may go back."""
        return self._rewind is not None

    async def skip(self, size: int) -> None:
        """Pass over the next ``size`` bytes, or what is left."""
        while size > 0 and (piece := await self.next_piece(size)):
            size -= piece.nbytes

    async def rewind(self) -> bool:
        """Go back to the start; False when the bytes are gone."""
        if self._rewind is None or self._record is None or not await self._rewind():
            return False
        self._rest, self._ended = memoryview(b""), False
        self._record = self._record.again()
        return True

    async def check_unchanged(self) -> None:
        """Nothing to check: the bytes are taken as they come."""


class _Record:
    """A checksum of what was read, to recognise a body that goes back only in words."""

    def __init__(self, earlier: _Record | None = None) -> None:
        self._size = 0
        self._crc = 0
        self._earlier = earlier

    def add(self, data: memoryview) -> None:
        """Take the next bytes."""
        earlier = self._earlier
        if earlier is not None and self._size + data.nbytes >= earlier._size:
            head = data[: earlier._size - self._size]
            if zlib.crc32(head, self._crc) != earlier._crc:
                raise self._difference()
            self._earlier = None
        self._crc = zlib.crc32(data, self._crc)
        self._size += data.nbytes

    def end(self) -> None:
        """Know that no more bytes come."""
        if self._earlier is not None and self._earlier._size:
            raise self._difference()

    def _difference(self) -> BodyChangedError:
        return BodyChangedError(
            "The body gave other bytes when it was read again; nothing was stored.",
            hint="It cannot really go back to its start, or it was changed meanwhile. "
            "Upload a Path, or bytes.",
        )

    def again(self) -> _Record:
        """Begin anew; hold what comes to whatever was read the furthest."""
        earlier = self._earlier
        return _Record(earlier if earlier is not None and earlier._size > self._size else self)


def from_async_iterator(iterator: AsyncIterator[Any]) -> NextChunk:
    """Take the chunks of an async iterator, on the event loop."""

    async def next_chunk() -> Any:
        try:
            return await anext(iterator)
        except StopAsyncIteration:
            return END

    return next_chunk


def from_async_reader(read: Callable[[int], Any]) -> NextChunk:
    """Call ``read`` on the event loop. A short read is not the end: only an empty one is."""

    async def next_chunk() -> Any:
        try:
            chunk = read(READ_BYTES)
            if inspect.isawaitable(chunk):
                chunk = await chunk
        except (StopIteration, StopAsyncIteration) as error:
            raise RuntimeError(f"the body raised {type(error).__name__}") from error
        return _read_chunk(chunk)

    return next_chunk


def from_iterable(iterable: Iterable[Any], threads: Threads) -> NextChunk:
    """Iterate in a thread that may block, in batches, in the caller's context."""
    iterator: Any = None

    def step() -> Any:
        nonlocal iterator
        if iterator is None:
            iterator = iter(iterable)
        return next(iterator, END)

    return _Batches(step, threads).next_chunk


def position_of(file: Any) -> int | None:
    """Return where a file object stands; None if it does not know, or says that it cannot seek.

    To be called in a thread.
    """
    try:
        position = file.tell() if file.seekable() is True else None
    except Exception:  # noqa: BLE001 - whatever goes wrong, it cannot go back
        return None
    return position if type(position) is int and position >= 0 else None


class FileReads:
    """Reads a file object in a thread that may block. Only an empty read is the end.

    ``start`` is its `position_of`, if it can go back there.
    """

    def __init__(self, file: Any, start: int | None, threads: Threads) -> None:
        self._file = file
        self._threads = threads
        self._start = start
        # Where it can, a buffered pipe gives what is there and does not wait for the whole MiB.
        standard = type(file).__module__ in ("_io", "io")
        self._read1 = getattr(file, "read1", None) if standard else None
        self._batches = _Batches(self._step, threads)

    async def next_chunk(self) -> Any:
        """Return the next chunk, or `END`."""
        return await self._batches.next_chunk()

    @property
    def rewind(self) -> Rewind | None:
        """For a `StreamSource`; None if the file says that it cannot go back."""
        return self._rewind if self._start is not None else None

    def _step(self) -> Any:
        chunk = self._read1(READ_BYTES) if self._read1 is not None else b""
        # `read1` cannot tell the end from a pipe in non-blocking mode that is empty now.
        return _read_chunk(chunk or self._file.read(READ_BYTES))

    async def _rewind(self) -> bool:
        context = contextvars.copy_context()
        if not await self._threads.run_of_caller(context, self._go_back):
            return False
        self._batches = _Batches(self._step, self._threads)
        return True

    def _go_back(self) -> bool:
        start = self._start
        # Files lie: one whose position did not follow what it gave does not go back either.
        if start is None or position_of(self._file) != start + self._batches.taken:
            return False
        try:
            self._file.seek(start, os.SEEK_SET)
        except Exception:  # noqa: BLE001 - a GzipFile on a pipe finds out only now
            return False
        return position_of(self._file) == start


def _read_chunk(chunk: Any) -> Any:
    """Make `END` of an empty read; an awaitable is for the event loop."""
    if inspect.isawaitable(chunk):
        return chunk
    if chunk is None:
        raise InvalidInputError(
            "The body's read() returned None: it is in non-blocking mode and has no data now.",
            hint="Open it in blocking mode, or pass an async iterable that waits for its data.",
        )
    return owned(chunk) or END


class _Batches:
    """Calls ``step`` in a thread, until enough chunks came or some milliseconds have passed.

    One trip per batch: a generator of tiny chunks must not cost a trip each. Chunks are there
    for the taking while the thread waits for the next one, so that none waits for a full batch.
    Each is copied, unless it is ``bytes``, before the next is asked for. ``taken`` counts their
    bytes.
    """

    def __init__(self, step: Callable[[], Any], threads: Threads) -> None:
        self.taken = 0
        self._step = step
        self._threads = threads
        self._context = contextvars.copy_context()
        self._loop = asyncio.get_running_loop()
        self._job: asyncio.Future[Outcome[None]] | None = None
        # The thread appends to it, the event loop takes from it.
        self._chunks: deque[Any] = deque()
        # Set while the event loop waits for the next chunk of a job that is running.
        self._came: asyncio.Future[None] | None = None
        self._error: BaseException | None = None
        self._ended = False

    async def next_chunk(self) -> Any:
        """Return the next chunk; raise what the body raised after the chunks before it."""
        while not self._chunks:
            if self._job is not None:
                await self._some()
            elif self._error is not None:
                error, self._error, self._ended = self._error, None, True
                raise error
            elif self._ended:
                return END
            else:
                self._job = self._threads.start_of_caller(self._context, self._gather)
        chunk = self._chunks.popleft()
        if inspect.isawaitable(chunk):
            chunk = _read_chunk(await chunk)
            self._ended = chunk is END
        return chunk

    async def _some(self) -> None:
        """Wait until the job has ended, or after some milliseconds until it has a chunk."""
        job = self._job
        if job is None:
            return
        try:
            await asyncio.wait({job}, timeout=_BATCH_SECONDS)
            if not job.done() and not self._chunks:
                came = self._came = self._loop.create_future()
                if not self._chunks:
                    await asyncio.wait({job, came}, return_when=asyncio.FIRST_COMPLETED)
                self._came = None
        except asyncio.CancelledError:
            job.cancel()
            raise
        if job.done():
            self._job = None
            job.result().result()

    def _gather(self) -> None:
        size, first, end = 0, True, time.monotonic() + _BATCH_SECONDS
        while first or (size < READ_BYTES and time.monotonic() < end):
            first = False
            try:
                chunk = self._step()
                if chunk is END:
                    self._ended = True
                    return
                if not inspect.isawaitable(chunk):
                    chunk = owned(chunk)
                    size += chunk.nbytes
                    self.taken += chunk.nbytes
            except BaseException as error:  # noqa: BLE001 - raised again in the caller's task
                self._error = _explicit(error)
                return
            self._chunks.append(chunk)
            self._tell()
            if inspect.isawaitable(chunk):
                return

    def _tell(self) -> None:
        came, self._came = self._came, None
        if came is not None:
            # When the loop is closed no task waits any more.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(_wake, came)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _explicit(error: BaseException) -> BaseException:
    """Return the error, or one in its place if it would end an iteration that is not its own."""
    if not isinstance(error, StopIteration | StopAsyncIteration):
        return error
    explicit = RuntimeError(f"the body raised {type(error).__name__}")
    explicit.__cause__ = error
    return explicit
