"""Connections, requests and responses of proxy and emulator, and how a `Rule` changes them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from http import HTTPStatus
from xml.sax.saxutils import escape

from careflow_storage.testing.proxy.http1 import (
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
from careflow_storage.testing.proxy.operations import read_target
from careflow_storage.testing.proxy.rule import Attempt, Rule

LIMIT = 2**18
"""The longest head that is read, in bytes."""


@dataclass
class Exchange(ABC):
    """One request and its response. A subclass provides the server."""

    rule: Rule
    attempt: Attempt
    head: Head
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def run(self) -> bool:
        """Send a response; return whether the client's connection can be used again."""
        rule, is_last = self.rule, self.head.get("Connection").lower() == "close"
        await rule._wait()
        rule._cut_if("head")
        keep = await (self._respond_alone() if rule._responds else self.respond())
        rule._cut_if("idle")
        return keep and not is_last

    @abstractmethod
    async def respond(self) -> bool:
        """Send the server's response; return whether the client's connection can be used again."""

    def extra_headers(self) -> dict[str, str]:
        """Return headers of the server that a response of the rule has, too."""
        return {}

    async def request_body(self) -> AsyncGenerator[bytes]:
        """Yield the request's body, with the faults of the rule."""
        damaged = damage(read_body(self.head, self.reader), self.rule.corrupt_upload)
        passed = limit(damaged, self.rule._cut_after("req"), self.rule.upload_rate)
        async with contextlib.aclosing(passed):
            async for chunk in passed:
                self.attempt.body_bytes += len(chunk)
                yield chunk

    async def relay(self, head: Head, body: AsyncGenerator[bytes] | None) -> bool:
        """Send the server's response with the faults of the rule; ``body`` None: it has none."""
        rule = self.rule
        self.attempt.status = int(head.first.split(" ")[1])
        if rule.cut is not None and rule.at == "resp":
            async for _ in body or _nothing():
                pass
            raise CutError
        changes = {"Connection": None, **rule._changes}
        if rule.short is not None and body is not None:
            length = head.get("Content-Length") or str(rule.short)
            changes["Content-Length"] = str(min(rule.short, int(length)))
        for name, value in changes.items():
            head.set(name, value)
        self.writer.write(head.encode())
        if body is not None:
            damaged = damage(body, rule.corrupt)
            passed = limit(damaged, rule._cut_after("body"), rule.rate, stop=rule.short)
            # A client may disconnect at any time; the bodies are closed here, not by the collector.
            async with contextlib.aclosing(passed):
                async for chunk in passed:
                    await write_chunk(head, self.writer, chunk)
            await write_end(head, self.writer)
        await self.writer.drain()
        return body is None or head.is_chunked or head.get("Content-Length") != ""

    async def _respond_alone(self) -> bool:
        rule, body = self.rule, self.rule.body
        if rule.drain:
            if self.head.get("Expect").lower() == "100-continue":
                self.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            async for _ in self.request_body():
                pass
        if body is None:
            body = error_document(rule.code, rule.message) if rule.code else b""
        head = response_head(
            rule.status or 200, {"Content-Length": str(len(body)), **self.extra_headers()}
        )
        for name, value in rule._changes.items():
            head.set(name, value)
        self.attempt.status = rule.status or 200
        self.writer.write(head.encode() + (b"" if self.attempt.method == "HEAD" else body))
        await self.writer.drain()
        return rule.drain


class Listener:
    """Accepts connections on a loopback port and makes an `Exchange` of each request."""

    def __init__(
        self,
        exchange: Callable[
            [Rule, Attempt, Head, asyncio.StreamReader, asyncio.StreamWriter], Exchange
        ],
        choose: Callable[[Attempt], Rule | None],
        *,
        tls: ssl.SSLContext | None = None,
        log: list[Attempt] | None = None,
    ) -> None:
        self._exchange = exchange
        self._choose = choose
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections: int = 0
        self.log: list[Attempt] = [] if log is None else log

    async def start(self) -> str:
        """Listen on any free port; return the URL."""
        self.server: asyncio.Server = await asyncio.start_server(
            self._serve, "127.0.0.1", 0, ssl=self._tls, limit=LIMIT
        )
        port = self.server.sockets[0].getsockname()[1]
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{port}"

    async def stop(self) -> None:
        """Break all connections and stop listening."""
        self.server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a callback of start_server always runs in one
        self._tasks.add(task)
        try:
            await self._converse(reader, writer)
        except asyncio.CancelledError:
            # Only `stop` cancels. An orderly end would wait for a peer that does not read,
            # and asyncio logs a cancelled connection as an error.
            writer.transport.abort()
        finally:
            writer.close()
            try:
                await writer.wait_closed()
            except asyncio.CancelledError:
                writer.transport.abort()
            except (ConnectionError, ssl.SSLError):
                pass
            self._tasks.discard(task)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        connection, rule, again = self.connections, Rule(), True
        try:
            while again:
                head = await read_head(reader)
                rule, attempt = self._take(head, connection)
                again = await self._exchange(rule, attempt, head, reader, writer).run()
        except CutError:
            await _break(rule, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the client or the server closed its connection

    def _take(self, head: Head, connection: int) -> tuple[Rule, Attempt]:
        method, target, _ = head.first.split(" ", 2)
        headers = {name.lower(): value for name, value in head.headers}
        operation, bucket, key, _ = read_target(method, target, headers)
        attempt = Attempt(method, target, headers, connection, operation, bucket, key)
        self.log.append(attempt)
        rule = self._choose(attempt)
        if rule is None:
            return Rule(), attempt
        rule._take(attempt)
        return rule, attempt


def response_head(status: int, headers: dict[str, str]) -> Head:
    """Return the head of a response."""
    return Head(f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", list(headers.items()))


def error_document(code: str, message: str) -> bytes:
    """Return S3's XML for an error."""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{escape(code)}</Code>'
        f"<Message>{escape(message)}</Message></Error>"
    ).encode()


async def _nothing() -> AsyncGenerator[bytes]:
    return
    yield b""


async def _break(rule: Rule, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    if rule.cut == "hang":
        await rule.release.wait()
    if rule.cut == "fin" and writer.can_write_eof():
        # Closing with unread bytes would send a reset: send the end, and read the rest.
        with contextlib.suppress(ConnectionError):
            writer.write_eof()
            while await reader.read(CHUNK):
                pass
    elif rule.cut != "fin":
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()
