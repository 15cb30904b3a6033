"""Read stdin and write stdout without blocking the event loop.

The other end of a pipe may pause for hours, so reading and writing happen in a thread. asyncio's
executors wait for their threads at exit, which would keep a cancelled command alive. A daemon
thread does not.
"""

from __future__ import annotations

import asyncio
import os
import queue
import stat
import sys
import threading
from collections.abc import AsyncIterator, Callable
from typing import IO, Any, Generic, TypeVar

T = TypeVar("T")

_READ_BYTES = 1024 * 1024


class _Daemon(Generic[T]):
    """A daemon thread that calls one function for each await."""

    def __init__(self, function: Callable[..., T]) -> None:
        self._function = function
        self._calls: queue.SimpleQueue[tuple[asyncio.Future[T], tuple[Any, ...]]]
        self._calls = queue.SimpleQueue()
        threading.Thread(target=self._work, name="careflow-storage-pipe", daemon=True).start()

    async def __call__(self, *arguments: Any) -> T:
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._calls.put((done, arguments))
        return await done

    def _work(self) -> None:
        while True:
            done, arguments = self._calls.get()
            try:
                result = self._function(*arguments)
            except BaseException as error:  # noqa: BLE001 - raised where it is awaited
                self._resolve(done, done.set_exception, error)
            else:
                self._resolve(done, done.set_result, result)

    def _resolve(self, done: asyncio.Future[T], set_: Callable[[Any], None], value: object) -> None:
        def unless_cancelled() -> None:
            if not done.done():
                set_(value)

        try:
            done.get_loop().call_soon_threadsafe(unless_cancelled)
        except RuntimeError:
            # The loop is closed: the call was cancelled.
            return


def stdin_body() -> IO[bytes] | AsyncIterator[bytes]:
    """Return stdin as an upload body: a redirected file as a file, anything else as a stream."""
    binary = sys.stdin.buffer
    try:
        number = binary.fileno()
        is_file = stat.S_ISREG(os.fstat(number).st_mode)
    except OSError:
        # Not a real file, as in tests.
        return binary
    return binary if is_file else _read(number)


async def _read(number: int) -> AsyncIterator[bytes]:
    # Not through sys.stdin, whose lock the thread would still hold when Python exits.
    read = _Daemon(os.read)
    while chunk := await read(number, _READ_BYTES):
        yield chunk


def stdout_writer() -> Callable[[bytes], Any]:
    """Return an async function that writes bytes to stdout."""
    sys.stdout.flush()
    binary = sys.stdout.buffer
    try:
        number = binary.fileno()
    except OSError:

        async def write(chunk: bytes) -> None:
            binary.write(chunk)

        return write
    return _Daemon(lambda chunk: _write(number, chunk))


def _write(number: int, chunk: bytes) -> None:
    left = memoryview(chunk)
    while left:
        left = left[os.write(number, left) :]
