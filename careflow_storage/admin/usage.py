"""Usage: what is stored in the bucket, counted in bounded memory."""

from __future__ import annotations

from datetime import timedelta

from pydantic import AwareDatetime

from careflow_storage.models import Model
from careflow_storage.transfer.engine import Engine


class Stored(Model):
    """How much is stored: of files that can be seen, hidden versions, and unfinished uploads."""

    files: int = 0
    bytes: int = 0
    hidden_versions: int = 0
    hidden_bytes: int = 0
    delete_markers: int = 0
    unfinished_uploads: int = 0
    unfinished_bytes: int = 0

    @property
    def billed_bytes(self) -> int:
        """All bytes that are paid for."""
        return self.bytes + self.hidden_bytes + self.unfinished_bytes


class UsageReport(Model):
    """What a bucket holds below a prefix, in total and by folder, call and month.

    ``by_call`` has the calls with the most bytes only. Months are of the upload, ``2026-11``.
    """

    bucket: str
    prefix: str
    measured_at: AwareDatetime
    took: timedelta
    total: Stored
    by_folder: dict[str, Stored]
    by_call: dict[str, Stored]
    calls: int
    by_month: dict[str, Stored]


async def measure(engine: Engine, prefix: str) -> UsageReport:
    raise NotImplementedError
