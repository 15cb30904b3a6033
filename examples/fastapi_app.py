"""A web app that stores call recordings and plays them back.

    pip install uvicorn fastapi
    uvicorn --app-dir examples --timeout-graceful-shutdown 20 fastapi_app:app
    curl -T recording.webm http://127.0.0.1:8000/recordings/CA123/recording.webm
    curl -L http://127.0.0.1:8000/recordings/CA123/{name from the response} -o played.webm

Needs the BACKBLAZE_* variables. Without them it does not start, and names the missing ones.
Add your own authentication before you put it on a network.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, TypedDict

from fastapi import Depends, FastAPI, Header, Request, status
from fastapi.responses import JSONResponse, RedirectResponse, Response

from careflow_storage import (
    AccessDeniedError,
    BackblazeStorage,
    BodyChangedError,
    BodyTimeoutError,
    CapExceededError,
    ConnectionFailedError,
    DeleteResult,
    FileInfo,
    FileTooLargeError,
    InvalidCredentialsError,
    InvalidInputError,
    InvalidPathError,
    InvalidRangeError,
    LocalFileError,
    NoSuchKeyError,
    NotConfiguredError,
    PoolTimeoutError,
    PreconditionFailedError,
    ServiceUnavailableError,
    SizeMismatchError,
    StorageClosedError,
    StorageError,
    StorageTimeoutError,
    UploadResult,
)

logger = logging.getLogger(__name__)

PLAYBACK_SECONDS = 300
RETRY_SECONDS = 10


class State(TypedDict):
    """The state that every request gets from the lifespan."""

    storage: BackblazeStorage


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[State]:
    """Open one storage for the life of the process; at its end, stop calls in flight."""
    async with BackblazeStorage() as storage:
        yield {"storage": storage}


app = FastAPI(title="Recordings", lifespan=lifespan)


def storage_of(request: Request) -> BackblazeStorage:
    storage: BackblazeStorage = request.state.storage
    return storage


Storage = Annotated[BackblazeStorage, Depends(storage_of)]


@app.put("/recordings/{call_id}/{filename}", status_code=status.HTTP_201_CREATED)
async def upload(
    call_id: str,
    filename: str,
    request: Request,
    storage: Storage,
    content_length: Annotated[int | None, Header()] = None,
) -> UploadResult:
    """Store the body while it arrives; if the client disconnects, nothing is stored."""
    return await storage.upload_recording(call_id, request.stream(), filename, size=content_length)


@app.get("/recordings/{call_id}")
async def recordings(call_id: str, storage: Storage) -> list[FileInfo]:
    """List a call's recordings, the oldest first."""
    return await storage.list_files(f"recordings/{call_id}/")


@app.get("/recordings/{call_id}/{name}", response_class=RedirectResponse)
async def play(call_id: str, name: str, storage: Storage) -> Response:
    """Send the player to the bucket: the bytes do not pass through this app."""
    key = f"recordings/{call_id}/{name}"
    await storage.get_file_metadata(key)  # a missing recording is a 404 here
    url = await storage.get_signed_url(key, PLAYBACK_SECONDS)
    # A cached redirect would outlive its signature.
    return RedirectResponse(url, headers={"Cache-Control": "no-store"})


@app.delete("/recordings/{call_id}/{name}")
async def delete(call_id: str, name: str, storage: Storage) -> DeleteResult:
    """Hide a recording. B2 keeps its bytes until a lifecycle rule or a purge erases them."""
    return await storage.delete_file(f"recordings/{call_id}/{name}")


# Only the operator can fix the causes of a 5xx. Errors that are not listed here are a 502.
STATUS: dict[type[StorageError], int] = {
    NoSuchKeyError: 404,
    PreconditionFailedError: 412,
    FileTooLargeError: 413,
    InvalidRangeError: 416,
    InvalidInputError: 422,
    # The server's own disk; the client must not see its paths.
    LocalFileError: 500,
    InvalidPathError: 500,
    SizeMismatchError: 400,
    BodyChangedError: 400,
    # Our key was refused, not the client's: 401 or 403 would blame the wrong one.
    AccessDeniedError: 502,
    InvalidCredentialsError: 502,
    CapExceededError: 503,
    ConnectionFailedError: 503,
    NotConfiguredError: 503,
    StorageClosedError: 503,
    PoolTimeoutError: 503,
    ServiceUnavailableError: 503,
    StorageTimeoutError: 504,
    BodyTimeoutError: 408,
}


@app.exception_handler(StorageError)
async def response_for(request: Request, error: StorageError) -> JSONResponse:
    """Return the response for a storage error, by its class."""
    code = next((STATUS[cls] for cls in type(error).__mro__ if cls in STATUS), 502)
    content = {"error": type(error).__name__}
    headers = {}
    if code < 500:
        content["detail"] = error.message
    else:
        logger.error("%s %s: %s", request.method, request.url.path, error)
    if code == 503:
        headers["Retry-After"] = str(math.ceil(error.retry_after or RETRY_SECONDS))
    return JSONResponse(content, status_code=code, headers=headers)
