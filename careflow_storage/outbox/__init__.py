"""A durable outbox: recordings are safe on this machine's disk before they are in the bucket.

::

    async with Outbox("/var/lib/careflow/outbox", storage) as outbox:
        entry = await outbox.put_recording("CA123", body, "recording.webm")
        await outbox.put_url("CA123", url, "recording.wav", auth_name="twilio")
        await outbox.run()

The extra ``outbox`` brings what it needs (aiosqlite).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from careflow_storage._lazy import lazy_exports
from careflow_storage.outbox.errors import CredentialsError, OutboxError, OutboxFullError

if TYPE_CHECKING:
    from careflow_storage.outbox.listing import EntryListing
    from careflow_storage.outbox.models import OutboxEntry, OutboxState, OutboxStatus
    from careflow_storage.outbox.outbox import Outbox
    from careflow_storage.outbox.remote.credentials import CredentialsLookup, SourceCredentials
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            f"{__name__}.listing": ("EntryListing",),
            f"{__name__}.models": ("OutboxEntry", "OutboxState", "OutboxStatus"),
            f"{__name__}.outbox": ("Outbox",),
            f"{__name__}.remote.credentials": ("CredentialsLookup", "SourceCredentials"),
        },
    )

__all__ = [
    "CredentialsError",
    "CredentialsLookup",
    "EntryListing",
    "Outbox",
    "OutboxEntry",
    "OutboxError",
    "OutboxFullError",
    "OutboxState",
    "OutboxStatus",
    "SourceCredentials",
]
