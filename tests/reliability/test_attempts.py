"""``retry_attempts`` is the number of requests, whatever fails and in whatever layer."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from careflow_storage import (
    BackblazeStorage,
    ConnectionFailedError,
    ServerResponseError,
    StorageError,
)
from tests.support.hostile import Asked, Bytes, HostileServer, raw_response

ATTEMPTS = 3
GOOD: dict[str, Any] = {
    "ETag": '"9dd4e461268c8034f5c8564e155c67a6"',
    "Last_Modified": "Mon, 23 Nov 2026 06:48:48 GMT",
}

CALLS: dict[str, Callable[[BackblazeStorage, Path], Awaitable[Any]]] = {
    "upload_file": lambda storage, _: storage.upload_file("k", b"x"),
    "upload_file in parts": lambda storage, _: storage.upload_file("k", bytes(150_000)),
    "get_file": lambda storage, _: storage.get_file("k"),
    "stream_file": lambda storage, _: streamed(storage),
    "stream_file, a range": lambda storage, _: streamed(storage, start=1, end=3),
    "download_file": lambda storage, folder: storage.download_file("k", folder / "k"),
    "get_file_metadata": lambda storage, _: storage.get_file_metadata("k"),
    "file_exists": lambda storage, _: storage.file_exists("k"),
    "list_files": lambda storage, _: storage.list_files(""),
    "list_folder": lambda storage, _: storage.list_folder("a/"),
    "delete_file": lambda storage, _: storage.delete_file("k"),
    "delete_files": lambda storage, _: storage.delete_files(["k", "l"]),
    "list_incomplete_uploads": lambda storage, _: storage.list_incomplete_uploads(),
    "admin.get_cors_rules": lambda storage, _: storage.admin.get_cors_rules(),
}
# These go through aioboto3, which does not show the response.
CONTROL = ("list_incomplete_uploads",)
HEADS = ("get_file_metadata", "file_exists")


async def streamed(storage: BackblazeStorage, start: int = 0, end: int | None = None) -> None:
    async with storage.stream_file("k", start=start, end=end) as stream:
        async for _ in stream:
            pass


async def broken(head: bytes) -> AsyncIterator[bytes]:
    yield head


def ends(response: bytes) -> Callable[[Asked], Bytes]:
    """Say this much, and hang up."""
    return lambda _: broken(response)


FAULTS: dict[str, Callable[[Asked], Bytes]] = {
    "hangs up": ends(b""),
    "hangs up within the head": ends(b"HTTP/1.1 200 OK\r\nContent-"),
    "hangs up within the body": ends(raw_response(b"half", length=999_999, **GOOD)),
    "a malformed head": lambda _: b"HTTP/1.1 2000 OK\r\n\r\n",
    "a malformed header": lambda _: b"HTTP/1.1 200 OK\r\na b\r\n\r\n",
    "two lengths": lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "malformed chunks": ends(
        b'HTTP/1.1 200 OK\r\nETag: "e"\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n'
    ),
    "200 without anything": lambda _: raw_response(b""),
    "another range": lambda _: raw_response(
        b"ab", "206 Partial Content", Content_Range="bytes 7-8/9", **GOOD
    ),
    "SSH": ends(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "408": lambda _: raw_response(b"", "408 Request Timeout"),
    "429": lambda _: raw_response(b"", "429 Too Many Requests"),
    "500": lambda _: raw_response(b"", "500 Internal Server Error"),
    "502": lambda _: raw_response(b"", "502 Bad Gateway"),
    "503": lambda _: raw_response(b"", "503 Service Unavailable"),
    "503 after a while": lambda _: raw_response(b"", "503 Service Unavailable", Retry_After="0"),
    "504": lambda _: raw_response(b"", "504 Gateway Timeout"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("call", CALLS)
async def test_given_a_server_that_always_fails_then_it_is_asked_that_often(
    call: str, fault: str, tmp_path: Path
) -> None:
    async with HostileServer(FAULTS[fault]) as server:
        settings = server.settings(retry_attempts=ATTEMPTS)
        async with BackblazeStorage(settings) as storage:
            # A DELETE may have this response, and a HEAD has no body to break off.
            with contextlib.suppress(StorageError):
                await CALLS[call](storage, tmp_path)
        by_request = Counter(
            # The GET that finds out why a HEAD failed counts with it.
            "HEAD and GET" if call in HEADS else f"{asked.method} {asked.target}"
            for asked in server.asked
        )
        assert max(by_request.values()) <= ATTEMPTS, by_request


@pytest.mark.parametrize(
    "call", ["upload_file", "get_file", "file_exists", "list_incomplete_uploads"]
)
@pytest.mark.parametrize("greets", [True, False], ids=["speaks first", "speaks when asked"])
@pytest.mark.parametrize(
    ("words", "named"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", "SSH"),
        (b"220 mail.example ESMTP\r\n", "SMTP"),
        (b"-ERR unknown command 'PUT'\r\n", "Redis"),
        (b"\x15\x03\x01\x00\x02\x02\x0a", "TLS"),
        (b"HTTP/2 200 OK\r\n\r\n", "another version of HTTP"),
        (b"\0\0\x12\x04\0\0\0\0\0\0\0", "HTTP/2"),
        (b"<html>hello</html>", "does not speak HTTP"),
    ],
)
async def test_given_a_port_that_speaks_no_http_then_it_is_asked_once_and_named(
    call: str, words: bytes, named: str, greets: bool, tmp_path: Path
) -> None:
    connections = 0

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        if not greets:
            await reader.readuntil(b"\r\n\r\n")
        writer.write(words)
        while await reader.read(65536):
            pass
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with HostileServer(lambda _: b"") as unused:
        settings = unused.settings(endpoint=f"http://127.0.0.1:{port}", retry_attempts=8)
    try:
        async with BackblazeStorage(settings) as storage:
            with pytest.raises((ServerResponseError, ConnectionFailedError)) as caught:
                await CALLS[call](storage, tmp_path)
    finally:
        server.close()
        await server.wait_closed()
    if call in CONTROL:
        named = "does not speak HTTP" if b"HTTP" not in words else ""
    assert named in str(caught.value)
    assert "BACKBLAZE_ENDPOINT" in (caught.value.hint or "")
    assert not caught.value.retryable
    assert connections == 1
