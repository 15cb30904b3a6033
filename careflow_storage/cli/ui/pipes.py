"""Bytes through stdin and stdout, whose other end may stand still for hours.

Reading and writing block, so they happen in a thread. It must not keep a command alive that was
told to stop: the executors of asyncio wait for their threads at the end, a daemon is left behind.
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
    """A thread that calls one function, call after call, and ends with the process."""

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
            except BaseException as error:  # noqa: BLE001 - it comes out where it is awaited
                self._tell(done, done.set_exception, error)
            else:
                self._tell(done, done.set_result, result)

    def _tell(self, done: asyncio.Future[T], tell: Callable[[Any], None], what: object) -> None:
        def unless_cancelled() -> None:
            if not done.done():
                tell(what)

        try:
            done.get_loop().call_soon_threadsafe(unless_cancelled)
        except RuntimeError:
            # The loop is closed: nobody waits any longer.
            return


def stdin_body() -> IO[bytes] | AsyncIterator[bytes]:
    """What can be uploaded of stdin: a redirected file as a file of known size, else a stream."""
    binary = sys.stdin.buffer
    try:
        number = binary.fileno()
        is_file = stat.S_ISREG(os.fstat(number).st_mode)
    except OSError:
        # Not a real one, as in a test.
        return binary
    return binary if is_file else _read(number)


async def _read(number: int) -> AsyncIterator[bytes]:
    # Not through sys.stdin, whose lock the thread would take with it into the end.
    read = _Daemon(os.read)
    while chunk := await read(number, _READ_BYTES):
        yield chunk


def stdout_writer() -> Callable[[bytes], Any]:
    """Return a coroutine function that writes all of some bytes to stdout."""
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
