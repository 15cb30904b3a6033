"""What servers and workers do at their end, as real processes that are sent a signal.

Each has five calls in flight: an upload, a recording that is not kept, two that are, a download.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from careflow_storage import BackblazeStorage
from careflow_storage._s3.headers.metadata import PARTIAL_MARKER
from careflow_storage.testing.server import B2Server
from tests.support.bodies import MIB, noise
from tests.support.processes import WAIT_SECONDS, Program, free_port, running_redis

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGTERM"),
]

KINDS = ("upload", "abort", "short", "long", "download")
LONG = 11_000_000
SHORT = 1000
WRONG = ("RuntimeError", "never retrieved", "could not", "ResourceWarning", "was destroyed")
"""What no log may hold."""
JOBS = f"""
import asyncio, random
from careflow_storage import BackblazeStorage
from careflow_storage._transfer.upload import multipart
from careflow_storage._transfer.live import ending

KINDS = {KINDS!r}
# A machine that runs tests may be too busy for what is enough elsewhere.
BackblazeStorage.close.__defaults__ = (50.0,)
ending._KEEP_SECONDS = multipart._ABORT_SECONDS_WHEN_CANCELLED = 50.0

def still(kind):
    print("still", kind, flush=True)

async def slow(kind):
    yield random.Random({LONG}).randbytes({LONG})
    still(kind)
    await asyncio.Event().wait()

async def record(storage, kind, size, on_error):
    async with storage.open_recording(kind, "call.webm", on_error=on_error) as writer:
        await writer.write(random.Random(size).randbytes(size))
        still(kind)
        await asyncio.Event().wait()

async def download(storage):
    async with storage.stream_file("there") as stream:
        async for _ in stream:
            still("download")
            await asyncio.Event().wait()

async def job(storage, kind):
    if kind == "upload":
        await storage.upload_file("new", slow(kind))
    elif kind == "download":
        await download(storage)
    else:
        size = {SHORT} if kind == "short" else {LONG}
        await record(storage, kind, size, "abort" if kind == "abort" else "keep")

async def opened(storage):
    # What marks a kept recording takes a second to load: now, not at the end.
    await storage.client()
    return storage
"""


@pytest.fixture(scope="module")
def emulator() -> Iterator[B2Server]:
    with B2Server() as server:
        yield server


@pytest.fixture
def server(emulator: B2Server) -> Iterator[B2Server]:
    async def put() -> None:
        async with BackblazeStorage(emulator.settings()) as storage:
            await storage.upload_file("there", noise(LONG))

    asyncio.run(put())
    yield emulator
    emulator.reset()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[str]:
    """The URL of a Redis of this test's own."""
    with running_redis(tmp_path / "redis") as server:
        yield server.url


@contextmanager
def program(
    folder: Path, server: B2Server, files: dict[str, str], command: list[str], **environment: str
) -> Iterator[Program]:
    (folder / "jobs.py").write_text(JOBS)
    for name, text in files.items():
        (folder / name).write_text(textwrap.dedent(text))
    settings = server.environment() | {"BACKBLAZE_PART_SIZE": str(5 * MIB)}
    running = Program([sys.executable, *command], folder, settings | environment)
    try:
        yield running
    finally:
        running.close()


def assert_clean(server: B2Server, log: str, kinds: tuple[str, ...] = KINDS) -> None:
    assert server.incomplete_uploads() == [], log
    stored = {version.key: version for version in server.versions() if version.key != "there"}
    kept = {key.split("/")[1]: version for key, version in stored.items()}
    assert set(kept) == {"short", "long"} & set(kinds), log
    for kind, version in kept.items():
        assert version.body == noise(SHORT if kind == "short" else LONG)
        assert version.metadata[PARTIAL_MARKER] == "true", log
    for wrong in WRONG:
        assert wrong not in log, log


@contextmanager
def requests(port: int, paths: tuple[str, ...]) -> Iterator[None]:
    """Requests that stay unanswered."""
    plugs = [socket.create_connection(("127.0.0.1", port), timeout=WAIT_SECONDS) for _ in paths]
    try:
        for plug, path in zip(plugs, paths, strict=True):
            plug.sendall(f"GET /{path} HTTP/1.1\r\nHost: here\r\n\r\n".encode())
        yield
    finally:
        for plug in plugs:
            plug.close()


