"""Bodies that block: no other call waits for them; a deadline or a cancellation ends them."""

from __future__ import annotations

import asyncio
import contextvars
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from careflow_storage import BackblazeStorage, InvalidInputError, StorageTimeoutError
from careflow_storage._transfer.bodies import local_file
from careflow_storage.outbox import Outbox
from careflow_storage.testing import B2Server
from tests.support.bodies import MIB, noise
from tests.support.body_table import FILES, ITERABLES, PATHS, REUSED

pytestmark = pytest.mark.slow

DATA = noise(50_002)


@pytest.fixture
async def storage(server: B2Server) -> AsyncIterator[BackblazeStorage]:
    settings = server.settings(part_size=5 * MIB, multipart_threshold=20_000)
    async with BackblazeStorage(settings) as opened:
        yield opened


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Set at the end of the test at the latest, so that no thread is left."""
    event = threading.Event()
    yield event
    event.set()


class Stalled:
    """A network mount that stalls: calls for a file of this name wait for ``gate``."""

    def __init__(self, gate: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = threading.Semaphore(0)
        self._gate = gate
        self._stalled: set[int] = set()
        self._open, self._stat, self._preadv = os.open, os.stat, os.preadv
        self._calls: set[str] = set()
        monkeypatch.setattr(local_file, "os", self)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def stall(self, *calls: str) -> None:
        self._calls = set(calls)

    def stat(self, path: Any) -> os.stat_result:
        self._wait("stat", path)
        return self._stat(path)

    def open(self, path: Any, flags: int) -> int:
        self._wait("open", path)
        descriptor = self._open(path, flags)
        if "stalled" in os.fspath(path):
            self._stalled.add(descriptor)
        return descriptor

    def preadv(self, descriptor: int, buffers: Any, offset: int) -> int:
        if descriptor in self._stalled:
            self._wait("preadv", "stalled")
        return self._preadv(descriptor, buffers, offset)

    def close(self, descriptor: int) -> None:
        self._stalled.discard(descriptor)
        os.close(descriptor)

    def _wait(self, call: str, path: Any) -> None:
        if call in self._calls and "stalled" in os.fspath(path):
            self.begun.release()
            self._gate.wait()


class TestStalledMounts:
    @pytest.mark.parametrize("call", ["stat", "open", "preadv"])
    async def test_given_many_files_that_stall_then_others_are_uploaded_and_deadlines_hold(
        self,
        storage: BackblazeStorage,
        server: B2Server,
        gate: threading.Event,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        call: str,
    ) -> None:
        mount = Stalled(gate, monkeypatch)
        mount.stall(call)
        stalled, fine = tmp_path / "stalled", tmp_path / "fine"
        stalled.write_bytes(DATA)
        fine.write_bytes(DATA)
        count = 3 * (os.cpu_count() or 1) + 3
        tasks = [asyncio.create_task(storage.upload_file("a", stalled)) for _ in range(count)]
        await asyncio.to_thread(_acquire, mount.begun, count)
        await storage.upload_file("memory", bytearray(DATA * 10))
        await storage.upload_file("path", fine)
        with fine.open("rb") as file:
            await storage.upload_file("file", file)
        with pytest.raises(StorageTimeoutError):
            await storage.upload_file("a", stalled, timeout=0.05)
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(result) for result in results} == {asyncio.CancelledError}
        await storage.close()
        assert {version.key for version in server.versions()} == {"memory", "path", "file"}
        assert server.incomplete_uploads() == []

    async def test_given_abandoned_stalled_reads_then_their_memory_is_not_reused(
        self,
        server: B2Server,
        gate: threading.Event,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:
        mount = Stalled(gate, monkeypatch)
        mount.stall("preadv")
        stalled = tmp_path / "stalled"
        stalled.write_bytes(b"x" * 6 * MIB)
        settings = server.settings(part_size=5 * MIB, memory_budget=8 * MIB)
        async with BackblazeStorage(settings) as storage:
            for _ in range(3):
                task = asyncio.create_task(storage.upload_file("a", stalled))
                await asyncio.to_thread(_acquire, mount.begun, 1)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            other = noise(20 * MIB)
            path = tmp_path / "fine"
            path.write_bytes(other)
            upload = asyncio.create_task(storage.upload_file("b", path))
            gate.set()
            await upload
            assert await storage.get_file("b") == other

    async def test_given_pipes_and_devices_as_paths_then_nothing_waits_for_them(
        self, storage: BackblazeStorage, tmp_path: Path
    ) -> None:
        os.mkfifo(tmp_path / "pipe")
        paths = [tmp_path / "pipe"] * 10 + [Path("/dev/zero"), Path("/dev/tty")]
        results = await asyncio.gather(
            *(storage.upload_file("a", path) for path in paths), return_exceptions=True
        )
        assert {isinstance(result, InvalidInputError) for result in results} == {True}


class TestBlockingCode:
    async def test_given_more_blocked_generators_than_any_pool_has_threads_then_others_go_on(
        self, storage: BackblazeStorage, gate: threading.Event
    ) -> None:
        def blocked() -> Iterator[bytes]:
            yield b"a"
            gate.wait()
            yield b"b"

        def opening() -> Iterator[bytes]:
            yield DATA
            gate.set()

        uploads = [storage.upload_file(f"{number}", blocked()) for number in range(60)]
        tasks = [asyncio.create_task(upload) for upload in uploads]
        await storage.upload_file("last", opening())
        results = await asyncio.gather(*tasks)
        assert {result.size for result in results} == {2}

    async def test_given_blocking_bodies_then_the_application_s_executor_is_not_used(
        self, storage: BackblazeStorage, tmp_path: Path
    ) -> None:
        await storage.upload_file("warm", DATA)
        kinds = {**REUSED, **ITERABLES, **FILES, **PATHS}
        asyncio.get_running_loop().set_default_executor(NotForUs())
        damaged = []
        async with Outbox(tmp_path / "outbox", storage) as outbox:
            for kind, make in kinds.items():
                with ExitStack() as stack:
                    await storage.upload_file("a", make(DATA, tmp_path, stack))
                if await storage.get_file("a") != DATA:
                    damaged.append(kind)
            with ExitStack() as stack:
                body = FILES["gzip from a pipe"](DATA, tmp_path, stack)
                await outbox.put_recording("CA1", body, "a.bin")
        assert damaged == []

    @pytest.mark.parametrize("end", ["cancel", "timeout"])
    async def test_given_code_that_never_returns_then_the_call_ends_and_leaves_nothing(
        self, storage: BackblazeStorage, server: B2Server, gate: threading.Event, end: str
    ) -> None:
        begun = threading.Semaphore(0)

        def generator(size: int) -> Iterator[bytes]:
            yield bytes(size)
            begun.release()
            gate.wait()

        class File:
            def __init__(self, size: int) -> None:
                self._generator = generator(size)

            def read(self, size: int) -> bytes:
                return next(self._generator, b"")

        bodies: list[Any] = [
            *(generator(10), generator(6 * MIB), File(10), File(6 * MIB)),
        ]
        timeout = 0.5 if end == "timeout" else None
        tasks = [asyncio.create_task(storage.upload_file("a", b, timeout=timeout)) for b in bodies]
        if end == "cancel":
            await asyncio.to_thread(_acquire, begun, len(bodies))
            for task in tasks:
                task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        expected = asyncio.CancelledError if end == "cancel" else StorageTimeoutError
        assert {type(result) for result in results} == {expected}
        await storage.close()
        assert (server.versions(), server.incomplete_uploads()) == ([], [])

    async def test_given_a_generator_that_blocks_then_its_earlier_chunks_are_sent(
        self, storage: BackblazeStorage
    ) -> None:
        sent = threading.Event()

        def generator() -> Iterator[bytes]:
            # The last chunk completes the first part, in the middle of a batch.
            for _ in range(100):
                yield bytes(5 * MIB // 100 + 1)
            assert sent.wait(60)
            yield b"end"

        result = await storage.upload_file("a", generator(), progress=lambda _: sent.set())
        assert result.parts == 2

    async def test_given_a_generator_then_it_runs_in_the_caller_s_context(
        self, storage: BackblazeStorage
    ) -> None:
        name = contextvars.ContextVar("name", default="")
        name.set("caller")

        def generator() -> Iterator[bytes]:
            for number in range(3):
                yield name.get().encode() + b" "
                name.set(f"{number}")
                sent.set()

        sent = threading.Event()
        await storage.upload_file("a", generator())
        assert await storage.get_file("a") == b"caller 0 1 "
        assert name.get() == "caller"

    @pytest.mark.parametrize(
        "error", [ValueError, StopIteration, StopAsyncIteration, GeneratorExit, MemoryError]
    )
    async def test_given_a_body_that_raises_then_the_call_raises_its_error(
        self, storage: BackblazeStorage, server: B2Server, error: type[BaseException]
    ) -> None:
        class Raising:
            def __init__(self) -> None:
                self._left = 3

            def read(self, size: int) -> bytes:
                self._left -= 1
                if not self._left:
                    raise error
                return DATA

        class AsyncRaising(Raising):
            async def read(self, size: int) -> bytes:  # type: ignore[override]  # as it says
                return super().read(size)

        stops = error in (StopIteration, StopAsyncIteration)
        for body in (Raising(), AsyncRaising()):
            with pytest.raises(RuntimeError if stops else error):
                await storage.upload_file("a", body)
        assert (server.versions(), server.incomplete_uploads()) == ([], [])

    def test_given_code_that_never_returns_then_the_interpreter_exits(
        self, running: B2Server
    ) -> None:
        done = subprocess.run(
            [sys.executable, "-c", NEVER_RETURNS],
            env=os.environ | running.environment(),
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert (done.stdout, done.stderr) == ("left\n", "")


NEVER_RETURNS = """
import asyncio, threading
from careflow_storage import BackblazeStorage

def never():
    yield b"a"
    begun.set()
    threading.Event().wait()

async def main():
    async with BackblazeStorage() as storage:
        task = asyncio.create_task(storage.upload_file("a", never()))
        await asyncio.to_thread(begun.wait)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            print("left")

begun = threading.Event()
asyncio.run(main())
"""


class NotForUs(ThreadPoolExecutor):
    """The default executor of an application that needs all of it."""

    def submit(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("the default executor is the application's")


def _acquire(semaphore: threading.Semaphore, count: int) -> None:
    for _ in range(count):
        assert semaphore.acquire(timeout=60)
