"""`close(grace)`: calls in flight end in order, whenever and from wherever it is called."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from careflow_storage import (
    BackblazeStorage,
    InvalidInputError,
    StorageClosedError,
    StorageError,
    StorageTimeoutError,
)
from careflow_storage._s3.headers.metadata import PARTIAL_MARKER
from careflow_storage.local import LocalServer
from careflow_storage.outbox import Outbox
from careflow_storage.settings import StorageSettings
from careflow_storage.testing.server import B2Server
from tests.support.behind_proxy import tasks_of_the_library
from tests.support.bodies import MIB, noise
from tests.support.stopping import LONG, SHORT, STOPPED, THERE, StoppedCall, World, small_parts
from tests.support.unfinished import unfinished_uploads

STALL = "UploadPart"
LONG_GRACE = 60.0
"""A grace that is enough on a busy machine, too."""


@pytest.fixture(scope="module")
def emulator() -> Iterator[B2Server]:
    with B2Server(min_part_size=1) as server:
        yield server


@pytest.fixture
def server(emulator: B2Server) -> Iterator[B2Server]:
    yield emulator
    emulator.reset()


@pytest.fixture
async def world(
    server: B2Server,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[World]:
    """A storage that is open, and that the test closes; nothing is left running by it."""
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(BackblazeStorage.close, "__defaults__", (LONG_GRACE,))
    before = tasks_of_the_library()
    storage = BackblazeStorage(small_parts(server.settings()))
    await storage.initialize()
    await storage.upload_file(THERE, LONG)
    async with asyncio.timeout(60):
        yield World(storage, server, tmp_path)
    server.faults.clear()
    assert tasks_of_the_library() <= before


async def started(world: World, call: StoppedCall) -> asyncio.Task[Any]:
    """The call, standing still in its middle."""

    async def run() -> Any:
        return await call.begin(world)

    if call.kept is not None:
        # It marks what is kept. To load it takes a second, here and now not of the grace.
        await world.storage.client()
    task = asyncio.create_task(run())
    still = asyncio.create_task(world.still.wait())
    await asyncio.wait({task, still}, return_when=asyncio.FIRST_COMPLETED)
    still.cancel()
    assert not task.done(), task
    return task


def assert_clean(world: World, call: StoppedCall, caplog: pytest.LogCaptureFixture) -> None:
    """No upload is left, what was to be kept is, and nothing was logged that went wrong."""
    assert world.server.incomplete_uploads() == []
    stored = [version for version in world.server.versions() if version.key != THERE]
    if call.kept is None:
        assert stored == []
    else:
        (version,) = stored
        assert version.body == call.kept
        assert version.metadata[PARTIAL_MARKER] == "true"
    assert "could not" not in caplog.text
    assert "never retrieved" not in caplog.text
    assert not list(world.folder.glob(".*"))
    assert not (world.folder / "file").exists()


async def refusal(call: Callable[[], Awaitable[Any]]) -> type[BaseException] | None:
    try:
        await call()
    except StorageError as error:
        return type(error)
    return None


Moment = Callable[[World, asyncio.Task[Any]], Awaitable[None]]


async def cancel_and_close(world: World, task: asyncio.Task[Any]) -> None:
    """What uvicorn does after its shutdown timeout: both in one turn."""
    task.cancel("Task cancelled, timeout graceful shutdown exceeded")
    await world.storage.close(LONG_GRACE)


async def cancel_then_close(world: World, task: asyncio.Task[Any]) -> None:
    """The clean-up has begun, as in a worker that cancels its jobs before its shutdown hook."""
    task.cancel()
    for _ in range(3):
        await asyncio.sleep(0)
    await world.storage.close(LONG_GRACE)


async def close_alone(world: World, task: asyncio.Task[Any]) -> None:
    await world.storage.close(LONG_GRACE)


async def close_twice_at_once(world: World, task: asyncio.Task[Any]) -> None:
    await asyncio.gather(*(world.storage.close(LONG_GRACE + more) for more in (1, 0, 2)))


async def leave_the_block(world: World, task: asyncio.Task[Any]) -> None:
    await world.storage.__aexit__(None, None, None)


async def fail_out_of_the_block(world: World, task: asyncio.Task[Any]) -> None:
    error = RuntimeError("the app failed")
    await world.storage.__aexit__(RuntimeError, error, None)


CANCELLING: dict[str, Moment] = {
    "in one turn": cancel_and_close,
    "cancelled before": cancel_then_close,
}
CLOSING: dict[str, Moment] = {
    "alone": close_alone,
    "several at once": close_twice_at_once,
    "end of the block": leave_the_block,
    "error out of the block": fail_out_of_the_block,
}


@pytest.mark.parametrize("moment", CANCELLING)
@pytest.mark.parametrize("name", STOPPED)
async def test_given_a_cancelled_call_when_closed_then_it_is_cleaned_up_and_stays_cancelled(
    world: World, name: str, moment: str, caplog: pytest.LogCaptureFixture
) -> None:
    call = STOPPED[name]
    task = await started(world, call)
    await CANCELLING[moment](world, task)
    # All that had to be done has been done when close() returns.
    assert_clean(world, call, caplog)
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    "moment",
    [
        # The end of a block closes as the call does.
        pytest.param(moment, marks=pytest.mark.slow if "block" in moment else [])
        for moment in CLOSING
    ],
)
@pytest.mark.parametrize("name", STOPPED)
async def test_given_a_running_call_when_closed_then_it_is_cleaned_up_and_says_so(
    world: World, name: str, moment: str, caplog: pytest.LogCaptureFixture
) -> None:
    call = STOPPED[name]
    task = await started(world, call)
    await CLOSING[moment](world, task)
    assert_clean(world, call, caplog)
    assert task.done() is not call.idle or name == "recording, stalled, abort"
    world.go_on.set()
    with pytest.raises(StorageClosedError) as caught:
        await task
    assert "closed" in caught.value.message
    assert caught.value.method
    assert not caught.value.retryable
    assert caught.value.unfinished_upload_id is None
    assert_clean(world, call, caplog)


@pytest.mark.parametrize("name", STOPPED)
async def test_given_a_deadline_that_ends_in_the_turn_of_the_close_then_it_is_a_timeout(
    world: World, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    call = STOPPED[name]
    scope = asyncio.timeout(None)

    async def begin(world: World) -> None:
        async with scope:
            await call.begin(world)

    task = await started(world, StoppedCall(begin))
    scope.reschedule(asyncio.get_running_loop().time())
    # Its timer is run before the cancellation of the closing is.
    await asyncio.sleep(0)
    await world.storage.close(LONG_GRACE)
    assert_clean(world, call, caplog)
    with pytest.raises(TimeoutError) as caught:
        await task
    assert not isinstance(caught.value, StorageError)


async def test_given_a_timeout_whose_abort_is_under_way_when_closed_then_it_is_a_timeout(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.stall(STALL)
    aborting = world.server.faults.next("AbortMultipartUpload", delay=0.3)
    task = asyncio.create_task(world.storage.upload_file("new", LONG, timeout=2))
    await aborting.fired.wait()
    await world.storage.close(LONG_GRACE)
    assert_clean(world, STOPPED["put"], caplog)
    with pytest.raises(StorageTimeoutError):
        await task


class TestGrace:
    @pytest.mark.parametrize("owner", [BackblazeStorage, Outbox])
    def test_it_is_five_seconds(self, owner: type[Any]) -> None:
        assert inspect.signature(owner.close).parameters["grace"].default == 5.0

    @pytest.mark.parametrize(
        "grace",
        [-1, -0.001, float("nan"), float("inf"), "5", None, True, pytest.param(10**400, id="huge")],
    )
    async def test_given_what_is_no_number_of_seconds_then_it_is_refused_and_stays_open(
        self, world: World, grace: Any
    ) -> None:
        with pytest.raises(InvalidInputError) as caught:
            await world.storage.close(grace)
        assert caught.value.method == "close"
        assert await world.storage.get_file(THERE) == LONG
        await world.storage.close()

    async def test_given_nothing_in_flight_when_closed_then_the_grace_is_not_waited_for(
        self, world: World
    ) -> None:
        async with asyncio.timeout(30):
            await world.storage.close(grace=10_000)

    @pytest.mark.parametrize("name", ["upload, in parts", "recording, long, abort"])
    async def test_given_an_abort_that_is_slow_then_it_is_waited_for(
        self, world: World, name: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        call = STOPPED[name]
        task = await started(world, call)
        # Longer than a cancelled call would wait by itself.
        world.server.faults.next("AbortMultipartUpload", delay=1.2)
        task.cancel()
        await world.storage.close(LONG_GRACE)
        assert_clean(world, call, caplog)
        with pytest.raises(asyncio.CancelledError):
            await task

    @pytest.mark.parametrize("grace", [0, 0.2])
    @pytest.mark.parametrize("cancelled", [False, True])
    @pytest.mark.parametrize("name", ["upload, in parts", "recording, long, abort"])
    async def test_given_an_abort_that_hangs_then_close_ends_and_the_upload_is_logged(
        self,
        world: World,
        name: str,
        cancelled: bool,
        grace: float,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        task = await started(world, STOPPED[name])
        world.server.faults.always("AbortMultipartUpload", cut="hang")
        if cancelled:
            task.cancel()
        await world.storage.close(grace)
        (left,) = world.server.incomplete_uploads()
        assert left.upload_id in caplog.text
        world.go_on.set()
        with pytest.raises(asyncio.CancelledError if cancelled else StorageClosedError) as caught:
            await task
        assert left.upload_id in "".join(getattr(caught.value, "__notes__", ())) or cancelled

    @pytest.mark.parametrize("grace", [0, 0.2])
    async def test_given_a_keep_that_hangs_then_close_ends_and_the_upload_is_logged(
        self, world: World, grace: float, caplog: pytest.LogCaptureFixture
    ) -> None:
        task = await started(world, STOPPED["recording, long, keep"])
        world.server.faults.always("CompleteMultipartUpload", cut="hang")
        world.server.faults.always("UploadPart", cut="hang")
        await world.storage.close(grace)
        (left,) = world.server.incomplete_uploads()
        assert left.upload_id in caplog.text
        world.go_on.set()
        with pytest.raises(StorageClosedError) as caught:
            await task
        assert caught.value.unfinished_upload_id == left.upload_id
        assert "keep_incomplete_upload" in "".join(caught.value.__notes__)

    async def test_given_a_body_that_swallows_its_cancellation_then_close_ends_all_the_same(
        self, world: World
    ) -> None:
        async def stubborn() -> AsyncIterator[bytes]:
            yield LONG
            while not world.go_on.is_set():
                try:
                    await world.idle()
                except asyncio.CancelledError:
                    world.still.set()

        task = await started(
            world, StoppedCall(lambda world: world.storage.upload_file("new", stubborn()))
        )
        await world.storage.close(grace=0.1)
        assert not task.done()
        world.go_on.set()
        with pytest.raises((StorageClosedError, asyncio.CancelledError)):
            await task

    async def test_given_a_second_close_with_less_grace_then_that_counts(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        task = await started(world, STOPPED["upload, in parts"])
        hanging = world.server.faults.always("AbortMultipartUpload", cut="hang")
        patient = asyncio.create_task(world.storage.close(grace=10_000))
        await hanging.fired.wait()
        await world.storage.close(grace=0)
        await patient
        with pytest.raises(StorageClosedError):
            await task


class TestOtherTransfers:
    async def test_given_a_resumable_upload_when_closed_then_the_next_call_goes_on(
        self, world: World
    ) -> None:
        world.stall(STALL, cut="hang", path="partNumber=3")
        task = asyncio.create_task(world.storage.upload_file("new", LONG, resume=True))
        await world.still.wait()
        await world.storage.close(LONG_GRACE)
        (left,) = world.server.incomplete_uploads()
        with pytest.raises(StorageClosedError) as caught:
            await task
        assert caught.value.unfinished_upload_id == left.upload_id
        world.server.faults.clear()
        async with BackblazeStorage(world.storage.settings) as again:
            done = await again.upload_file("new", LONG, resume=True)
            assert done.reused > 0
            assert await again.get_file("new") == LONG
        assert world.server.incomplete_uploads() == []

    @pytest.mark.slow  # it waits as long as an abort may take
    async def test_given_a_deadline_and_an_abort_that_hangs_then_the_timeout_names_the_upload(
        self, world: World
    ) -> None:
        world.stall(STALL)
        world.server.faults.always("AbortMultipartUpload", cut="hang")
        with pytest.raises(StorageTimeoutError) as caught:
            await world.storage.upload_file("new", LONG, timeout=2)
        (left,) = world.server.incomplete_uploads()
        assert caught.value.unfinished_upload_id == left.upload_id
        await world.storage.close()

    async def test_given_a_source_that_stalls_when_closed_then_nothing_is_left(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            head = b"HTTP/1.1 200 OK\r\nContent-Type: audio/wav\r\nContent-Length: %d\r\n\r\n"
            writer.write(head % (2 * len(LONG)) + LONG)
            await writer.drain()
            await reader.read()
            writer.close()

        source = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = source.sockets[0].getsockname()[1]
        sent = world.server.faults.next(STALL, delay=0.0)
        task = asyncio.create_task(
            world.storage.upload_from_url(
                "CA1", f"http://127.0.0.1:{port}/a.wav", "a.wav", allow_private_addresses=True
            )
        )
        await sent.fired.wait()
        await world.storage.close(LONG_GRACE)
        with pytest.raises(StorageClosedError) as caught:
            await task
        assert caught.value.method == "upload_from_url"
        source.close()
        await source.wait_closed()
        assert_clean(world, STOPPED["put"], caplog)


class TestNewCalls:
    async def test_given_a_storage_that_is_closing_then_new_calls_are_refused(
        self, world: World, tmp_path: Path
    ) -> None:
        storage = world.storage
        recording = storage.open_recording("CA1", "call.webm")
        stream = storage.stream_file(THERE)
        reader = await storage.open_file(THERE)
        listing = storage.list_files()
        task = await started(world, STOPPED["upload, in parts"])
        aborting = world.server.faults.always("AbortMultipartUpload", cut="hang")
        closing = asyncio.create_task(storage.close(grace=10_000))
        await aborting.fired.wait()
        calls: dict[str, Callable[[], Awaitable[Any]]] = {
            "upload_file": lambda: storage.upload_file("a", b"x"),
            "get_file": lambda: storage.get_file(THERE),
            "get_signed_url": lambda: storage.get_signed_url(THERE),
            "recording": recording.__aenter__,
            "stream": stream.read,
            "stream block": stream.__aenter__,
            "reader": lambda: reader.read(1),
            "listing": lambda: listing,
            "admin": lambda: storage.admin.list_buckets(),
            "initialize": storage.initialize,
            "client": storage.client,
        }
        before = len(world.server.requests)
        outcomes = {name: await refusal(call) for name, call in calls.items()}
        assert set(outcomes.values()) == {StorageClosedError}, outcomes
        assert len(world.server.requests) == before
        world.server.faults.clear()
        await closing
        with pytest.raises(StorageClosedError):
            await task

    async def test_given_a_recording_at_its_end_when_closed_then_it_is_stored_whole(
        self, world: World
    ) -> None:
        completing = world.server.faults.next("CompleteMultipartUpload", delay=0.3)

        async def record() -> None:
            async with world.storage.open_recording("CA1", "call.webm") as writer:
                await writer.write(LONG)

        task = asyncio.create_task(record())
        await completing.fired.wait()
        await world.storage.close(LONG_GRACE)
        await task
        (version,) = [each for each in world.server.versions() if each.key != THERE]
        assert version.body == LONG
        assert PARTIAL_MARKER not in version.metadata

    async def test_given_a_kept_recording_then_its_writer_has_the_result(
        self, world: World
    ) -> None:
        writer = world.storage.open_recording("CA1", "call.webm", on_error="keep")
        with pytest.raises(StorageClosedError) as caught:  # noqa: PT012 - the block is tested
            async with writer:
                await writer.write(SHORT)
                await world.storage.close()
        assert (writer.result.partial, writer.result.size) == (True, len(SHORT))
        assert (caught.value.method, caught.value.key) == ("open_recording", writer.key)

    async def test_given_an_exception_in_the_block_of_a_recording_then_that_comes_out(
        self, world: World
    ) -> None:
        with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the block is tested
            async with world.storage.open_recording("CA1", "call.webm"):
                await world.storage.close()
                raise ZeroDivisionError


class TestFromInside:
    async def test_given_a_close_within_a_body_then_nothing_waits_for_itself(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def body() -> AsyncIterator[bytes]:
            yield LONG
            await world.storage.close()
            yield LONG
            await asyncio.Event().wait()

        with pytest.raises(StorageClosedError):
            await world.storage.upload_file("new", body())
        await world.storage.close()
        assert_clean(world, STOPPED["put"], caplog)

    async def test_given_a_close_within_a_progress_callback_then_nothing_waits_for_itself(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def progress(_: Any) -> None:
            await world.storage.close()

        world.stall(STALL, cut="hang", path="partNumber=2")
        with pytest.raises(StorageClosedError):
            await world.storage.upload_file("new", LONG, progress=progress)
        await world.storage.close()
        assert_clean(world, STOPPED["put"], caplog)

    async def test_given_a_close_in_a_task_of_a_body_then_nothing_waits_for_itself(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def body() -> AsyncIterator[bytes]:
            yield LONG
            await asyncio.create_task(world.storage.close())
            yield LONG
            await asyncio.Event().wait()

        with pytest.raises(StorageClosedError):
            await world.storage.upload_file("new", body())
        await world.storage.close()
        assert_clean(world, STOPPED["put"], caplog)

    async def test_given_a_close_between_the_chunks_of_a_stream_then_it_ends_the_stream(
        self, world: World
    ) -> None:
        async def read() -> None:
            async for _ in world.storage.stream_file(THERE):
                await world.storage.close()

        with pytest.raises(StorageClosedError):
            await read()


Make = Callable[[], None]
"""Makes the task, the first time it is called."""


async def _made_in_body(world: World, make: Make) -> None:
    async def body() -> AsyncIterator[bytes]:
        make()
        yield SHORT

    await world.storage.upload_file("outer", body())


async def _made_in_long_body(world: World, make: Make) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield LONG
        make()
        await asyncio.Event().wait()

    await world.storage.upload_file("outer", body())


async def _awaited_in_body(world: World, make: Make) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield LONG
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.Event().wait())
            make()

    await world.storage.upload_file("outer", body())


async def _made_in_upload_progress(world: World, make: Make) -> None:
    await world.storage.upload_file("outer", LONG, progress=lambda _: make())


async def _made_in_stuck_upload_progress(world: World, make: Make) -> None:
    async def progress(_: Any) -> None:
        make()
        await asyncio.Event().wait()

    await world.storage.upload_file("outer", LONG, progress=progress)


async def _made_in_download_progress(world: World, make: Make) -> None:
    await world.storage.download_file(THERE, world.folder / "outer", progress=lambda _: make())


async def _made_in_recording_progress(world: World, make: Make) -> None:
    async with world.storage.open_recording("CA9", "a.webm", progress=lambda _: make()) as writer:
        await writer.write(LONG)


MADE = {
    "body": _made_in_body,
    "body that goes on": _made_in_long_body,
    "body with a task group": _awaited_in_body,
    "progress of an upload": _made_in_upload_progress,
    "progress that goes on": _made_in_stuck_upload_progress,
    "progress of a download": _made_in_download_progress,
    "progress of a recording": _made_in_recording_progress,
}


class TestTasksMadeWithinACall:
    """They may outlive the call: what they call is in flight for itself."""

    @pytest.mark.parametrize("name", ["upload, in parts", "head", "stream, stalled"])
    @pytest.mark.parametrize("made", MADE)
    async def test_given_a_call_in_such_a_task_when_closed_then_it_is_cleaned_up_and_says_so(
        self, world: World, made: str, name: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        inner: list[asyncio.Task[Any]] = []
        begin, was_made = asyncio.Event(), asyncio.Event()
        outer_goes_on = "on" in made.split() or "group" in made

        async def run() -> None:
            await begin.wait()
            await STOPPED[name].begin(world)

        def make() -> None:
            if not inner:
                inner.append(asyncio.create_task(run()))
                was_made.set()

        outer = asyncio.create_task(MADE[made](world, make))
        if outer_goes_on:
            await was_made.wait()
        else:
            await outer
        begin.set()
        await world.still.wait()
        await world.storage.close(LONG_GRACE)
        assert inner[0].done()
        assert outer.done()
        with pytest.raises(StorageClosedError) as caught:
            await inner[0]
        assert caught.value.unfinished_upload_id is None
        if outer_goes_on:
            with pytest.raises(StorageClosedError) as caught:
                await outer
            assert caught.value.method == "upload_file"
        assert world.server.incomplete_uploads() == []
        assert "could not" not in caplog.text
        assert "have not ended" not in caplog.text

    async def test_given_a_closing_that_has_begun_then_such_a_task_begins_nothing_new(
        self, world: World
    ) -> None:
        storage = world.storage
        recording = storage.open_recording("CA1", "call.webm")
        stream = storage.stream_file(THERE)
        listing = storage.list_files()
        closes = asyncio.Event()
        outcomes: list[type[BaseException] | None] = []
        made: list[asyncio.Task[None]] = []

        async def begin_anew() -> None:
            await closes.wait()
            outcomes.append(await refusal(recording.__aenter__))
            outcomes.append(await refusal(stream.read))
            outcomes.append(await refusal(lambda: listing))
            outcomes.append(await refusal(lambda: storage.upload_file("late", SHORT)))

        async def body() -> AsyncIterator[bytes]:
            yield LONG
            made.append(asyncio.create_task(begin_anew()))
            await world.idle()

        outer = asyncio.create_task(storage.upload_file("outer", body()))
        await world.still.wait()
        aborting = world.server.faults.always("AbortMultipartUpload", cut="hang")
        closing = asyncio.create_task(storage.close(grace=10_000))
        await aborting.fired.wait()
        closes.set()
        await made[0]
        assert outcomes == [StorageClosedError] * 4
        world.server.faults.clear()
        await closing
        with pytest.raises(StorageClosedError):
            await outer

    async def test_given_a_call_awaited_in_a_progress_callback_then_the_outer_one_says_so(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        world.stall("HeadObject")

        async def progress(_: Any) -> None:
            await world.storage.get_file_metadata(THERE)

        outer = asyncio.create_task(world.storage.upload_file("new", LONG, progress=progress))
        await world.still.wait()
        await world.storage.close(LONG_GRACE)
        with pytest.raises(StorageClosedError) as caught:
            await outer
        assert (caught.value.method, caught.value.key) == ("upload_file", "new")
        assert_clean(world, STOPPED["put"], caplog)

    @pytest.mark.parametrize("closer", ["child", "its body", "made in its call"])
    async def test_given_a_close_in_such_a_task_that_the_body_awaits_then_nothing_waits_for_itself(
        self, world: World, closer: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        close = world.storage.close
        made: list[asyncio.Task[None]] = []
        go_on = asyncio.Event()

        async def close_later() -> None:
            await go_on.wait()
            await close()

        async def inner() -> AsyncIterator[bytes]:
            yield SHORT
            if closer == "its body":
                await close()
            elif closer == "made in its call":
                made.append(asyncio.create_task(close_later()))

        async def child() -> None:
            await world.storage.upload_file("inner", inner())
            if closer == "child":
                await close()

        async def body() -> AsyncIterator[bytes]:
            yield LONG
            await asyncio.create_task(child())
            go_on.set()
            await asyncio.gather(*made)
            yield LONG
            await asyncio.Event().wait()

        with pytest.raises(StorageClosedError):
            await world.storage.upload_file("new", body())
        await close()
        assert world.server.incomplete_uploads() == []
        assert "have not ended" not in caplog.text


class TestCancellation:
    async def test_given_a_close_that_is_cancelled_then_it_closes_and_is_cancelled(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        task = await started(world, STOPPED["upload, in parts"])
        hanging = world.server.faults.always("AbortMultipartUpload", cut="hang")
        closing = asyncio.create_task(world.storage.close(grace=10_000))
        await hanging.fired.wait()
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        (left,) = world.server.incomplete_uploads()
        assert left.upload_id in caplog.text
        assert "closed" in repr(world.storage)
        with pytest.raises(StorageClosedError):
            await task

    async def test_given_a_close_cancelled_while_an_abort_is_quick_then_nothing_is_left(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        call = STOPPED["upload, in parts"]
        task = await started(world, call)
        closing = asyncio.create_task(world.storage.close())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert_clean(world, call, caplog)
        with pytest.raises(StorageClosedError):
            await task

    async def test_given_a_task_group_when_closed_then_it_ends_with_our_error(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        world.stall(STALL)

        async def run() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(world.storage.upload_file("new", LONG))
                group.create_task(asyncio.Event().wait())

        task = asyncio.create_task(run())
        await world.still.wait()
        await world.storage.close()
        with pytest.raises(ExceptionGroup) as caught:
            await task
        assert caught.group_contains(StorageClosedError)
        assert not caught.group_contains(asyncio.CancelledError)
        assert_clean(world, STOPPED["put"], caplog)

    async def test_given_a_close_within_the_task_group_of_a_call_then_all_ends(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        world.stall(STALL)

        async def run() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(world.storage.upload_file("new", LONG))
                await world.still.wait()
                await world.storage.close()

        with pytest.raises(ExceptionGroup) as caught:
            await run()
        assert caught.group_contains(StorageClosedError)
        assert_clean(world, STOPPED["put"], caplog)

    async def test_given_a_task_that_goes_on_after_our_error_then_it_can_be_cancelled_as_ever(
        self, world: World
    ) -> None:
        world.stall(STALL)
        counts: list[int] = []

        async def run() -> None:
            try:
                await world.storage.upload_file("new", LONG)
            except StorageClosedError:
                current = asyncio.current_task()
                counts.append(current.cancelling() if current is not None else -1)
            world.still.set()
            async with asyncio.timeout(60):
                await asyncio.Event().wait()

        task = asyncio.create_task(run())
        await world.still.wait()
        world.still.clear()
        await world.storage.close()
        await world.still.wait()
        assert counts == [0]
        task.cancel("mine")
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    async def test_given_calls_cancelled_at_any_turn_of_the_close_then_they_stay_cancelled(
        self, server: B2Server, caplog: pytest.LogCaptureFixture
    ) -> None:
        for turns in range(12):
            storage = BackblazeStorage(small_parts(server.settings()))
            await storage.initialize()
            rule = server.faults.next(STALL, cut="hang", path="partNumber=2")
            task = asyncio.create_task(storage.upload_file("new", LONG))
            await rule.fired.wait()
            closing = asyncio.create_task(storage.close())
            for _ in range(turns):
                await asyncio.sleep(0)
            was_over = task.done()
            task.cancel()
            await closing
            with pytest.raises(StorageClosedError if was_over else asyncio.CancelledError):
                await task
            assert server.incomplete_uploads() == []
        assert "could not" not in caplog.text


class TestEndOfTheProgram:
    # The ID of an upload is lost with the request that asks for it.
    @pytest.mark.parametrize("name", [name for name in STOPPED if name != "upload, beginning"])
    async def test_given_all_tasks_cancelled_at_once_then_each_cleans_up(
        self, world: World, name: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """So does ``asyncio.run`` at its end, with the tasks of the library as well."""
        call = STOPPED[name]
        before = asyncio.all_tasks()
        task = await started(world, call)
        everything = asyncio.all_tasks() - before
        for each in everything:
            each.cancel()
        await asyncio.wait(everything)
        assert_clean(world, call, caplog)
        with pytest.raises(asyncio.CancelledError):
            await task
        await world.storage.close()


class TestOtherLoops:
    def test_given_a_loop_that_is_closed_then_close_ends_quietly_elsewhere(
        self, server: B2Server, recwarn: pytest.WarningsRecorder
    ) -> None:
        settings = server.settings()
        storage = BackblazeStorage(settings)
        asyncio.run(storage.initialize())
        asyncio.run(storage.close())
        asyncio.run(storage.close())
        with pytest.raises(StorageClosedError):
            asyncio.run(storage.initialize())

    def test_given_another_loop_that_lives_then_close_says_so_and_the_right_one_closes(
        self, server: B2Server
    ) -> None:
        from careflow_storage import WrongLoopError

        storage = BackblazeStorage(server.settings())
        with asyncio.Runner() as runner:
            runner.run(storage.initialize())
            with pytest.raises(WrongLoopError) as caught:
                _run_in_thread(lambda: asyncio.run(storage.close()))
            assert caught.value.method == "close"
            runner.run(storage.upload_file("a", b"x"))
            runner.run(storage.close())

    async def test_given_an_executor_that_was_shut_down_then_close_ends_quietly(
        self, server: B2Server
    ) -> None:
        storage = BackblazeStorage(server.settings())
        await storage.initialize()
        await storage.upload_file("a", LONG)
        await asyncio.get_running_loop().shutdown_default_executor()
        await storage.close()


def _run_in_thread(function: Callable[[], None]) -> None:
    errors: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


class TestRealServer:
    """The same on SeaweedFS, with parts of the size that real servers take."""

    @pytest.mark.parametrize("cancelled", [True, False])
    @pytest.mark.parametrize("kind", ["upload", "abort", "short", "long"])
    async def test_given_calls_in_flight_when_closed_then_nothing_is_left(
        self,
        seaweedfs: LocalServer,
        seaweed_settings: StorageSettings,
        kind: str,
        cancelled: bool,
    ) -> None:
        storage = BackblazeStorage(seaweed_settings.model_copy(update={"part_size": 5 * MIB}))
        await storage.initialize()
        still = asyncio.Event()
        data = noise(1000 if kind == "short" else 11 * MIB)

        async def body() -> AsyncIterator[bytes]:
            yield data
            still.set()
            await asyncio.Event().wait()

        async def call() -> None:
            if kind == "upload":
                await storage.upload_file("new", body())
                return
            on_error: Any = "abort" if kind == "abort" else "keep"
            async with storage.open_recording("CA1", "a.webm", on_error=on_error) as writer:
                await writer.write(data)
                still.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(call())
        await still.wait()
        if cancelled:
            task.cancel()
        await storage.close(LONG_GRACE)
        if kind == "upload" and not cancelled:
            with pytest.raises(StorageClosedError):
                await task
        task.cancel()
        await asyncio.wait({task})
        assert await unfinished_uploads(seaweed_settings) == []
        async with BackblazeStorage(seaweed_settings) as again:
            files = await again.list_files()
            assert len(files) == (1 if kind in ("short", "long") else 0)
            for file in files:
                assert (await again.get_file_metadata(file.key)).partial
                assert await again.get_file(file.key) == data