STILL = tuple(f"still {kind}" for kind in KINDS)
WEB_APP = """
    from contextlib import asynccontextmanager
    from fastapi import FastAPI, Request
    from careflow_storage import BackblazeStorage
    import jobs

    @asynccontextmanager
    async def lifespan(app):
        async with BackblazeStorage() as storage:
            await jobs.opened(storage)
            print("up", flush=True)
            yield {"storage": storage}

    app = FastAPI(lifespan=lifespan)

    @app.get("/{kind}")
    async def run(kind: str, request: Request) -> None:
        await jobs.job(request.state.storage, kind)
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_given_uvicorn_after_its_shutdown_timeout_then_the_lifespans_end_cleans_up(
    tmp_path: Path, server: B2Server, loop: str
) -> None:
    port = free_port()
    command = ["-m", "uvicorn", "app:app", "--port", str(port), "--loop", loop]
    command += ["--timeout-graceful-shutdown", "1"]
    with program(tmp_path, server, {"app.py": WEB_APP}, command) as running:
        running.wait_for("up")
        _wait_until_listening(port)
        with requests(port, KINDS):
            running.wait_for(*STILL)
            code = running.end()
        assert code in (0, -signal.SIGTERM), running.log()
        assert "graceful shutdown exceeded" in running.log()
        assert_clean(server, running.log())


def test_given_hypercorn_after_its_shutdown_timeout_then_the_lifespans_end_cleans_up(
    tmp_path: Path, server: B2Server
) -> None:
    pytest.importorskip("hypercorn")
    port = free_port()
    command = ["-m", "hypercorn", "app:app", "--bind", f"127.0.0.1:{port}"]
    command += ["--graceful-timeout", "1"]
    with program(tmp_path, server, {"app.py": WEB_APP}, command) as running:
        running.wait_for("up")
        _wait_until_listening(port)
        with requests(port, KINDS):
            running.wait_for(*STILL)
            code = running.end()
        assert code in (0, -signal.SIGTERM), running.log()
        assert_clean(server, running.log())


def _wait_until_listening(port: int) -> None:
    """The lifespan begins a moment before the port is open: connect until it is."""
    for _ in range(10_000):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=WAIT_SECONDS).close()
        except ConnectionRefusedError:
            continue
        return
    pytest.fail("the server does not listen")


TASKIQ = """
    import asyncio
    from contextlib import AsyncExitStack
    from taskiq import AsyncBroker, BrokerMessage, TaskiqEvents, TaskiqMessage
    from taskiq.formatters.proxy_formatter import ProxyFormatter
    from careflow_storage import BackblazeStorage
    import jobs

    class Five(AsyncBroker):
        '''Has five tasks, and then waits.'''

        async def kick(self, message):
            raise NotImplementedError

        async def listen(self):
            for kind in jobs.KINDS:
                message = TaskiqMessage(
                    task_id=kind, task_name="run", labels={}, args=[kind], kwargs={}
                )
                yield self.formatter.dumps(message).message
            await asyncio.Event().wait()

    broker = Five()

    @broker.on_event(TaskiqEvents.WORKER_STARTUP)
    async def open_storage(state):
        state.opened = AsyncExitStack()
        state.storage = await state.opened.enter_async_context(BackblazeStorage())
        await jobs.opened(state.storage)

    @broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
    async def close_storage(state):
        await state.opened.aclose()

    @broker.task(task_name="run")
    async def run(kind: str) -> None:
        await jobs.job(broker.state.storage, kind)
"""


def test_given_a_taskiq_worker_after_its_shutdown_timeout_then_its_shutdown_cleans_up(
    tmp_path: Path, server: B2Server
) -> None:
    command = ["-m", "taskiq", "worker", "--workers", "1", "--wait-tasks-timeout", "1"]
    command += ["--shutdown-timeout", "60", "worker:broker"]
    with program(tmp_path, server, {"worker.py": TASKIQ}, command) as running:
        running.wait_for(*STILL)
        code = running.end()
        assert code in (0, -signal.SIGTERM), running.log()
        assert_clean(server, running.log())


ARQ = """
    from arq.connections import RedisSettings
    from careflow_storage import BackblazeStorage
    import os, jobs

    async def run(ctx, kind):
        await jobs.job(ctx["storage"], kind)

    async def startup(ctx):
        ctx["storage"] = await BackblazeStorage().__aenter__()
        await jobs.opened(ctx["storage"])
        for kind in jobs.KINDS:
            await ctx["redis"].enqueue_job("run", kind)

    async def shutdown(ctx):
        await ctx["storage"].close()

    class WorkerSettings:
        functions = [run]
        on_startup = startup
        on_shutdown = shutdown
        redis_settings = RedisSettings.from_dsn(os.environ["REDIS"])
