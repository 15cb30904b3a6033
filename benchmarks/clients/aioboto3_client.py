"""aioboto3: aiobotocore's client with ``upload_file`` and ``download_file`` injected.

Verifies up: SHA-256 of every object and part, in the signature, over https too. Down: nothing but
that each range is as long as its response said (aiohttp).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aioboto3
from boto3.s3.transfer import TransferConfig

from benchmarks.clients.aiobotocore_client import AiobotocoreClient, client_arguments
from benchmarks.clients.streams import AsyncReader
from benchmarks.model import Job

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

_CHUNK = 256 * 1024


class Aioboto3Client(AiobotocoreClient):
    """Managed transfers. Everything but part size and concurrency is aioboto3's default."""

    def __init__(self, client: Any, job: Job) -> None:
        super().__init__(client, job.endpoint.bucket)
        self._config = TransferConfig(
            multipart_chunksize=job.tuning.part_size,
            max_concurrency=job.tuning.concurrency,
        )

    async def upload(self, key: str, path: Path) -> None:
        await self.client.upload_file(str(path), self.bucket, key, Config=self._config)

    async def download(self, key: str, path: Path) -> None:
        await self.client.download_file(self.bucket, key, str(path), Config=self._config)

    async def upload_stream(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        reader = AsyncReader(chunks)
        await self.client.upload_fileobj(reader, self.bucket, key, Config=self._config)

    async def respond(self, key: str, path: str, request: Request) -> Response:
        """Pass the Range on, and the headers that a player needs back."""
        # Only here: no other workload needs a web framework.
        from starlette.responses import StreamingResponse

        found = await self.client.get_object(
            Bucket=self.bucket, Key=key, Range=request.headers["range"]
        )
        sent = found["ResponseMetadata"]["HTTPHeaders"]
        names = ("content-length", "content-range", "content-type", "accept-ranges", "etag")
        headers = {name: sent[name] for name in names}
        return StreamingResponse(found["Body"].iter_chunks(_CHUNK), 206, headers)


@asynccontextmanager
async def open_client(job: Job) -> AsyncIterator[Aioboto3Client]:
    async with aioboto3.Session().client("s3", **client_arguments(job)) as client:
        yield Aioboto3Client(client, job)
