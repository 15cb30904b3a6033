"""Recordings of telephone calls: Twilio announces them, and a worker fetches them."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Request

from careflow_storage import BackblazeStorage
from careflow_storage.integrations.twilio import RecordingCallback, recording_router
from careflow_storage.outbox import Outbox

from .accounts import call_id_of
from .config import TwilioSettings

logger = logging.getLogger(__name__)


class Twilio:
    """The webhook, and the worker that fetches what it announces.

    The webhook only writes an entry to the disk, so that Twilio gets its response at once. The
    worker waits until Twilio has the file, and repeats what fails, also after a restart.
    """

    def __init__(self, settings: TwilioSettings, storage: BackblazeStorage) -> None:
        key, secret = settings.api_key, settings.api_secret.get_secret_value()
        self._user = settings.user
        self._outbox = Outbox(settings.outbox, storage, credentials={"twilio": (key, secret)})
        self.router = recording_router(
            self._outbox,
            auth_token=settings.auth_token.get_secret_value(),
            public_url=settings.public_url,
            call_id_of=self._call_id_of,
            media_host=settings.media_host,
            allow_private_addresses=settings.allow_private_addresses,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Deliver while the app runs."""
        async with self._outbox:
            delivering = asyncio.create_task(self._outbox.run())
            delivering.add_done_callback(_stop_if_failed)
            try:
                yield
            finally:
                delivering.cancel()
                await asyncio.wait([delivering])

    def _call_id_of(self, request: Request, callback: RecordingCallback) -> str:
        return call_id_of(self._user, callback.call_id)


def _stop_if_failed(delivering: asyncio.Task[None]) -> None:
    """End the process if nothing is fetched any more, so that its supervisor restarts it."""
    if not delivering.cancelled() and (error := delivering.exception()):
        logger.error("Recordings of calls are not fetched any more: %s", error)
        signal.raise_signal(signal.SIGTERM)
