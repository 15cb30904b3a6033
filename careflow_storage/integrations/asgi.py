"""Uploads in ASGI frameworks that read a request's body before the view does. Needs no extra.

Django writes each body to a temporary file before its view runs. Quart receives it into memory,
however slowly the view takes it. `StreamedBodies` leaves the bodies of your upload routes to the
view, which passes them on while they arrive::

    application = StreamedBodies(get_asgi_application(), lambda scope: scope["method"] == "PUT")

    async def upload(request, call_id, filename):
        body = streamed_body(request.scope)
        await storage.upload_recording(call_id, body, filename, size=body.size)

Starlette, FastAPI, Litestar and aiohttp need none of this: pass ``request.stream()`` or
``request.content``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final, Self

from careflow_storage.errors import InvalidInputError

# Each framework has its own types for these.
Message = MutableMapping[str, Any]
"""A message of ASGI's interface."""
Receive = Callable[[], Awaitable[Any]]
"""Returns the next ASGI message from the client."""
Send = Callable[[Any], Awaitable[None]]
"""Sends an ASGI message to the client."""

_KEY: Final = "careflow_storage.body"


class ClientDisconnectedError(ConnectionResetError):
    """The client disconnected before it had sent the whole body."""


class RequestBody:
    """The body of a request: an async iterator of bytes, and a valid upload body.

    Each chunk is received from the server when it is requested, so a slow reader slows the client
    down, and no more than a chunk is in memory.

    Attributes:
        size: The ``Content-Length``; None where the client does not send it.

    Raises:
        ClientDisconnectedError: The client left in mid-body.
    """

    def __init__(self, scope: Mapping[str, Any], receive: Receive) -> None:
        self.size: int | None = _content_length(scope)
        self._receive = receive
        # The last message of the body, or the end of the connection.
        self._last: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while not self._last.done():
            if chunk := (await self.receive()).get("body", b""):
                return bytes(chunk)
        if self._last.result()["type"] == "http.disconnect":
            raise ClientDisconnectedError("The client disconnected before the end of the body.")
        raise StopAsyncIteration

    async def receive(self) -> Message:
        """Receive the next message of the body, as ASGI's ``receive`` does."""
        message: Message = await self._receive()
        is_last = message["type"] == "http.disconnect" or not message.get("more_body", False)
        if is_last and not self._last.done():
            self._last.set_result(message)
        return message

    async def _receive_after(self) -> Message:
        """Receive the message after the body."""
        last = await asyncio.shield(self._last)
        if last["type"] == "http.disconnect":
            return last
        message: Message = await self._receive()
        return message


class StreamedBodies:
    """ASGI middleware: the view receives the bodies of these requests, not the framework.

    To the framework such a request has an empty body. Middleware, routing and sign-in work as
    usual, except what reads the body: send Django's CSRF token in the header ``X-CSRFToken``.

    Args:
        app: The ASGI application.
        matches: Whether to leave the body of a request to the view, by its ASGI scope: it has
            ``method`` and ``path``.
    """

    def __init__(self, app: Callable[..., Awaitable[None]], matches: Callable[[Any], bool]) -> None:
        self._app = app
        self._matches = matches

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Run the application."""
        if scope["type"] != "http" or not self._matches(scope):
            await self._app(scope, receive, send)
            return
        body = RequestBody(scope, receive)
        is_first = True

        async def receive_without_body() -> Message:
            nonlocal is_first
            if is_first:
                is_first = False
                return {"type": "http.request", "body": b"", "more_body": False}
            return await body._receive_after()

        await self._app({**scope, _KEY: body}, receive_without_body, send)


def streamed_body(scope: Mapping[str, object]) -> RequestBody:
    """Return the body of a request that `StreamedBodies` leaves to the view.

    Args:
        scope: ``request.scope`` of Django or Quart.

    Raises:
        InvalidInputError: The middleware does not match the request, or is not installed.
    """
    body = scope.get(_KEY)
    if not isinstance(body, RequestBody):
        raise InvalidInputError(
            "The framework has read the body of this request.",
            hint="Wrap the application with StreamedBodies, and let `matches` be true for it.",
        )
    return body


def _content_length(scope: Mapping[str, Any]) -> int | None:
    for name, value in scope["headers"]:
        if name.lower() == b"content-length" and value.isdigit():
            return int(value)
    return None
