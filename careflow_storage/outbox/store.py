"""An open outbox: its folder, database, files and threads, and their clean-up."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from careflow_storage._file_lock import FileLock
from careflow_storage._log_fields import log_fields
from careflow_storage._transfer.threads import Threads
from careflow_storage.outbox.database import Database
from careflow_storage.outbox.enqueue import Enqueuer
from careflow_storage.outbox.errors import OutboxError
from careflow_storage.outbox.files import Spool, make_folder, make_private, sync_folder
from careflow_storage.outbox.process_locks import ProcessLocks
from careflow_storage.outbox.queue import EntryQueue
from careflow_storage.outbox.remote.enqueue import UrlEnqueuer

logger: logging.Logger = logging.getLogger("careflow_storage")

_DATABASE = "outbox.sqlite3"


@dataclass(frozen=True, slots=True)
class Rules:
    """The limits of an outbox; times in seconds. For ``respite`` see `EntryQueue`."""

    max_bytes: int | None
    keep_delivered: float
    respite: float


class OutboxStore:
    """The resources of an open outbox."""

    def __init__(
        self,
        folder: Path,
        database: Database,
        owner: str,
        lock: FileLock,
        threads: Threads,
        rules: Rules,
    ) -> None:
        self.queue: EntryQueue = EntryQueue(database, owner, rules.max_bytes, rules.respite)
        self.spool: Spool = Spool(folder / "spool")
        self.threads = threads
        self.enqueuer: Enqueuer = Enqueuer(self.queue, self.spool, threads)
        self.url_enqueuer: UrlEnqueuer = UrlEnqueuer(self.queue, self.enqueuer, threads)
        self._process_locks = ProcessLocks(folder / "owners")
        self._database = database
        self._name = owner
        self._lock = lock
        self._keep_delivered = rules.keep_delivered

    @classmethod
    async def open(cls, folder: Path, rules: Rules) -> Self:
        """Open a folder and tidy up. Must not be cancelled."""
        threads = Threads()
        try:
            gate = await threads.run(_enter, folder)
        except OSError as error:
            await threads.close()
            raise OutboxError(f"The outbox's folder cannot be used: {error}.") from error
        except BaseException:
            await threads.close()
            raise
        try:
            database = await Database.open(folder / _DATABASE)
            try:
                locks = ProcessLocks(folder / "owners")
                owner, lock = await threads.run(locks.join)
                try:
                    await threads.run(sync_folder, folder)
                    store = cls(folder, database, owner, lock, threads, rules)
                    await store._tidy()
                except BaseException:
                    locks.leave(owner, lock)
                    raise
            except BaseException:
                await database.close()
                raise
        except BaseException:
            await threads.close()
            raise
        finally:
            gate.release()
        return store

    async def close(self) -> None:
        """Close the database and the threads, and release the lock."""
        try:
            await self._database.close()
        finally:
            self._process_locks.leave(self._name, self._lock)
            await self.threads.close()

    async def tidy(self) -> None:
        """End the leases of dead processes, and delete files and entries that are not needed."""
        try:
            gate = await self.threads.run(self._process_locks.enter)
            try:
                await self._tidy()
            finally:
                gate.release()
        except OSError as error:
            raise OutboxError(f"Tidying up failed: {error}.", retryable=True) from error

    async def _tidy(self) -> None:
        # No process can join while this one holds the gate: all others are dead.
        living, dead = await self.threads.run(self._process_locks.census)
        await self.queue.inherit(living)
        await self.queue.purge(self._keep_delivered)
        ids = await self.threads.run(self.spool.ids)
        for file_id in await self.queue.needless(ids):
            await self.remove(file_id)
        await self.threads.run(self._process_locks.remove, dead)

    async def remove(self, file_id: str) -> None:
        """Delete a spool file. If that fails, `tidy` tries again."""
        try:
            await self.threads.run(self.spool.remove, file_id)
        except OSError as error:
            logger.warning(
                "A spool file that is no longer needed could not be deleted: %s",
                error,
                extra=log_fields("file_left", error, file_id=file_id),
            )


def _enter(folder: Path) -> FileLock:
    for each in (folder, folder / "spool", folder / "owners"):
        make_folder(each)
    make_private(folder / _DATABASE)
    return ProcessLocks(folder / "owners").enter()
