"""What a workload needs of a client. A client implements those that it takes part in."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol, runtime_checkable

from benchmarks.model import Job


@runtime_checkable
class Transfers(Protocol):
    """Whole files, up and down."""

    async def upload(self, key: str, path: Path) -> None: ...

    async def download(self, key: str, path: Path) -> None: ...


@runtime_checkable
class Objects(Protocol):
    """Small objects. ``get``, ``head`` and ``listing`` give what is counted: bytes or keys."""

    async def put(self, key: str, body: bytes) -> None: ...

    async def get(self, key: str) -> int: ...

    async def head(self, key: str) -> int: ...

    async def listing(self, prefix: str) -> int: ...


@runtime_checkable
class Signs(Protocol):
    """Presigned GET URLs, one at a time and for a page of keys."""

    async def sign(self, key: str) -> str: ...

    async def sign_many(self, keys: Sequence[str]) -> Sequence[str]: ...


class Adapter(Protocol):
    """A module of this package."""

    def open_client(self, job: Job) -> AbstractAsyncContextManager[object]: ...
