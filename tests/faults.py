"""A proxy that misbehaves on request: the network and server faults that clients of B2 meet.

::

    async with FaultProxy(server.endpoint) as proxy:  # give proxy.url to the client
        proxy.add(method="PUT", path="partNumber=2", times=2, status=503, code="SlowDown")
        proxy.add(method="PUT", times=1, cut="rst", at=("req", 500_000))  # mid request body
        proxy.add(method="PUT", times=1, cut="rst", at="resp")  # stored, but never told
        proxy.add(method="GET", times=1, cut="fin", at=("body", 500_000))  # truncated
        proxy.add(method="GET", short=500_000)  # truncated, and its length agrees
        ...
        assert [attempt.method for attempt in proxy.log] == ["PUT", "PUT"]  # all that was sent

It forwards every request on a connection of its own. The Host header stays as it came, so
signatures stay valid.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import urlsplit
from xml.sax.saxutils import escape

from tests.http1 import (
    CHUNK,
    CutError,
    Head,
    damage,
    limit,
    read_body,
    read_head,
    write_chunk,
    write_end,
)

Cut = Literal["rst", "fin", "hang"]
At = Literal["head", "resp", "idle"] | tuple[Literal["req", "body"], int]


@dataclass
class Attempt:
    """One request as it came over the wire. ``connection`` counts the client's connections."""

    method: str
    target: str
    headers: dict[str, str]  # names in lower case
    connection: int
    body_bytes: int = 0
    status: int | None = None


@dataclass(kw_only=True)
class Rule:
    """What to do with which requests.

    ``times``: how often (None: always). ``status``, ``code``, ``message``, ``body``: answer
    this without asking the server, once the request's body is read (``drain=False``: before).
    ``headers``: added to that answer, or else changed in the server's (None removes one).
    ``cut`` at: the request's head has come, n bytes of its body have gone through, the server
    has answered, n bytes of its answer's body have gone through, or all is done ("idle").
    ``short``: only so many bytes of the answer's body, and a Content-Length that agrees.
    ``corrupt``, ``corrupt_upload``: flip a bit of this byte of the answer, of the request.
    ``delay``: seconds before anything. ``rate``, ``upload_rate``: bytes per second.
    ``fired`` is set when the rule applies; setting ``release`` turns a "hang" into a reset.
    """

    method: str | None = None
    path: str = ""
    when: Callable[[Attempt], bool] | None = None
    times: int | None = None
    status: int | None = None
    code: str | None = None
    message: str = "injected"
    headers: Mapping[str, str | None] = field(default_factory=dict)
    body: bytes | None = None
    drain: bool = True
    cut: Cut | None = None
    at: At = "head"
    short: int | None = None
    corrupt: int | None = None
    corrupt_upload: int | None = None
    delay: float = 0.0
    rate: float | None = None
    upload_rate: float | None = None
    hits: int = 0
    fired: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)

    def applies_to(self, attempt: Attempt) -> bool:
        return (
            (self.times is None or self.hits < self.times)
            and self.method in (None, attempt.method)
            and re.search(self.path, attempt.target) is not None
            and (self.when is None or self.when(attempt))
        )

    def cut_if(self, place: At) -> None:
        if self.cut is not None and self.at == place:
            raise CutError

    def cut_after(self, place: Literal["req", "body"]) -> int | None:
        place_is_cut = self.cut is not None and isinstance(self.at, tuple) and self.at[0] == place
        return int(self.at[1]) if place_is_cut else None


