"""Responses of HTTP clients, and form parts, as bodies. None of these packages is imported."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, Mapping
from typing import Any

from careflow_storage._transfer.bodies.streams import (
    END,
    NextChunk,
    StreamSource,
    from_async_iterable,
    from_async_reader,
    from_iterable,
)
from careflow_storage._transfer.threads import Threads
from careflow_storage.errors import InvalidInputError

_CHUNK_BYTES = 64 * 1024
_PLAIN = ("", "binary", "8bit", "7bit", "identity")


async def take_response(body: Any, threads: Threads) -> StreamSource | bytes | None:
    """Return the stream or the bytes of a response or form part; None for other bodies.

    Supports the responses of httpx (sync and async), aiohttp and requests, and the requests and
    form parts of aiohttp.
    """
    if hasattr(body, "aiter_bytes") and hasattr(body, "iter_bytes"):
        return _httpx(body, threads)
    if inspect.iscoroutinefunction(getattr(body, "read_chunk", None)):
        return _form_part(body)
    content = getattr(body, "content", None)
    if inspect.iscoroutinefunction(getattr(body, "read", None)) and _reads(content):
        return await _aiohttp(body, content)
    if callable(getattr(body, "iter_content", None)) and not hasattr(body, "read"):
        return StreamSource(
            from_iterable(body.iter_content(_CHUNK_BYTES), threads), size=claimed_length(body)
        )
    return None


def claimed_length(body: Any) -> int | None:
    """Return the ``Content-Length`` of a message, if it counts the decoded body."""
    headers: Mapping[str, str] | None = getattr(body, "headers", None)
    if not any(hasattr(body, name) for name in ("status", "status_code", "method")):
        return None
    get = getattr(headers, "get", None)
    if not callable(get):
        return None
    encoding = str(get("Content-Encoding") or "").strip().lower()
    length = str(get("Content-Length") or "").strip()
    if encoding not in _PLAIN or not (length.isascii() and length.isdigit()):
        return None
    return int(length[:20])


def takes_size(read: Any) -> bool:
    """Whether ``read(n)`` can be called, if the signature shows it."""
    try:
        signature = inspect.signature(read)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind(1)
    except TypeError:
        return False
    return True


def refuse_read_response(body: Any) -> None:
    """Refuse a response of http.client (urllib) that was read to the end."""
    is_closed = getattr(body, "isclosed", None)
    if callable(is_closed) and is_closed() is True and claimed_length(body) != 0:
        raise _read_already("Pass the bytes that were read, or repeat the request.")


def _reads(content: Any) -> bool:
    return inspect.iscoroutinefunction(getattr(content, "read", None)) and takes_size(content.read)


def _httpx(body: Any, threads: Threads) -> StreamSource | bytes:
    try:
        content = body.content
    except RuntimeError:  # httpx.ResponseNotRead
        content = None
    if isinstance(content, bytes):
        return _whole(body, content)
    if body.is_stream_consumed or body.is_closed:
        raise _read_already("Repeat the request, or pass the content of the response.")
    size = claimed_length(body)
    if isinstance(body.stream, AsyncIterable):
        return from_async_iterable(body.aiter_bytes(), size=size)
    return StreamSource(from_iterable(body.iter_bytes(), threads), size=size)


async def _aiohttp(body: Any, content: Any) -> StreamSource | bytes:
    at_eof = getattr(content, "at_eof", None)
    if callable(at_eof) and at_eof():
        data = await body.read()
        if not data and getattr(content, "total_bytes", False):
            raise _read_already("Pass the bytes that were read, or repeat the request.")
        return _whole(body, bytes(data))
    return StreamSource(from_async_reader(content.read), size=claimed_length(body))


def _whole(body: Any, data: bytes) -> bytes:
    claimed = claimed_length(body)
    if claimed is not None and claimed != len(data):
        raise InvalidInputError(
            f"The body has {len(data)} bytes, but its Content-Length is {claimed}.",
            hint="It was truncated, or it is the response to a HEAD request.",
        )
    return data


def _form_part(part: Any) -> StreamSource:
    headers = getattr(part, "headers", {})
    transfer = str(headers.get("Content-Transfer-Encoding", "")).lower()
    coded = str(headers.get("Content-Encoding", "")).lower()
    if transfer not in (*_PLAIN, "base64") or coded not in _PLAIN:
        raise InvalidInputError(
            "The encoding of the part cannot be decoded chunk by chunk.",
            hint="Pass await part.read(decode=True).",
        )
    if part.at_eof():
        raise _read_already("Pass the bytes that were read.")
    return StreamSource(_part_chunks(part, decoded=transfer == "base64"))


def _part_chunks(part: Any, *, decoded: bool) -> NextChunk:
    async def next_chunk() -> Any:
        if part.at_eof():
            return END
        chunk = await part.read_chunk(_CHUNK_BYTES)
        return part.decode(chunk) if decoded and chunk else chunk

    return next_chunk


def _read_already(hint: str) -> InvalidInputError:
    return InvalidInputError("The body was already read; nothing would be stored.", hint=hint)
