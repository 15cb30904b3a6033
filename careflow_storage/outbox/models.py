"""What the outbox tells about itself: frozen, typed, ready for JSON."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict

OutboxState = Literal["pending", "delivering", "delivered", "dead"]
"""Where a recording stands: waiting, on its way, in the bucket, given up."""


class _Model(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")


class OutboxEntry(_Model):
    """One recording in the outbox.

    ``size`` is in bytes, ``sha256`` is lower-case hex of all of them, times are UTC.
    ``attempts`` counts how often a delivery was begun, ``next_attempt_at`` tells when a waiting
    recording is due. ``etag`` and ``version_id`` are those of the delivered object.
    """

    id: str
    key: str
    state: OutboxState
    size: int
    sha256: str
    content_type: str | None
    created_at: AwareDatetime
    attempts: int
    next_attempt_at: AwareDatetime | None
    last_error: str | None
    last_error_at: AwareDatetime | None
    delivered_at: AwareDatetime | None
    etag: str | None
    version_id: str | None


class OutboxStatus(_Model):
    """How the outbox stands.

    ``incoming`` are being written by a ``put_recording`` that has not returned. ``bytes`` is
    what all undelivered recordings take on disk, dead letters and those incoming included.
    ``oldest`` is when the oldest undelivered recording came that is not a dead letter.
    ``last_error`` is that of a recording that still waits or was given up. ``blocked`` says
    that the bucket refuses: a key, a cap or a setting is at fault, not a recording.
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
