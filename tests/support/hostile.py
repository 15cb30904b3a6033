"""A server that sends exactly the given bytes, without an HTTP library."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from careflow_storage.settings import StorageSettings

KEY_ID = "attackedKeyId"
SECRET = "K005cvEryS3cretApplicationKey+/"


@dataclass
class Asked:
    """One request as it came."""

    method: str
    target: str
    headers: dict[str, str]  # names in lower case
    head: str
    body: bytes


Bytes = bytes | AsyncIterator[bytes]


@dataclass
class HostileServer:
    """Listens on loopback; ``response`` makes the whole response, head and all, to each request."""

    response: Callable[[Asked], Bytes]
    tls: ssl.SSLContext | None = None
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0

    async def __aenter__(self) -> Self:
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", 0, ssl=self.tls, limit=2**18
        )
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.url = f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def settings(self, **changes: Any) -> StorageSettings:
        """Settings that lead here, with quick retries and a multipart upload for 100 kB."""
        fields: dict[str, Any] = {
            "key_id": KEY_ID,
            "application_key": SECRET,
            "bucket_name": "recordings-bucket",
            "endpoint": self.url,
            "region": "us-east-1",
            "multipart_threshold": 100_000,
            "retry_attempts": 2,
            "retry_base_delay": 0.001,
            "retry_max_delay": 0.01,
            "idle_timeout": 10.0,
        }
        return StorageSettings(**(fields | changes))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            while True:
                asked = await _read_request(reader)
                self.asked.append(asked)
                response = self.response(asked)
                if isinstance(response, bytes):
                    writer.write(_without_body(response) if asked.method == "HEAD" else response)
                    await writer.drain()
                    continue
                async for piece in response:
                    writer.write(piece)
                    await writer.drain()
                return
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client has had enough, or the test
        finally:
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()


def _without_body(response: bytes) -> bytes:
    head, separator, _ = response.partition(b"\r\n\r\n")
    return head + separator


async def _read_request(reader: asyncio.StreamReader) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip("\r\n").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    method, target, _ = first.split(" ", 2)
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Asked(method, target, headers, head, body)


def raw_response(
    body: bytes = b"", status: str = "200 OK", *, length: int | None = None, **headers: Any
) -> bytes:
    """A response with a Content-Length; underscores of header names become hyphens."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + body


async def endless(head: bytes, piece: bytes) -> AsyncIterator[bytes]:
    """Send the head once, and the piece without end."""
    yield head
    while True:
        yield piece
