"""The options of a recording outlive the process that put it, and updates of the package."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from careflow_storage import (
    BackblazeStorage,
    CustomerKey,
    InvalidInputError,
    SizeMismatchError,
)
from careflow_storage.outbox import Outbox, OutboxEntry, OutboxError
from careflow_storage.testing import B2Server
from tests.support.bodies import noise
from tests.support.object_options import NAMES, OPTIONS, TOMORROW, assert_stored, only, place
from tests.support.protected import Place, b2_server, opened, settings_on
from tests.support.url_source import Source

__all__ = ["b2_server", "place"]

QUICK: dict[str, Any] = {"poll_interval": 0.05, "retry_base_delay": 0.001, "retry_max_delay": 0.01}
# The tables of the first release.
VERSION_1 = """
CREATE TABLE entries (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL CHECK (state IN ('incoming', 'pending', 'delivered', 'dead')),
    key TEXT UNIQUE CHECK (key IS NOT NULL OR state = 'incoming'),
    size INTEGER NOT NULL,
    sha256 TEXT,
    content_type TEXT,
    metadata TEXT,
    checksum TEXT,
    created_at REAL NOT NULL,
    due_at REAL,
    owner TEXT,
    lease_until REAL,
    attempts INTEGER NOT NULL DEFAULT 0,
    failures INTEGER NOT NULL DEFAULT 0,
    failing_since REAL,
    last_error TEXT,
    last_error_at REAL,
    blocked INTEGER NOT NULL DEFAULT 0,
    delivered_at REAL,
    etag TEXT,
    version_id TEXT
);
CREATE INDEX entries_due ON entries (due_at) WHERE state = 'pending';
CREATE INDEX entries_by_state ON entries (state, seq);
CREATE INDEX entries_by_owner ON entries (owner) WHERE owner IS NOT NULL;
CREATE INDEX entries_by_delivery ON entries (delivered_at) WHERE state = 'delivered';
CREATE INDEX entries_by_error ON entries (last_error_at) WHERE last_error_at IS NOT NULL;
CREATE TABLE totals (bytes INTEGER NOT NULL);
INSERT INTO totals VALUES (0);
CREATE TRIGGER entry_came AFTER INSERT ON entries BEGIN
    UPDATE totals SET bytes = bytes + NEW.size;
END;
CREATE TRIGGER entry_changed AFTER UPDATE OF state, size ON entries BEGIN
    UPDATE totals SET bytes = bytes
        + (NEW.state != 'delivered') * NEW.size - (OLD.state != 'delivered') * OLD.size;
END;
CREATE TRIGGER entry_went AFTER DELETE ON entries BEGIN
    UPDATE totals SET bytes = bytes - (OLD.state != 'delivered') * OLD.size;
