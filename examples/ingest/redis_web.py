"""The web app with Redis: it takes webhooks and queues jobs. It does not know the bucket."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from arq import create_pool
from arq.connections import RedisSettings
from fastapi import FastAPI, Request

from careflow_storage.integrations.twilio import read_callback


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    redis = await create_pool(RedisSettings.from_dsn(os.environ["REDIS"]))
    yield {"redis": redis}
    await redis.aclose()


app = FastAPI(lifespan=lifespan)


@app.post("/twilio/recording", status_code=204)
async def recording(request: Request) -> None:
    callback = await read_callback(request, auth_token=os.environ["TWILIO_AUTH_TOKEN"])
    if not callback.completed:
        return
    # The ID makes the second webhook no job of its own while Redis remembers the first. After
    # that, if_exists="return" costs it one HEAD.
    await request.state.redis.enqueue_job(
        "store",
        callback.call_id,
        f"{callback.url}.wav",
        f"{callback.recording_sid}.wav",
        callback.started_at,
        _job_id=callback.recording_sid,
    )
