"""What a measurement gives."""

from __future__ import annotations

from datetime import timedelta

from pydantic import AwareDatetime

from careflow_storage.models import Model


class Stored(Model):
    """How much is stored: of files that can be seen, hidden versions, and unfinished uploads.

    A hidden version is every one but that which can be seen: older ones, and all of a file that
    was deleted without erasing it. Bytes are those of the content: names and metadata are free.
    """

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

    Attributes:
        total: Of all that is below the prefix.
        by_folder: Of each folder right below the prefix, named from the bucket's root on
            (``recordings/``), the one with the most billed bytes first; only the first ``top``.
            What is in no such folder stands under the prefix itself.
        folders: How many folders there are.
        by_call: Of each call (``recordings/{call_id}/``) by its ID, as ``by_folder``.
        calls: How many calls there are.
        by_month: Of what was uploaded (or begun, or hidden) in each month, ``2026-11``, in UTC
            and in order. Of what is still stored: what was erased meanwhile is in no month.
        notes: What could not be counted, and why; a person should read them.
    """

    bucket: str
    prefix: str
    measured_at: AwareDatetime
    took: timedelta
    total: Stored
    by_folder: dict[str, Stored]
    folders: int
    by_call: dict[str, Stored]
    calls: int
    by_month: dict[str, Stored]
    notes: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether all of it could be counted."""
        return not self.notes
