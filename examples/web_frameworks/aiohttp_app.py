"""aiohttp: store recordings, and play them through the app or from the bucket.

    python examples/web_frameworks/aiohttp_app.py
    curl -T recording.webm http://127.0.0.1:8000/recordings/CA123/recording.webm

Needs the BACKBLAZE_* variables. Add your own authentication before you put it on a network.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

from aiohttp import BodyPartReader, web
from aiohttp.typedefs import Handler

from careflow_storage import BackblazeStorage, StorageError
from careflow_storage.integrations.problems import problem_for

logger = logging.getLogger(__name__)

MAX_SIZE = 500 * 1024 * 1024
READ_TIMEOUT = 30.0
PLAYBACK_SECONDS = 300

STORAGE = web.AppKey("storage", BackblazeStorage)
routes = web.RouteTableDef()


async def open_storage(app: web.Application) -> AsyncIterator[None]:
    """Open one storage for the life of the process."""
    async with BackblazeStorage() as storage:
        app[STORAGE] = storage
        yield


@routes.put("/recordings/{call_id}/{filename}")
async def upload(request: web.Request) -> web.Response:
    """Store the body while it arrives. `client_max_size` does not limit ``request.content``."""
    result = await request.app[STORAGE].upload_recording(
        request.match_info["call_id"],
        request.content.iter_any(),
        request.match_info["filename"],
        size=request.content_length,
        max_size=MAX_SIZE,
        read_timeout=READ_TIMEOUT,
    )
    return web.json_response({"key": result.key, "size": result.size}, status=201)


@routes.post("/recordings/{call_id}")
async def upload_form(request: web.Request) -> web.Response:
    """Store the file of a form while it arrives. `request.post()` would write it to the disk."""
    part = await (await request.multipart()).next()
    if not isinstance(part, BodyPartReader) or part.name != "file" or not part.filename:
        raise web.HTTPUnprocessableEntity(text="The form must begin with the field 'file'.")
    result = await request.app[STORAGE].upload_recording(
        request.match_info["call_id"],
        part,
        part.filename,
        max_size=MAX_SIZE,
        read_timeout=READ_TIMEOUT,
    )
    return web.json_response({"key": result.key, "size": result.size}, status=201)


# For HEAD, too: aiohttp adds it to each GET.
@routes.get("/recordings/{call_id}/{name}")
async def play(request: web.Request) -> web.StreamResponse:
    """Pass the recording on, or the range that a player seeks."""
    key = "recordings/{call_id}/{name}".format_map(request.match_info)
    served = await request.app[STORAGE].serve_file(
        key, method=request.method, headers=request.headers
    )
    async with served.body as body:
        response = web.StreamResponse(status=served.status, headers=served.headers)
        await response.prepare(request)
        async for chunk in body:
            await response.write(chunk)
        await response.write_eof()
    return response


@routes.get("/recordings/{call_id}/{name}/link")
async def link(request: web.Request) -> web.Response:
    """Send the player to the bucket: the bytes do not pass through this app."""
    key = "recordings/{call_id}/{name}".format_map(request.match_info)
    await request.app[STORAGE].get_file_metadata(key)  # a missing recording is a 404 here
    url = await request.app[STORAGE].get_signed_url(key, PLAYBACK_SECONDS)
    raise web.HTTPTemporaryRedirect(url, headers={"Cache-Control": "no-store"})


@web.middleware
async def respond(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Return the response for a storage error."""
    try:
        return await handler(request)
    except StorageError as error:
        problem = problem_for(error)
        if problem.status >= 500:
            logger.error("%s %s: %s", request.method, request.path, error)
        return web.Response(body=problem.body, status=problem.status, headers=problem.headers)
    except ConnectionError:
        logger.info("%s %s: the client left.", request.method, request.path)
        return web.Response(status=499)  # no client reads it


def make_app() -> web.Application:
    app = web.Application(middlewares=[respond])
    app.cleanup_ctx.append(open_storage)
    app.add_routes(routes)
    return app


if __name__ == "__main__":
    # Without handler_cancellation the handler of a client that left runs on.
    web.run_app(make_app(), host="127.0.0.1", port=8000, handler_cancellation=True)
