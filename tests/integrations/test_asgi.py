"""Bodies that an ASGI application leaves to its view."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from careflow_storage import InvalidInputError
from careflow_storage.integrations.asgi import (
    ClientDisconnectedError,
    Message,
    Receive,
    Send,
    StreamedBodies,
    streamed_body,
)

Scope = Mapping[str, Any]

LEFT: Message = {"type": "http.disconnect"}


def request(method: str = "PUT", *headers: tuple[bytes, bytes]) -> Scope:
    return {"type": "http", "method": method, "path": "/", "headers": list(headers)}


def part(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


class Client:
    """A client's messages, and how many of them were received."""

    def __init__(self, *messages: Message) -> None:
        self._messages = list(messages)
        self.received = 0

    async def receive(self) -> Message:
        if self.received == len(self._messages):
            await asyncio.Event().wait()  # it waits for the response
        self.received += 1
        return self._messages[self.received - 1]


async def discard(message: Message) -> None:
    pass


async def run(app: Any, scope: Scope, client: Client) -> None:
    streamed = StreamedBodies(app, lambda scope: bool(scope["method"] == "PUT"))
    await streamed(scope, client.receive, discard)


async def test_the_framework_gets_an_empty_body_and_the_view_the_bytes() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert await receive() == part(b"", more=False)
        assert client.received == 0
        body = streamed_body(scope)
        assert body.size == 5
        assert await anext(body) == b"ab"
        # No more than was asked for.
        assert client.received == 1
        assert [chunk async for chunk in body] == [b"cde"]
        assert [chunk async for chunk in body] == []

    client = Client(part(b"ab"), part(b""), part(b"cde", more=False))
    await run(app, request("PUT", (b"content-length", b"5")), client)
    assert client.received == 3


async def test_the_framework_learns_that_the_client_left() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        waiting = asyncio.ensure_future(receive())
        body = streamed_body(scope)
        assert await anext(body) == b"ab"
        with pytest.raises(ClientDisconnectedError):
            await anext(body)
        assert await waiting == LEFT
        assert await receive() == LEFT

    await run(app, request(), Client(part(b"ab"), LEFT))


async def test_the_framework_learns_that_the_client_left_after_the_body() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        assert [chunk async for chunk in streamed_body(scope)] == [b"ab"]
        assert await receive() == LEFT

    await run(app, request(), Client(part(b"ab", more=False), LEFT))


async def test_a_view_that_leaves_the_body_unread_can_respond() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        waiting = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert streamed_body(scope).size is None

    client = Client(part(b"ab"))
    await run(app, request(), client)
    assert client.received == 0


async def test_the_body_can_be_received_as_messages() -> None:
    messages = [part(b"ab"), part(b"cd", more=False), LEFT]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        body = streamed_body(scope)
        assert [await body.receive(), await body.receive()] == messages[:2]
        assert [chunk async for chunk in body] == []
        assert await receive() == LEFT

    await run(app, request(), Client(*messages))


@pytest.mark.parametrize("scope", [request("GET"), {"type": "lifespan"}], ids=["GET", "lifespan"])
async def test_other_requests_are_left_alone(scope: Scope) -> None:
    async def app(given: Scope, receive: Receive, send: Send) -> None:
        assert given is scope
        assert await receive() == part(b"ab")
        with pytest.raises(InvalidInputError, match="has read the body"):
            streamed_body(given)

    await run(app, scope, Client(part(b"ab")))


@pytest.mark.parametrize("value", [b"", b"-1", b"1x", "١".encode()])
async def test_a_length_that_is_no_number_is_unknown(value: bytes) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert streamed_body(scope).size is None

    await run(app, request("PUT", (b"Content-Length", value)), Client())