"""


def test_given_an_arq_worker_then_its_shutdown_cleans_up(
    tmp_path: Path, server: B2Server, redis: str
) -> None:
    pytest.importorskip("arq")
    command = ["-m", "arq", "worker.WorkerSettings"]
    with program(tmp_path, server, {"worker.py": ARQ}, command, REDIS=redis) as running:
        running.wait_for(*STILL)
        running.end()
        assert_clean(server, running.log())


SAQ = """
    from saq import Queue
    from careflow_storage import BackblazeStorage
    import os, jobs

    queue = Queue.from_url(os.environ["REDIS"])

    async def run(ctx, *, kind):
        await jobs.job(ctx["storage"], kind)

    async def startup(ctx):
        ctx["storage"] = await BackblazeStorage().__aenter__()
        await jobs.opened(ctx["storage"])
        for kind in jobs.KINDS:
            await queue.enqueue("run", kind=kind, timeout=0)

    async def shutdown(ctx):
        await ctx["storage"].close()

    settings = {
        "queue": queue,
        "functions": [run],
        "concurrency": 10,
        # It cancels again after one second, which a busy machine needs for a part.
        "cancellation_hard_deadline_s": 60.0,
        "startup": startup,
        "shutdown": shutdown,
    }
"""


def test_given_a_saq_worker_then_its_shutdown_cleans_up(
    tmp_path: Path, server: B2Server, redis: str
) -> None:
    pytest.importorskip("saq")
    command = ["-m", "saq", "worker.settings"]
    with program(tmp_path, server, {"worker.py": SAQ}, command, REDIS=redis) as running:
        running.wait_for(*STILL)
        running.end()
        assert_clean(server, running.log())


SCRIPT = """
    import asyncio, signal, sys
    from careflow_storage import BackblazeStorage
    import jobs

    KINDS = sys.argv[2:]

    async def run_all(storage):
        async with asyncio.TaskGroup() as group:
            for kind in KINDS:
                group.create_task(jobs.job(storage, kind))

    async def block():
        async with BackblazeStorage() as storage:
            await run_all(await jobs.opened(storage))

    async def tasks_outside():
        async with BackblazeStorage() as storage:
            await jobs.opened(storage)
            tasks = [asyncio.create_task(jobs.job(storage, kind)) for kind in KINDS]
            stop = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
            await stop.wait()
        outcomes = await asyncio.gather(*tasks[:1], return_exceptions=True)
        print(*sorted({type(outcome).__name__ for outcome in outcomes}), flush=True)

    async def unclosed():
        '''The program ends with calls in flight and an open storage.'''
        storage = await jobs.opened(await BackblazeStorage().__aenter__())
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        tasks = [asyncio.create_task(jobs.job(storage, kind)) for kind in KINDS]
        await stop.wait()

    async def closed_while_ending():
        '''asyncio.run cancels all tasks at once: the one that closes and those that run.'''
        storage = await jobs.opened(await BackblazeStorage().__aenter__())
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        tasks = [asyncio.create_task(jobs.job(storage, kind)) for kind in KINDS]

        async def closer():
            try:
                await asyncio.Event().wait()
            finally:
                await storage.close()

        tasks.append(asyncio.create_task(closer()))
        await stop.wait()

    try:
        asyncio.run(globals()[sys.argv[1]]())
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


WAYS = {
    "block": (signal.SIGINT, KINDS),
    "tasks_outside": (signal.SIGTERM, KINDS),
    "unclosed": (signal.SIGTERM, KINDS),
    "closed_while_ending": (signal.SIGTERM, KINDS),
}


