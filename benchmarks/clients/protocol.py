"""What a workload needs of a client. A client implements those that it takes part in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from benchmarks.model import Job

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response


@runtime_checkable
class Transfers(Protocol):
    """Whole files, up and down."""

    async def upload(self, key: str, path: Path) -> None: ...

    async def download(self, key: str, path: Path) -> None: ...


@runtime_checkable
class Streams(Protocol):
    """An upload whose length nobody knows."""

    async def upload_stream(self, key: str, chunks: AsyncIterator[bytes]) -> None: ...


@runtime_checkable
class Objects(Protocol):
    """Small objects. ``get`` and ``head`` give the object's size in bytes."""

    async def put(self, key: str, body: bytes) -> None: ...

    async def get(self, key: str) -> int: ...

    async def head(self, key: str) -> int: ...

    async def delete(self, key: str) -> None: ...


@runtime_checkable
class Lists(Protocol):
    """``listing`` gives how many keys there are below a prefix, all pages read to typed results
    or whatever the client makes of them."""

    async def listing(self, prefix: str) -> int: ...


@runtime_checkable
class ListsFolders(Protocol):
    """``folders`` lists with the delimiter ``/`` and gives how many common prefixes there are."""

    async def folders(self, prefix: str) -> int: ...


@runtime_checkable
class Signs(Protocol):
    """Presigned GET URLs, one at a time and for a page of keys."""

    async def sign(self, key: str) -> str: ...

    async def sign_many(self, keys: Sequence[str]) -> Sequence[str]: ...


@runtime_checkable
class Serves(Protocol):
    """A file as the response of a web app to a request with a Range.

    ``path`` is a copy of the object on the disk, for the row that reads no bucket.
    """

    async def respond(self, key: str, path: str, request: Request) -> Response: ...


class LiveWriter(Protocol):
    """A call in progress. Whatever ``write`` gives is of no interest."""

    def write(self, chunk: bytes, /) -> Awaitable[object]: ...


@runtime_checkable
class Lives(Protocol):
    """Writers for calls in progress: the object is stored when the block is left."""

    def live(self, key: str) -> AbstractAsyncContextManager[LiveWriter]: ...


class Adapter(Protocol):
    """A module of this package."""

    def open_client(self, job: Job) -> AbstractAsyncContextManager[object]: ...
