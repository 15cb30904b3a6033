"""What a shard has done so far, for the kinds of jobs to add to."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from careflow_storage._s3.redaction import printable, redact
from careflow_storage.errors import StorageError
from careflow_storage.jobs.results import ObjectError


@dataclass(eq=False)
class ShardOutcome:
    """The counts, errors and notes of a shard; see `ShardResult`."""

    objects: int = 0
    bytes: int = 0
    skipped: int = 0
    details: dict[str, int] = field(default_factory=dict)
    errors: list[ObjectError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    value_file: str | None = None
    oldest: datetime | None = None
    newest: datetime | None = None

    def count(self, name: str, number: int = 1) -> None:
        """Add to one of the details."""
        self.details[name] = self.details.get(name, 0) + number

    def note_time(self, time: datetime) -> None:
        """Widen the span from the oldest to the newest object."""
        self.oldest = time if self.oldest is None else min(self.oldest, time)
        self.newest = time if self.newest is None else max(self.newest, time)

    def add_error(self, key: str, error: StorageError) -> None:
        """Add the error of an object."""
        self.errors.append(
            ObjectError(
                key=key,
                kind=type(error).__name__,
                code=error.code,
                status=error.status,
                message=printable(redact(error.message)),
                retryable=error.retryable,
            )
        )
