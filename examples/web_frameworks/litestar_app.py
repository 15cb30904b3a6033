"""Litestar: store recordings, and play them through the app or from the bucket.

    pip install litestar uvicorn 'careflow-storage[fastapi]'
    uvicorn --app-dir examples/web_frameworks litestar_app:app
    curl -T recording.webm http://127.0.0.1:8000/recordings/CA123/recording.webm

Needs the BACKBLAZE_* variables. Add your own authentication before you put it on a network.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from litestar import Litestar, Request, Response, get, post, put, route
from litestar.background_tasks import BackgroundTask
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath
from litestar.response import Redirect, Stream
from starlette.requests import Request as StarletteRequest

from careflow_storage import BackblazeStorage, StorageError
from careflow_storage.integrations.fastapi import form_file
from careflow_storage.integrations.problems import problem_for

logger = logging.getLogger(__name__)

MAX_SIZE = 500 * 1024 * 1024
READ_TIMEOUT = 30.0
PLAYBACK_SECONDS = 300


@asynccontextmanager
async def lifespan(app: Litestar) -> AsyncIterator[None]:
    """Open one storage for the life of the process."""
    async with BackblazeStorage() as storage:
        app.state.storage = storage
        yield


Storage = NamedDependency[BackblazeStorage]


def get_storage(state: State) -> BackblazeStorage:
    storage: BackblazeStorage = state.storage
    return storage


# Litestar refuses bodies of more than 10 MB; MAX_SIZE limits them instead.
@put("/recordings/{call_id:str}/{filename:str}", status_code=201, request_max_body_size=None)
async def upload(
    call_id: FromPath[str],
    filename: FromPath[str],
    request: Request[Any, Any, Any],
    storage: Storage,
) -> dict[str, Any]:
    """Store the body while it arrives."""
    result = await storage.upload_recording(
        call_id,
        request.stream(),
        filename,
        size=request.content_length,
        max_size=MAX_SIZE,
        read_timeout=READ_TIMEOUT,
    )
    return {"key": result.key, "size": result.size}


# The extra `fastapi` has the parser; `request.form()` would write large files to the disk first.
@post("/recordings/{call_id:str}", request_max_body_size=None)
async def upload_form(
    call_id: FromPath[str], request: Request[Any, Any, Any], storage: Storage
) -> dict[str, Any]:
    """Store the file of a form while it arrives."""
    form = StarletteRequest(dict(request.scope), request.receive)  # type: ignore[arg-type]  # ASGI's
    async with form_file(form, max_size=MAX_SIZE, read_timeout=READ_TIMEOUT) as part:
        result = await storage.upload_recording(call_id, part, part.filename)
    return {"key": result.key, "size": result.size}


@route("/recordings/{call_id:str}/{name:str}", http_method=["GET", "HEAD"])
async def play(
    call_id: FromPath[str], name: FromPath[str], request: Request[Any, Any, Any], storage: Storage
) -> Stream:
    """Pass the recording on, or the range that a player seeks."""
    served = await storage.serve_file(
        f"recordings/{call_id}/{name}", method=request.method, headers=request.headers
    )
    return Stream(
        served.body,
        status_code=served.status,
        headers=served.headers,
        media_type=served.headers.get("Content-Type"),
        # Also runs when the client left; Stream itself does not close what it iterates over.
        background=BackgroundTask(served.body.aclose),
    )


@get("/recordings/{call_id:str}/{name:str}/link")
async def link(call_id: FromPath[str], name: FromPath[str], storage: Storage) -> Redirect:
    """Send the player to the bucket: the bytes do not pass through this app."""
    key = f"recordings/{call_id}/{name}"
    await storage.get_file_metadata(key)  # a missing recording is a 404 here
    url = await storage.get_signed_url(key, PLAYBACK_SECONDS)
    return Redirect(url, status_code=307, headers={"Cache-Control": "no-store"})


def respond(request: Request[Any, Any, Any], error: StorageError) -> Response[bytes]:
    problem = problem_for(error)
    if problem.status >= 500:
        logger.error("%s %s: %s", request.method, request.url.path, error)
    return Response(problem.body, status_code=problem.status, headers=problem.headers)


app = Litestar(
    [upload, upload_form, play, link],
    lifespan=[lifespan],
    dependencies={"storage": Provide(get_storage, sync_to_thread=False)},
    exception_handlers={StorageError: respond},
)
