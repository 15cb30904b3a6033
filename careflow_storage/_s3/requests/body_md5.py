"""The MD5 of a request's body, for buckets that take nothing without it.

A bucket of B2 that locks all files (default retention) refuses an upload without Content-MD5,
whatever other checksum it has.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
from collections.abc import Awaitable, Callable

from careflow_storage._s3.transport import Request

InThread = Callable[[Callable[[bytes | memoryview], None], bytes | memoryview], Awaitable[None]]
"""Calls a function with an argument in a thread, and waits for its end."""

_INLINE_BYTES = 64 * 1024


async def with_content_md5(request: Request, in_thread: InThread) -> Request:
    """Return the same request with Content-MD5; large bodies are hashed in a thread."""
    md5 = hashlib.md5(usedforsecurity=False)
    body = request.body
    if isinstance(body, bytes):
        if len(body) <= _INLINE_BYTES:
            md5.update(body)
        else:
            await in_thread(md5.update, body)
    elif body is not None:
        async for piece in body.slices():
            await in_thread(md5.update, piece)
    encoded = base64.b64encode(md5.digest()).decode()
    return dataclasses.replace(
        request, headers={**request.headers, "content-md5": encoded}, attempts=0
    )
