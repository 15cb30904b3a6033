"""Bodies that are read in chunks: iterables and readers, sync and async."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import os
import time
import zlib
from collections import deque
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any

from careflow_storage._transfer.bodies.buffers import copy_unless_immutable
from careflow_storage._transfer.bodies.limits import NO_LIMITS, BodyLimits, Pace
from careflow_storage._transfer.threads import Threads
from careflow_storage._transfer.turns import Turns
from careflow_storage._transfer.workers import JobResult
from careflow_storage.errors import BodyChangedError, InvalidInputError

READ_BYTES = 1024 * 1024
# Chunks that arrive within this time share one switch to the thread.
_BATCH_SECONDS = 0.005


class _End:
    def __repr__(self) -> str:
        return "<the end>"


END = _End()
"""What `NextChunk` returns at the end."""

NextChunk = Callable[[], Awaitable[Any]]
Rewind = Callable[[], Awaitable[bool]]


class StreamSource:
    """Bytes that arrive in chunks of any size, at any time.

    Args:
        next_chunk: Returns the next bytes-like chunk, or `END`, after which it is not called
            again.
        size: The size that the body claims; the upload must match it.
        rewind: Goes back to the start and returns True, if that is possible. The bytes that are
            read again must be the same.
        close: Closes an iterator that the caller does not have. The caller closes its own.
    """

    def __init__(
        self,
        next_chunk: NextChunk,
        *,
        size: int | None = None,
        rewind: Rewind | None = None,
        close: Callable[[], Awaitable[Any]] | None = None,
    ) -> None:
        self.size = size
        self._limits = NO_LIMITS
        self._pace: Pace | None = None
        self._received = 0
        self._next_chunk = next_chunk
        self._close = close
        self._rewind = rewind
        self._rest = memoryview(b"")
        self._ended = False
        self._turns = Turns()
        self._checksum = _ReadChecksum() if rewind is not None else None

    async def aclose(self) -> None:
        """Close what the source has opened itself."""
        if self._close is not None:
            await self._close()

    def limit(self, limits: BodyLimits) -> None:
        """Set the limits. Call it before the first read."""
        self._limits, self._pace = limits, limits.pace()

    async def next_piece(self, size: int) -> memoryview:
        """Return up to ``size`` next bytes; none at the end.

        Raises:
            InvalidInputError: The body returned something other than bytes.
            FileTooLargeError, BodyTimeoutError: The body exceeds a limit.
            BodyChangedError: After a rewind, the body returned different bytes.
        """
        while not self._rest and not self._ended:
            # Before reading: a cancellation here loses no chunk.
            await self._turns.yield_if_due()
            pace, read = self._pace, self._next_chunk
            chunk = await (read() if pace is None else pace.wait_for(read))
            if chunk is END:
                self._ended = True
                if self._checksum is not None:
                    self._checksum.end()
                break
            self._rest = copy_unless_immutable(chunk)
            self._received += self._rest.nbytes
            self._limits.check_size(self._received, ended=False)
            if pace is not None:
                pace.received(self._rest.nbytes)
            if self._checksum is not None:
                self._checksum.add(self._rest)
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece

    @property
    def rewindable(self) -> bool:
        """Whether `rewind` may succeed."""
        return self._rewind is not None

    async def skip(self, size: int) -> None:
        """Skip the next ``size`` bytes, or the rest."""
        while size > 0 and (piece := await self.next_piece(size)):
            size -= piece.nbytes

    async def rewind(self) -> bool:
        """Go back to the start; return False if that is not possible."""
        if self._rewind is None or self._checksum is None or not await self._rewind():
            return False
        self._rest, self._ended, self._received = memoryview(b""), False, 0
        self._checksum = self._checksum.again()
        return True

    async def check_unchanged(self) -> None:
        """Do nothing: a stream has no earlier state to compare with."""


class _ReadChecksum:
    """Detects a body that claims to go back to its start, but returns different bytes."""

    def __init__(self, earlier: _ReadChecksum | None = None) -> None:
        self._size = 0
        self._crc = 0
        self._earlier = earlier

    def add(self, data: memoryview) -> None:
        """Add the next bytes; raise `BodyChangedError` if they differ from the first pass."""
        earlier = self._earlier
        if earlier is not None and self._size + data.nbytes >= earlier._size:
            head = data[: earlier._size - self._size]
            if zlib.crc32(head, self._crc) != earlier._crc:
                raise self._difference()
            self._earlier = None
        self._crc = zlib.crc32(data, self._crc)
        self._size += data.nbytes

    def end(self) -> None:
        """Check the end: raise `BodyChangedError` if the first pass had more bytes."""
        if self._earlier is not None and self._earlier._size:
            raise self._difference()

    def _difference(self) -> BodyChangedError:
        return BodyChangedError(
            "The body returned different bytes when it was read again; nothing was stored.",
            hint="It does not really seek back to its start, or it changed meanwhile. "
            "Upload a Path or bytes.",
        )

    def again(self) -> _ReadChecksum:
        """Return the checksum of the next pass, which is compared with the longest pass so far."""
        earlier = self._earlier
        return _ReadChecksum(
            earlier if earlier is not None and earlier._size > self._size else self
        )


def from_async_iterable(iterable: AsyncIterable[Any], *, size: int | None) -> StreamSource:
    """Return a source that iterates on the event loop."""
    iterator = aiter(iterable)
    close = getattr(iterator, "aclose", None) if iterator is not iterable else None

    async def next_chunk() -> Any:
        try:
            return await anext(iterator)
        except StopAsyncIteration:
            return END

    return StreamSource(next_chunk, size=size, close=close)


def from_async_reader(read: Callable[[int], Any]) -> NextChunk:
    """Return a function that calls ``read`` on the event loop; an empty read is the end."""

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
    """Return a function that iterates in a thread, in batches, in the caller's context."""
    iterator: Any = None

    def step() -> Any:
        nonlocal iterator
        if iterator is None:
            iterator = iter(iterable)
        return next(iterator, END)

    return _ThreadedChunks(step, threads).next_chunk


