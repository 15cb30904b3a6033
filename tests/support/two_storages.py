"""Two storages on two emulators, between which objects are copied."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from careflow_storage import BackblazeStorage, StorageSettings, UploadResult
from careflow_storage.testing import B2Server
from tests.support.behind_proxy import NOTHING_HELD, PART, held, tasks_of_the_library


@dataclass
class Pair:
    """A source and a target, each on its own server. ``base`` are the tasks before a copy."""

    source: BackblazeStorage
    target: BackblazeStorage
    source_server: B2Server
    target_server: B2Server

    async def store(self, key: str, body: bytes, **options: Any) -> UploadResult:
        """Store an object on the source, in parts if it is large."""
        return await self.source.upload_file(key, body, **options)

    async def store_whole(self, key: str, body: bytes) -> UploadResult:
        """Store an object on the source with one PUT: its ETag is the MD5 of all bytes."""
        async with opened(self.source.settings, multipart_threshold=1 << 30) as storage:
            return await storage.upload_file(key, body)

    def copied(self, key: str) -> bytes | None:
        """The newest version under a key of the target; None if there is none."""
        found = self.target_server.versions(key)
        return found[0].body if found else None

    def counts(self) -> tuple[dict[str, int], dict[str, int]]:
        """The requests so far, of the source and of the target."""
        return self.source.request_counts(), self.target.request_counts()

    def assert_nothing_left(self, key: str | None = None) -> None:
        """No slot, byte of memory, task or upload is held; ``key`` is not stored."""
        assert held(self.source) == NOTHING_HELD
        assert held(self.target) == NOTHING_HELD
        assert self.target_server.incomplete_uploads() == []
        if key is not None:
            assert self.target_server.versions(key) == []


@asynccontextmanager
async def opened(settings: StorageSettings, **changes: Any) -> AsyncIterator[BackblazeStorage]:
    """Open a storage with parts far below what validation allows; two of them move at once."""
    fields: dict[str, Any] = {
        "part_size": PART,
        "multipart_threshold": PART,
        "memory_budget": 4 * PART,
        "transfer_concurrency": 2,
        **changes,
    }
    copy = settings.model_copy()
    copy.__dict__.update(fields)
    async with BackblazeStorage(copy) as storage:
        yield storage


@pytest.fixture(scope="module")
def two_servers() -> Iterator[tuple[B2Server, B2Server]]:
    """Two emulators, whose parts may be small."""
    with B2Server(min_part_size=1) as source, B2Server(min_part_size=1) as target:
        yield source, target


@pytest.fixture
async def pair(two_servers: tuple[B2Server, B2Server]) -> AsyncIterator[Pair]:
    """Two storages on two empty servers; after the test nothing of a copy is held."""
    source_server, target_server = two_servers
    source_server.reset()
    target_server.reset()
    async with (
        opened(source_server.settings()) as source,
        opened(target_server.settings()) as target,
    ):
        tasks = tasks_of_the_library()
        yield Pair(source, target, source_server, target_server)
        assert held(source) == NOTHING_HELD
        assert held(target) == NOTHING_HELD
        assert tasks_of_the_library() <= tasks
