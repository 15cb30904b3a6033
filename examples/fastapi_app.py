"""A web app that stores call recordings and plays them back.

    pip install uvicorn "careflow-storage[fastapi]"
    uvicorn --app-dir examples --timeout-graceful-shutdown 20 fastapi_app:app
    curl -T recording.webm http://127.0.0.1:8000/recordings/CA123/recording.webm
    curl -F file=@recording.webm http://127.0.0.1:8000/recordings/CA123
    curl -L http://127.0.0.1:8000/recordings/CA123/{name from the response} -o played.webm

Needs the BACKBLAZE_* variables. Without them it does not start, and names the missing ones.
Add your own authentication before you put it on a network.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, FastAPI, Header, Request, Response, WebSocket, status

from careflow_storage import BackblazeStorage, DeleteResult, FileInfo, UploadResult
from careflow_storage.integrations.fastapi import (
    file_response,
    form_file,
    get_storage,
    install_error_handlers,
    redirect_response,
    storage_lifespan,
    websocket_audio,
)

MAX_SIZE = 500_000_000
READ_TIMEOUT = 60

app = FastAPI(title="Recordings", lifespan=storage_lifespan())
install_error_handlers(app)
Storage = Annotated[BackblazeStorage, Depends(get_storage)]


@app.put("/recordings/{call_id}/{filename}", status_code=status.HTTP_201_CREATED)
async def upload(
    call_id: str,
    filename: str,
    request: Request,
    storage: Storage,
    content_length: Annotated[int | None, Header()] = None,
) -> UploadResult:
    """Store the body while it arrives; if the client disconnects, nothing is stored."""
    return await storage.upload_recording(
        call_id,
        request.stream(),
        filename,
        size=content_length,
        max_size=MAX_SIZE,
        read_timeout=READ_TIMEOUT,
    )


@app.post("/recordings/{call_id}", status_code=status.HTTP_201_CREATED)
async def upload_form(call_id: str, request: Request, storage: Storage) -> UploadResult:
    """Store the file of an HTML form while it arrives."""
    async with form_file(request, max_size=MAX_SIZE, read_timeout=READ_TIMEOUT) as part:
        return await storage.upload_recording(call_id, part, part.filename)


@app.websocket("/calls/{call_id}")
async def record(websocket: WebSocket, call_id: str, storage: Storage) -> None:
    """Record until the page sends "end"; a call that is cut off is stored as partial."""
    async with storage.open_recording(call_id, "call.webm", on_error="keep") as recording:
        async for chunk in websocket_audio(websocket, max_size=MAX_SIZE):
            await recording.write(chunk)
    await websocket.send_json({"key": recording.key})
    await websocket.close()


@app.get("/recordings/{call_id}")
async def recordings(call_id: str, storage: Storage) -> list[FileInfo]:
    """List a call's recordings, the oldest first."""
    return await storage.list_files(f"recordings/{call_id}/")


@app.get("/recordings/{call_id}/{name}")
async def play(call_id: str, name: str, storage: Storage) -> Response:
    """Send the player to the bucket: the bytes do not pass through this app."""
    return await redirect_response(storage, f"recordings/{call_id}/{name}")


@app.api_route("/through-the-app/{call_id}/{name}", methods=["GET", "HEAD"])
async def pass_on(call_id: str, name: str, request: Request, storage: Storage) -> Response:
    """Play a recording through this app, where the player cannot reach the bucket."""
    return await file_response(storage, f"recordings/{call_id}/{name}", request)


@app.delete("/recordings/{call_id}/{name}")
async def delete(call_id: str, name: str, storage: Storage) -> DeleteResult:
    """Hide a recording. B2 keeps its bytes until a lifecycle rule or a purge erases them."""
    return await storage.delete_file(f"recordings/{call_id}/{name}")
