"""The outbox's SQLite database: durable, shared by processes, one statement at a time."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any, Self

from careflow_storage._uninterrupted import run_to_end
from careflow_storage.errors import MissingExtraError, StorageClosedError, StorageError
from careflow_storage.outbox.errors import OutboxError, OutboxFullError

try:
    import aiosqlite
except ModuleNotFoundError as missing:
    if missing.name != "aiosqlite":
        raise
    raise MissingExtraError("outbox") from missing

FULL_HINT = (
    "Check that a worker runs, and what status() reports. Else raise max_bytes, free disk space, "
    "or deliver dead letters with retry()."
)
_BUSY_SECONDS = 30.0
_OLDEST_SQLITE = (3, 35)  # the first with RETURNING
# A total kept by triggers: a sum over a hundred thousand rows would slow each put down.
_VERSION_1 = """
BEGIN IMMEDIATE;
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
COMMIT;
"""
# The options of an object that have no column of their own, as JSON.
_VERSION_2 = """
BEGIN IMMEDIATE;
ALTER TABLE entries ADD COLUMN options TEXT NOT NULL DEFAULT '{}';
PRAGMA user_version = 2;
COMMIT;
"""
# Recordings that are fetched from a URL. `source` is JSON, and `intent` is the same for the same
# URL, call and filename. `spool_file` names the file if its name is not the ID of the entry.
_VERSION_3 = """
BEGIN IMMEDIATE;
ALTER TABLE entries ADD COLUMN source TEXT;
ALTER TABLE entries ADD COLUMN intent TEXT;
ALTER TABLE entries ADD COLUMN spool_file TEXT;
ALTER TABLE entries ADD COLUMN not_ready_since REAL;
CREATE UNIQUE INDEX entries_by_intent ON entries (intent) WHERE intent IS NOT NULL;
CREATE INDEX entries_by_spool_file ON entries (spool_file) WHERE spool_file IS NOT NULL;
PRAGMA user_version = 3;
COMMIT;
"""
# What to do about an object under the key. The entry of a URL has it in `source`.
_VERSION_4 = """
BEGIN IMMEDIATE;
ALTER TABLE entries ADD COLUMN if_exists TEXT NOT NULL DEFAULT 'replace';
PRAGMA user_version = 4;
COMMIT;
"""
# Each makes the next version of the one before, in one transaction.
_MIGRATIONS = (_VERSION_1, _VERSION_2, _VERSION_3, _VERSION_4)


class Database:
    """Runs single statements, each in a transaction of its own.

    A cancellation or a kill cannot come between BEGIN and COMMIT: a statement is executed
    completely or not at all. Each takes SQLite's write lock before it reads, so other processes
    cannot interfere. ``synchronous=FULL``: when a statement has returned, its change is on the
    disk (https://www.sqlite.org/pragma.html#pragma_synchronous).
    """

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection
        self._closed = False

    @classmethod
    async def open(cls, path: Path) -> Self:
        """Open the file and make its tables. One process at a time; must not be cancelled."""
        if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
            raise OutboxError(
                f"SQLite {sqlite3.sqlite_version} is too old for the outbox.",
                hint="It needs 3.35 (March 2021) or newer.",
            )
        try:
            connecting = aiosqlite.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
            # Its thread must not keep the process alive if the outbox was not closed. In older
            # releases of aiosqlite the connection is the thread.
            thread: Any = getattr(connecting, "_thread", connecting)
            thread.daemon = True
            connection = await connecting
        except sqlite3.Error as error:
            raise _explained(error) from error
        database = cls(connection)
        try:
            await database._prepare()
        except BaseException:
            await database.close()
            raise
        return database

    async def _prepare(self) -> None:
        self._connection.row_factory = sqlite3.Row
        await self.run("PRAGMA synchronous = FULL")
        await self.run("PRAGMA fullfsync = ON")  # macOS: fsync alone does not reach the disk
        (row,) = await self.run("PRAGMA journal_mode = WAL")
        if row[0] != "wal":
            raise OutboxError(
                f"The outbox's database has the journal mode {row[0]!r}, not WAL.",
                hint="The folder must be on a local disk, not on a network file system.",
            )
        await self._migrate()

    async def _migrate(self) -> None:
        """Bring the tables to the newest version."""
        (row,) = await self.run("PRAGMA user_version")
        version, newest = row[0], len(_MIGRATIONS)
        if version > newest:
            raise OutboxError(
                f"The outbox's database has the version {version}; this release knows {newest}.",
                hint="A newer release of careflow-storage has made it: use that one.",
            )
        for migration in _MIGRATIONS[version:]:
            try:
                await self._connection.executescript(migration)
            except sqlite3.Error as error:
                raise _explained(error) from error

    async def run(self, statement: str, parameters: Any = ()) -> list[sqlite3.Row]:
        """Run one statement and return its rows. A cancellation does not interrupt it.

        Statements run in the order of the calls, even after a cancellation.
        """
        if self._closed:
            raise StorageClosedError("The outbox was closed while it was in use.")

        async def execute() -> list[sqlite3.Row]:
            return list(await self._connection.execute_fetchall(statement, parameters))

        try:
            return await run_to_end(execute())
        except sqlite3.Error as error:
            raise _explained(error) from error

    async def close(self) -> None:
        """Close the file when the running statements have ended."""
        self._closed = True
        await self._connection.close()


def _explained(error: sqlite3.Error) -> StorageError:
    name = getattr(error, "sqlite_errorname", "")
    if name == "SQLITE_FULL":
        return OutboxFullError("The disk is full.", hint=FULL_HINT, retryable=True)
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return OutboxError(
            f"The outbox's database was locked for {_BUSY_SECONDS:g} s.",
            retryable=True,
            hint="Another program may hold it open, such as a backup or a database browser.",
        )
    return OutboxError(
        f"The outbox's database cannot be used: {error}.",
        code=name or None,
        retryable=name.startswith("SQLITE_IOERR"),
        hint="The folder must be on a local disk, and this user must be able to write to it.",
    )
