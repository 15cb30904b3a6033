"""miniopy-async: MinIO's client on aiohttp.

Verifies up: SHA-256 of every object and part, in the signature, over http; Content-MD5 and an
unsigned payload over https. Down: nothing but that the body is as long as the response said.
"""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import urlsplit

from aiohttp import ClientSession, ClientTimeout, TCPConnector
from aiohttp_retry import ExponentialRetry, RetryClient
from miniopy_async.api import Minio

from benchmarks.clients.streams import AsyncReader
from benchmarks.clients.tls import tls_context
from benchmarks.model import Job

_HOUR = timedelta(hours=1)


class MiniopyAsyncClient:
    """The calls as its examples show them. Downloads are one GET: it has no parallel one."""

    def __init__(self, client: Minio, job: Job) -> None:
        self._client = client
        self._bucket = job.endpoint.bucket
        self._tuning = job.tuning

    async def upload(self, key: str, path: Path) -> None:
        await self._client.fput_object(
            self._bucket,
            key,
            str(path),
            part_size=self._tuning.part_size,
            num_parallel_uploads=self._tuning.concurrency,
        )

    async def download(self, key: str, path: Path) -> None:
        await self._client.fget_object(self._bucket, key, str(path))

    async def upload_stream(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        """Fails (1.23.6) where the length is a multiple of the part size and parts are parallel."""
        await self._client.put_object(
            self._bucket,
            key,
            # It awaits what `read` gives, though its annotation says that this is a file.
            cast("BinaryIO", AsyncReader(chunks)),
            -1,
            part_size=self._tuning.part_size,
            num_parallel_uploads=self._tuning.concurrency,
        )

    async def put(self, key: str, body: bytes) -> None:
        await self._client.put_object(self._bucket, key, io.BytesIO(body), len(body))

    async def get(self, key: str) -> int:
        response = await self._client.get_object(self._bucket, key)
        async with response:
            return len(await response.read())

    async def head(self, key: str) -> int:
        return int((await self._client.stat_object(self._bucket, key)).size or 0)

    async def delete(self, key: str) -> None:
        await self._client.remove_object(self._bucket, key)

    async def listing(self, prefix: str) -> int:
        return len(await self._client.list_objects(self._bucket, prefix, recursive=True))

    async def folders(self, prefix: str) -> int:
        found = await self._client.list_objects(self._bucket, prefix)
        return sum(entry.is_dir for entry in found)

    async def sign(self, key: str) -> str:
        url: str = await self._client.presigned_get_object(self._bucket, key, _HOUR)
        return url

    async def sign_many(self, keys: Sequence[str]) -> Sequence[str]:
        return [await self.sign(key) for key in keys]


def _session(job: Job) -> RetryClient:
    """What it would make itself, with the authority to trust and more than ten connections."""
    return RetryClient(
        ClientSession(
            connector=TCPConnector(limit=job.tuning.connections, ssl=tls_context(job.endpoint)),
            timeout=ClientTimeout(connect=300, sock_read=300),
        ),
        retry_options=ExponentialRetry(attempts=5, factor=0.2, statuses={500, 502, 503, 504}),
    )


@asynccontextmanager
async def open_client(job: Job) -> AsyncIterator[MiniopyAsyncClient]:
    url = urlsplit(job.endpoint.url)
    async with Minio(
        url.netloc,
        access_key=job.endpoint.key_id,
        secret_key=job.endpoint.secret,
        secure=url.scheme == "https",
        region=job.endpoint.region,
        session=_session(job),
    ) as client:
        yield MiniopyAsyncClient(client, job)
