"""careflow-storage, with its defaults but for part size and concurrency.

Verifies up: Content-MD5 of every object and part, checked by the server, and the ETag it returns
(option ``checksum``: CRC32, or SHA-256 that is in the signature, too, in place of it). Down:
length; MD5 where the ETag tells it, which is of small objects and of what was uploaded with the
same part size.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.clients.protocol import LiveWriter
from benchmarks.model import Job
from careflow_storage import BackblazeStorage, StorageSettings

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RECORDING = re.compile(r"recordings/(?P<call>[^/]+)/(?P<ms>\d+)-(?P<name>[^/]+)")


def settings(job: Job) -> StorageSettings:
    fields: dict[str, Any] = {
        "key_id": job.endpoint.key_id,
        "application_key": job.endpoint.secret,
        "bucket_name": job.endpoint.bucket,
        "endpoint": job.endpoint.url,
        "region": job.endpoint.region,
        "ca_file": job.endpoint.ca_file,
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

    async def upload_stream(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        await self._storage.upload_file(key, chunks)

    async def put(self, key: str, body: bytes) -> None:
        await self._storage.upload_file(key, body)

    async def get(self, key: str) -> int:
        return len(await self._storage.get_file(key))

    async def head(self, key: str) -> int:
        return (await self._storage.get_file_metadata(key)).size

    async def delete(self, key: str) -> None:
        await self._storage.delete_file(key)

    async def listing(self, prefix: str) -> int:
        return len(await self._storage.list_files(prefix))

    async def folders(self, prefix: str) -> int:
        return len((await self._storage.list_folder(prefix)).common_prefixes)

    async def sign(self, key: str) -> str:
        return await self._storage.get_signed_url(key)

    async def sign_many(self, keys: Sequence[str]) -> Sequence[str]:
        return await self._storage.get_signed_urls(keys)

    async def respond(self, key: str, path: str, request: Request) -> Response:
        # Only here: no other workload needs a web framework.
        from careflow_storage.integrations.fastapi import file_response

        return await file_response(self._storage, key, request)

    @asynccontextmanager
    async def live(self, key: str) -> AsyncIterator[LiveWriter]:
        """A recording's writer makes its own key, so this one must be made in the same way."""
        found = _RECORDING.fullmatch(key)
        if found is None:
            raise ValueError(f"not recordings/<call>/<epoch ms>-<filename>: {key}")
        recorded_at = _EPOCH + timedelta(milliseconds=int(found["ms"]))
        async with self._storage.open_recording(
            found["call"], found["name"], recorded_at=recorded_at
        ) as writer:
            yield writer


@asynccontextmanager
async def open_client(job: Job) -> AsyncIterator[OursClient]:
    async with BackblazeStorage(settings(job)) as storage:
        yield OursClient(storage)
