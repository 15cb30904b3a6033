"""The results of the outbox: frozen, typed, ready for JSON."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict

OutboxState = Literal["pending", "delivering", "delivered", "dead"]
"""The state of a recording: waiting, being uploaded, in the bucket, given up."""


class _Model(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")


class OutboxEntry(_Model):
    """One recording in the outbox.

    ``size`` is in bytes, ``sha256`` is lower-case hex of all of them, times are UTC.
    ``attempts`` counts the deliveries that were begun, ``next_attempt_at`` is when a waiting
    recording is due. ``etag`` and ``version_id`` are those of the delivered object.

    For `Outbox.put_url`, ``url`` is the source without its query, which may contain a token, and
    ``auth_name`` names its credentials. Before the fetch ``size`` is 0 and ``sha256`` None; so
    they stay where the object existed and nothing was fetched.
    """

    id: str
    key: str
    state: OutboxState
    size: int
    sha256: str | None
    content_type: str | None
    created_at: AwareDatetime
    attempts: int
    next_attempt_at: AwareDatetime | None
    last_error: str | None
    last_error_at: AwareDatetime | None
    delivered_at: AwareDatetime | None
    etag: str | None
    version_id: str | None
    url: str | None = None
    auth_name: str | None = None


class OutboxStatus(_Model):
    """Counts of an outbox, over all its processes.

    ``incoming`` recordings are being written by a ``put_recording`` that has not returned.
    ``bytes`` is the size of all undelivered recordings on the disk, with dead letters and
    incoming ones. ``oldest`` is when the oldest waiting recording was put. ``last_error`` is the
    latest error of a waiting or dead recording. ``blocked``: the bucket refuses all recordings,
    because of a key, a cap or a setting.
    """

    incoming: int
    pending: int
    delivering: int
    delivered: int
    dead: int
    bytes: int
    max_bytes: int | None
    oldest: AwareDatetime | None
    last_delivered_at: AwareDatetime | None
    last_error: str | None
    last_error_at: AwareDatetime | None
    blocked: bool
