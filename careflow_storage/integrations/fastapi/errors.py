"""The responses to errors: problem details for HTTP, close codes for WebSockets."""

from __future__ import annotations

import logging
from typing import Any, cast

from careflow_storage._log_fields import log_fields
from careflow_storage.errors import MissingExtraError, RecordingCutOff, StorageError
from careflow_storage.integrations.problems import problem_for

try:
    from starlette.applications import Starlette
    from starlette.requests import ClientDisconnect, HTTPConnection
    from starlette.responses import Response
    from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState
except ImportError as error:
    raise MissingExtraError("fastapi") from error

logger: logging.Logger = logging.getLogger("careflow_storage")

# What web servers log for a client that left. No client reads it.
_CLIENT_LEFT = 499


def install_error_handlers(app: Starlette) -> None:
    """Respond to each `StorageError` of a route or dependency with problem details (RFC 9457).

    The status fits the class of the error (see docs/errors.md). A 503 has ``Retry-After``. A 4xx
    has the error's message as its detail; the message of a 5xx is only logged, as one line
    without a traceback. So is, at level INFO, a client that disconnects during its request.

    A WebSocket that is open is closed with code 1008 for a 4xx, 1013 for a 503 and 1011 for
    another 5xx. Before it is accepted, the response is the same as for HTTP.

    Args:
        app: FastAPI or Starlette. A mounted app needs handlers of its own.
    """
    # The same handler serves requests and WebSockets, which their type does not allow for.
    app.add_exception_handler(StorageError, cast("Any", _respond))
    app.add_exception_handler(ClientDisconnect, cast("Any", _log_disconnect))
    app.add_exception_handler(WebSocketDisconnect, cast("Any", _log_disconnect))


async def _respond(connection: HTTPConnection, error: StorageError) -> Response | None:
    problem = problem_for(error)
    if problem.status >= 500:
        logger.error(
            "%s: %s",
            describe(connection),
            error,
            extra=log_fields("response_error", error, request=describe(connection)),
        )
    elif isinstance(error, RecordingCutOff):
        logger.info(
            "%s: %s",
            describe(connection),
            error,
            extra=log_fields("response_error", error, request=describe(connection)),
        )
    response = Response(problem.body, problem.status, problem.headers)
    if not isinstance(connection, WebSocket):
        if problem.status == 408 and connection.scope["http_version"].startswith("1"):
            # The rest of the request never comes: the connection cannot be used again.
            response.headers["Connection"] = "close"
        return response
    await _close(connection, problem.status, problem.content["title"], response)
    return None


async def _close(websocket: WebSocket, status: int, reason: str, response: Response) -> None:
    """Refuse or close a WebSocket, unless that has happened already."""
    if WebSocketState.DISCONNECTED in (websocket.client_state, websocket.application_state):
        return
    try:
        waiting = websocket.application_state is WebSocketState.CONNECTING
        if waiting and "websocket.http.response" in websocket.scope.get("extensions", {}):
            await websocket.send_denial_response(response)
        else:
            await websocket.close(_close_code(status), reason)
    except (RuntimeError, OSError):
        # The client left first.
        logger.info(
            "%s: the client left.",
            describe(websocket),
            extra=log_fields("client_left", request=describe(websocket)),
        )


def _close_code(status: int) -> int:
    if status < 500:
        return 1008
    return 1013 if status == 503 else 1011


async def _log_disconnect(
    connection: HTTPConnection, error: ClientDisconnect | WebSocketDisconnect
) -> Response | None:
    logger.info(
        "%s: the client left.",
        describe(connection),
        extra=log_fields("client_left", request=describe(connection)),
    )
    return None if isinstance(connection, WebSocket) else Response(status_code=_CLIENT_LEFT)


def describe(connection: HTTPConnection) -> str:
    """Return the request's method and path for a log line; never the query."""
    scope: Any = connection.scope
    # Not `connection.url`: some versions of Starlette cannot read it with a malformed Host.
    return f"{scope.get('method', 'WebSocket')} {scope['path']!r}"
