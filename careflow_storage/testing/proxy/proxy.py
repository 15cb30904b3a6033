"""A proxy that injects the network and server faults that clients of B2 meet.

::

    async with FaultProxy(server.endpoint) as proxy:  # the client uses proxy.url
        proxy.add(operation="UploadPart", times=2, status=503, code="SlowDown")
        proxy.add(method="PUT", times=1, cut="rst", at=("req", 500_000))  # mid request body
        proxy.add(method="PUT", times=1, cut="rst", at="resp")  # lost response
        proxy.add(method="GET", times=1, cut="fin", at=("body", 500_000))  # truncated
        proxy.add(method="GET", short=500_000)  # truncated, with a matching length
        ...
        assert [attempt.method for attempt in proxy.log] == ["PUT", "PUT"]

It forwards every request on a separate connection. The Host header is unchanged, so signatures
stay valid.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ssl
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from careflow_storage.testing.proxy.exchange import LIMIT, Exchange, Listener
from careflow_storage.testing.proxy.http1 import (
    CutError,
    read_body,
    read_head,
    write_chunk,
    write_end,
)
from careflow_storage.testing.proxy.rule import At, Attempt, Cut, Rule

__all__ = ["At", "Attempt", "Cut", "FaultProxy", "Rule"]


class FaultProxy:
    """Forwards to ``upstream`` (http://host:port), and injects the faults of its rules.

    It runs on the event loop that enters it. If several rules apply to a request, the first
    added one is used.

    Args:
        upstream: The server behind the proxy; plain HTTP.
        tls: Speak HTTPS to the client, with this context.
    """

    def __init__(self, upstream: str, *, tls: ssl.SSLContext | None = None) -> None:
        url = urlsplit(upstream)
        self.url: str = ""
        self._rules: list[Rule] = []
        self._listener = Listener(
            functools.partial(_Forwarding, (url.hostname, url.port)), self._choose, tls=tls
        )

    async def __aenter__(self) -> Self:
        self.url = await self._listener.start()
        self._server = self._listener.server
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._listener.stop()

    @property
    def log(self) -> list[Attempt]:
        """Every request received, in order, including failed ones."""
        return self._listener.log

    @property
    def connections(self) -> int:
        """The number of connections from clients."""
        return self._listener.connections

    def add(self, **fields: Any) -> Rule:
        """Add a `Rule` with these fields. The first rule that applies to a request is used."""
        rule = Rule(**fields)
        self._rules.append(rule)
        return rule

    def clear(self) -> None:
        """Remove all rules, and clear the log."""
        self._rules.clear()
        self.log.clear()

    def count(self, method: str | None = None, path: str = "") -> int:
        """Return the number of such requests."""
        wanted = Rule(method=method, path=path)
        return sum(wanted.applies_to(attempt) for attempt in self.log)

    def _choose(self, attempt: Attempt) -> Rule | None:
        return next((rule for rule in self._rules if rule.applies_to(attempt)), None)


class _Forwarding(Exchange):
    """Forwards to another server, on a separate connection."""

    def __init__(self, upstream: tuple[str | None, int | None], *given: Any) -> None:
        super().__init__(*given)
        self._upstream = upstream

    async def respond(self) -> bool:
        reader, writer = await asyncio.open_connection(*self._upstream, limit=LIMIT)
        try:
            return await self._forward(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        # Both ways at once: the server may respond, or send "100 Continue", before the body.
        sending = asyncio.create_task(self._send(writer))
        receiving = asyncio.create_task(self._receive(reader))
        try:
            await asyncio.wait({sending, receiving}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done() and isinstance(sending.exception(), CutError):
                raise CutError
            keep = await receiving
            # If a server responds without reading the whole body, the rest is still unread.
            await asyncio.wait({sending}, timeout=0.2)
            return keep and sending.done() and sending.exception() is None
        finally:
            sending.cancel()
            receiving.cancel()
            await asyncio.gather(sending, receiving, return_exceptions=True)

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        self.head.set("Connection", "close")
        writer.write(self.head.encode())
        async with contextlib.aclosing(self.request_body()) as body:
            async for chunk in body:
                await write_chunk(self.head, writer, chunk)
        await write_end(self.head, writer)

    async def _receive(self, reader: asyncio.StreamReader) -> bool:
        while (head := await read_head(reader)).first.split(" ")[1].startswith("1"):
            self.writer.write(head.encode())
        has_body = self.attempt.method != "HEAD" and head.first.split(" ")[1] not in ("204", "304")
        return await self.relay(head, read_body(head, reader, until_eof=True) if has_body else None)
