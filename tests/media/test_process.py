"""The child process: it holds nothing, ends with its call, and its death is a clear error."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from careflow_storage import (
    BackblazeStorage,
    MissingExtraError,
    StorageClosedError,
    StorageTimeoutError,
)
from careflow_storage.media import (
    MediaProcessError,
    UnsupportedMediaError,
    make_seekable,
    probe,
    waveform,
)
from careflow_storage.testing import B2Server
from careflow_storage.testing.proxy.rule import Rule
from tests.support.audio import greeting, recorded

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
async def storage(server: B2Server, temporary: Path) -> AsyncIterator[BackblazeStorage]:
    async with BackblazeStorage(server.settings()) as opened:
        await opened.upload_file("call", recorded("webm"))
        yield opened
    assert left_in(temporary) == []


def left_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def children(parent: int | None = None) -> list[int]:
    """The child processes that read media."""
    found: list[int] = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            status = entry.joinpath("status").read_text()
            command = entry.joinpath("cmdline").read_bytes()
        except OSError:
            continue
        if f"PPid:\t{parent or os.getpid()}\n" in status and b"media._worker" in command:
            found.append(int(entry.name))
    return found


@pytest.fixture
def stalled(server: B2Server, storage: BackblazeStorage) -> Rule:
    """The first GET stalls: the child then waits for bytes."""
    return server.faults.next("GetObject", cut="hang", at=("body", 100))


CALLS = [probe, waveform, make_seekable]


@linux
@pytest.mark.parametrize("call", CALLS)
async def test_a_cancelled_call_leaves_no_process(
    storage: BackblazeStorage, stalled: Rule, call: Any
) -> None:
    task = asyncio.create_task(call(storage, "call"))
    await stalled.fired.wait()
    assert len(children()) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert children() == []


@linux
async def test_a_timeout_leaves_no_process(storage: BackblazeStorage, stalled: Rule) -> None:
    with pytest.raises(StorageTimeoutError):
        await make_seekable(storage, "call", timeout=1.5)
    assert children() == []


@linux
async def test_closing_the_storage_leaves_no_process(
    storage: BackblazeStorage, stalled: Rule
) -> None:
    task = asyncio.create_task(make_seekable(storage, "call"))
    await stalled.fired.wait()
    await storage.close()
    with pytest.raises(StorageClosedError):
        await task
    assert children() == []


@linux
@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (signal.SIGSEGV, "crashed the media library"),
        (signal.SIGKILL, "more processor time or memory"),
        (signal.SIGXCPU, "more processor time or memory"),
    ],
)
async def test_a_child_that_dies_is_a_clear_error(
    storage: BackblazeStorage, stalled: Rule, number: int, reason: str
) -> None:
    task = asyncio.create_task(probe(storage, "call"))
    await stalled.fired.wait()
    (child,) = children()
    os.kill(child, number)
    stalled.release.set()
    with pytest.raises(UnsupportedMediaError, match=reason) as failed:
        await task
    assert failed.value.key == "call"
    assert children() == []
    assert (await probe(storage, "call")).codec == "opus"


@linux
async def test_the_child_has_no_credentials_and_cannot_open_files(
    storage: BackblazeStorage, stalled: Rule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACKBLAZE_APPLICATION_KEY", "a secret of the parent")
    # The command has folders, in which a shorter key could occur.
    await storage.upload_file("the key of a call", recorded("webm"))
    task = asyncio.create_task(probe(storage, "the key of a call"))
    await stalled.fired.wait()
    (child,) = children()
    place = Path(f"/proc/{child}")
    environment, command = read_both(place)
    assert b"secret" not in environment
    assert b"the key of a call" not in command
    limits = {
        line[:26].strip(): line[26:].split()[0]
        for line in place.joinpath("limits").read_text().splitlines()[1:]
    }
    open_files = [int(entry.name) for entry in left_in(place / "fd")]
    assert int(limits["Max open files"]) == len(open_files) == max(open_files) + 1
    assert (limits["Max file size"], limits["Max core file size"]) == ("0", "0")
    assert int(limits["Max cpu time"]) < 60
    assert int(limits["Max address space"]) < 2 * 1024**3
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def read_both(place: Path) -> tuple[bytes, bytes]:
    return place.joinpath("environ").read_bytes(), place.joinpath("cmdline").read_bytes()


async def test_the_missing_extra_is_named_before_any_request(
    server: B2Server, storage: BackblazeStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("careflow_storage.media._tasks.find_spec", lambda name: None)
    before = len(server.requests)
    for call in CALLS:
        with pytest.raises(MissingExtraError) as missing:
            await call(storage, "call")  # type: ignore[operator]  # three functions
        assert missing.value.hint == 'pip install "careflow-storage[media]"'
    assert len(server.requests) == before


async def test_a_child_that_cannot_start(
    storage: BackblazeStorage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "missing"))
    with pytest.raises(MediaProcessError, match="could not be started"):
        await probe(storage, "call")


async def test_a_child_that_ends_at_once(
    storage: BackblazeStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("careflow_storage.media._process._START", "raise SystemExit(7)")
    with pytest.raises(MediaProcessError, match="ended before it was ready"):
        await probe(storage, "call")


@pytest.mark.parametrize(
    "message",
    [
        "b'D\\xff\\xff\\xff\\xff'",
        "b'Z' + (2).to_bytes(4, 'big') + b'{}'",
        "b'G' + (8).to_bytes(4, 'big') + b'[0.5, 9]'",
        "b'L' + (2).to_bytes(4, 'big') + b'{}'",
        "b'D' + (2).to_bytes(4, 'big') + b'{}'",
        "b'D' + (2).to_bytes(4, 'big') + b'}{'",
        "b'G' + (8).to_bytes(4, 'big') + b'[-1, 99]'",
        "b'G' + (4).to_bytes(4, 'big') + b'null'",
        "b'G' + (10).to_bytes(4, 'big') + b'[0, 99999]'",
    ],
)
async def test_a_child_that_was_taken_over_can_only_fail(
    storage: BackblazeStorage, monkeypatch: pytest.MonkeyPatch, message: str
) -> None:
    script = (
        "import os, sys, time; os.write(1, b'R' + (4).to_bytes(4, 'big') + b'null'); "
        f"os.write(1, {message}); sys.stdin.buffer.read()"
    )
    monkeypatch.setattr("careflow_storage.media._process._START", script)
    with pytest.raises(MediaProcessError):
        await probe(storage, "call")


SCRIPT = """
import asyncio, sys
from careflow_storage import BackblazeStorage, StorageSettings
from careflow_storage.media import probe, waveform

