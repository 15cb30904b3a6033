"""Twilio's recordings: check the webhook that announces one, and queue it for the bucket.

::

    outbox = Outbox(folder, storage, credentials={"twilio": (API_KEY, API_SECRET)})
    app.include_router(recording_router(outbox, auth_token=AUTH_TOKEN), prefix="/twilio")

`recording_router` and `read_callback` need the extra ``fastapi``, `queue_recording` an `Outbox`
(extra ``outbox``). `verify_signature` and `RecordingCallback` need neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from careflow_storage._lazy import lazy_exports
from careflow_storage.integrations.twilio.callback import RecordingCallback
from careflow_storage.integrations.twilio.signature import (
    SignatureAlgorithm,
    SignedParams,
    verify_signature,
)

if TYPE_CHECKING:
    from careflow_storage.integrations.twilio.queueing import queue_recording as queue_recording
    from careflow_storage.integrations.twilio.routes import CallIdOfRecording as CallIdOfRecording
    from careflow_storage.integrations.twilio.routes import OutboxOf as OutboxOf
    from careflow_storage.integrations.twilio.routes import read_callback as read_callback
    from careflow_storage.integrations.twilio.routes import recording_router as recording_router
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            f"{__name__}.queueing": ("queue_recording",),
            f"{__name__}.routes": (
                "CallIdOfRecording",
                "OutboxOf",
                "read_callback",
                "recording_router",
            ),
        },
    )

__all__ = [
    "CallIdOfRecording",
    "OutboxOf",
    "RecordingCallback",
    "SignatureAlgorithm",
    "SignedParams",
    "queue_recording",
    "read_callback",
    "recording_router",
    "verify_signature",
]