class FaultProxy:
    """Forwards to ``upstream`` (http://host:port), except where a rule says otherwise."""

    def __init__(self, upstream: str, *, tls: ssl.SSLContext | None = None) -> None:
        url = urlsplit(upstream)
        self._upstream = (url.hostname, url.port)
        self._tls = tls
        self._rules: list[Rule] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections = 0
        self.log: list[Attempt] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", 0, ssl=self._tls, limit=2**18
        )
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{port}"
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()

    def add(self, **fields: Any) -> Rule:
        """Add a `Rule`, given by its fields. The first rule that applies to a request is taken."""
        rule = Rule(**fields)
        self._rules.append(rule)
        return rule

    def clear(self) -> None:
        """Behave from now on, and forget what was logged."""
        self._rules.clear()
        self.log.clear()

    def count(self, method: str | None = None, path: str = "") -> int:
        """How many requests of this kind came over the wire."""
        wanted = Rule(method=method, path=path)
        return sum(wanted.applies_to(attempt) for attempt in self.log)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        connection, rule, again = self.connections, Rule(), True
        try:
            while again:
                head = await read_head(reader)
                rule, attempt = self._take_rule(head, connection)
                again = await _Exchange(rule, attempt, head, reader, writer).run(self._upstream)
        except CutError:
            await _break(rule, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client or the server went away: so does this connection
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()
            self._tasks.discard(task)

    def _take_rule(self, head: Head, connection: int) -> tuple[Rule, Attempt]:
        method, target, _ = head.first.split(" ", 2)
        headers = {name.lower(): value for name, value in head.headers}
        attempt = Attempt(method, target, headers, connection)
        self.log.append(attempt)
        rule = next((rule for rule in self._rules if rule.applies_to(attempt)), Rule())
        rule.hits += 1
        rule.fired.set()
        return rule, attempt


@dataclass
class _Exchange:
    """One request and its answer."""

    rule: Rule
    attempt: Attempt
    head: Head
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def run(self, upstream: tuple[str | None, int | None]) -> bool:
        """Do it; whether the client's connection may be used again."""
        rule, is_last = self.rule, self.head.get("Connection").lower() == "close"
        await asyncio.sleep(rule.delay)
        rule.cut_if("head")
        if rule.status is not None or rule.code is not None or rule.body is not None:
            keep = await self._answer()
        else:
            server_reader, server_writer = await asyncio.open_connection(*upstream, limit=2**18)
            try:
                keep = await self._forward(server_reader, server_writer)
            finally:
                server_writer.close()
                with contextlib.suppress(ConnectionError):
                    await server_writer.wait_closed()
        rule.cut_if("idle")
        return keep and not is_last

    async def _answer(self) -> bool:
        rule, body = self.rule, self.rule.body
        if rule.drain:
            async for _ in self._request_body():
                pass
        if body is None:
            parts = (
                f"<Code>{escape(rule.code or '')}</Code><Message>{escape(rule.message)}</Message>"
            )
            body = f"<Error>{parts}</Error>".encode() if rule.code else b""
        status = HTTPStatus(rule.status or 200)
        head = Head(f"HTTP/1.1 {status.value} {status.phrase}", [])
        for name, value in {"Content-Length": str(len(body)), **rule.headers}.items():
            head.set(name, value)
        self.attempt.status = status.value
        self.writer.write(head.encode() + (b"" if self.attempt.method == "HEAD" else body))
        await self.writer.drain()
        return rule.drain

    async def _request_body(self) -> AsyncIterator[bytes]:
        damaged = damage(read_body(self.head, self.reader), self.rule.corrupt_upload)
        async for chunk in limit(damaged, self.rule.cut_after("req"), self.rule.upload_rate):
            self.attempt.body_bytes += len(chunk)
            yield chunk

    async def _forward(
        self, server_reader: asyncio.StreamReader, server_writer: asyncio.StreamWriter
    ) -> bool:
        async def send() -> None:
            self.head.set("Connection", "close")
            server_writer.write(self.head.encode())
            async for chunk in self._request_body():
                await write_chunk(self.head, server_writer, chunk)
            await write_end(self.head, server_writer)

        # Both ways at once: the server may answer, or say "100 Continue", before the body.
        sending = asyncio.create_task(send())
        answering = asyncio.create_task(self._relay(server_reader))
        try:
            await asyncio.wait({sending, answering}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done() and isinstance(sending.exception(), CutError):
                raise CutError
            keep = await answering
            # A server that answers without reading the body to its end leaves it in the way.
            await asyncio.wait({sending}, timeout=0.2)
            return keep and sending.done() and sending.exception() is None
        finally:
            sending.cancel()
            answering.cancel()
            await asyncio.gather(sending, answering, return_exceptions=True)

    async def _relay(self, server_reader: asyncio.StreamReader) -> bool:
        rule = self.rule
        while (head := await read_head(server_reader)).first.split(" ")[1].startswith("1"):
            self.writer.write(head.encode())
        self.attempt.status = int(head.first.split(" ")[1])
        has_body = self.attempt.method != "HEAD" and self.attempt.status not in (204, 304)
        whole = read_body(head if has_body else Head("", []), server_reader, until_eof=has_body)
        if rule.cut is not None and rule.at == "resp":
            async for _ in whole:
                pass
            raise CutError
        changes = {"Connection": None, **rule.headers}
        if rule.short is not None:
            changes["Content-Length"] = str(rule.short)
        for name, value in changes.items():
            head.set(name, value)
        self.writer.write(head.encode())
        damaged = damage(whole, rule.corrupt)
        async for chunk in limit(damaged, rule.cut_after("body"), rule.rate, stop=rule.short):
            await write_chunk(head, self.writer, chunk)
        if has_body:
            await write_end(head, self.writer)
        return not has_body or head.is_chunked or head.get("Content-Length") != ""


async def _break(rule: Rule, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    if rule.cut == "hang":
        await rule.release.wait()
    if rule.cut == "fin" and writer.can_write_eof():
        # A close with bytes unread would be a reset: say the end, and read what still comes.
        with contextlib.suppress(ConnectionError):
            writer.write_eof()
            while await reader.read(CHUNK):
                pass
    elif rule.cut != "fin":
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()