def position_of(file: Any) -> int | None:
    """Return the position of a file object; None if it cannot seek. Call it in a thread."""
    try:
        position = file.tell() if file.seekable() is True else None
    except Exception:  # noqa: BLE001 - after any error, it cannot go back
        return None
    return position if type(position) is int and position >= 0 else None


class FileReads:
    """Reads a file object in a thread; an empty read is the end.

    ``start`` is its `position_of`, or None if it cannot go back.
    """

    def __init__(self, file: Any, start: int | None, threads: Threads) -> None:
        self._file = file
        self._threads = threads
        self._start = start
        # read1 returns what a buffered pipe has, and does not wait for the whole MiB.
        standard = type(file).__module__ in ("_io", "io")
        self._read1 = getattr(file, "read1", None) if standard else None
        self._chunks_in_thread = _ThreadedChunks(self._step, threads)

    async def next_chunk(self) -> Any:
        """Return the next chunk, or `END`."""
        return await self._chunks_in_thread.next_chunk()

    @property
    def rewind(self) -> Rewind | None:
        """The function that goes back to the start; None if the file cannot seek."""
        return self._rewind if self._start is not None else None

    def _step(self) -> Any:
        chunk = self._read1(READ_BYTES) if self._read1 is not None else b""
        # An empty `read1` is the end, or a pipe in non-blocking mode that is empty at the moment.
        return _read_chunk(chunk or self._file.read(READ_BYTES))

    async def _rewind(self) -> bool:
        context = contextvars.copy_context()
        if not await self._threads.run_of_caller(context, self._go_back):
            return False
        self._chunks_in_thread = _ThreadedChunks(self._step, self._threads)
        return True

    def _go_back(self) -> bool:
        start = self._start
        # A file whose position did not advance by the bytes read cannot seek back either.
        if start is None or position_of(self._file) != start + self._chunks_in_thread.taken:
            return False
        try:
            self._file.seek(start, os.SEEK_SET)
        except Exception:  # noqa: BLE001 - a GzipFile on a pipe fails only here
            return False
        return position_of(self._file) == start


def _read_chunk(chunk: Any) -> Any:
    """Return the chunk, or `END` for an empty read; an awaitable as it is."""
    if inspect.isawaitable(chunk):
        return chunk
    if chunk is None:
        raise InvalidInputError(
            "The body's read() returned None: it is in non-blocking mode and has no data.",
            hint="Open it in blocking mode, or pass an async iterable that waits for data.",
        )
    return copy_unless_immutable(chunk) or END


class _ThreadedChunks:
    """Calls ``step`` in a thread until 1 MiB is read or 5 ms have passed.

    One thread switch per batch, so that a generator of tiny chunks stays fast. A chunk is
    available while the thread waits for the next one. Each chunk is copied, unless it is
    ``bytes``, before the next one is requested.

    Attributes:
        taken: How many bytes were read.
    """

    def __init__(self, step: Callable[[], Any], threads: Threads) -> None:
        self.taken = 0
        self._step = step
        self._threads = threads
        self._context = contextvars.copy_context()
        self._loop = asyncio.get_running_loop()
        self._job: asyncio.Future[JobResult[None]] | None = None
        # The thread appends to it, the event loop removes from it.
        self._chunks: deque[Any] = deque()
        # Set while the event loop waits for the next chunk of a running job.
        self._chunk_added: asyncio.Future[None] | None = None
        self._error: BaseException | None = None
        self._ended = False

    async def next_chunk(self) -> Any:
        """Return the next chunk, or `END`; raise the error of the body after its last chunk."""
        while not self._chunks:
            if self._job is not None:
                await self._wait_for_chunk()
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

    async def _wait_for_chunk(self) -> None:
        """Wait until the job has ended; after 5 ms, until it has a chunk."""
        job = self._job
        if job is None:
            return
        try:
            await asyncio.wait({job}, timeout=_BATCH_SECONDS)
            if not job.done() and not self._chunks:
                waiter = self._chunk_added = self._loop.create_future()
                if not self._chunks:
                    await asyncio.wait({job, waiter}, return_when=asyncio.FIRST_COMPLETED)
                self._chunk_added = None
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
                    chunk = copy_unless_immutable(chunk)
                    size += chunk.nbytes
                    self.taken += chunk.nbytes
            except BaseException as error:  # noqa: BLE001 - raised again in the caller's task
                self._error = _not_stop_iteration(error)
                return
            self._chunks.append(chunk)
            self._notify()
            if inspect.isawaitable(chunk):
                return

    def _notify(self) -> None:
        waiter, self._chunk_added = self._chunk_added, None
        if waiter is not None:
            # RuntimeError: the loop is closed, so no task waits.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(_wake, waiter)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _not_stop_iteration(error: BaseException) -> BaseException:
    """Return ``error``; a RuntimeError for StopIteration, which would end another iteration."""
    if not isinstance(error, StopIteration | StopAsyncIteration):
        return error
    explicit = RuntimeError(f"the body raised {type(error).__name__}")
    explicit.__cause__ = error
    return explicit
