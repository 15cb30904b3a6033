"""Starlette's FileResponse, from the disk: what a response with a file costs without a bucket.

Verifies nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from benchmarks.model import Job


class StarletteFileClient:
    """As Starlette's documentation shows it."""

    async def respond(self, key: str, path: str, request: Request) -> Response:
        return FileResponse(path)


@asynccontextmanager
async def open_client(job: Job) -> AsyncIterator[StarletteFileClient]:
    yield StarletteFileClient()
