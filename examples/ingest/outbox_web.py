"""The web app with an outbox. It needs neither the bucket nor the provider's credentials."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from careflow_storage.integrations.twilio import recording_router
from careflow_storage.outbox import Outbox

outbox = Outbox(os.environ["OUTBOX"])


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with outbox:
        yield


app = FastAPI(lifespan=lifespan)
app.include_router(
    recording_router(
        outbox,
        auth_token=os.environ["TWILIO_AUTH_TOKEN"],
        # The provider of this example is this machine. Leave both out for Twilio.
        media_host="127.0.0.1",
        allow_private_addresses=True,
    ),
    prefix="/twilio",
)
