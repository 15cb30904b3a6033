"""The parent's end of a child process that opens media."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple, cast

from careflow_storage._uninterrupted import clean_up_to_end, wait_out
from careflow_storage.errors import LocalFileError, MissingExtraError, NotSupportedError
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

Read = Callable[[int, int], Awaitable[bytes]]

_START: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from careflow_storage.media._worker.main import main; main(sys.argv[1])"
)
# The child gets no other variable: credentials stay here.
_INHERITED: Final = (
    *("DYLD_LIBRARY_PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "SYSTEMROOT", "TEMP", "TMP"),
    "TMPDIR",
)
_ONE_THREAD: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
_START_SECONDS: Final = 120.0
_EXIT_SECONDS: Final = 10.0


class _Message(NamedTuple):
    kind: bytes
    payload: bytes

    def content(self) -> Any:
        return json.loads(self.payload)


class MediaProcess:
    """A running child process, which does one job."""

    def __init__(self, transport: asyncio.SubprocessTransport, pipes: _Pipes) -> None:
        self._transport = transport
        self._pipes = pipes
        self._stdin = cast(asyncio.WriteTransport, transport.get_pipe_transport(0))

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
        ready = await self._message(_START_SECONDS)
        if ready is not None and ready.kind == MISSING:
            raise MissingExtraError("media")
        if ready is None or ready.kind != READY:
            raise MediaProcessError("The media process ended before it was ready.")
        self._send(json.dumps(job).encode())
        while True:
            message = await self._message(silence)
            if message is None:
                raise self._died()
            if message.kind != GET:
                return await self._result(message)
            offset, length = message.content()
            self._send(await read(offset, length))

    async def _result(self, message: _Message) -> dict[str, Any]:
        # It exits by itself now: its exit is awaited, so that no process is left.
        await asyncio.wait({self._pipes.ended}, timeout=_EXIT_SECONDS)
        content = message.content()
        if message.kind == DONE and isinstance(content, dict):
            return content
        if message.kind == UNSUPPORTED:
            text, hint = content
            raise UnsupportedMediaError(text, hint=hint)
        if message.kind == LOCAL:
            number, reason = content
            raise LocalFileError(
                f"The temporary file cannot be written: {reason}.",
                errno=number,
                strerror=reason,
                hint="TMPDIR needs room for one copy of the file.",
            )
        if message.kind == FAILED:
            raise UnsupportedMediaError(f"The file cannot be read as media ({content:.200}).")
        raise MediaProcessError("The media process sent a malformed message.")

    def _died(self) -> UnsupportedMediaError:
        code = self._transport.get_returncode() or 0
        if code == -getattr(signal, "SIGXCPU", -1) or code == -getattr(signal, "SIGKILL", -1):
            return UnsupportedMediaError(
                "The file takes more processor time or memory than a file of its size may use."
            )
        return UnsupportedMediaError(f"The file crashed the media library (exit code {code}).")

    async def _message(self, seconds: float) -> _Message | None:
        """Return the next message; None if the child has ended."""
        try:
            async with asyncio.timeout(seconds):
                return await self._pipes.message()
        except TimeoutError:
            raise UnsupportedMediaError(
                f"The file takes too long: no progress for {seconds:.0f} seconds."
            ) from None

    def _send(self, data: bytes) -> None:
        self._stdin.write(DATA.pack(len(data)))
        self._stdin.write(data)


@asynccontextmanager
async def media_process(task: str) -> AsyncIterator[MediaProcess]:
    """Start a child process, and make sure that it has ended after the block.

    Raises:
        MediaProcessError: The system cannot start another process.
    """
    starting = asyncio.ensure_future(_start(task))
    interrupted = await wait_out(starting)
    transport, pipes = starting.result()
    try:
        if interrupted is not None:
            raise interrupted
        yield MediaProcess(transport, pipes)
    finally:
        await clean_up_to_end(_end(transport, pipes))


async def _start(task: str) -> tuple[asyncio.SubprocessTransport, _Pipes]:
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    loop = asyncio.get_running_loop()
    try:
        return await loop.subprocess_exec(
            _Pipes,
            *(sys.executable, "-I", "-c", _START, task, _search_path()),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**inherited, **_ONE_THREAD},
            cwd=os.sep,
            # Ctrl-C in a terminal must not reach it: this process ends it.
            start_new_session=True,
        )
    except NotImplementedError as error:
        raise NotSupportedError(
            "This event loop cannot start processes.",
            hint="On Windows use the ProactorEventLoop, which is the default.",
        ) from error
    except OSError as error:
        raise MediaProcessError(
            f"The media process could not be started: {error.strerror}.", retryable=True
        ) from error


def _search_path() -> str:
    """Return where this process finds modules, as JSON."""
    here = os.getcwd()  # noqa: PTH109 - strings, as in sys.path
    return json.dumps([os.path.join(here, entry) for entry in sys.path])  # noqa: PTH118


async def _end(transport: asyncio.SubprocessTransport, pipes: _Pipes) -> None:
    # Kills it unless it has exited.
    transport.close()
    await pipes.ended


class _Pipes(asyncio.SubprocessProtocol):
    """Collects the messages of a child process."""

    def __init__(self) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._buffer = bytearray()
        self._waiter: asyncio.Future[None] | None = None

    async def message(self) -> _Message | None:
        """Wait for the next message; None once the child has ended.

        Raises:
            MediaProcessError: The message is longer than any.
        """
        while True:
            if len(self._buffer) >= MESSAGE.size:
                kind, length = MESSAGE.unpack_from(self._buffer)
                if length > MAX_MESSAGE_BYTES:
                    raise MediaProcessError("The media process sent a malformed message.")
                end = MESSAGE.size + length
                if len(self._buffer) >= end:
                    payload = bytes(self._buffer[MESSAGE.size : end])
                    del self._buffer[:end]
                    return _Message(kind, payload)
            if self.ended.done():
                return None
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        # What follows a malformed message is not collected.
        if len(self._buffer) <= MAX_MESSAGE_BYTES + MESSAGE.size:
            self._buffer += data
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
