"""Twilio's recordings, from the webhook into the bucket.

    pip install 'careflow-storage[fastapi,outbox]' uvicorn
    uvicorn --app-dir examples --factory twilio_webhook:make_app

Set ``recordingStatusCallback`` to ``https://.../twilio/recording`` at Twilio. Needs the BACKBLAZE_*
variables, and of Twilio: TWILIO_AUTH_TOKEN (checks the webhook), TWILIO_API_KEY and
TWILIO_API_SECRET (fetch the recording), PUBLIC_URL (such as https://calls.example.com).

The webhook is on the disk before its response. Each process fetches and delivers; any number of
them may share the folder OUTBOX.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from careflow_storage import BackblazeStorage
from careflow_storage.integrations.twilio import recording_router
from careflow_storage.outbox import Outbox, OutboxStatus

logger = logging.getLogger(__name__)


def make_app(**options: Any) -> FastAPI:
    """Return the app. ``options`` are those of `recording_router`, such as ``format="mp3"``."""
    storage = BackblazeStorage()
    outbox = Outbox(
        os.environ.get("OUTBOX", "outbox"),
        storage,
        max_bytes=10 * 1024**3,
        credentials={"twilio": (os.environ["TWILIO_API_KEY"], os.environ["TWILIO_API_SECRET"])},
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with storage, outbox:
            delivering = asyncio.create_task(outbox.run())
            delivering.add_done_callback(stop_if_failed)
            yield
            delivering.cancel()
            await asyncio.wait([delivering])

    app = FastAPI(title="Twilio's recordings", lifespan=lifespan)
    app.include_router(
        recording_router(
            outbox,
            auth_token=os.environ["TWILIO_AUTH_TOKEN"],
            public_url=os.environ.get("PUBLIC_URL"),
            **options,
        ),
        prefix="/twilio",
    )

    @app.get("/health")
    async def health() -> OutboxStatus:
        """Alert on the age of ``oldest``, and on ``dead`` above 0."""
        return await outbox.status()

    return app


def stop_if_failed(delivering: asyncio.Task[None]) -> None:
    """End the process if nothing is delivered any more, so that its supervisor restarts it."""
    if not delivering.cancelled() and (error := delivering.exception()):
        logger.error("The outbox does not deliver any more: %s", error)
        signal.raise_signal(signal.SIGTERM)
