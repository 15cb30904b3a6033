"""Whatever happens to a process of the outbox, nothing is lost and nothing is left behind."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from careflow_storage import BackblazeStorage, StorageSettings
from careflow_storage.outbox import Outbox
from careflow_storage.testing.proxy.proxy import FaultProxy
from tests.support.behind_proxy import (
    NOTHING_HELD,
    PART,
    held,
    storage_behind,
    tasks_of_the_library,
    unfinished_uploads,
    versions,
)
from tests.support.cancelled import cancelled_at_step
from tests.support.descriptors import open_files

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]

PRODUCER = """
import asyncio, sys
from careflow_storage.outbox import Outbox
async def main(folder, count):
    async with Outbox(folder) as outbox:
        for n in range(int(count)):
            entry = await outbox.put_recording("CA1", f"{n}".encode(), "a.webm")
            print(entry.key, flush=True)
asyncio.run(main(*sys.argv[1:]))
"""
ENDLESS = """
import asyncio, sys
from careflow_storage.outbox import Outbox
async def body():
    yield b"x" * 1_000_000
    print("begun", flush=True)
    await asyncio.Event().wait()
async def main(folder):
    async with Outbox(folder) as outbox:
        await outbox.put_recording("CA1", body(), "a.webm")
asyncio.run(main(*sys.argv[1:]))
"""
WORKER = """
import asyncio, json, sys
from careflow_storage import BackblazeStorage, StorageSettings
from careflow_storage.outbox import Outbox
async def main(folder, fields):
    async with BackblazeStorage(StorageSettings(**json.loads(fields))) as storage:
        async with Outbox(folder, storage, lease=3600) as outbox:
            await outbox.run()
asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "outbox"


@asynccontextmanager
async def process(program: str, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, *arguments, stdout=subprocess.PIPE, cwd=ROOT
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.communicate()


def spooled(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "spool").iterdir())


# --- killed -----------------------------------------------------------------------------


async def test_killed_while_it_takes_a_recording_in_it_leaves_nothing(folder: Path) -> None:
    async with process(ENDLESS, str(folder)) as child:
        assert child.stdout is not None
        await child.stdout.readline()
        async with Outbox(folder, max_bytes=10**9) as outbox:
            # Alive, it is left alone.
            assert (await outbox.status()).incoming == 1
            assert len(spooled(folder)) == 1
        child.kill()
        await child.wait()
        async with Outbox(folder) as outbox:
            status = await outbox.status()
            assert (status.incoming, status.bytes) == (0, 0)
            assert spooled(folder) == []


async def test_killed_while_it_delivers_another_takes_over_without_waiting_for_the_lease(
    folder: Path, settings: StorageSettings, storage: BackblazeStorage
) -> None:
    async with Outbox(folder) as producer:
        entry = await producer.put_recording("CA1", b"x", "a.webm")
    async with FaultProxy(settings.endpoint or "") as proxy:
        rule = proxy.add(method="PUT", cut="hang", at="head")
        fields = json.loads(settings.model_dump_json(exclude={"application_key"}))
        fields |= {"endpoint": proxy.url, "application_key": "test-application-key"}
        async with process(WORKER, str(folder), json.dumps(fields)) as child:
            async with asyncio.timeout(30):
                await rule.fired.wait()
            child.kill()
            await child.wait()
        rule.release.set()
    async with Outbox(folder, storage) as outbox, asyncio.timeout(30):
        assert (await outbox.drain()).delivered == 1
    assert await storage.get_file(entry.key) == b"x"
    assert spooled(folder) == []


async def test_processes_that_put_at_once_never_share_a_key(
    folder: Path, storage: BackblazeStorage
) -> None:
    async with (
        process(PRODUCER, str(folder), "6") as one,
        process(PRODUCER, str(folder), "6") as other,
    ):
        outputs = await asyncio.gather(one.communicate(), other.communicate())
    keys = b"".join(out for out, _ in outputs).decode().split()
    assert len(set(keys)) == 12
    async with Outbox(folder, storage) as outbox:
        assert (await outbox.drain()).delivered == 12
    assert {file.key for file in await storage.list_files()} == set(keys)


