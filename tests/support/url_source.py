"""A web server with a recording, which can behave in all the ways of real ones."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from aiohttp.test_utils import TestServer

from careflow_storage import BackblazeStorage, UploadResult
from tests.support.behind_proxy import NOTHING_HELD, held
from tests.support.unfinished import unfinished_uploads

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Source:
    """Responses ``GET /call`` with ``body``; `routes` add more.

    ``headers`` are the response's (None removes one). ``ranges``: whether it knows them, if the
    request's If-Range is the ``validator``. ``chunked``: whether it hides its length.
    """

    body: bytes = b""
    headers: dict[str, str | None] = field(default_factory=dict)
    ranges: bool = True
    chunked: bool = False
    routes: dict[str, Handler] = field(default_factory=dict)
    host: str = "127.0.0.1"
    tls: Any = None
    validator: str = '"v1"'
    asked: list[web.Request] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/{path:.*}", self._response)
        self._server = TestServer(app, host=self.host, scheme="https" if self.tls else "http")
        await self._server.start_server(ssl=self.tls)
        self.origin = str(self._server.make_url("")).rstrip("/")
        self.port = self._server.port
        self.url = f"{self.origin}/call"
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._server.close()

    @property
    def ranges_asked(self) -> list[str | None]:
        """The Range header of each request."""
        return [request.headers.get("Range") for request in self.asked]

    @property
    def connections(self) -> int:
        """How many connections are open."""
        runner = self._server.runner
        assert runner is not None
        assert runner.server is not None
        return len(runner.server.connections)

    async def until_left(self) -> None:
        """Wait until no client is connected any more."""
        async with asyncio.timeout(60):
            while self.connections:  # noqa: ASYNC110 - a closing connection sends no event
                await asyncio.sleep(0)

    async def _response(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        handler = self.routes.get(request.path)
        if handler is not None:
            return await handler(request)
        if request.path != "/call":
            raise web.HTTPNotFound
        return await self.give(request)

    async def give(self, request: web.Request) -> web.StreamResponse:
        """Response with the body, or the rest of it."""
        start, total = 0, len(self.body)
        headers = {"ETag": '"v1"', "Content-Type": "audio/x-wav"}
        asked = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        if asked and self.ranges and request.headers.get("If-Range") == self.validator:
            start = int(asked[1])
            headers["Content-Range"] = f"bytes {start}-{total - 1}/{total}"
        response = web.StreamResponse(status=206 if "Content-Range" in headers else 200)
        for name, value in (headers | self.headers).items():
            if value is not None:
                response.headers[name] = value
        if self.chunked:
            response.enable_chunked_encoding()
        else:
            response.content_length = total - start
        await response.prepare(request)
        for position in range(start, total, 30_011):
            await response.write(self.body[position : position + 30_011])
        await response.write_eof()
        return response


def redirect(to: str, status: int = 302) -> Handler:
    """A handler that sends elsewhere."""

    async def response(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, headers={"Location": to})

    return response


async def store(
    storage: BackblazeStorage, url: str, filename: str = "call", **fields: Any
) -> UploadResult:
    """Upload from a source on this machine."""
    return await storage.upload_from_url(
        "CA1", url, filename, **{"allow_private_addresses": True, **fields}
    )


async def assert_nothing_stored(storage: BackblazeStorage) -> None:
    """No object, no unfinished upload, nothing held."""
    assert await storage.list_files() == []
    assert await unfinished_uploads(storage.settings) == []
    assert held(storage) == NOTHING_HELD
