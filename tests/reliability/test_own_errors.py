"""What the caller's own code raises within a call comes out as it is, and nothing is stored."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from careflow_storage import BackblazeStorage, Progress
from careflow_storage.testing.server import B2Server
from tests.support.stopping import LONG, PART, SHORT, THERE, small_parts

Raise = Callable[[], Awaitable[None]]


@pytest.fixture(scope="module")
def emulator() -> Iterator[B2Server]:
    with B2Server(min_part_size=1) as server:
        yield server


@pytest.fixture
async def storage(emulator: B2Server) -> AsyncIterator[BackblazeStorage]:
    async with BackblazeStorage(small_parts(emulator.settings())) as opened:
        await opened.upload_file(THERE, LONG)
        yield opened
    emulator.reset()


MINE = ExceptionGroup("mine", [ValueError("a"), ExceptionGroup("inner", [KeyError("b")])])


async def raise_error() -> None:
    raise ValueError("mine")


async def raise_group() -> None:
    raise MINE


async def raise_group_of_one() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(raise_error())


async def raise_group_with_a_cancellation() -> None:
    raise BaseExceptionGroup("mine", [asyncio.CancelledError(), ValueError("mine")])


async def await_what_is_cancelled() -> None:
    waiting = asyncio.create_task(asyncio.Event().wait())
    waiting.cancel("mine")
    await waiting


async def raise_cancellation() -> None:
    raise asyncio.CancelledError("mine")


RAISED: dict[str, Raise] = {
    "error": raise_error,
    "group": raise_group,
    "group of one": raise_group_of_one,
    "group with a cancellation": raise_group_with_a_cancellation,
    "cancelled task": await_what_is_cancelled,
    "cancellation": raise_cancellation,
}


class Watched:
    """Own code that raises, and remembers what."""

    def __init__(self, how: Raise) -> None:
        self._how = how
        self.raised: BaseException | None = None

    async def fail(self) -> None:
        try:
            await self._how()
        except BaseException as error:
            self.raised = self.raised or error
            raise

    async def progress(self, _: Progress) -> None:
        await self.fail()

    async def body(self, data: bytes) -> AsyncIterator[bytes]:
        yield data
        await self.fail()


async def _record(storage: BackblazeStorage, data: bytes, **options: Any) -> None:
    async with storage.open_recording("CA1", "a.webm", **options) as writer:
        await writer.write(data)


Run = Callable[[BackblazeStorage, Watched, Path], Awaitable[Any]]
CALLS: dict[str, Run] = {
    "progress, single PUT": lambda storage, mine, _: storage.upload_file(
        "new", SHORT, progress=mine.progress
    ),
    "progress, multipart": lambda storage, mine, _: storage.upload_file(
        "new", LONG, progress=mine.progress
    ),
    "progress, stream": lambda storage, mine, _: storage.upload_file(
        "new", _pieces(), progress=mine.progress
    ),
    "progress, resume": lambda storage, mine, folder: storage.upload_file(
        "new", _file(folder), progress=mine.progress, resume=True
    ),
    "progress, download": lambda storage, mine, folder: storage.download_file(
        THERE, folder / "target", progress=mine.progress
    ),
    "progress, short recording": lambda storage, mine, _: _record(
        storage, SHORT, progress=mine.progress
    ),
    "progress, recording": lambda storage, mine, _: _record(storage, LONG, progress=mine.progress),
    "body, single PUT": lambda storage, mine, _: storage.upload_file("new", mine.body(SHORT)),
    "body, multipart": lambda storage, mine, _: storage.upload_file("new", mine.body(LONG)),
    "body, recording": lambda storage, mine, _: storage.upload_recording(
        "CA1", mine.body(LONG), "a.webm"
    ),
    "body and progress": lambda storage, mine, _: storage.upload_file(
        "new", mine.body(LONG), progress=lambda _: None
    ),
}

# A short body is on its way as a whole before its callback is called.
RAISED_AT_THE_END = {"progress, single PUT", "progress, short recording"}


async def _pieces() -> AsyncIterator[bytes]:
    for start in range(0, len(LONG), PART // 2):
        yield LONG[start : start + PART // 2]


def _file(folder: Path) -> Path:
    path = folder / "source"
    path.write_bytes(LONG)
    return path


@pytest.mark.parametrize("how", RAISED)
@pytest.mark.parametrize("call", CALLS)
async def test_given_own_code_that_raises_then_just_that_comes_out_and_nothing_is_stored(
    storage: BackblazeStorage,
    emulator: B2Server,
    tmp_path: Path,
    call: str,
    how: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    mine = Watched(RAISED[how])
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - the very object is compared
        await CALLS[call](storage, mine, tmp_path)
    assert mine.raised is not None
    assert type(caught.value) is type(mine.raised)
    if isinstance(mine.raised, asyncio.CancelledError):
        # Of a task asyncio makes another one for each that awaits it.
        assert caught.value.args == mine.raised.args
    else:
        assert caught.value is mine.raised
    if call not in RAISED_AT_THE_END:
        assert [version.key for version in emulator.versions()] == [THERE]
    if call != "progress, resume":
        assert emulator.incomplete_uploads() == []
    assert not (tmp_path / "target").exists()
    assert "never retrieved" not in caplog.text
    # The task goes on as if nothing had been cancelled.
    assert await storage.get_file(THERE) == LONG


@pytest.mark.parametrize("size", [len(SHORT), len(LONG)])
async def test_given_a_kept_recording_whose_callback_is_cancelled_then_that_comes_out(
    storage: BackblazeStorage, size: int
) -> None:
    mine = Watched(await_what_is_cancelled)
    with pytest.raises(asyncio.CancelledError):
        await _record(storage, LONG[:size], progress=mine.progress, on_error="keep")
    assert mine.raised is not None


async def test_given_a_callback_that_is_no_coroutine_and_raises_a_cancellation_then_it_comes_out(
    storage: BackblazeStorage, emulator: B2Server
) -> None:
    def progress(_: Progress) -> None:
        raise asyncio.CancelledError("mine")

    with pytest.raises(asyncio.CancelledError, match="mine"):
        await storage.upload_file("new", LONG, progress=progress)
    assert [version.key for version in emulator.versions()] == [THERE]
    assert emulator.incomplete_uploads() == []
