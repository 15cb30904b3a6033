"""What the library's FastAPI integration will provide."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.websockets import WebSocket

from careflow_storage import BackblazeStorage, InvalidInputError, NoSuchKeyError


def get_storage(connection: HTTPConnection) -> BackblazeStorage:
    storage: BackblazeStorage = connection.app.state.storage
    return storage


Storage = Annotated[BackblazeStorage, Depends(get_storage)]


async def file_response(
    storage: BackblazeStorage, key: str, request: Request, download_as: str | None = None
) -> Response:
    served = await storage.serve_file(
        key, method=request.method, headers=request.headers, download_as=download_as
    )
    return StreamingResponse(served.body, served.status, served.headers)


class RecordingCutOff(Exception):  # noqa: N818
    """The connection was lost before the sender said that it was done."""


async def websocket_audio(websocket: WebSocket, end: str = "end") -> AsyncIterator[bytes]:
    while True:
        message = await websocket.receive()
        if message.get("bytes"):
            yield message["bytes"]
        elif message.get("text") == end:
            return
        elif message["type"] == "websocket.disconnect":
            if message.get("code") == 1000:
                return
            raise RecordingCutOff


async def problem(request: Request, error: Exception) -> JSONResponse:
    status = {NoSuchKeyError: 404, InvalidInputError: 422}.get(type(error), 502)
    return JSONResponse({"detail": getattr(error, "message", "")}, status)
