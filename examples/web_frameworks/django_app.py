"""Django on ASGI: store recordings, and play them through the app or from the bucket.

    pip install django uvicorn 'careflow-storage[fastapi]'
    uvicorn --app-dir examples/web_frameworks django_app:application
    curl -T recording.webm http://127.0.0.1:8000/recordings/CA123/recording.webm

Settings, views and asgi.py in one file; in a project they are three. Needs the BACKBLAZE_*
variables. Add your own authentication before you put it on a network.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import wraps
from typing import Any

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from starlette.requests import ClientDisconnect
from starlette.requests import Request as StarletteRequest

from careflow_storage import BackblazeStorage, ServedFile, StorageError
from careflow_storage.integrations.asgi import (
    ClientDisconnectedError,
    Receive,
    Send,
    StreamedBodies,
    streamed_body,
)
from careflow_storage.integrations.fastapi import form_file
from careflow_storage.integrations.problems import problem_for

logger = logging.getLogger(__name__)

MAX_SIZE = 500 * 1024 * 1024
READ_TIMEOUT = 30.0
PLAYBACK_SECONDS = 300

# --- settings.py ------------------------------------------------------------------------

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["127.0.0.1", "localhost"])

# --- views.py ---------------------------------------------------------------------------

View = Callable[..., Awaitable[HttpResponseBase]]


def problems(view: View) -> View:
    """Return the response for a storage error."""

    @wraps(view)
    async def respond(request: ASGIRequest, **arguments: str) -> HttpResponseBase:
        try:
            return await view(request, **arguments)
        except StorageError as error:
            problem = problem_for(error)
            if problem.status >= 500:
                logger.error("%s %s: %s", request.method, request.path, error)
            return HttpResponse(problem.body, status=problem.status, headers=problem.headers)
        except (ClientDisconnectedError, ClientDisconnect):
            logger.info("%s %s: the client left.", request.method, request.path)
            return HttpResponse(status=499)  # no client reads it

    return respond


class StoredFileResponse(StreamingHttpResponse):
    """Closes the file when the response ends, also where the client left."""

    def __init__(self, served: ServedFile) -> None:
        super().__init__(served.body, status=served.status, headers=served.headers)
        self._body = served.body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async with self._body:
            async for chunk in super().__aiter__():
                yield chunk


@csrf_exempt
@require_http_methods(["GET", "HEAD", "PUT"])
@problems
async def recording(request: ASGIRequest, call_id: str, name: str) -> HttpResponseBase:
    """Store the body while it arrives; pass a recording on, or the range that a player seeks."""
    storage = application.storage
    if request.method == "PUT":
        body = streamed_body(request.scope)
        result = await storage.upload_recording(
            call_id, body, name, size=body.size, max_size=MAX_SIZE, read_timeout=READ_TIMEOUT
        )
        return JsonResponse({"key": result.key, "size": result.size}, status=201)
    served = await storage.serve_file(
        f"recordings/{call_id}/{name}", method=request.method, headers=request.headers
    )
    return StoredFileResponse(served)


@csrf_exempt
@require_POST
@problems
async def form(request: ASGIRequest, call_id: str) -> HttpResponse:
    """Store the file of a form while it arrives; the extra `fastapi` has the parser."""
    body = StarletteRequest(request.scope, streamed_body(request.scope).receive)
    async with form_file(body, max_size=MAX_SIZE, read_timeout=READ_TIMEOUT) as part:
        result = await application.storage.upload_recording(call_id, part, part.filename)
    return JsonResponse({"key": result.key, "size": result.size}, status=201)


@require_safe
@problems
async def link(request: ASGIRequest, call_id: str, name: str) -> HttpResponse:
    """Send the player to the bucket: the bytes do not pass through this app."""
    key = f"recordings/{call_id}/{name}"
    await application.storage.get_file_metadata(key)  # a missing recording is a 404 here
    url = await application.storage.get_signed_url(key, PLAYBACK_SECONDS)
    return HttpResponse(status=307, headers={"Location": url, "Cache-Control": "no-store"})


urlpatterns = [
    path("recordings/<str:call_id>", form),
    path("recordings/<str:call_id>/<str:name>", recording),
    path("recordings/<str:call_id>/<str:name>/link", link),
]

# --- asgi.py ----------------------------------------------------------------------------


class Application:
    """Django, and one storage for the life of the process: Django has no lifespan of its own."""

    storage: BackblazeStorage

    def __init__(self) -> None:
        # Django writes each body to a temporary file before the view runs.
        self._django = StreamedBodies(
            get_asgi_application(), lambda scope: scope["method"] in ("PUT", "POST")
        )

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Run ASGI's lifespan here; all else is Django's."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            await self._django(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()  # lifespan.startup
        try:
            async with BackblazeStorage() as self.storage:
                await send({"type": "lifespan.startup.complete"})
                await receive()  # lifespan.shutdown
        except StorageError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.shutdown.complete"})


application: Any = Application()