@pytest.mark.integration
@pytest.mark.timeout(300)
def test_killed_at_random_moments_and_steps_it_loses_and_doubles_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.support.crash_outbox", "--json"),
            *("--kills", "20", "--dir", str(tmp_path)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["kills"] >= 20


# --- cancelled --------------------------------------------------------------------------


async def chunks() -> AsyncIterator[bytes]:
    for _ in range(5):
        await asyncio.sleep(0)
        yield b"x" * 40_000


@pytest.mark.skipif(sys.platform != "linux", reason="counts the files in /proc")
@pytest.mark.parametrize("kind", ["bytes", "path", "stream"])
async def test_cancelled_whenever_it_waits_a_put_leaves_nothing(
    folder: Path, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "source").write_bytes(b"x" * 100_000)
    bodies: dict[str, Callable[[], Any]] = {
        "bytes": lambda: b"x" * 100_000,
        "path": lambda: tmp_path / "source",
        "stream": chunks,
    }
    async with Outbox(folder, max_bytes=10**7) as outbox:
        await outbox.put_recording("CA1", b"x", "a.webm")
        tasks, files, number = tasks_of_the_library(), open_files(folder.parent), 1
        while await cancelled_at_step(
            outbox.put_recording("CA1", bodies[kind](), "b.webm"), number
        ):
            assert tasks_of_the_library() <= tasks
            assert open_files(folder.parent) == files
            status = await outbox.status()
            assert (status.incoming, status.pending, status.bytes) == (0, 1, 1)
            assert len(spooled(folder)) == 1
            number += 1
        assert number > 5
        assert (await outbox.status()).pending == 2


@pytest.mark.skipif(sys.platform != "linux", reason="counts the files in /proc")
async def test_cancelled_whenever_it_waits_opening_leaves_nothing(folder: Path) -> None:
    async def opened() -> None:
        async with Outbox(folder):
            pass

    await opened()
    tasks, files, number = tasks_of_the_library(), open_files(folder.parent), 1
    while await cancelled_at_step(opened(), number):
        assert tasks_of_the_library() <= tasks
        assert open_files(folder.parent) == files
        number += 1
    assert number > 2
    assert [path.name for path in (folder / "owners").iterdir()] == ["gate"]


@pytest.mark.parametrize("size", [1000, PART + 1])
async def test_cancelled_whenever_it_waits_a_delivery_is_done_once_and_later(
    folder: Path, settings: StorageSettings, size: int
) -> None:
    async with (
        FaultProxy(settings.endpoint or "") as proxy,
        storage_behind(proxy, settings) as storage,
        Outbox(folder, storage, retry_base_delay=0.001) as outbox,
    ):
        await storage.client()
        body = os.urandom(size)
        entry = await outbox.put_recording("CA1", body, "a.webm")
        tasks, number = tasks_of_the_library(), 1
        while await cancelled_at_step(outbox.drain(), number):
            assert tasks_of_the_library() <= tasks
            assert held(storage) == NOTHING_HELD
            assert (await outbox.status()).delivering == 0
            number += 1
        assert number > 2
        assert (await outbox.drain()).delivered == 1
        assert spooled(folder) == []
        assert await storage.get_file(entry.key) == body
        assert await unfinished_uploads(storage) == []
        assert await versions(storage, entry.key) == (1, 0)


async def test_cancelled_at_any_request_a_delivery_is_done_once_and_later(
    folder: Path, settings: StorageSettings
) -> None:
    async with (
        FaultProxy(settings.endpoint or "") as proxy,
        storage_behind(proxy, settings) as storage,
        Outbox(folder, storage, retry_base_delay=0.001) as outbox,
    ):
        await storage.client()
        for size in (1000, PART + 1):
            for number in range(1, 5):
                body = os.urandom(size)
                entry = await outbox.put_recording("CA1", body, "a.webm")
                await cancel_at_request(proxy, outbox, number)
                assert (await outbox.status()).delivering == 0
                await outbox.drain()
                assert await storage.get_file(entry.key) == body
                assert spooled(folder) == []
        assert await unfinished_uploads(storage) == []


async def cancel_at_request(proxy: FaultProxy, outbox: Outbox, number: int) -> None:
    left = number

    def count(_: Any) -> bool:
        nonlocal left
        left -= 1
        if left == 0:
            task.cancel()
        return False

    proxy.add(when=count)
    task = asyncio.create_task(outbox.drain())
    await asyncio.gather(task, return_exceptions=True)
    proxy.clear()