async def main():
    async with BackblazeStorage(StorageSettings()) as storage:
        print((await probe(storage, "call")).codec, flush=True)
        waiting = [asyncio.create_task(waveform(storage, "call")) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.wait(waiting)
        print((await probe(storage, "call")).codec, flush=True)

if sys.argv[1] == "uvloop":
    import uvloop
    uvloop.run(main())
else:
    asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_a_loop_that_ends_at_once_finds_nothing_left(
    server: B2Server, storage: BackblazeStorage, loop: str
) -> None:
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-c", SCRIPT, loop),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **server.environment()},
    )
    output, errors = await process.communicate()
    assert (output.decode().split(), errors.decode()) == (["opus", "opus"], "")


async def test_the_loop_runs_on_while_a_child_decodes(storage: BackblazeStorage) -> None:
    await storage.upload_file("greeting", greeting("webm"))
    task = asyncio.create_task(waveform(storage, "greeting"))
    assert await storage.file_exists("greeting")
    assert not task.done()
    await task


KILLED = """
import asyncio, os, signal
from careflow_storage import BackblazeStorage, StorageSettings
from careflow_storage.media import make_seekable

async def main():
    async with BackblazeStorage(StorageSettings()) as storage:
        print(os.getpid(), flush=True)
        await make_seekable(storage, "call")

asyncio.run(main())
"""


@linux
@pytest.mark.slow
async def test_a_killed_process_leaves_no_child_and_no_file(
    server: B2Server, storage: BackblazeStorage, stalled: Rule, temporary: Path
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", KILLED),
        stdout=subprocess.PIPE,
        env={**os.environ, **server.environment(), "TMPDIR": str(temporary)},
    )
    assert process.stdout is not None
    parent = int(await process.stdout.readline())
    await stalled.fired.wait()
    (child,) = children(parent)
    watched = os.pidfd_open(child)
    assert len(left_in(temporary)) == 1
    process.kill()
    await process.wait()
    ended = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().add_reader(watched, ended.set_result, None)
    try:
        # The child reads the end of its pipe, and removes the file.
        await ended
    finally:
        asyncio.get_running_loop().remove_reader(watched)
        os.close(watched)
    assert left_in(temporary) == []
