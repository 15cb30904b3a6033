"""aiohttp-s3-client: a thin client on a session of aiohttp that the caller opens.

Verifies up: SHA-256 of every part of a file, in the signature; small objects go unsigned. Down:
nothing but that each body is as long as its response said (aiohttp); ranges carry If-Match.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import ClientSession, ClientTimeout, TCPConnector
from aiohttp_s3_client import S3Client

from benchmarks.clients.tls import tls_context
from benchmarks.model import Job


class AiohttpS3Client:
    """The calls of its documentation. Whoever makes them must look at the status.

    Its ``put`` of an async iterator is sent chunked, without a length, which B2 refuses, and its
    ``put_multipart`` takes an ordinary iterator only: so it takes no part in streams.
    """

    def __init__(self, client: S3Client, job: Job) -> None:
        self._client = client
        self._tuning = job.tuning

    async def upload(self, key: str, path: Path) -> None:
        await self._client.put_file_multipart(
            key,
            path,
            part_size=self._tuning.part_size,
            workers_count=self._tuning.concurrency,
        )

    async def download(self, key: str, path: Path) -> None:
        await self._client.get_file_parallel(
            key,
            path,
            range_step=self._tuning.part_size,
            workers_count=self._tuning.concurrency,
        )

    async def put(self, key: str, body: bytes) -> None:
        async with self._client.put(key, body) as response:
            response.raise_for_status()

    async def get(self, key: str) -> int:
        async with self._client.get(key) as response:
            response.raise_for_status()
            return len(await response.read())

    async def head(self, key: str) -> int:
        async with self._client.head(key) as response:
            response.raise_for_status()
            return int(response.headers["Content-Length"])

    async def delete(self, key: str) -> None:
        async with self._client.delete(key) as response:
            response.raise_for_status()

    async def listing(self, prefix: str) -> int:
        pages = self._client.list_objects_v2(prefix=prefix)
        return sum([len(objects) async for objects, _ in pages])

    async def folders(self, prefix: str) -> int:
        pages = self._client.list_objects_v2(prefix=prefix, delimiter="/")
        return sum([len(prefixes) async for _, prefixes in pages])

    async def sign(self, key: str) -> str:
        return str(self._client.presign_url("GET", key, expires=3600))

    async def sign_many(self, keys: Sequence[str]) -> Sequence[str]:
        return [await self.sign(key) for key in keys]


@asynccontextmanager
async def open_client(job: Job) -> AsyncIterator[AiohttpS3Client]:
    connector = TCPConnector(limit=job.tuning.connections, ssl=tls_context(job.endpoint))
    # aiohttp's own limit of five minutes for a whole request would cut slow benchmark runs.
    async with ClientSession(connector=connector, timeout=ClientTimeout(total=600)) as session:
        client = S3Client(
            session,
            f"{job.endpoint.url}/{job.endpoint.bucket}",
            access_key_id=job.endpoint.key_id,
            secret_access_key=job.endpoint.secret,
            region=job.endpoint.region,
        )
        yield AiohttpS3Client(client, job)
