"""The result of a measurement."""

from __future__ import annotations

from datetime import timedelta

from pydantic import AwareDatetime

from careflow_storage.models import Model


class Stored(Model):
    """How much is stored: visible files, hidden versions, and unfinished uploads.

    Hidden versions are all but the visible one: older versions, and all versions of a file that
    was deleted but not erased. Only content counts as bytes: names and metadata are free.
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
        """All bytes that are billed."""
        return self.bytes + self.hidden_bytes + self.unfinished_bytes


class UsageReport(Model):
    """The content of a bucket below a prefix, in total and by folder, call and month.

    Attributes:
        total: Everything below the prefix.
        by_folder: The folders directly below the prefix, by their full name (``recordings/``).
            Only the ``top`` folders with the most billed bytes, largest first. Files in no
            folder count under the prefix itself.
        folders: The number of folders.
        by_call: The calls (``recordings/{call_id}/``) by their ID, as in ``by_folder``.
        calls: The number of calls.
        by_month: Uploads (also begun or hidden ones) by month, ``2026-11``, in UTC and in order.
            Includes only what is still stored.
        notes: What could not be counted, and why. Show them to people.
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
        """Whether everything could be counted."""
        return not self.notes
