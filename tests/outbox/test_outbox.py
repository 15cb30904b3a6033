"""The outbox delivers each recording once, under one key, and loses none."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from careflow_storage import (
    BackblazeStorage,
    InvalidInputError,
    NotConfiguredError,
    PreconditionFailedError,
    SizeMismatchError,
    StorageClosedError,
    StorageError,
    StorageSettings,
)
from careflow_storage.outbox import Outbox, OutboxError, OutboxFullError, OutboxStatus
from careflow_storage.testing.proxy.proxy import FaultProxy
from tests.support.behind_proxy import PART, storage_behind, tasks_of_the_library, versions

WHEN = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
QUICK: dict[str, Any] = {"poll_interval": 0.05, "retry_base_delay": 0.001, "retry_max_delay": 0.01}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "outbox"


@pytest.fixture
async def outbox(folder: Path, storage: BackblazeStorage) -> AsyncIterator[Outbox]:
    async with Outbox(folder, storage, **QUICK) as opened:
        yield opened


@asynccontextmanager
async def outbox_behind(
    proxy: FaultProxy, settings: StorageSettings, folder: Path, **options: Any
) -> AsyncIterator[Outbox]:
    """An outbox whose storage talks to the proxy and tries each request once."""
    async with (
        storage_behind(proxy, settings, retry_attempts=1) as storage,
        Outbox(folder, storage, **(QUICK | options)) as opened,
    ):
        yield opened


@asynccontextmanager
async def running(outbox: Outbox) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(outbox.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(outbox: Outbox, **wanted: Any) -> OutboxStatus:
    """Wait until the status has these values."""
    async with asyncio.timeout(60):
        while True:
            status = await outbox.status()
            if all(getattr(status, name) == value for name, value in wanted.items()):
                return status
            await asyncio.sleep(0.005)


def spooled(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "spool").iterdir())


async def chunks(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        await asyncio.sleep(0)
        yield piece


# --- in and out -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bytes", "text", "path", "file", "iterable", "async iterable"])
async def test_any_kind_of_body_is_delivered_as_it_is(
    outbox: Outbox,
    storage: BackblazeStorage,
    recordings: dict[str, Path],
    folder: Path,
    kind: str,
) -> None:
    path = recordings["greeting.webm"]
    data = b"text" if kind == "text" else path.read_bytes()
    with path.open("rb") as file:
        bodies: dict[str, Any] = {
            "bytes": data,
            "text": "text",
            "path": path,
            "file": file,
            "iterable": [data[:7], data[7:]],
            "async iterable": chunks(data[:7], b"", data[7:]),
        }
        entry = await outbox.put_recording("CA123", bodies[kind], "recording.webm")
    assert (entry.state, entry.size) == ("pending", len(data))
    assert entry.sha256 == hashlib.sha256(data).hexdigest()
    assert spooled(folder) == [entry.id]
    status = await outbox.drain()
    assert (status.delivered, status.pending, status.bytes) == (1, 0, 0)
    assert await storage.get_file(entry.key) == data
    assert spooled(folder) == []


async def test_the_options_of_a_recording_arrive(outbox: Outbox, storage: BackblazeStorage) -> None:
    entry = await outbox.put_recording(
        "CA123",
        b"sound",
        "a.webm",
        content_type="audio/x-own",
        recorded_at=WHEN,
        metadata={"agent": "Zoë"},
        checksum="sha256",
    )
    assert entry.key == f"recordings/CA123/{int(WHEN.timestamp() * 1000)}-a.webm"
    await outbox.drain()
    head = await storage.get_file_metadata(entry.key)
    assert (head.content_type, head.metadata) == ("audio/x-own", {"agent": "Zoë"})
    delivered = await outbox.get(entry.id)
    assert delivered is not None
    assert (delivered.state, delivered.etag) == ("delivered", head.etag)
    assert delivered.version_id == head.version_id


async def test_the_content_type_is_detected_from_the_bytes(
    outbox: Outbox, storage: BackblazeStorage, recordings: dict[str, Path]
) -> None:
    entry = await outbox.put_recording("CA123", recordings["greeting.ogg"], "recording.ogg")
    await outbox.drain()
    assert (await storage.get_file_metadata(entry.key)).content_type == "audio/ogg"


async def test_a_recording_put_while_it_runs_is_delivered_without_polling(
    folder: Path, storage: BackblazeStorage
) -> None:
    async with Outbox(folder, storage, poll_interval=3600) as outbox, running(outbox):
        await asyncio.sleep(0.1)  # so that it rests
        await outbox.put_recording("CA123", b"now", "a.webm")
        await until(outbox, delivered=1)


async def test_polling_finds_the_recordings_of_another_outbox(outbox: Outbox, folder: Path) -> None:
    async with Outbox(folder) as producer, running(outbox):
        await producer.put_recording("CA123", b"from elsewhere", "a.webm")
        await until(producer, delivered=1)


async def test_recordings_of_the_same_millisecond_never_share_a_key(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Outbox(folder) as one, Outbox(folder) as other:
        monkeypatch.setattr("time.time_ns", lambda: 1_795_000_000_000_000_000)
        puts = [each.put_recording("CA1", b"x", "a.webm") for each in (one, other) * 10]
        entries = await asyncio.gather(*puts)
    assert len({entry.key for entry in entries}) == 20


async def test_put_again_with_the_same_time_and_bytes_it_is_the_same_recording(
    outbox: Outbox, storage: BackblazeStorage, folder: Path
) -> None:
    async def put() -> str:
        entry = await outbox.put_recording("CA1", chunks(b"one"), "a.webm", recorded_at=WHEN)
        return entry.id

    first, *others = await asyncio.gather(*(put() for _ in range(3)))
    assert set(others) == {first}
    assert spooled(folder) == [first]
    await outbox.drain()
    assert await put() == first
    assert (await outbox.drain()).delivered == 1
    (entry,) = await outbox.entries()
    assert await versions(storage, entry.key) == (1, 0)


async def test_put_again_with_the_same_time_and_other_bytes_it_is_refused(
    outbox: Outbox, folder: Path
) -> None:
    first = await outbox.put_recording("CA1", b"one", "a.webm", recorded_at=WHEN)
    with pytest.raises(PreconditionFailedError, match="another recording") as caught:
        await outbox.put_recording("CA1", b"two", "a.webm", recorded_at=WHEN)
    assert caught.value.key == first.key
    assert [entry.id for entry in await outbox.entries()] == [first.id] == spooled(folder)


@pytest.mark.parametrize(
    ("call_id", "filename", "options"),
    [
        ("../CA1", "a.webm", {}),
        ("CA1", "a/b", {}),
        ("CA1", "a.webm", {"metadata": {"b2-x": "y"}}),
        ("CA1", "a.webm", {"content_type": "a\r\nb"}),
        ("CA1", "a.webm", {"checksum": "md4"}),
        ("CA1", "a.webm", {"recorded_at": datetime(2026, 1, 1)}),  # noqa: DTZ001
        ("CA1", "a.webm", {"size": -1}),
    ],
)
async def test_undeliverable_recordings_are_refused_by_put(
    outbox: Outbox, folder: Path, call_id: str, filename: str, options: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInputError):
        await outbox.put_recording(call_id, b"x", filename, **options)
    assert await outbox.entries() == []
    assert spooled(folder) == []


@pytest.mark.parametrize("size", [2, 4])
async def test_a_stream_that_breaks_its_word_is_refused(
    outbox: Outbox, folder: Path, size: int
) -> None:
    with pytest.raises(SizeMismatchError):
        await outbox.put_recording("CA1", chunks(b"abc"), "a.webm", size=size)
    assert (await outbox.status()).bytes == 0
    assert spooled(folder) == []


async def test_an_exception_of_the_body_is_raised_and_nothing_is_kept(
    outbox: Outbox, folder: Path
) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * 100_000
        raise RuntimeError("the line went dead")

    with pytest.raises(RuntimeError, match="went dead"):
        await outbox.put_recording("CA1", broken(), "a.webm")
    status = await outbox.status()
    assert (status.incoming, status.pending, status.bytes) == (0, 0, 0)
    assert spooled(folder) == []


# --- room -------------------------------------------------------------------------------


async def test_a_full_outbox_refuses_and_takes_again_after_a_delivery(
    folder: Path, storage: BackblazeStorage
) -> None:
    async with Outbox(folder, storage, max_bytes=1000) as outbox:
        await outbox.put_recording("CA1", b"x" * 600, "a.webm")
        for body in (b"y" * 401, chunks(b"y" * 400, b"y"), [b"y" * 401]):
            with pytest.raises(OutboxFullError, match="of 1000 bytes") as caught:
                await outbox.put_recording("CA1", body, "a.webm")
            assert "max_bytes" in (caught.value.hint or "")
        assert (await outbox.status()).bytes == 600
        assert len(spooled(folder)) == 1
        await outbox.put_recording("CA1", chunks(b"y" * 400), "a.webm")
        assert (await outbox.status()).bytes == 1000
        assert (await outbox.drain()).bytes == 0
        await outbox.put_recording("CA1", b"x" * 1000, "a.webm")


async def test_producers_together_never_go_beyond_the_limit(folder: Path) -> None:
    async with Outbox(folder, max_bytes=5000) as one, Outbox(folder, max_bytes=5000) as other:
        puts = [each.put_recording("CA1", b"x" * 700, "a.webm") for each in (one, other) * 8]
        outcomes = await asyncio.gather(*puts, return_exceptions=True)
        assert sum(isinstance(each, OutboxFullError) for each in outcomes) == 9
        assert (await one.status()).bytes == 4900


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
async def test_a_full_disk_is_reported_clearly_and_nothing_is_kept(
    outbox: Outbox, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def full(name: Any, flags: int, mode: int = 0o777) -> int:
        return (
            real("/dev/full", os.O_WRONLY)
            if str(name).endswith(".part")
            else real(name, flags, mode)
        )

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(OutboxFullError, match="disk is full") as caught:
        await outbox.put_recording("CA1", b"x" * 100_000, "a.webm")
    assert "free disk space" in (caught.value.hint or "")
    monkeypatch.undo()
    assert (await outbox.status()).bytes == 0
    assert spooled(folder) == []


# --- failures ---------------------------------------------------------------------------


async def test_a_busy_server_is_tried_until_it_takes_the_recording(
    proxy: FaultProxy, settings: StorageSettings, folder: Path
) -> None:
    proxy.add(method="PUT", times=12, status=503, code="ServiceUnavailable")
    async with outbox_behind(proxy, settings, folder) as outbox:
        entry = await outbox.put_recording("CA1", b"patience", "a.webm")
        await outbox.drain()
        delivered = await outbox.get(entry.id)
    assert delivered is not None
    assert (delivered.state, delivered.attempts) == ("delivered", 13)
    assert delivered.last_error is None


async def test_the_server_says_how_long_to_wait(
    proxy: FaultProxy, settings: StorageSettings, folder: Path
) -> None:
    slow = {"status": 503, "code": "SlowDown", "headers": {"Retry-After": "1000"}}
    proxy.add(method="PUT", path="CA1", **slow)
    async with outbox_behind(proxy, settings, folder, concurrency=1) as outbox, running(outbox):
        await outbox.put_recording("CA1", b"x", "a.webm")
        await outbox.put_recording("CA2", b"y", "b.webm")
        await until(outbox, delivered=1)
        entry = (await outbox.entries("pending"))[0]
    assert entry.next_attempt_at is not None
    assert entry.next_attempt_at > datetime.now(UTC) + timedelta(seconds=900)


async def test_a_recording_that_fails_for_too_long_becomes_a_dead_letter_and_keeps_its_bytes(
    proxy: FaultProxy, settings: StorageSettings, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rule = proxy.add(method="PUT", status=503, code="SlowDown")
    async with outbox_behind(proxy, settings, folder, give_up_after=timedelta(0)) as outbox:
        entry = await outbox.put_recording("CA1", b"kept", "a.webm")
        status = await outbox.drain()
        assert (status.dead, status.bytes) == (1, 4)
        assert "SlowDown" in (status.last_error or "")
        (dead,) = await outbox.dead_letters()
        assert (dead.id, dead.state, dead.attempts) == (entry.id, "dead", 2)
        assert spooled(folder) == [entry.id]
        assert "Gave up delivering" in caplog.text
        rule.times = 0
        assert (await outbox.retry(entry.id)).state == "pending"
        assert (await outbox.drain()).delivered == 1
        assert await outbox.dead_letters() == []


async def test_a_recording_that_the_server_refuses_is_given_up_at_once(
    proxy: FaultProxy, settings: StorageSettings, folder: Path
) -> None:
    proxy.add(method="PUT", path="CA1", status=400, code="InvalidArgument")
    async with outbox_behind(proxy, settings, folder) as outbox:
        await outbox.put_recording("CA1", b"bad", "a.webm")
        await outbox.put_recording("CA2", b"good", "a.webm")
        status = await outbox.drain()
        assert (status.dead, status.delivered, status.blocked) == (1, 1, False)
        dead = [entry async for entry in outbox.dead_letters()]
        await outbox.discard(dead[0].id)
        assert (await outbox.status()).bytes == 0
        assert spooled(folder) == []
        with pytest.raises(InvalidInputError):
            await outbox.discard(dead[0].id)
        with pytest.raises(InvalidInputError):
            await outbox.retry(dead[0].id)


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (400, "InvalidRequest", "The request body was too small"),
        (400, "InvalidRequest", "something else that passes"),
        (400, "IncompleteBody", ""),
        (400, "BadDigest", ""),
        (400, "BadRequest", ""),
        (409, "OperationAborted", ""),
        (413, None, "a proxy's limit that is raised"),
        (403, "SignatureDoesNotMatch", "while the key is rotated"),
        (403, "RequestTimeTooSkewed", "until the clock is right"),
        (403, "storage_cap_exceeded", "until the cap is raised"),
        (403, "AccessDenied", ""),
        (404, "NoSuchBucket", ""),
        (404, None, ""),
        (503, "SlowDown", ""),
    ],
)
async def test_a_refusal_that_may_pass_is_no_reason_to_give_a_recording_up(
    proxy: FaultProxy,
    settings: StorageSettings,
    folder: Path,
    status: int,
    code: str | None,
    message: str,
) -> None:
    rule = proxy.add(method="PUT", times=3, status=status, code=code, message=message)
    async with outbox_behind(proxy, settings, folder) as outbox:
        entry = await outbox.put_recording("CA1", b"good", "a.webm")
        seen = await outbox.drain()
        assert (seen.dead, seen.delivered) == (0, 1)
        assert rule.hits == 3
    async with BackblazeStorage(settings) as storage:
        assert await storage.get_file(entry.key) == b"good"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (403, "InvalidAccessKeyId"),
        (403, "AccessDenied"),
        (403, "storage_cap_exceeded"),
        (404, "NoSuchBucket"),
    ],
)
async def test_a_bucket_that_refuses_kills_no_recording_and_gets_few_requests(
    proxy: FaultProxy, settings: StorageSettings, folder: Path, status: int, code: str
) -> None:
    rule = proxy.add(method="PUT", status=status, code=code)
    options = {"give_up_after": timedelta(0), "retry_base_delay": 60, "retry_max_delay": 60}
    async with outbox_behind(proxy, settings, folder, **options) as outbox, running(outbox):
        for _ in range(12):
            await outbox.put_recording("CA1", b"x", "a.webm")
        await rule.fired.wait()
        seen = await until(outbox, blocked=True, delivering=0)
        assert rule.hits < 12
        assert (seen.dead, seen.delivered) == (0, 0)
        assert code in (seen.last_error or "")
        rule.times = 0
        assert await outbox.retry_all() > 0
        seen = await until(outbox, delivered=12)
        assert (seen.dead, seen.blocked, seen.last_error) == (0, False, None)


async def test_a_recording_that_alone_is_denied_is_given_up_when_others_were_delivered(
    proxy: FaultProxy, settings: StorageSettings, folder: Path
) -> None:
    proxy.add(method="PUT", path="CA1", status=403, code="AccessDenied")
    async with outbox_behind(proxy, settings, folder, give_up_after=timedelta(0)) as outbox:
        await outbox.put_recording("CA1", b"denied", "a.webm")
        async with running(outbox):
            await until(outbox, blocked=True)
            await outbox.put_recording("CA2", b"good", "a.webm")
            await until(outbox, delivered=1, dead=1)


async def test_a_spool_file_that_was_damaged_is_not_delivered(
    outbox: Outbox, storage: BackblazeStorage, folder: Path
) -> None:
    entry = await outbox.put_recording("CA1", b"right", "a.webm")
    gone = await outbox.put_recording("CA1", b"gone", "a.webm")
    (folder / "spool" / entry.id).write_bytes(b"wrong")
    (folder / "spool" / gone.id).unlink()
    assert (await outbox.drain()).dead == 2
    first, second = await outbox.dead_letters()
    assert "has changed" in (first.last_error or "")
    assert "is missing" in (second.last_error or "")
    assert await storage.list_files() == []


@pytest.mark.parametrize("size", [1000, 3 * PART + 7])
async def test_a_response_that_was_lost_makes_no_second_version(
    proxy: FaultProxy, settings: StorageSettings, folder: Path, size: int
) -> None:
    body = os.urandom(size)
    async with outbox_behind(proxy, settings, folder) as outbox:
        entry = await outbox.put_recording("CA1", body, "a.webm")
        lost = {"path": "CA1", "times": 1, "cut": "rst", "at": "resp"}
        proxy.add(method="PUT", **lost) if size < PART else proxy.add(method="HEAD", **lost)
        await outbox.drain()
        delivered = await outbox.get(entry.id)
        assert delivered is not None
        assert (delivered.state, delivered.attempts) == ("delivered", 2)
    async with BackblazeStorage(settings) as storage:
        assert await storage.get_file(entry.key) == body
        assert await versions(storage, entry.key) == (1, 0)


async def test_a_key_for_writing_alone_can_deliver(
    proxy: FaultProxy, settings: StorageSettings, folder: Path
) -> None:
    proxy.add(method="HEAD", status=403)
    proxy.add(method="GET", status=403, code="AccessDenied")
    async with outbox_behind(proxy, settings, folder) as outbox:
        await outbox.put_recording("CA1", b"x", "a.webm")
        assert (await outbox.drain()).delivered == 1


async def test_an_object_with_other_bytes_does_not_count_as_delivered(
    proxy: FaultProxy, settings: StorageSettings, folder: Path
) -> None:
    proxy.add(method="HEAD", times=2, headers={"ETag": f'"{"0" * 32}"'})
    async with outbox_behind(proxy, settings, folder) as outbox:
        entry = await outbox.put_recording("CA1", b"x", "a.webm")
        await outbox.drain()
        delivered = await outbox.get(entry.id)
        assert delivered is not None
        assert delivered.attempts > 1


# --- leases -----------------------------------------------------------------------------


async def test_cancelled_it_gives_its_leases_back_at_once(
    proxy: FaultProxy, settings: StorageSettings, folder: Path, storage: BackblazeStorage
) -> None:
    rule = proxy.add(method="PUT", cut="hang", at="head")
    async with outbox_behind(proxy, settings, folder) as outbox:
        for _ in range(3):
            await outbox.put_recording("CA1", b"x", "a.webm")
        tasks = tasks_of_the_library()
        async with running(outbox):
            await until(outbox, delivering=3)
        assert tasks_of_the_library() <= tasks
        status = await outbox.status()
        assert (status.pending, status.delivering) == (3, 0)
        async with Outbox(folder, storage, **QUICK) as other:
            assert (await other.drain()).delivered == 3
    rule.release.set()


async def test_two_workers_share_the_work_and_deliver_each_recording_once(
    folder: Path, storage: BackblazeStorage, outbox: Outbox
) -> None:
    async with Outbox(folder, storage, **QUICK) as other:
        puts = [outbox.put_recording("CA1", os.urandom(100), "a.webm") for _ in range(20)]
        entries = await asyncio.gather(*puts)
        await asyncio.gather(outbox.drain(), other.drain())
        assert {entry.attempts for entry in await other.entries()} == {1}
    for entry in entries:
        assert await versions(storage, entry.key) == (1, 0)


async def test_a_worker_that_hangs_loses_its_lease_to_another(
    proxy: FaultProxy, settings: StorageSettings, folder: Path, storage: BackblazeStorage
) -> None:
    rule = proxy.add(method="PUT", cut="hang", at="head")
    async with outbox_behind(proxy, settings, folder, lease=0.5) as outbox:
        await outbox.put_recording("CA1", b"x", "a.webm")
        async with running(outbox), Outbox(folder, storage, **QUICK) as other:
            await until(outbox, delivering=1)
            # What a stopped process does not do any more: renew.
            queue = outbox._store().queue
            queue.renew = _never  # type: ignore[method-assign]  # stands for a stopped process
            assert (await other.drain()).delivered == 1
            assert (await other.entries())[0].attempts == 2
        rule.release.set()


async def _never(ids: Any, lease: float) -> set[str]:
    return set(ids)


# --- life and misuse --------------------------------------------------------------------


async def test_recordings_are_still_there_after_the_outbox_is_opened_again(
    folder: Path, storage: BackblazeStorage
) -> None:
    async with Outbox(folder) as producer:
        entry = await producer.put_recording("CA1", b"x", "a.webm", metadata={"a": "b"})
    async with Outbox(folder, storage) as worker:
        await worker.drain()
    assert (await storage.get_file_metadata(entry.key)).metadata == {"a": "b"}


async def test_deliveries_are_forgotten_after_their_time(
    folder: Path, storage: BackblazeStorage
) -> None:
    async with Outbox(folder, storage) as outbox:
        entry = await outbox.put_recording("CA1", b"x", "a.webm")
        await outbox.drain()
    async with Outbox(folder, storage) as outbox:
        assert (await outbox.status()).delivered == 1
    async with Outbox(folder, storage, keep_delivered=timedelta(0)) as outbox:
        assert await outbox.get(entry.id) is None
        assert (await outbox.status()).delivered == 0


async def test_the_status_tells_how_it_stands_in_json(outbox: Outbox) -> None:
    before = await outbox.status()
    assert (before.oldest, before.last_delivered_at, before.blocked) == (None, None, False)
    entry = await outbox.put_recording("CA1", b"x" * 10, "a.webm")
    status = await outbox.status()
    assert (status.pending, status.bytes, status.oldest) == (1, 10, entry.created_at)
    assert json.loads(status.model_dump_json())["pending"] == 1
    assert (await outbox.drain()).last_delivered_at is not None


async def test_the_folder_is_for_its_user_alone(outbox: Outbox, folder: Path) -> None:
    await outbox.put_recording("CA1", b"x", "a.webm")
    assert_private(folder)


def assert_private(folder: Path) -> None:
    assert folder.stat().st_mode & 0o077 == 0
    assert all(file.stat().st_mode & 0o077 == 0 for file in (folder / "spool").iterdir())


async def test_without_a_storage_it_takes_but_does_not_deliver(folder: Path) -> None:
    async with Outbox(folder) as outbox:
        await outbox.put_recording("CA1", b"x", "a.webm")
        with pytest.raises(InvalidInputError, match="no storage"):
            await outbox.run()
    async with Outbox(folder, BackblazeStorage(StorageSettings())) as outbox:
        with pytest.raises(NotConfiguredError):
            await outbox.run()


async def test_a_storage_that_is_not_open_is_told(folder: Path, settings: StorageSettings) -> None:
    async with Outbox(folder, BackblazeStorage(settings)) as outbox:
        with pytest.raises(StorageClosedError):
            await outbox.run()


async def test_closed_or_not_open_it_says_so(folder: Path) -> None:
    outbox = Outbox(folder)
    with pytest.raises(StorageClosedError):
        await outbox.status()
    async with outbox:
        pass
    with pytest.raises(StorageClosedError):
        await outbox.put_recording("CA1", b"x", "a.webm")
    with pytest.raises(StorageClosedError):
        await outbox.__aenter__()


async def test_two_runs_of_one_outbox_are_refused(outbox: Outbox) -> None:
    async with running(outbox):
        await asyncio.sleep(0)
        with pytest.raises(InvalidInputError, match="running already"):
            await outbox.drain()


@pytest.mark.parametrize("option", ["max_bytes", "concurrency", "poll_interval", "lease"])
def test_numbers_that_make_no_sense_are_refused(folder: Path, option: str) -> None:
    with pytest.raises(InvalidInputError, match=option):
        Outbox(folder, **cast(Any, {option: 0}))


async def test_a_folder_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OutboxError, match="cannot be used"):
        await Outbox(tmp_path / "file").__aenter__()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "outbox.sqlite3").write_bytes(b"no database" * 1000)
    with pytest.raises(OutboxError, match="cannot be used"):
        await Outbox(tmp_path / "damaged").__aenter__()


async def test_an_unforeseen_error_is_kept_with_the_entry_and_tried_again(
    outbox: Outbox, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    entry = await outbox.put_recording("CA1", b"x", "a.webm")
    bytes_on_disk = folder / "spool" / entry.id
    bytes_on_disk.rename(folder / "aside")
    bytes_on_disk.mkdir()
    with caplog.at_level(logging.ERROR):
        async with running(outbox):
            assert "Error" in await first_error(outbox)
        bytes_on_disk.rmdir()
        (folder / "aside").rename(bytes_on_disk)
        assert (await outbox.drain()).delivered == 1
    assert "Is a directory" in caplog.text


async def first_error(outbox: Outbox) -> str:
    async with asyncio.timeout(60):
        while True:
            if error := (await outbox.status()).last_error:
                return error
            await asyncio.sleep(0.005)


def test_the_package_is_imported_only_when_it_is_wanted() -> None:
    program = "import careflow_storage, sys; print({'aiosqlite', 'sqlite3'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


def test_without_aiosqlite_the_error_names_the_extra() -> None:
    program = (
        "import sys; sys.modules['aiosqlite'] = None\n"
        "from careflow_storage.outbox import OutboxFullError\n"
        "from careflow_storage.outbox import Outbox"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert "MissingExtraError" in done.stderr
    assert 'pip install "careflow-storage[outbox]"' in done.stderr


def test_its_errors_are_of_the_family() -> None:
    assert issubclass(OutboxFullError, OutboxError)
    assert issubclass(OutboxError, StorageError)
