"""Recordings that end with an exception: aborted without a trace, or kept."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from careflow_storage import AccessDeniedError, BackblazeStorage, StorageError, StorageSettings
from careflow_storage._transfer import copy
from careflow_storage._transfer.live import ending
from careflow_storage._transfer.live.writer import RecordingWriter
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
from tests.support.bodies import noise, pieces
from tests.support.cancelled import cancelled_at_request, cancelled_at_step

pytestmark = pytest.mark.slow

LONG = noise(2 * PART + 7)
SHORT = LONG[:1000]


@pytest.fixture
async def storage(proxy: FaultProxy, settings: StorageSettings) -> AsyncIterator[BackblazeStorage]:
    before = tasks_of_the_library()
    async with storage_behind(proxy, settings) as opened:
        await opened.client()
        yield opened
        assert_nothing_held(opened)
        assert tasks_of_the_library() <= before


def assert_nothing_held(storage: BackblazeStorage) -> None:
    assert held(storage) == NOTHING_HELD
    assert storage._runtime.context().spool.size == 0


async def call(
    storage: BackblazeStorage,
    data: bytes = LONG,
    then: Callable[[], Awaitable[Any]] | None = None,
    **options: Any,
) -> RecordingWriter:
    """Record ``data``, do ``then``, and return the writer."""
    writer = storage.open_recording("CA1", "call.webm", **options)
    async with writer:
        for chunk in pieces(data, 100_000):
            await writer.write(chunk)
        if then is not None:
            await then()
    return writer


class HungUpError(Exception):
    """The caller hung up."""


async def hang_up() -> None:
    raise HungUpError


async def only_key(storage: BackblazeStorage) -> str:
    (file,) = await storage.list_files()
    return file.key


@pytest.mark.parametrize("data", [LONG, SHORT], ids=["long", "short"])
async def test_an_interrupted_call_is_not_stored(storage: BackblazeStorage, data: bytes) -> None:
    with pytest.raises(HungUpError):
        await call(storage, data, hang_up)
    assert await storage.list_files() == []
    assert await unfinished_uploads(storage) == []


@pytest.mark.parametrize("data", [LONG, SHORT], ids=["long", "short"])
async def test_an_interrupted_call_is_kept_and_marked_with_on_error_keep(
    storage: BackblazeStorage, data: bytes
) -> None:
    with pytest.raises(HungUpError) as caught:
        await call(storage, data, hang_up, on_error="keep", metadata={"agent": "Zoë"})
    assert not hasattr(caught.value, "__notes__")
    found = await storage.get_file_metadata(await only_key(storage))
    assert (found.partial, found.metadata) == (True, {"agent": "Zoë"})
    assert found.content_type == "audio/webm"
    assert await storage.get_file(found.key) == data
    assert await versions(storage, found.key) == (1, 0)


async def test_the_writer_of_a_kept_call_has_its_result(
    storage: BackblazeStorage,
) -> None:
    writer = storage.open_recording("CA1", "call.webm", on_error="keep")
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - the block is what is tested
        async with writer:
            await writer.write(LONG)
            raise KeyboardInterrupt
    assert (writer.result.partial, writer.result.size) == (True, len(LONG))
    found = await storage.get_file_metadata(writer.key)
    assert (found.etag, found.version_id) == (writer.result.etag, writer.result.version_id)


async def test_a_call_interrupted_before_its_first_byte_is_not_stored(
    storage: BackblazeStorage,
) -> None:
    with pytest.raises(HungUpError):
        await call(storage, b"", hang_up, on_error="keep")
    assert await storage.list_files() == []


async def test_a_call_with_on_error_keep_that_ends_well_is_complete(
    storage: BackblazeStorage,
) -> None:
    for data in (LONG, SHORT, b""):
        writer = await call(storage, data, on_error="keep")
        assert writer.result.partial is False
        assert await storage.get_file(writer.key) == data


@pytest.mark.parametrize("data", [LONG, SHORT], ids=["long", "short"])
async def test_a_cancelled_call_is_kept(storage: BackblazeStorage, data: bytes) -> None:
    listening = asyncio.Event()

    async def listen() -> None:
        listening.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(call(storage, data, listen, on_error="keep"))
    await listening.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    found = await storage.get_file_metadata(await only_key(storage))
    assert (found.partial, found.size) == (True, len(data))


@pytest.mark.parametrize("cancellations", [0, 1, 2])
async def test_a_call_whose_completion_hangs_stays_as_an_incomplete_upload(
    storage: BackblazeStorage,
    proxy: FaultProxy,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    cancellations: int,
) -> None:
    monkeypatch.setattr(ending, "_KEEP_SECONDS", 60.0 if cancellations == 2 else 1.0)
    completing = proxy.add(method="POST", path="uploadId=", cut="hang")

    async def fall() -> None:
        raise asyncio.CancelledError if cancellations == 0 else HungUpError

    task = asyncio.create_task(call(storage, LONG, fall, on_error="keep"))
    fired = asyncio.create_task(completing.fired.wait())
    # On a busy machine the time to keep it may be over before the completion is sent: as good.
    await asyncio.wait({task, fired}, return_when=asyncio.FIRST_COMPLETED)
    fired.cancel()
    for _ in range(cancellations):
        task.cancel()
        await asyncio.sleep(0)
    await asyncio.wait({task}, timeout=30)
    assert task.done()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    (upload_id,) = await unfinished_uploads(storage)
    told = [*caught.value.__notes__] if cancellations == 0 else [caplog.text]
    assert upload_id in "".join(told)
    assert upload_id in caplog.text


async def test_a_finished_call_cancelled_during_completion_is_kept_complete(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    completing = proxy.add(method="POST", path="uploadId=", delay=0.1)
    task = asyncio.create_task(call(storage, LONG, on_error="keep"))
    await completing.fired.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    found = await storage.get_file_metadata(await only_key(storage))
    assert (found.partial, found.size) == (False, len(LONG))


async def test_when_parts_are_refused_the_writer_raises_it_and_nothing_is_stored(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    proxy.add(method="PUT", path="partNumber=2", status=403, code="AccessDenied")
    with pytest.raises(AccessDeniedError) as caught:
        await call(storage, 10 * LONG)
    assert caught.value.operation == "UploadPart"
    assert await storage.list_files() == []
    assert await unfinished_uploads(storage) == []


async def test_when_parts_are_refused_the_confirmed_parts_are_kept_and_reported(
    storage: BackblazeStorage, proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.add(method="PUT", path="partNumber=3", status=403, code="AccessDenied")
    with pytest.raises(AccessDeniedError) as caught:
        await call(storage, 10 * LONG, on_error="keep")
    (upload_id,) = await unfinished_uploads(storage)
    assert caught.value.unfinished_upload_id == upload_id
    assert "keep_incomplete_upload" in "".join(caught.value.__notes__)
    assert upload_id in caplog.text
    # The part sent beside the failed one was not cancelled.
    client = await storage.client()
    stored = await client.list_parts(
        Bucket=storage.settings.bucket_name, Key=caught.value.key, UploadId=upload_id
    )
    assert {1, 2} <= {part["PartNumber"] for part in stored["Parts"]}


async def test_a_swallowed_failure_is_raised_at_the_end(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    proxy.add(method="PUT", path="partNumber=1", status=403, code="AccessDenied")
    with pytest.raises(AccessDeniedError):  # noqa: PT012 - the block is what is tested
        async with storage.open_recording("CA1", "call.webm") as writer:
            for _ in range(10):
                try:
                    await writer.write(LONG)
                except StorageError:
                    break
    assert await unfinished_uploads(storage) == []


async def test_a_short_call_that_cannot_be_kept_adds_a_note_to_the_exception(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    proxy.add(method="PUT", status=403, code="AccessDenied")
    with pytest.raises(HungUpError) as caught:
        await call(storage, SHORT, hang_up, on_error="keep")
    assert "AccessDenied" in "".join(caught.value.__notes__)


async def test_a_call_that_cannot_be_marked_is_kept_anyway(
    storage: BackblazeStorage, proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    def is_copy(attempt: Any) -> bool:
        return attempt.method == "PUT" and "?" not in attempt.target

    proxy.add(when=is_copy, status=403, code="AccessDenied")
    with pytest.raises(HungUpError) as caught:
        await call(storage, LONG, hang_up, on_error="keep")
    found = await storage.get_file_metadata(await only_key(storage))
    assert (found.partial, found.size) == (False, len(LONG))
    assert "is stored, but not marked as partial" in "".join(caught.value.__notes__)
    assert "not marked as partial" in caplog.text


async def test_a_key_that_may_not_erase_leaves_the_unmarked_version(
    storage: BackblazeStorage, proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.add(method="DELETE", status=403, code="AccessDenied")
    with pytest.raises(HungUpError):
        await call(storage, LONG, hang_up, on_error="keep")
    found = await storage.get_file_metadata(await only_key(storage))
    assert found.partial is True
    assert await versions(storage, found.key) == (2, 0)
    assert "could not be erased" in caplog.text


async def test_a_recording_too_large_for_one_copy_is_marked_part_by_part(
    storage: BackblazeStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copy, "MAX_COPY_BYTES", PART)
    monkeypatch.setattr(copy, "_COPIED_PART_BYTES", PART + 8)
    with pytest.raises(HungUpError):
        await call(storage, LONG, hang_up, on_error="keep")
    found = await storage.get_file_metadata(await only_key(storage))
    assert found.partial is True
    assert found.etag.endswith("-2")
    assert await storage.get_file(found.key) == LONG
    assert await versions(storage, found.key) == (1, 0)
    assert await unfinished_uploads(storage) == []


KINDS: dict[str, dict[str, Any]] = {
    "short": {"data": SHORT},
    "spooled": {"data": LONG[: PART - 1]},
    "long": {"data": LONG},
    "flushed": {"data": LONG, "flush_interval": 0.001},
    "progress": {"data": LONG, "progress": lambda _: None},
}


@pytest.mark.parametrize("kind", KINDS)
async def test_cancelled_whenever_it_waits_a_writer_leaves_nothing_behind(
    storage: BackblazeStorage, kind: str
) -> None:
    tasks = tasks_of_the_library()
    number = 1
    while await cancelled_at_step(call(storage, **KINDS[kind]), number):
        assert tasks_of_the_library() <= tasks
        assert_nothing_held(storage)
        assert await unfinished_uploads(storage) == []
        number += 1
        assert number < 300
    assert number > 1


@pytest.mark.parametrize("kind", ["short", "long", "flushed"])
async def test_cancelled_at_any_request_a_writer_leaves_nothing_behind(
    storage: BackblazeStorage, proxy: FaultProxy, kind: str
) -> None:
    tasks = tasks_of_the_library()
    number = 1
    while await cancelled_at_request(proxy, call(storage, **KINDS[kind]), number):
        assert tasks_of_the_library() <= tasks
        assert_nothing_held(storage)
        assert await unfinished_uploads(storage) == []
        number += 1
    assert number > 1


@pytest.mark.parametrize("kind", ["spooled", "long", "flushed"])
async def test_cancelled_whenever_it_waits_a_kept_call_is_stored_or_left_for_later(
    storage: BackblazeStorage, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    tasks = tasks_of_the_library()
    number = 1
    while await cancelled_at_step(call(storage, **KINDS[kind], on_error="keep"), number):
        assert tasks_of_the_library() <= tasks
        assert_nothing_held(storage)
        assert await unfinished_uploads(storage) == []
        number += 1
        assert number < 300
    for file in await storage.list_files():
        found = await storage.get_file_metadata(file.key)
        assert found.partial or found.size == len(KINDS[kind]["data"])
        assert KINDS[kind]["data"].startswith(await storage.get_file(file.key))
