"""Rows of the database as the objects that the outbox works with."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime

from careflow_storage.options import IfExists, ObjectOptions
from careflow_storage.outbox.models import OutboxEntry, OutboxState
from careflow_storage.outbox.stored_options import options_of
from careflow_storage.outbox.url_source import UrlSource


@dataclass(frozen=True, slots=True)
class Claim:
    """A recording that this owner may deliver until its lease ends.

    ``file`` names its spool file. ``source`` is where its bytes come from, if from a URL.
    ``if_exists`` says what to do about an object that is there.
    """

    entry: OutboxEntry
    options: ObjectOptions
    failures: int
    file: str
    source: UrlSource | None
    if_exists: IfExists


@dataclass(frozen=True, slots=True)
class Failure:
    """How a delivery failed, and the seconds until the next attempt.

    ``fatal``: the recording can never be delivered. ``blocked``: the bucket refuses all.
    ``held``: something else is missing that the operator provides, so nothing is given up.
    ``not_ready_for``: give up when the source was not ready for this many seconds.
    """

    error: str
    pause: float
    fatal: bool
    blocked: bool
    held: bool
    not_ready_for: float | None


def claim_of(row: sqlite3.Row) -> Claim:
    """Return the claim for a leased row."""
    source = source_of(row)
    return Claim(
        entry_of(row),
        options_of(row),
        row["failures"],
        file_of(row),
        source,
        row["if_exists"] if source is None else source.if_exists,
    )


def source_of(row: sqlite3.Row) -> UrlSource | None:
    """Return where a row's bytes come from; None if they were put."""
    return None if row["source"] is None else UrlSource.from_json(row["source"])


def file_of(row: sqlite3.Row) -> str:
    """Return the name of a row's spool file."""
    name: str = row["id"] if row["spool_file"] is None else row["spool_file"]
    return name


def entry_of(row: sqlite3.Row) -> OutboxEntry:
    """Return the entry of a row."""
    source = source_of(row)
    state: OutboxState = row["state"]
    if state == "pending" and row["owner"] is not None:
        state = "delivering"
    return OutboxEntry(
        id=row["id"],
        key=row["key"],
        state=state,
        size=row["size"],
        sha256=row["sha256"],
        content_type=row["content_type"],
        created_at=datetime.fromtimestamp(row["created_at"], UTC),
        attempts=row["attempts"],
        next_attempt_at=moment(row["due_at"]) if state == "pending" else None,
        last_error=row["last_error"],
        last_error_at=moment(row["last_error_at"]),
        delivered_at=moment(row["delivered_at"]),
        etag=row["etag"],
        version_id=row["version_id"],
        url=source.shown_url if source else None,
        auth_name=source.auth_name if source else None,
    )


def moment(seconds: float | None) -> datetime | None:
    """Return a time of the database as a datetime."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
