"""Read, write and damage HTTP/1.1 messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from careflow_storage._http.parser import Chunks

CHUNK = 64 * 1024


class CutError(Exception):
    """Break the client's connection now."""


@dataclass
class Head:
    """A request's or a response's first line and headers, in their order and spelling."""

    first: str
    headers: list[tuple[str, str]]

    def get(self, name: str) -> str:
        return next((value for n, value in self.headers if n.lower() == name.lower()), "")

    def set(self, name: str, value: str | None) -> None:
        self.headers = [(n, v) for n, v in self.headers if n.lower() != name.lower()]
        if value is not None:
            self.headers.append((name, value))

    @property
    def is_chunked(self) -> bool:
        return "chunked" in self.get("Transfer-Encoding").lower()

    def encode(self) -> bytes:
        lines = [self.first, *(f"{name}: {value}" for name, value in self.headers), "", ""]
        return "\r\n".join(lines).encode("latin-1")


async def read_head(reader: asyncio.StreamReader) -> Head:
    text = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = text.rstrip("\r\n").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return Head(first, [(name, value.strip()) for name, _, value in pairs])


async def read_body(
    head: Head, reader: asyncio.StreamReader, *, until_eof: bool = False
) -> AsyncGenerator[bytes]:
    """Yield the body without its framing. ``until_eof``: a body may have an unknown length."""
    if head.is_chunked:
        async for chunk in _unchunked(reader):
            yield chunk
        return
    length = head.get("Content-Length")
    left = int(length or (2**63 if until_eof else 0))
    while left > 0:
        chunk = await reader.read(min(CHUNK, left))
        if not chunk and length:
            raise asyncio.IncompleteReadError(b"", left)
        if not chunk:
            return
        left -= len(chunk)
        yield chunk


async def _unchunked(reader: asyncio.StreamReader) -> AsyncGenerator[bytes]:
    """Yield the data of chunks; read nothing beyond their end."""
    chunks = Chunks()
    while not chunks.done:
        if not chunks.left:
            line = bytearray(await reader.readuntil(b"\r\n"))
            chunks.find(line, 0, len(line))
            continue
        data = await reader.read(min(CHUNK, chunks.left))
        if not data:
            raise asyncio.IncompleteReadError(b"", chunks.left)
        chunks.took(len(data))
        yield data


async def write_chunk(head: Head, writer: asyncio.StreamWriter, chunk: bytes) -> None:
    writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if head.is_chunked else chunk)
    await writer.drain()


async def write_end(head: Head, writer: asyncio.StreamWriter) -> None:
    if head.is_chunked:
        writer.write(b"0\r\n\r\n")
    await writer.drain()


async def damage(chunks: AsyncGenerator[bytes], where: int | None) -> AsyncGenerator[bytes]:
    position = 0
    async with aclosing(chunks):
        async for chunk in chunks:
            if where is not None and position <= where < position + len(chunk):
                at = where - position
                chunk = chunk[:at] + bytes([chunk[at] ^ 1]) + chunk[at + 1 :]
            position += len(chunk)
            yield chunk


async def limit(
    chunks: AsyncGenerator[bytes],
    cut_after: int | None,
    rate: float | None,
    stop: int | None = None,
) -> AsyncGenerator[bytes]:
    """Pass on at most this many bytes at this rate, then cut (or only stop)."""
    left = stop if cut_after is None else cut_after
    size = max(1, min(CHUNK, int(rate / 20))) if rate else CHUNK
    if cut_after == 0:
        raise CutError
    async with aclosing(chunks):
        async for chunk in chunks:
            allowed = chunk if left is None else chunk[:left]
            for start in range(0, len(allowed), size):
                piece = allowed[start : start + size]
                yield piece
                await asyncio.sleep(len(piece) / rate if rate else 0)
            if left is not None:
                left -= len(allowed)
            if left == 0 and cut_after is not None:
                raise CutError
            if left == 0:
                return
