"""careflow-storage, with its defaults but for part size and concurrency."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.model import Job
from careflow_storage import BackblazeStorage, StorageSettings


def settings(job: Job) -> StorageSettings:
    fields: dict[str, Any] = {
        "key_id": job.endpoint.key_id,
        "application_key": job.endpoint.secret,
        "bucket_name": job.endpoint.bucket,
        "endpoint": job.endpoint.url,
        "region": job.endpoint.region,
        "part_size": job.tuning.part_size,
        "transfer_concurrency": job.tuning.concurrency,
        "max_connections": job.tuning.connections,
    }
    return StorageSettings(**(fields | job.options))


class OursClient:
    """The facade's calls."""

    def __init__(self, storage: BackblazeStorage) -> None:
        self._storage = storage

    async def upload(self, key: str, path: Path) -> None:
        await self._storage.upload_file(key, path)

    async def download(self, key: str, path: Path) -> None:
        await self._storage.download_file(key, path)

    async def put(self, key: str, body: bytes) -> None:
        await self._storage.upload_file(key, body)

    async def get(self, key: str) -> int:
        return len(await self._storage.get_file(key))

    async def head(self, key: str) -> int:
        return (await self._storage.get_file_metadata(key)).size

    async def listing(self, prefix: str) -> int:
        return len(await self._storage.list_files(prefix))

    async def sign(self, key: str) -> str:
        return await self._storage.get_signed_url(key)

    async def sign_many(self, keys: Sequence[str]) -> Sequence[str]:
        return await self._storage.get_signed_urls(keys)


@asynccontextmanager
async def open_client(job: Job) -> AsyncIterator[OursClient]:
    async with BackblazeStorage(settings(job)) as storage:
        yield OursClient(storage)
