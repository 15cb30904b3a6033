"""capo-s3: an asyncio SDK generated from AWS's models, on an HTTP stack of its own.

Verifies up: SHA-256 of every object and part, in the signature, over https too. Down: length.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from capo_s3 import AsyncS3Client, AsyncTransferManager, Credentials
from zapros import AsyncStdNetworkHandler
from zapros._io._asyncio import AsyncIOTransport

from benchmarks.clients.tls import tls_context
from benchmarks.model import Job


class CapoClient:
    """The calls of its documentation."""

    def __init__(self, client: AsyncS3Client, job: Job) -> None:
        self._client = client
        self._bucket = job.endpoint.bucket
        self._transfers = AsyncTransferManager(
            client,
            target_part_size_bytes=job.tuning.part_size,
            multipart_upload_threshold_bytes=job.tuning.part_size,
            multipart_download_type="range",
        )

    async def upload(self, key: str, path: Path) -> None:
        await self._transfers.upload(path, self._bucket, key)

    async def download(self, key: str, path: Path) -> None:
        await self._transfers.download(self._bucket, key, path)

    async def put(self, key: str, body: bytes) -> None:
        await self._client.put_object(self._bucket, key, body=body)

    async def get(self, key: str) -> int:
        async with self._client.get_object(self._bucket, key) as response:
            return sum([len(chunk) async for chunk in response["body"]])

    async def head(self, key: str) -> int:
        return int((await self._client.head_object(self._bucket, key))["content_length"])

    async def delete(self, key: str) -> None:
        await self._client.delete_object(self._bucket, key)

    async def listing(self, prefix: str) -> int:
        pages = self._client.iter_list_objects_v2(self._bucket, prefix=prefix)
        return sum([len(page.get("contents", ())) async for page in pages])

    async def folders(self, prefix: str) -> int:
        pages = self._client.iter_list_objects_v2(self._bucket, prefix=prefix, delimiter="/")
        return sum([len(page.get("common_prefixes", ())) async for page in pages])

    async def sign(self, key: str) -> str:
        return str(await self._client.presigned_get_object(self._bucket, key, expire_in=3600))

    async def sign_many(self, keys: Sequence[str]) -> Sequence[str]:
        return [await self.sign(key) for key in keys]


@asynccontextmanager
async def open_client(job: Job) -> AsyncIterator[CapoClient]:
    handler = AsyncStdNetworkHandler(
        transport=AsyncIOTransport(ssl_context=tls_context(job.endpoint)),
        # Its default of 10 connections would keep the other requests waiting.
        http1={
            "max_connections_per_host": job.tuning.connections,
            "max_idle_connections_per_host": job.tuning.connections,
        },
    )
    async with AsyncS3Client(
        handler,
        endpoint=job.endpoint.url,
        region=job.endpoint.region,
        credentials=Credentials(access_key=job.endpoint.key_id, secret_key=job.endpoint.secret),
        force_path_style=True,
    ) as client:
        yield CapoClient(client, job)
