"""A URL that is put is fetched when it is ready, once, and delivered like any recording."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from careflow_storage import (
    BackblazeStorage,
    CustomerKey,
    InvalidInputError,
    PreconditionFailedError,
    StorageSettings,
)
from careflow_storage.outbox import CredentialsError, Outbox, OutboxEntry
from careflow_storage.testing.proxy.proxy import FaultProxy
from tests.support.behind_proxy import storage_behind, versions
from tests.support.bodies import noise
from tests.support.frames import recorded
from tests.support.url_source import Handler, Source

WHEN = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
QUICK: dict[str, Any] = {"poll_interval": 0.05, "retry_base_delay": 0.001, "retry_max_delay": 0.01}
DATA = noise(400_000)
TOKEN = "QueryT0ken"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "outbox"


@pytest.fixture
async def source() -> AsyncIterator[Source]:
    async with Source(DATA) as server:
        yield server


@asynccontextmanager
async def opened(
    folder: Path, storage: BackblazeStorage | None, **options: Any
) -> AsyncIterator[Outbox]:
    async with Outbox(folder, storage, **(QUICK | options)) as outbox:
        yield outbox


async def put(outbox: Outbox, url: str, filename: str = "a.wav", **options: Any) -> OutboxEntry:
    return await outbox.put_url(
        "CA1", url, filename, **{"allow_private_addresses": True, **options}
    )


async def delivered(outbox: Outbox, entry: OutboxEntry) -> OutboxEntry:
    async with asyncio.timeout(30):
        status = await outbox.drain()
    assert (status.pending, status.dead, status.bytes) == (0, 0, 0), status.last_error
    return await found(outbox, entry)


async def found(outbox: Outbox, entry: OutboxEntry) -> OutboxEntry:
    now = await outbox.get(entry.id)
    assert now is not None
    return now


@asynccontextmanager
async def running(outbox: Outbox) -> AsyncIterator[None]:
    task = asyncio.create_task(outbox.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def until(
    outbox: Outbox, entry: OutboxEntry, wanted: Callable[[OutboxEntry], bool]
) -> OutboxEntry:
    """Wait until the entry is as wanted."""
    async with asyncio.timeout(30):
        while True:
            now = await found(outbox, entry)
            if wanted(now):
                return now
            await asyncio.sleep(0.005)


def is_delivered(entry: OutboxEntry) -> bool:
    return entry.state == "delivered"


def has_failed(entry: OutboxEntry) -> bool:
    return entry.last_error is not None


def written_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def spooled(folder: Path) -> list[Path]:
    return list((folder / "spool").iterdir())


def failing(source: Source, times: int, response: Callable[[], web.Response]) -> Handler:
    """A handler that responds with the recording after some failures."""
    left = times

    async def handle(request: web.Request) -> web.StreamResponse:
        nonlocal left
        left -= 1
        return response() if left >= 0 else await source.give(request)

    return handle


# --- the entry --------------------------------------------------------------------------


async def test_the_entry_is_on_the_disk_at_once_and_another_process_delivers_it(
    folder: Path, source: Source, storage: BackblazeStorage
) -> None:
    async with opened(folder, None) as producer:
        entry = await put(producer, source.url, metadata={"agent": "Zoë"}, cache_control="no-store")
    assert (entry.state, entry.size, entry.sha256, entry.url) == ("pending", 0, None, source.url)
    assert (source.asked, spooled(folder)) == ([], [])
    async with opened(folder, storage) as worker:
        done = await delivered(worker, entry)
    assert (done.state, done.size) == ("delivered", len(DATA))
    assert done.sha256 == hashlib.sha256(DATA).hexdigest()
    assert await storage.get_file(entry.key) == DATA
    stored = await storage.get_file_metadata(entry.key)
    assert (stored.metadata, stored.content_type) == ({"agent": "Zoë"}, "audio/wav")
    assert (stored.etag, stored.version_id) == (done.etag, done.version_id)
    assert (len(source.asked), spooled(folder)) == (1, [])


async def test_the_same_url_put_again_is_the_same_entry_and_is_fetched_once(
    folder: Path, source: Source, storage: BackblazeStorage
) -> None:
    async with opened(folder, storage) as outbox:
        first, *others = await asyncio.gather(*(put(outbox, source.url) for _ in range(10)))
        assert {each.id for each in others} == {first.id}
        done = await delivered(outbox, first)
        assert await put(outbox, source.url) == done
        await outbox.drain()
        # Another filename, another URL or another time is another recording.
        await put(outbox, source.url, "b.wav")
        await put(outbox, f"{source.url}?channels=2")
        await put(outbox, source.url, recorded_at=WHEN)
        await outbox.drain()
    assert len(source.asked) == 4
    assert len(await storage.list_files()) == 4


async def test_with_a_time_the_key_identifies_the_recording(
    folder: Path, source: Source, storage: BackblazeStorage
) -> None:
    async with opened(folder, storage) as outbox:
        entry = await put(outbox, source.url, recorded_at=WHEN)
        assert entry.key == f"recordings/CA1/{int(WHEN.timestamp() * 1000)}-a.wav"
        assert await put(outbox, source.url, recorded_at=WHEN) == entry
        with pytest.raises(PreconditionFailedError):
            await put(outbox, f"{source.url}?channels=2", recorded_at=WHEN)
        with pytest.raises(PreconditionFailedError):
            await outbox.put_recording("CA1", b"other", "a.wav", recorded_at=WHEN)
        assert len(await outbox.entries()) == 1
        await outbox.put_recording("CA2", b"other", "a.wav", recorded_at=WHEN)
        with pytest.raises(PreconditionFailedError):
            await outbox.put_url("CA2", "https://example.com/a", "a.wav", recorded_at=WHEN)


@pytest.mark.parametrize(
    ("if_exists", "state", "fetches", "stored"),
    [("return", "delivered", 0, 1), ("error", "dead", 0, 1), ("replace", "delivered", 1, 2)],
)
async def test_what_is_in_the_bucket_already_is_not_fetched(
    folder: Path,
    source: Source,
    storage: BackblazeStorage,
    if_exists: Any,
    state: str,
    fetches: int,
    stored: int,
) -> None:
    there = await storage.upload_recording("CA1", b"first", "a.wav", recorded_at=WHEN)
    async with opened(folder, storage) as outbox:
        entry = await put(outbox, source.url, recorded_at=WHEN, if_exists=if_exists)
        assert entry.key == there.key
        await outbox.drain()
        done = await found(outbox, entry)
    assert (done.state, len(source.asked)) == (state, fetches)
    assert await versions(storage, there.key) == (stored, 0)
    if if_exists == "return":
        assert (done.etag, done.size, done.sha256) == (there.etag, 0, None)


# --- not ready yet ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "response",
    [
        lambda: web.Response(status=404),
        lambda: web.Response(status=503, headers={"Retry-After": "0"}),
        lambda: web.Response(status=429),
        lambda: web.Response(text="<html>Sign in</html>", content_type="text/html"),
        lambda: web.Response(status=401),
        lambda: web.Response(body=b"", content_type="audio/wav"),
    ],
    ids=["404", "503", "429", "a page", "401", "empty"],
)
async def test_a_source_that_is_not_ready_is_asked_again(
    folder: Path, source: Source, storage: BackblazeStorage, response: Callable[[], web.Response]
) -> None:
    source.routes["/call"] = failing(source, 3, response)
    async with opened(folder, storage) as outbox:
        entry = await put(outbox, source.url)
        done = await delivered(outbox, entry)
    assert (done.attempts, len(source.asked)) == (4, 4)
    assert await storage.get_file(entry.key) == DATA
    assert await versions(storage, entry.key) == (1, 0)


async def test_a_source_that_is_never_ready_becomes_a_dead_letter_with_the_reason(
    folder: Path, source: Source, storage: BackblazeStorage, caplog: pytest.LogCaptureFixture
) -> None:
    source.routes["/call"] = failing(source, 2, lambda: web.Response(status=404))
    async with opened(folder, storage) as outbox:
        entry = await put(outbox, f"{source.url}?token={TOKEN}", ready_within=timedelta(0))
        status = await outbox.drain()
        assert (status.dead, status.bytes) == (1, 0)
        (letter,) = await outbox.dead_letters()
        assert (letter.url, letter.attempts) == (source.url, 2)
        assert letter.last_error is not None
        assert "HTTP 404" in letter.last_error
        assert "its URL is kept" in caplog.text
        # The provider is ready at last.
        await outbox.retry(entry.id)
        await delivered(outbox, entry)
    assert await storage.get_file(entry.key) == DATA


async def test_only_an_unready_source_is_bounded_by_ready_within(
    folder: Path, source: Source, storage: BackblazeStorage
) -> None:
    source.routes["/call"] = failing(source, 5, lambda: web.Response(status=503))
    async with opened(folder, storage) as outbox:
        await delivered(outbox, await put(outbox, source.url, ready_within=timedelta(0)))
    assert len(source.asked) == 6


async def test_a_source_that_asks_for_thirty_years_is_asked_within_the_hour(
    folder: Path, source: Source, storage: BackblazeStorage
) -> None:
    years = {"Retry-After": "999999999"}
    source.routes["/call"] = failing(source, 1, lambda: web.Response(status=503, headers=years))
    async with opened(folder, storage) as outbox:
        entry = await put(outbox, source.url)
        async with running(outbox):
            now = await until(outbox, entry, has_failed)
        assert now.next_attempt_at is not None
        assert now.next_attempt_at - datetime.now(UTC) <= timedelta(hours=1)


# --- credentials ------------------------------------------------------------------------


async def authorized(request: web.Request) -> web.StreamResponse:
    if request.headers.get("Authorization") not in (
        "Basic a2V5OlBhNTV3MHJk",  # key:Pa55w0rd
        "Bearer Pa55w0rd",
    ):
        return web.Response(status=401)
    return web.Response(body=DATA, content_type="audio/wav")


async def looked_up(name: str) -> dict[str, str]:
    return {"Authorization": "Bearer Pa55w0rd"} if name == "twilio" else {}


@pytest.mark.parametrize(
    "credentials",
    [
        {"twilio": ("key", "Pa55w0rd")},
        {"twilio": {"Authorization": "Bearer Pa55w0rd"}},
        lambda name: ("key", "Pa55w0rd") if name == "twilio" else None,
        looked_up,
    ],
    ids=["basic", "headers", "function", "async function"],
)
async def test_credentials_are_named_and_never_written(
    folder: Path,
    source: Source,
    storage: BackblazeStorage,
    credentials: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "careflow_storage")
    source.routes["/call"] = authorized
    async with opened(folder, storage, credentials=credentials) as outbox:
        entry = await put(outbox, f"{source.url}?t={TOKEN}", auth_name="twilio")
        assert (entry.auth_name, entry.url) == ("twilio", source.url)
        done = await delivered(outbox, entry)
        shown = f"{entry!r} {done!r} {done.model_dump_json()} {outbox!r} {caplog.text}"
        written = written_in(folder)
    assert b"Pa55w0rd" not in written
    assert b"a2V5OlBhNTV3MHJk" not in written
    assert TOKEN not in shown
    assert "Pa55w0rd" not in shown
    assert len(source.asked) == 1


def fails(name: str) -> Any:
    raise LookupError("Pa55w0rd")


@pytest.mark.parametrize(
    "credentials",
    [
        None,
        {"other": ("key", "Pa55w0rd")},
        {"twilio": "Pa55w0rd"},
        {"twilio": ("key", "Pa55w0rd\n")},
        {"twilio": {"Host": "Pa55w0rd"}},
        {"twilio": ("key",)},
        fails,
    ],
    ids=["none", "another name", "no pair", "a line break", "a header of ours", "half", "an error"],
)
async def test_without_its_credentials_an_entry_stays_queued(
    folder: Path, source: Source, storage: BackblazeStorage, credentials: Any
) -> None:
    source.routes["/call"] = authorized
    # Not even then is it given up.
    hasty = {"credentials": credentials, "give_up_after": timedelta(0)}
    async with opened(folder, storage, **hasty) as outbox:
        entry = await put(outbox, source.url, auth_name="twilio", ready_within=timedelta(0))
        other = await outbox.put_recording("CA2", b"sound", "b.wav")
        async with running(outbox):
            await until(outbox, other, is_delivered)
            now = await until(outbox, entry, lambda entry: entry.attempts > 2)
        assert now.state in ("pending", "delivering")
        assert now.last_error is not None
        assert "'twilio'" in now.last_error
        assert "Pa55w0rd" not in now.last_error
        assert source.asked == []
    async with opened(folder, storage, credentials={"twilio": ("key", "Pa55w0rd")}) as outbox:
        await delivered(outbox, entry)
    assert await storage.get_file(entry.key) == DATA


async def test_what_the_outbox_takes_for_credentials_is_checked(folder: Path) -> None:
    with pytest.raises(InvalidInputError, match="credentials"):
        Outbox(folder, credentials=("key", "secret"))  # type: ignore[arg-type]
    assert issubclass(CredentialsError, Exception)


# --- what is refused --------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [
        {"url": "ftp://example.com/a"},
        {"url": f"https://user:{TOKEN}@example.com/a"},
        {"url": f"https://exam ple.com/{TOKEN}"},
        {"url": "http://127.0.0.1/a"},
        {"url": "http://169.254.169.254/a"},
        {"url": 7},
        {"url": "http://example.com/a", "auth_name": "twilio"},
        {"auth_name": ""},
        {"auth_name": ("key", TOKEN)},
        {"auth_name": f"{TOKEN}\n"},
        {"if_exists": "keep"},
        {"max_size": -1},
        {"max_size": "5 GB"},
        {"content_types": "audio/*"},
        {"content_types": ["audio"]},
        {"max_redirects": -1},
        {"ready_within": 3600},
        {"fetch_timeout": 3600},
        {"call_id": "../CA1"},
        {"filename": "a/b.wav"},
        {"recorded_at": datetime(2026, 1, 1)},  # noqa: DTZ001 - naive is the point
        {"encryption": CustomerKey.generate()},
        {"cache_control": "a\nb"},
    ],
    ids=lambda bad: f"{next(iter(bad))}",
)
async def test_what_can_never_be_fetched_is_refused_and_nothing_is_written(
    folder: Path, bad: dict[str, Any]
) -> None:
    fields = {"call_id": "CA1", "url": "https://example.com/a", "filename": "a.wav"} | bad
    async with opened(folder, None) as outbox:
        with pytest.raises(InvalidInputError) as caught:
            await outbox.put_url(
                fields.pop("call_id"), fields.pop("url"), fields.pop("filename"), **fields
            )
        assert "auth_name" in bad or TOKEN not in recorded(caught.value)
        assert TOKEN not in str(caught.value)
        assert caught.value.method == "put_url"
        assert await outbox.entries() == []
        with pytest.raises(TypeError, match=r"Outbox\.put_url\(\) got .* 'headers'"):
            await outbox.put_url("CA1", "https://example.com/a", "a.wav", headers={})  # type: ignore[call-arg]


async def test_a_source_that_is_too_large_is_not_stored(
    folder: Path, source: Source, storage: BackblazeStorage
) -> None:
    async with opened(folder, storage) as outbox:
        entry = await put(outbox, source.url, max_size=len(DATA) - 1)
        assert (await outbox.drain()).dead == 1
        letter = await found(outbox, entry)
        assert letter.last_error is not None
        assert "max_size" in letter.last_error
        assert len(source.asked) == 1
        await outbox.discard(entry.id)
        assert await outbox.entries() == []
    assert await storage.list_files() == []
    assert spooled(folder) == []


# --- interrupted ------------------------------------------------------------------------


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_full_outbox_fetches_when_there_is_room(
    folder: Path, source: Source, storage: BackblazeStorage, chunked: bool
) -> None:
    source.chunked = chunked
    hasty = {"max_bytes": len(DATA) + 10, "give_up_after": timedelta(0)}
    async with opened(folder, storage, **hasty) as outbox:
        filling = await outbox.put_recording("CA2", noise(100), "b.wav")
        database = sqlite3.connect(folder / "outbox.sqlite3", isolation_level=None)
        database.execute("UPDATE entries SET due_at = due_at + 1e6")
        entry = await put(outbox, source.url)
        async with running(outbox):
            now = await until(outbox, entry, lambda entry: entry.attempts > 2)
        database.close()
        assert now.state in ("pending", "delivering")
        status = await outbox.status()
        assert (status.dead, status.bytes) == (0, 100)
        await outbox.retry(filling.id)
        await delivered(outbox, entry)
    assert await storage.get_file(entry.key) == DATA
    assert spooled(folder) == []


async def test_a_source_that_breaks_off_is_read_again(
    folder: Path, source: Source, storage: BackblazeStorage
) -> None:
    left = 2

    async def handle(request: web.Request) -> web.StreamResponse:
        nonlocal left
        left -= 1
        if left < 0:
            return await source.give(request)
        # Without an ETag the rest cannot be requested.
        response = web.StreamResponse(headers={"Content-Type": "audio/wav"})
        response.content_length = len(DATA)
        await response.prepare(request)
        await response.write(DATA[:100_000])
        assert request.transport is not None
        request.transport.abort()
        return response

    source.routes["/call"] = handle
    async with opened(folder, storage) as outbox:
        entry = await put(outbox, source.url)
        await delivered(outbox, entry)
    assert await storage.get_file(entry.key) == DATA
    assert spooled(folder) == []


class Stalled:
    """A source that stops in the middle, until it is released."""

    def __init__(self, source: Source) -> None:
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()
        source.routes["/call"] = self.handle

    async def handle(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "audio/wav"})
        response.content_length = len(DATA)
        await response.prepare(request)
        await response.write(DATA[:200_000])
        self.reached.set()
        await self.go_on.wait()
        with suppress(ConnectionError):
            await response.write(DATA[200_000:])
        return response


async def test_a_worker_that_is_cancelled_in_mid_fetch_leaves_nothing_half(
    folder: Path, source: Source, storage: BackblazeStorage
) -> None:
    stalled = Stalled(source)
    async with opened(folder, storage) as outbox:
        entry = await put(outbox, source.url)
        task = asyncio.create_task(outbox.run())
        await stalled.reached.wait()
        task.cancel()
        await asyncio.wait([task])
        now = await found(outbox, entry)
        assert (now.state, now.size, now.sha256) == ("pending", 0, None)
        assert (await outbox.status()).bytes == 0
        assert spooled(folder) == []
        stalled.go_on.set()
        await delivered(outbox, entry)
    assert await storage.get_file(entry.key) == DATA
    assert await versions(storage, entry.key) == (1, 0)


async def test_an_outbox_that_is_closed_in_mid_fetch_leaves_nothing_half(
    folder: Path, source: Source, storage: BackblazeStorage
) -> None:
    stalled = Stalled(source)
    async with opened(folder, storage) as outbox:
        entry = await put(outbox, source.url)
        task = asyncio.create_task(outbox.run())
        await stalled.reached.wait()
        await outbox.close()
        await asyncio.wait([task])
    assert spooled(folder) == []
    stalled.go_on.set()
    async with opened(folder, storage) as outbox:
        await delivered(outbox, entry)
    assert await storage.get_file(entry.key) == DATA


async def test_a_fetch_that_takes_too_long_is_given_up_and_repeated(
    folder: Path, source: Source, storage: BackblazeStorage
) -> None:
    stalled = Stalled(source)
    async with opened(folder, storage) as outbox:
        entry = await put(outbox, source.url, fetch_timeout=timedelta(seconds=0.5))
        async with running(outbox):
            now = await until(outbox, entry, has_failed)
            assert "it was not read within 0.5 s" in (now.last_error or "")
            stalled.go_on.set()
            await until(outbox, entry, is_delivered)
    assert await storage.get_file(entry.key) == DATA


async def test_while_the_bucket_is_down_the_source_is_read_all_the_same(
    folder: Path, source: Source, settings: StorageSettings, proxy: FaultProxy
) -> None:
    proxy.add(status=503, code="ServiceUnavailable", times=10_000)
    async with (
        storage_behind(proxy, settings, retry_attempts=1) as storage,
        opened(folder, storage) as outbox,
    ):
        entry = await put(outbox, source.url)
        async with running(outbox):
            now = await until(outbox, entry, lambda entry: entry.sha256 is not None)
            assert now.size == len(DATA)
            # The source deletes it, the bucket is back.
            source.routes["/call"] = failing(source, 10_000, lambda: web.Response(status=410))
            proxy.clear()
            await until(outbox, entry, is_delivered)
        assert await storage.get_file(entry.key) == DATA
        assert await versions(storage, entry.key) == (1, 0)
    assert len(source.asked) == 1
    assert spooled(folder) == []


async def test_several_outboxes_share_the_urls_and_fetch_each_once(
    folder: Path, source: Source, storage: BackblazeStorage
) -> None:
    async with (
        opened(folder, storage) as one,
        opened(folder, storage) as two,
        opened(folder, storage) as three,
    ):
        entries = [await put(one, f"{source.url}?n={n}") for n in range(12)]
        async with asyncio.timeout(60):
            await asyncio.gather(one.drain(), two.drain(), three.drain())
        for entry in entries:
            assert (await found(one, entry)).state == "delivered"
    assert len(source.asked) == 12
    for entry in entries:
        assert await versions(storage, entry.key) == (1, 0)