@pytest.mark.parametrize("way", WAYS)
def test_given_a_program_of_its_own_then_it_ends_and_nothing_is_left(
    tmp_path: Path, server: B2Server, way: str
) -> None:
    number, kinds = WAYS[way]
    with program(tmp_path, server, {"script.py": SCRIPT}, ["script.py", way, *kinds]) as running:
        running.wait_for(*(f"still {kind}" for kind in kinds))
        code = running.end(number)
        assert code == 0, running.log()
        assert_clean(server, running.log(), kinds)


AT_EXIT = """
    import asyncio, atexit, sys, threading
    from careflow_storage import BackblazeStorage, StorageError

    storage = BackblazeStorage()
    loop = asyncio.new_event_loop()
    loop.run_until_complete(storage.initialize())
    loop.run_until_complete(storage.upload_file("a", b"x"))

    async def late_upload():
        await storage.upload_file("late", bytes(200_000))

    async def late_client():
        await storage.client()

    async def late_storage():
        async with BackblazeStorage() as another:
            await another.upload_file("later", bytes(200_000))
            await another.client()

    def attempt(what, run):
        try:
            run()
        except StorageError as error:
            print("ours", flush=True)
        except BaseException as error:
            print("raw", what, repr(error), flush=True)
        else:
            print("quiet", flush=True)

    def end():
        if sys.argv[1] == "closed loop":
            loop.close()
            attempt("late", lambda: asyncio.run(late_upload()))
            attempt("close", lambda: asyncio.run(storage.close()))
        else:
            if sys.argv[1] == "no executor":
                loop.run_until_complete(loop.shutdown_default_executor())
            attempt("late", lambda: loop.run_until_complete(late_upload()))
            attempt("client", lambda: loop.run_until_complete(late_client()))
            attempt("close", lambda: loop.run_until_complete(storage.close()))
            attempt("close", lambda: loop.run_until_complete(storage.close()))
            loop.close()
        attempt("storage", lambda: asyncio.run(late_storage()))
        print("end", flush=True)

    if sys.argv[2] == "atexit":
        atexit.register(end)
    else:
        end()
"""


@pytest.mark.parametrize("moment", ["now", "atexit"])
@pytest.mark.parametrize("state", ["open loop", "closed loop", "no executor"])
def test_given_the_end_of_the_interpreter_then_late_calls_end_with_our_errors(
    tmp_path: Path, server: B2Server, state: str, moment: str
) -> None:
    command = ["-W", "ignore::ResourceWarning", "script.py", state, moment]
    with program(tmp_path, server, {"script.py": AT_EXIT}, command) as running:
        code = running.end(None)
        running.wait_for("end")
        assert code == 0, running.log()
        assert not [line for line in running._seen if line.startswith("raw")], running._seen
        assert "Traceback" not in running.log()


FORK = """
    import asyncio, os
    from careflow_storage import BackblazeStorage
    import jobs

    async def main():
        async with BackblazeStorage() as storage:
            await jobs.opened(storage)
            go_on = asyncio.Event()

            async def body():
                yield bytes(6_000_000)
                await go_on.wait()
                yield bytes(6_000_000)

            task = asyncio.create_task(storage.upload_file("both", body()))
            writer = storage.open_recording("CA1", "a.webm", on_error="keep")
            await writer.__aenter__()
            await writer.write(bytes(6_000_000))
            while storage.request_counts().get("UploadPart", 0) < 2:
                await asyncio.sleep(0.01)
            child = os.fork()
            if child == 0:
                try:
                    asyncio.new_event_loop().run_until_complete(storage.close())
                    assert "closed" in repr(storage)
                except BaseException as error:
                    print(repr(error), flush=True)
                    os._exit(1)
                os._exit(0)
            _, code = os.waitpid(child, 0)
            assert code == 0, code
            go_on.set()
            await task
            await writer.write(bytes(6_000_000))
            await writer.__aexit__(None, None, None)
            print("whole", writer.result.size, writer.result.partial, flush=True)

    asyncio.run(main())
"""


def test_given_a_fork_when_the_child_closes_then_the_parents_uploads_go_on(
    tmp_path: Path, server: B2Server
) -> None:
    command = ["-W", "ignore::DeprecationWarning", "script.py"]
    with program(tmp_path, server, {"script.py": FORK}, command) as running:
        code = running.end(None)
        assert code == 0, running.log()
        running.wait_for("whole 12000000 False")
        assert server.incomplete_uploads() == []
        (both,) = server.versions("both")
        assert len(both.body) == 12_000_000
