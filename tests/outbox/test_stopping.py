"""`Outbox.close`: what was on its way stays queued, whenever and however it is closed."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from careflow_storage import (
    BackblazeStorage,
    InvalidInputError,
    StorageClosedError,
    StorageSettings,
    WrongLoopError,
)
from careflow_storage.outbox import Outbox
from careflow_storage.testing.proxy.proxy import FaultProxy
from tests.support.behind_proxy import PART, storage_behind, tasks_of_the_library
from tests.support.bodies import noise

QUICK: dict[str, Any] = {"poll_interval": 0.05, "retry_base_delay": 0.001, "retry_max_delay": 0.01}
LONG_GRACE = 60.0
DATA = noise(2 * PART + 7)


@pytest.fixture
async def storage(proxy: FaultProxy, settings: StorageSettings) -> AsyncIterator[BackblazeStorage]:
    async with storage_behind(proxy, settings) as opened:
        yield opened


async def opened(folder: Path, storage: BackblazeStorage | None) -> Outbox:
    return await Outbox(folder, storage, **QUICK).__aenter__()


async def delivering(outbox: Outbox, proxy: FaultProxy) -> asyncio.Task[None]:
    """An outbox that runs, with a delivery that hangs in its second part."""
    await outbox.put_recording("CA1", DATA, "a.webm")
    rule = proxy.add(method="PUT", path="partNumber=2", cut="hang")
    task = asyncio.create_task(outbox.run())
    await rule.fired.wait()
    return task


async def assert_is_queued_and_delivered_next(
    folder: Path, storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    proxy.clear()
    async with Outbox(folder, storage, **QUICK) as again:
        (entry,) = await again.entries()
        assert (entry.state, entry.last_error) == ("pending", None)
        async with asyncio.timeout(60):
            status = await again.drain()
        assert (status.delivered, status.dead) == (1, 0)
    assert await storage.get_file(entry.key) == DATA
    assert await storage.list_incomplete_uploads() == []


Closing = Callable[[Outbox, BackblazeStorage, "asyncio.Task[None]"], Awaitable[None]]


async def close_outbox(outbox: Outbox, storage: BackblazeStorage, task: asyncio.Task[None]) -> None:
    await outbox.close(LONG_GRACE)


async def leave_block(outbox: Outbox, storage: BackblazeStorage, task: asyncio.Task[None]) -> None:
    await outbox.__aexit__(None, None, None)


async def close_at_once(
    outbox: Outbox, storage: BackblazeStorage, task: asyncio.Task[None]
) -> None:
    await asyncio.gather(outbox.close(LONG_GRACE), outbox.close(LONG_GRACE))
    await outbox.close()


async def without_grace(
    outbox: Outbox, storage: BackblazeStorage, task: asyncio.Task[None]
) -> None:
    await outbox.close(grace=0)


async def cancel_and_close(
    outbox: Outbox, storage: BackblazeStorage, task: asyncio.Task[None]
) -> None:
    task.cancel()
    await outbox.close(LONG_GRACE)


WAYS: dict[str, Closing] = {
    "outbox": close_outbox,
    "block": leave_block,
    "at once": close_at_once,
    "without grace": without_grace,
    "cancelled": cancel_and_close,
}


@pytest.mark.parametrize("way", WAYS)
async def test_given_a_delivery_when_the_outbox_closes_then_its_entry_stays_queued(
    tmp_path: Path,
    storage: BackblazeStorage,
    proxy: FaultProxy,
    way: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = tasks_of_the_library()
    outbox = await opened(tmp_path, storage)
    task = await delivering(outbox, proxy)
    await WAYS[way](outbox, storage, task)
    await asyncio.wait({task})
    assert tasks_of_the_library() <= before
    with pytest.raises(asyncio.CancelledError if way == "cancelled" else StorageClosedError):
        await task
    assert "never retrieved" not in caplog.text
    await assert_is_queued_and_delivered_next(tmp_path, storage, proxy)


@pytest.mark.parametrize("order", ["storage first", "outbox first", "together"])
async def test_given_a_delivery_when_storage_and_outbox_close_then_its_entry_stays_queued(
    tmp_path: Path, settings: StorageSettings, proxy: FaultProxy, order: str
) -> None:
    async with storage_behind(proxy, settings) as storage:
        outbox = await opened(tmp_path, storage)
        task = await delivering(outbox, proxy)
        if order == "storage first":
            await storage.close(LONG_GRACE)
            await outbox.close(LONG_GRACE)
        elif order == "outbox first":
            await outbox.close(LONG_GRACE)
            await storage.close(LONG_GRACE)
        else:
            await asyncio.gather(storage.close(LONG_GRACE), outbox.close(LONG_GRACE))
        with pytest.raises(StorageClosedError):
            await task
    async with storage_behind(proxy, settings) as storage:
        await assert_is_queued_and_delivered_next(tmp_path, storage, proxy)


async def test_given_a_put_when_the_outbox_closes_then_nothing_is_kept_of_it(
    tmp_path: Path, storage: BackblazeStorage
) -> None:
    outbox = await opened(tmp_path, storage)
    still = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield DATA
        still.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(outbox.put_recording("CA1", body(), "a.webm"))
    await still.wait()
    await outbox.close(LONG_GRACE)
    with pytest.raises(StorageClosedError):
        await task
    assert list((tmp_path / "spool").iterdir()) == []
    async with Outbox(tmp_path, storage) as again:
        assert await again.entries() == []


async def test_given_a_drain_when_the_outbox_closes_then_it_says_so(
    tmp_path: Path, storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    outbox = await opened(tmp_path, storage)
    await outbox.put_recording("CA1", DATA, "a.webm")
    rule = proxy.add(method="PUT", cut="hang")
    task = asyncio.create_task(outbox.drain())
    await rule.fired.wait()
    await outbox.close(LONG_GRACE)
    with pytest.raises(StorageClosedError):
        await task
    await assert_is_queued_and_delivered_next(tmp_path, storage, proxy)


async def test_given_a_closed_outbox_then_every_method_says_so(tmp_path: Path) -> None:
    outbox = await opened(tmp_path, None)
    listing = outbox.entries()
    await outbox.close()
    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "put": lambda: outbox.put_recording("CA1", b"x", "a.webm"),
        "run": outbox.run,
        "drain": outbox.drain,
        "status": outbox.status,
        "get": lambda: outbox.get("x"),
        "listing": lambda: listing,
        "retry": lambda: outbox.retry("x"),
        "retry_all": outbox.retry_all,
        "discard": lambda: outbox.discard("x"),
        "enter": outbox.__aenter__,
    }
    for call in calls.values():
        with pytest.raises(StorageClosedError):
            await call()
    await outbox.close()


async def test_given_an_invalid_number_of_seconds_then_it_is_refused(tmp_path: Path) -> None:
    outbox = await opened(tmp_path, None)
    grace: Any
    for grace in (-1, "5", None, float("nan")):
        with pytest.raises(InvalidInputError):
            await outbox.close(grace)
    await outbox.status()
    await outbox.close()


async def test_given_an_outbox_that_was_never_opened_when_closed_then_it_stays_closed(
    tmp_path: Path,
) -> None:
    outbox = Outbox(tmp_path)
    await outbox.close()
    with pytest.raises(StorageClosedError):
        await outbox.__aenter__()


def test_given_a_loop_that_is_closed_then_close_ends_quietly_elsewhere(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)

    async def put() -> None:
        await outbox.__aenter__()
        await outbox.put_recording("CA1", b"x", "a.webm")

    asyncio.run(put())
    asyncio.run(outbox.close())

    async def count() -> int:
        async with Outbox(tmp_path) as again:
            return len(await again.entries())

    assert asyncio.run(count()) == 1


def test_given_another_loop_that_lives_then_close_says_so(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    with asyncio.Runner() as first, asyncio.Runner() as second:
        first.run(outbox.__aenter__())
        with pytest.raises(WrongLoopError):
            second.run(outbox.close())
        first.run(outbox.put_recording("CA1", b"x", "a.webm"))
        first.run(outbox.close())


@pytest.mark.slow
def test_given_a_process_that_does_not_close_its_outbox_then_it_ends_all_the_same(
    tmp_path: Path,
) -> None:
    code = f"""
        import asyncio
        from careflow_storage.outbox import Outbox

        outbox = Outbox({str(tmp_path / "outbox")!r})

        async def main():
            await outbox.__aenter__()
            await outbox.put_recording("CA1", b"x", "a.webm")

        asyncio.run(main())
        print("done", flush=True)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_given_a_fork_when_the_child_closes_then_the_parents_outbox_stays_open(
    tmp_path: Path,
) -> None:
    code = f"""
        import asyncio, os
        from careflow_storage.outbox import Outbox

        async def main():
            async with Outbox({str(tmp_path / "outbox")!r}) as outbox:
                await outbox.put_recording("CA1", b"x", "a.webm")
                child = os.fork()
                if child == 0:
                    try:
                        asyncio.new_event_loop().run_until_complete(outbox.close())
                    except BaseException as error:
                        print(repr(error), flush=True)
                        os._exit(1)
                    os._exit(0)
                _, code = os.waitpid(child, 0)
                assert code == 0, code
                await outbox.put_recording("CA2", b"x", "a.webm")
                assert len(list(outbox.folder.glob("owners/*.lock"))) == 1
                print((await outbox.status()).pending)

        asyncio.run(main())
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "2\n"), done.stdout + done.stderr
