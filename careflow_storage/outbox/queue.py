"""The entries of the outbox: every change is one SQL statement.

::

    incoming ──accept──> pending ──claim──> (leased) ──settle──> delivered ──purge──> gone
       │                    ^                   │
     forget                 └──fail, release────┤
       v                    └──retry── dead <───┘
     gone                               └──discard──> gone

The entry of a URL begins as pending, without a SHA-256. The claim that fetches its bytes calls
`begin_fetch` and `end_fetch`, and then delivers them like those of any other entry.

A lease is an owner and a time. Times are in seconds since 1970, by the wall clock, since the
processes that share an outbox run on one machine.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection

from careflow_storage.options import IfExists, ObjectOptions
from careflow_storage.outbox.database import FULL_HINT, Database
from careflow_storage.outbox.errors import OutboxFullError
from careflow_storage.outbox.models import OutboxEntry, OutboxState, OutboxStatus
from careflow_storage.outbox.rows import (
    Claim,
    Failure,
    claim_of,
    entry_of,
    file_of,
    moment,
    source_of,
)
from careflow_storage.outbox.stored_options import columns_of
from careflow_storage.outbox.url_source import UrlSource

_FITS = "(:most IS NULL OR (SELECT bytes FROM totals) + :more <= :most)"
_LAST_DELIVERY = "(SELECT MAX(delivered_at) FROM entries WHERE state = 'delivered')"
# What an unfinished fetch has reserved.
_KEPT_SIZE = "CASE WHEN sha256 IS NULL THEN 0 ELSE size END"
_STATES: dict[OutboxState, str] = {
    "pending": "state = 'pending' AND owner IS NULL",
    "delivering": "state = 'pending' AND owner IS NOT NULL",
    "delivered": "state = 'delivered'",
    "dead": "state = 'dead'",
}


class EntryQueue:
    """The table of entries, as one owner sees it.

    ``respite``: the seconds between an interrupted attempt and the next one. A request of the
    interrupted attempt may still be running: a HEAD that comes too early would not find the
    object, and it would be stored a second time.
    """

    def __init__(
        self, database: Database, owner: str, max_bytes: int | None, respite: float
    ) -> None:
        self._respite = respite
        self._database = database
        self._owner = owner
        self._max_bytes = max_bytes

    # --- put ----------------------------------------------------------------------

    async def reserve(
        self, entry_id: str, size: int, options: ObjectOptions, if_exists: IfExists
    ) -> None:
        """Insert an entry whose file is about to be written, and reserve its bytes.

        It names the owner that writes the file, until `accept` or `forget`.
        """
        rows = await self._database.run(
            f"""INSERT INTO entries
                    (id, state, size, content_type, metadata, checksum, options, created_at, owner,
                    if_exists)
                SELECT :id, 'incoming', :more, :content_type, :metadata, :checksum, :options,
                    :now, :owner, COALESCE(:if_exists, 'replace')
                WHERE {_FITS} RETURNING id""",
            {
                "id": entry_id,
                "more": size,
                "most": self._max_bytes,
                **columns_of(options),
                "now": time.time(),
                "owner": self._owner,
                "if_exists": if_exists,
            },
        )
        if not rows:
            raise await self._full(size)

    async def reserve_more(self, entry_id: str, more: int) -> None:
        """Reserve more bytes for a recording of unknown size."""
        rows = await self._database.run(
            f"""UPDATE entries SET size = size + :more
                WHERE id = :id AND owner = :owner AND {_FITS} RETURNING id""",  # noqa: S608
            {"id": entry_id, "more": more, "most": self._max_bytes, "owner": self._owner},
        )
        if not rows:
            raise await self._full(more)

    async def _full(self, more: int) -> OutboxFullError:
        (total,) = await self._database.run("SELECT bytes FROM totals")
        return OutboxFullError(
            f"The outbox holds {total['bytes']} of {self._max_bytes} bytes: no room for {more}.",
            hint=FULL_HINT,
        )

    async def accept(self, entry_id: str, key: str, size: int, sha256: str) -> OutboxEntry | None:
        """Make the entry due for delivery. None if another recording has the key."""
        rows = await self._database.run(
            """UPDATE OR IGNORE entries
               SET state = 'pending', key = :key, size = :size, sha256 = :sha256,
                   due_at = :now, owner = NULL
               WHERE id = :id AND state = 'incoming' RETURNING *""",
            {"id": entry_id, "key": key, "size": size, "sha256": sha256, "now": time.time()},
        )
        return entry_of(rows[0]) if rows else None

    async def forget(self, entry_id: str) -> bool:
        """Delete an entry that was not claimed yet; whether it was there."""
        rows = await self._database.run(
            """DELETE FROM entries WHERE id = ? AND
               (state = 'incoming' OR (state = 'pending' AND attempts = 0)) RETURNING id""",
            (entry_id,),
        )
        return bool(rows)

    async def insert_url(
        self,
        entry_id: str,
        key: str,
        intent: str | None,
        source: UrlSource,
        options: ObjectOptions,
    ) -> OutboxEntry | None:
        """Insert an entry whose bytes are to be fetched. None if its key or intent exists."""
        rows = await self._database.run(
            """INSERT INTO entries
                   (id, state, key, size, content_type, metadata, checksum, options, created_at,
                    due_at, source, intent)
               VALUES (:id, 'pending', :key, 0, :content_type, :metadata, :checksum, :options, :now,
                   :now, :source, :intent)
               ON CONFLICT DO NOTHING RETURNING *""",
            {
                "id": entry_id,
                "key": key,
                **columns_of(options),
                "now": time.time(),
                "source": source.to_json(),
                "intent": intent,
            },
        )
        return entry_of(rows[0]) if rows else None

    # --- fetch ------------------------------------------------------------------------

    async def begin_fetch(self, entry_id: str, file_id: str) -> bool:
        """Name the spool file that is about to be written. False if the lease was lost."""
        rows = await self._database.run(
            """UPDATE entries SET spool_file = ?, size = 0 WHERE id = ? AND owner = ?
               AND state = 'pending' AND sha256 IS NULL RETURNING id""",
            (file_id, entry_id, self._owner),
        )
        return bool(rows)

    async def end_fetch(
        self, entry_id: str, file_id: str, *, size: int, sha256: str, content_type: str
    ) -> OutboxEntry | None:
        """Record the bytes of the finished spool file. None if the lease was lost."""
        rows = await self._database.run(
            """UPDATE entries SET size = ?, sha256 = ?, content_type = ?, not_ready_since = NULL
               WHERE id = ? AND owner = ? AND state = 'pending' AND spool_file = ? RETURNING *""",
            (size, sha256, content_type, entry_id, self._owner, file_id),
        )
        return entry_of(rows[0]) if rows else None

    # --- deliver ----------------------------------------------------------------------

    async def claim(self, count: int, lease: float, busy_with: Collection[str]) -> list[Claim]:
        """Lease up to ``count`` due recordings for ``lease`` seconds.

        Skips those in ``busy_with``, even if this owner did not renew their leases in time. Each
        moves to the end of the queue: a recording that kills its process does not block others.
        """
        now = time.time()
        rows = await self._database.run(
            f"""UPDATE entries SET owner = :owner, lease_until = :until, due_at = :now,
                   attempts = attempts + 1, size = {_KEPT_SIZE}
               WHERE seq IN (
                   SELECT seq FROM entries WHERE state = 'pending' AND due_at <= :now
                   AND (owner IS NULL OR lease_until < :now)
                   AND id NOT IN (SELECT value FROM json_each(:busy_with))
                   ORDER BY due_at, seq LIMIT :count
               ) RETURNING *""",  # noqa: S608
            {
                "owner": self._owner,
                "until": now + lease,
                "now": now,
                "count": count,
                "busy_with": json.dumps(list(busy_with)),
            },
        )
        return [claim_of(row) for row in rows]

    async def renew(self, ids: Collection[str], lease: float) -> set[str]:
        """Renew leases; return the IDs whose lease this owner still had."""
        rows = await self._database.run(
            """UPDATE entries SET lease_until = ? WHERE owner = ? AND state = 'pending'
               AND id IN (SELECT value FROM json_each(?)) RETURNING id""",
            (time.time() + lease, self._owner, json.dumps(list(ids))),
        )
        return {row["id"] for row in rows}

    async def release(self) -> None:
        """Release all leases of this owner."""
        await self._database.run(
            f"""UPDATE entries SET owner = NULL, lease_until = NULL, due_at = ?, size = {_KEPT_SIZE}
               WHERE owner = ? AND state = 'pending'""",  # noqa: S608
            (time.time() + self._respite, self._owner),
        )

    async def settle(self, entry_id: str, etag: str, version_id: str | None) -> str | None:
        """Mark an entry as delivered; return the name of its spool file.

        None if the lease was lost meanwhile.
        """
        rows = await self._database.run(
            """UPDATE entries SET state = 'delivered', delivered_at = ?, etag = ?, version_id = ?,
                   owner = NULL, lease_until = NULL, due_at = NULL, last_error = NULL,
                   last_error_at = NULL, failing_since = NULL, blocked = 0
               WHERE id = ? AND owner = ? AND state = 'pending' RETURNING *""",
            (time.time(), etag, version_id, entry_id, self._owner),
        )
        return file_of(rows[0]) if rows else None

    async def fail(
        self, entry_id: str, failure: Failure, give_up_after: float
    ) -> OutboxEntry | None:
        """Store a failure and the time of the next attempt, or give up. None if the lease was lost.

        When the bucket refuses, give up only if other recordings were delivered meanwhile.
        """
        rows = await self._database.run(
            f"""UPDATE entries SET
                   state = CASE WHEN :fatal OR (
                       NOT :held AND failing_since <= :now - :give_up_after
                       AND (NOT :blocked OR {_LAST_DELIVERY} > failing_since)
                   ) OR not_ready_since <= :now - :not_ready_for THEN 'dead' ELSE state END,
                   failures = failures + 1,
                   failing_since = CASE WHEN :held THEN NULL ELSE COALESCE(failing_since, :now) END,
                   not_ready_since = CASE WHEN :not_ready_for IS NULL THEN NULL
                       ELSE COALESCE(not_ready_since, :now) END,
                   size = {_KEPT_SIZE},
                   last_error = :error, last_error_at = :now, blocked = :blocked,
                   due_at = :now + :pause, owner = NULL, lease_until = NULL
               WHERE id = :id AND owner = :owner AND state = 'pending' RETURNING *""",  # noqa: S608
            {
                "id": entry_id,
                "owner": self._owner,
                "now": time.time(),
                "give_up_after": give_up_after,
                "fatal": failure.fatal,
                "blocked": failure.blocked,
                "held": failure.held,
                "not_ready_for": failure.not_ready_for,
                "error": failure.error,
                "pause": failure.pause,
            },
        )
        return entry_of(rows[0]) if rows else None

    async def next_due(self) -> float | None:
        """Return when the next recording is due or its lease ends; None when none is left."""
        (row,) = await self._database.run(
            """SELECT MIN(CASE WHEN owner IS NULL THEN due_at ELSE MAX(due_at, lease_until) END)
               AS due FROM entries WHERE state = 'pending'"""
        )
        due: float | None = row["due"]
        return due

    # --- recovery -----------------------------------------------------------------------

    async def inherit(self, living: Collection[str]) -> None:
        """End the work of all owners but the ``living``. The caller holds the gate."""
        alive = json.dumps(list(living))
        await self._database.run(
            """DELETE FROM entries WHERE state = 'incoming'
               AND owner NOT IN (SELECT value FROM json_each(?))""",
            (alive,),
        )
        await self._database.run(
            f"""UPDATE entries SET owner = NULL, lease_until = NULL, due_at = ?, size = {_KEPT_SIZE}
               WHERE state = 'pending' AND owner IS NOT NULL
               AND owner NOT IN (SELECT value FROM json_each(?))""",  # noqa: S608
            (time.time() + self._respite, alive),
        )

    async def needless(self, ids: Collection[str]) -> set[str]:
        """Return those of the files that are not needed.

        List the files first. An entry is older than its file, so a file without an entry is not
        one that is being written.
        """
        rows = await self._database.run(
            """WITH files AS MATERIALIZED (SELECT value FROM json_each(?))
               SELECT id AS file FROM entries WHERE state != 'delivered' AND spool_file IS NULL
                   AND id IN (SELECT value FROM files)
               UNION ALL
               SELECT spool_file FROM entries WHERE state != 'delivered'
                   AND spool_file IN (SELECT value FROM files)""",
            (json.dumps(list(ids)),),
        )
        return set(ids) - {row["file"] for row in rows}

    async def purge(self, older_than: float) -> None:
        """Delete the entries that were delivered more than ``older_than`` seconds ago."""
        await self._database.run(
            "DELETE FROM entries WHERE state = 'delivered' AND delivered_at < ?",
            (time.time() - older_than,),
        )

    # --- read, retry, discard --------------------------------------------------

    async def get(self, entry_id: str) -> OutboxEntry | None:
        """Return an entry whose file is written; None if there is none."""
        rows = await self._database.run(
            "SELECT * FROM entries WHERE id = ? AND state != 'incoming'", (entry_id,)
        )
        return entry_of(rows[0]) if rows else None

    async def find(self, key: str) -> OutboxEntry | None:
        """Return the entry with a key; None if there is none."""
        rows = await self._database.run("SELECT * FROM entries WHERE key = ?", (key,))
        return entry_of(rows[0]) if rows else None

    async def find_url(self, key: str, intent: str | None) -> tuple[OutboxEntry, str | None] | None:
        """Return the entry with a key or an intent, and its URL; None if there is none."""
        rows = await self._database.run(
            "SELECT * FROM entries WHERE key = ? OR intent = ?", (key, intent)
        )
        # The intent decides: the key may belong to another entry.
        for row in sorted(rows, key=lambda row: row["intent"] != intent):
            source = source_of(row)
            return entry_of(row), source.url if source else None
        return None

    async def page(
        self, state: OutboxState | None, after: int, count: int
    ) -> tuple[list[OutboxEntry], int]:
        """Return ``count`` entries in the order of their puts, and where the next page begins."""
        where = "state != 'incoming'" if state is None else _STATES[state]
        rows = await self._database.run(
            f"SELECT * FROM entries WHERE {where} AND seq > ? ORDER BY seq LIMIT ?",  # noqa: S608
            (after, count),
        )
        return [entry_of(row) for row in rows], rows[-1]["seq"] if rows else after

    async def retry(self, entry_id: str | None) -> list[str]:
        """Make one waiting or dead entry due now, or all of them; return their IDs."""
        rows = await self._database.run(
            """UPDATE entries SET state = 'pending', due_at = :now, failures = 0,
                   failing_since = NULL, not_ready_since = NULL
               WHERE (:id IS NULL OR id = :id)
               AND (state = 'dead' OR (state = 'pending' AND owner IS NULL)) RETURNING id""",
            {"id": entry_id, "now": time.time()},
        )
        return [row["id"] for row in rows]

    async def discard(self, entry_id: str) -> str | None:
        """Delete a dead entry; return the name of its spool file. None if there is none."""
        rows = await self._database.run(
            "DELETE FROM entries WHERE id = ? AND state = 'dead' RETURNING *", (entry_id,)
        )
        return file_of(rows[0]) if rows else None

    async def status(self) -> OutboxStatus:
        """Count the entries and bytes."""
        (row,) = await self._database.run(
            f"""SELECT
                   COUNT(*) FILTER (WHERE state = 'incoming') AS incoming,
                   COUNT(*) FILTER (WHERE {_STATES["pending"]}) AS pending,
                   COUNT(*) FILTER (WHERE {_STATES["delivering"]}) AS delivering,
                   COUNT(*) FILTER (WHERE {_STATES["delivered"]}) AS delivered,
                   COUNT(*) FILTER (WHERE {_STATES["dead"]}) AS dead,
                   (SELECT bytes FROM totals) AS bytes,
                   MIN(created_at) FILTER (WHERE state = 'pending') AS oldest,
                   {_LAST_DELIVERY} AS last_delivered_at,
                   MAX(last_error_at) FILTER (WHERE state = 'pending' AND blocked) AS blocked_at
               FROM entries"""  # noqa: S608
        )
        errors = await self._database.run(
            """SELECT last_error, last_error_at FROM entries WHERE last_error_at IS NOT NULL
               ORDER BY last_error_at DESC LIMIT 1"""
        )
        blocked_at, last_delivery = row["blocked_at"], row["last_delivered_at"]
        return OutboxStatus(
            incoming=row["incoming"],
            pending=row["pending"],
            delivering=row["delivering"],
            delivered=row["delivered"],
            dead=row["dead"],
            bytes=row["bytes"],
            max_bytes=self._max_bytes,
            oldest=moment(row["oldest"]),
            last_delivered_at=moment(last_delivery),
            last_error=errors[0]["last_error"] if errors else None,
            last_error_at=moment(errors[0]["last_error_at"]) if errors else None,
            blocked=blocked_at is not None and blocked_at > (last_delivery or 0.0),
        )
