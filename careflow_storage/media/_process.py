"""The parent's end of a child process that opens media."""

from __future__ import annotations

import asyncio
import contextvars
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, NamedTuple, TypeVar

from careflow_storage._transfer.threads import Threads
from careflow_storage._transfer.workers import JobResult
from careflow_storage._uninterrupted import clean_up_to_end, wait_out
from careflow_storage.errors import LocalFileError, MissingExtraError
from careflow_storage.media._worker.protocol import (
    DATA,
    DONE,
    FAILED,
    GET,
    LOCAL,
    MAX_MESSAGE_BYTES,
    MESSAGE,
    MISSING,
    READY,
    UNSUPPORTED,
)
from careflow_storage.media.errors import MediaProcessError, UnsupportedMediaError

T = TypeVar("T")
Read = Callable[[int, int], Awaitable[bytes]]

_START: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from careflow_storage.media._worker.main import main; main(sys.argv[1])"
)
# The child gets no other variable: credentials stay here.
_INHERITED: Final = ("DYLD_LIBRARY_PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "SYSTEMROOT")
_ONE_THREAD: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
_START_SECONDS: Final = 120.0


class _Message(NamedTuple):
    kind: bytes
    payload: bytes

    def content(self) -> Any:
        try:
            return json.loads(self.payload)
        except ValueError as error:
            raise _malformed() from error

    def pair(self) -> tuple[Any, Any]:
        match self.content():
            case [first, second]:
                return first, second
        raise _malformed()


def _malformed() -> MediaProcessError:
    return MediaProcessError("The media process sent a malformed message.")


class MediaProcess:
    """A running child process, which does one job."""

    def __init__(self, child: _Child, threads: Threads) -> None:
        self._child = child
        self._threads = threads
        self._exchange: asyncio.Future[JobResult[_Message | None]] | None = None

    async def run(self, job: Mapping[str, Any], read: Read, silence: float) -> dict[str, Any]:
        """Let the child do its job, and return the result.

        Args:
            job: Without secrets: the child reads untrusted bytes.
            read: Returns bytes of the object.
            silence: The most seconds between two messages of the child.

        Raises:
            UnsupportedMediaError: The bytes cannot be used, or the child was killed by them.
            LocalFileError: The output could not be written.
            MediaProcessError: The child does not work.
        """
        ready = await self._next_message(None, _START_SECONDS)
        if ready is not None and ready.kind == MISSING:
            raise MissingExtraError("media")
        if ready is None or ready.kind != READY:
            raise MediaProcessError("The media process ended before it was ready.")
        data = json.dumps(job).encode()
        while True:
            message = await self._next_message(data, silence)
            if message is None:
                # It has closed its pipe, which alone is not its end. If it is ending, its exit code
                # stays as it is.
                self._child.kill()
                raise _died(await self._threads.run(self._child.wait))
            if message.kind != GET:
                return _result(message)
            offset, length = message.pair()
            data = await read(offset, length)

    async def end(self) -> None:
        """Kill the child, and wait until it has ended and its thread, too."""
        self._child.kill()
        await wait_out(self._exchange)
        await self._threads.clean_up(self._child.close)

    async def _next_message(self, data: bytes | None, seconds: float) -> _Message | None:
        """Send ``data`` and return the next message; None if the child has ended."""
        self._exchange = _in_thread(self._threads, lambda: self._child.exchange(data))
        try:
            async with asyncio.timeout(seconds):
                return (await asyncio.shield(self._exchange)).result()
        except TimeoutError:
            raise UnsupportedMediaError(
                f"The file takes too long: no progress for {seconds:.0f} seconds."
            ) from None


def _result(message: _Message) -> dict[str, Any]:
    """Return the result in the last message, or raise the error in it."""
    if message.kind == DONE and isinstance(content := message.content(), dict):
        return content
    if message.kind == UNSUPPORTED:
        text, hint = message.pair()
        raise UnsupportedMediaError(f"{text}", hint=hint)
    if message.kind == LOCAL:
        number, reason = message.pair()
        raise LocalFileError(
            f"The temporary file cannot be written: {reason}.",
            errno=number,
            strerror=reason,
            hint="TMPDIR needs room for one copy of the file.",
        )
    if message.kind == FAILED:
        content = message.content()
        raise UnsupportedMediaError(f"The file cannot be read as media ({content!s:.200}).")
    raise _malformed()


def _died(code: int) -> UnsupportedMediaError:
    if code in (-getattr(signal, "SIGXCPU", 0), -getattr(signal, "SIGKILL", 0)) and code:
        return UnsupportedMediaError(
            "The file takes more processor time or memory than a file of its size may use."
        )
    return UnsupportedMediaError(f"The file crashed the media library (exit code {code}).")


def _in_thread(threads: Threads, job: Callable[[], T]) -> asyncio.Future[JobResult[T]]:
    # One of the threads that may block for any time: a child decides how long this takes.
    return threads.start_of_caller(contextvars.copy_context(), job)


@asynccontextmanager
async def media_process(task: str, threads: Threads) -> AsyncIterator[MediaProcess]:
    """Start a child process, and make sure that it has ended after the block.

    Raises:
        MediaProcessError: The system cannot start another process.
    """
    if not sys.executable or getattr(sys, "frozen", False):
        raise MediaProcessError("There is no Python interpreter to start the media process with.")
    # In a thread: the start of a process blocks until the system has loaded its program.
    starting = _in_thread(threads, lambda: _Child(task))
    interrupted = await wait_out(starting)
    try:
        process = MediaProcess(starting.result().result(), threads)
    except OSError as error:
        raise MediaProcessError(
            f"The media process could not be started: {error.strerror}.", retryable=True
        ) from error
    try:
        if interrupted is not None:
            raise interrupted
        yield process
    finally:
        await clean_up_to_end(process.end())


class _Child:
    """The child process and its pipes. All methods but `kill` block."""

    def __init__(self, task: str) -> None:
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        path = json.dumps([os.path.abspath(entry) for entry in sys.path])  # noqa: PTH100 - strings
        self._process = subprocess.Popen(  # noqa: S603 - this interpreter
            [sys.executable, "-I", "-c", _START, task, path],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**inherited, **_ONE_THREAD},
            cwd=os.sep,
            # Ctrl-C in a terminal must not reach it: this process ends it.
            start_new_session=True,
        )

    def exchange(self, data: bytes | None) -> _Message | None:
        """Send ``data``, unless it is None, and return the next message; None at the end.

        Raises:
            MediaProcessError: The message is longer than any.
        """
        if data is not None:
            # If the child has ended, there is no message either.
            with suppress(OSError):
                self._write(DATA.pack(len(data)) + data)
        head = self._read(MESSAGE.size)
        if head is None:
            return None
        kind, length = MESSAGE.unpack(head)
        if length > MAX_MESSAGE_BYTES:
            raise _malformed()
        payload = self._read(length)
        return None if payload is None else _Message(kind, payload)

    def kill(self) -> None:
        """Kill the child and all processes that it may have started."""
        # Its ID belongs to it until `wait` has returned, which has happened if there is a code.
        if self._process.returncode is not None:
            return
        with suppress(OSError):
            if sys.platform == "win32":
                self._process.kill()
            else:
                os.killpg(self._process.pid, signal.SIGKILL)

    def wait(self) -> int:
        """Wait for the end, and return the exit code."""
        return self._process.wait()

    def close(self) -> None:
        """Close the pipes, and wait for the end of the child, which was killed."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        self._process.wait()

    def _write(self, data: bytes) -> None:
        stdin, left = self._process.stdin, memoryview(data)
        while left and stdin is not None:
            left = left[stdin.write(left) :]

    def _read(self, length: int) -> bytes | None:
        stdout, data = self._process.stdout, bytearray(length)
        left = memoryview(data)
        while left and stdout is not None:
            # Without a buffer it is a raw file.
            count: int = stdout.readinto(left)  # type: ignore[attr-defined]  # typed as IO[bytes]
            if not count:
                return None
            left = left[count:]
        return bytes(data)
