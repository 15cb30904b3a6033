"""Quart: store recordings, and play them through the app or from the bucket.

    pip install quart hypercorn 'careflow-storage[fastapi]'
    cd examples/web_frameworks && hypercorn quart_app:app
    curl -T recording.webm http://127.0.0.1:8000/recordings/CA123/recording.webm

Needs the BACKBLAZE_* variables. Add your own authentication before you put it on a network.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from typing import Any

from quart import Quart, Response, current_app, redirect, request
from starlette.requests import ClientDisconnect
from starlette.requests import Request as StarletteRequest

from careflow_storage import BackblazeStorage, StorageError
from careflow_storage.integrations.asgi import (
    ClientDisconnectedError,
    StreamedBodies,
    streamed_body,
)
from careflow_storage.integrations.fastapi import form_file
from careflow_storage.integrations.problems import problem_for

logger = logging.getLogger(__name__)

MAX_SIZE = 500 * 1024 * 1024
READ_TIMEOUT = 30.0
PLAYBACK_SECONDS = 300

app = Quart(__name__)
# Quart receives a body as fast as the client sends it, into memory, and refuses more than 16 MB.
app.asgi_app = StreamedBodies(app.asgi_app, lambda scope: scope["method"] in ("PUT", "POST"))  # type: ignore[method-assign]


@app.while_serving
async def open_storage() -> AsyncGenerator[None]:
    """Open one storage for the life of the process."""
    async with BackblazeStorage() as storage:
        app.extensions["storage"] = storage
        yield


def get_storage() -> BackblazeStorage:
    storage: BackblazeStorage = current_app.extensions["storage"]
    return storage


@app.put("/recordings/<call_id>/<filename>")
async def upload(call_id: str, filename: str) -> tuple[dict[str, Any], int]:
    """Store the body while it arrives."""
    body = streamed_body(request.scope)
    result = await get_storage().upload_recording(
        call_id, body, filename, size=body.size, max_size=MAX_SIZE, read_timeout=READ_TIMEOUT
    )
    return {"key": result.key, "size": result.size}, 201


@app.post("/recordings/<call_id>")
async def upload_form(call_id: str) -> tuple[dict[str, Any], int]:
    """Store the file of a form while it arrives; the extra `fastapi` has the parser."""
    form = StarletteRequest(dict(request.scope), streamed_body(request.scope).receive)
    async with form_file(form, max_size=MAX_SIZE, read_timeout=READ_TIMEOUT) as part:
        result = await get_storage().upload_recording(call_id, part, part.filename)
    return {"key": result.key, "size": result.size}, 201


@app.get("/recordings/<call_id>/<name>")
async def play(call_id: str, name: str) -> Response:
    """Pass the recording on, or the range that a player seeks."""
    served = await get_storage().serve_file(
        f"recordings/{call_id}/{name}", method=request.method, headers=dict(request.headers)
    )
    response = Response(served.body, served.status, served.headers)
    # By default Quart ends a response after 60 s, however much of it is left to play.
    response.timeout = None
    return response


@app.get("/recordings/<call_id>/<name>/link")
async def link(call_id: str, name: str) -> Any:
    """Send the player to the bucket: the bytes do not pass through this app."""
    key = f"recordings/{call_id}/{name}"
    await get_storage().get_file_metadata(key)  # a missing recording is a 404 here
    response = redirect(await get_storage().get_signed_url(key, PLAYBACK_SECONDS), 307)
    response.headers["Cache-Control"] = "no-store"
    return response


@app.errorhandler(StorageError)
async def respond(error: StorageError) -> Response:
    problem = problem_for(error)
    if problem.status >= 500:
        logger.error("%s %s: %s", request.method, request.path, error)
    return Response(problem.body, problem.status, problem.headers)


@app.errorhandler(ClientDisconnectedError)
@app.errorhandler(ClientDisconnect)
async def note(error: Exception) -> Response:
    logger.info("%s %s: the client left.", request.method, request.path)
    return Response(status=499)  # no client reads it