END;
PRAGMA user_version = 1;
"""
COLUMNS_1 = (
    "seq, id, state, key, size, sha256, content_type, metadata, checksum, created_at, due_at, "
    "owner, lease_until, attempts, failures, failing_since, last_error, last_error_at, blocked, "
    "delivered_at, etag, version_id"
)


async def put(folder: Path, data: bytes = b"sound", **options: Any) -> OutboxEntry:
    """Put a recording in a process that ends afterwards."""
    async with Outbox(folder) as outbox:
        return await outbox.put_recording("CA1", data, "a.wav", **options)


async def deliver(folder: Path, storage: BackblazeStorage) -> None:
    async with Outbox(folder, storage, **QUICK) as outbox, asyncio.timeout(30):
        status = await outbox.drain()
        assert (status.pending, status.dead) == (0, 0), status.last_error


@pytest.mark.parametrize("size", ["small", "in parts"])
@pytest.mark.parametrize("option", NAMES)
async def test_each_option_arrives_after_a_restart(
    b2_server: B2Server, place: Place, tmp_path: Path, option: str, size: str
) -> None:
    data = noise(1000 if size == "small" else 2 * place.part + 1)
    entry = await put(tmp_path / "outbox", data, **only(option))
    await deliver(tmp_path / "outbox", place.storage)
    await assert_stored(b2_server, place, entry.key, option)
    assert await place.storage.get_file(entry.key) == data


async def test_all_options_together_arrive(
    b2_server: B2Server, place: Place, tmp_path: Path
) -> None:
    entry = await put(tmp_path / "outbox", **OPTIONS)
    await deliver(tmp_path / "outbox", place.storage)
    for option in NAMES:
        await assert_stored(b2_server, place, entry.key, option)


@pytest.mark.parametrize("option", NAMES)
async def test_each_option_of_a_url_arrives_after_a_restart(
    b2_server: B2Server, place: Place, tmp_path: Path, option: str
) -> None:
    async with Source(b"RIFF sound") as source:
        async with Outbox(tmp_path / "outbox") as outbox:
            entry = await outbox.put_url(
                *("CA1", source.url, "a.wav"), allow_private_addresses=True, **only(option)
            )
        await deliver(tmp_path / "outbox", place.storage)
    await assert_stored(b2_server, place, entry.key, option)
    assert await place.storage.get_file(entry.key) == b"RIFF sound"


async def test_a_customers_key_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    key = CustomerKey.generate()
    async with Outbox(tmp_path / "outbox") as outbox:
        with pytest.raises(InvalidInputError, match="CustomerKey") as refused:
            await outbox.put_recording("CA1", b"sound", "a.wav", encryption=key)
        assert refused.value.method == "put_recording"
        assert await outbox.entries() == []
        assert (await outbox.status()).bytes == 0
    files = [path for path in (tmp_path / "outbox").rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if key.to_base64().encode() in path.read_bytes()]


@pytest.mark.parametrize(
    "bad",
    [
        {"cache_control": "a\nb"},
        {"content_disposition": "größe"},
        {"encryption": "AES"},
        {"checksum": "md6"},
        {"retention": "a year"},
        {"legal_hold": None},
    ],
    ids=lambda bad: next(iter(bad)),
)
async def test_options_that_cannot_be_delivered_are_refused(
    tmp_path: Path, bad: dict[str, Any]
) -> None:
    async with Outbox(tmp_path / "outbox") as outbox:
        with pytest.raises(InvalidInputError, match=next(iter(bad))):
            await outbox.put_recording("CA1", b"sound", "a.wav", **bad)
        assert await outbox.entries() == []


@pytest.mark.parametrize("size", [2, 4])
async def test_a_body_of_another_size_names_method_and_key(tmp_path: Path, size: int) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"bod"

    key = f"recordings/CA1/{int(TOMORROW.timestamp() * 1000)}-a.wav"
    async with Outbox(tmp_path / "outbox") as outbox:
        with pytest.raises(SizeMismatchError) as caught:
            await outbox.put_recording("CA1", chunks(), "a.wav", size=size, recorded_at=TOMORROW)
    assert (caught.value.method, caught.value.key) == ("put_recording", key)


async def test_an_unknown_option_is_a_type_error(tmp_path: Path) -> None:
    async with Outbox(tmp_path / "outbox") as outbox:
        with pytest.raises(TypeError, match=r"Outbox\.put_recording\(\) got .* 'overwrite'"):
            await outbox.put_recording("CA1", b"", "a.wav", overwrite=True)  # type: ignore[call-arg]
        assert await outbox.entries() == []


async def test_a_retention_that_ended_meanwhile_is_left_out(place: Place, tmp_path: Path) -> None:
    folder = tmp_path / "outbox"
    entry = await put(folder, retention=OPTIONS["retention"], cache_control="no-store")
    database = sqlite3.connect(folder / "outbox.sqlite3", isolation_level=None)
    database.execute(
        "UPDATE entries SET options = replace(options, ?, ?)", (str(TOMORROW.year), "2001")
    )
    database.close()
    await deliver(folder, place.storage)
    file = await place.storage.get_file_metadata(entry.key)
    assert file.retention is None


async def test_a_bucket_that_cannot_lock_yet_does_not_hold_up_others(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder = tmp_path / "outbox"
    async with opened(*settings_on("emulator", request)) as unlocked:
        storage = unlocked.storage
        locked = await put(folder, legal_hold=True)
        other = await put(folder, b"other")
        async with Outbox(folder, storage, **QUICK) as outbox:
            draining = asyncio.create_task(outbox.drain())
            async with asyncio.timeout(30):
                while True:
                    status = await outbox.status()
                    if status.delivered == 1 and status.last_error:
                        break
                    await asyncio.sleep(0.005)
            assert (status.blocked, status.dead) == (False, 0)
            assert await storage.get_file(other.key) == b"other"
            await storage.admin.set_object_lock()
            await draining
        assert (await storage.get_file_metadata(locked.key)).legal_hold


async def test_an_outbox_of_the_first_release_loses_nothing(place: Place, tmp_path: Path) -> None:
    folder = tmp_path / "outbox"
    first = await put(folder, b"first", content_type="audio/x-own", metadata={"agent": "42"})
    second = await put(folder, b"second", checksum="crc32")
    _downgrade(folder / "outbox.sqlite3")
    async with Outbox(folder) as outbox:
        assert await outbox.entries() == [first, second]
        assert (await outbox.status()).bytes == len(b"firstsecond")
        third = await outbox.put_recording("CA1", b"third", "b.wav", retention=OPTIONS["retention"])
    await deliver(folder, place.storage)
    for entry, data in ((first, b"first"), (second, b"second"), (third, b"third")):
        assert await place.storage.get_file(entry.key) == data
    file = await place.storage.get_file_metadata(first.key)
    assert (file.content_type, file.metadata) == ("audio/x-own", {"agent": "42"})
    kept = (await place.storage.get_file_metadata(third.key)).retention
    assert kept is not None
    assert kept.retain_until == TOMORROW


def _downgrade(path: Path) -> None:
    """Write the database as the first release would have written it."""
    old = path.with_name("old.sqlite3")
    with sqlite3.connect(old) as database:
        database.executescript(VERSION_1)
        database.execute("ATTACH ? AS new", (str(path),))
        database.execute("INSERT INTO entries SELECT " + COLUMNS_1 + " FROM new.entries")  # noqa: S608
    database.close()
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    old.replace(path)


async def test_a_database_of_a_newer_release_is_left_alone(tmp_path: Path) -> None:
    await put(tmp_path / "outbox")
    database = sqlite3.connect(tmp_path / "outbox" / "outbox.sqlite3")
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(OutboxError, match="version 99"):
        await Outbox(tmp_path / "outbox").__aenter__()
