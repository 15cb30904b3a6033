"""s3fs: a file system of fsspec on aiobotocore, used from coroutines.

Verifies up: SHA-256 of every object and part, in the signature, over https too. Down: nothing but
that each body is as long as its response said (aiohttp).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from s3fs import S3FileSystem

from benchmarks.clients.aiobotocore_client import config_fields
from benchmarks.model import Job


class S3fsClient:
    """The coroutines that its documentation names for use with ``asynchronous=True``.

    It writes no stream from a coroutine, so it takes no part in those. A download in parts begins
    with a GET of the whole object, which it drops when it has read the length.
    """

    def __init__(self, files: Any, job: Job) -> None:
        self._files = files
        self._bucket = job.endpoint.bucket
        self._part_size = job.tuning.part_size

    def _path(self, key: str) -> str:
        return f"{self._bucket}/{key}"

    async def upload(self, key: str, path: Path) -> None:
        await self._files._put_file(str(path), self._path(key), chunksize=self._part_size)

    async def download(self, key: str, path: Path) -> None:
        await self._files._get_file(self._path(key), str(path), chunksize=self._part_size)

    async def put(self, key: str, body: bytes) -> None:
        await self._files._pipe_file(self._path(key), body)

    async def get(self, key: str) -> int:
        """A HEAD comes before the GET: it decides about ranges by the size."""
        return len(await self._files._cat_file(self._path(key)))

    async def head(self, key: str) -> int:
        return int((await self._files._info(self._path(key)))["size"])

    async def delete(self, key: str) -> None:
        await self._files._rm_file(self._path(key))

    async def listing(self, prefix: str) -> int:
        folder, _, stem = prefix.rpartition("/")
        return len(await self._files._find(self._path(folder), prefix=stem, detail=True))

    async def folders(self, prefix: str) -> int:
        found = await self._files._ls(self._path(prefix.rstrip("/")), detail=True)
        return sum(entry["type"] == "directory" for entry in found)

    async def sign(self, key: str) -> str:
        url: str = await self._files._url(self._path(key), expires=3600)
        return url

    async def sign_many(self, keys: Sequence[str]) -> Sequence[str]:
        return [await self.sign(key) for key in keys]


@asynccontextmanager
async def open_client(job: Job) -> AsyncIterator[S3fsClient]:
    files = S3FileSystem(
        asynchronous=True,
        endpoint_url=job.endpoint.url,
        key=job.endpoint.key_id,
        secret=job.endpoint.secret,
        client_kwargs={"region_name": job.endpoint.region, "verify": job.endpoint.ca_file},
        config_kwargs=config_fields(job),
        max_concurrency=job.tuning.concurrency,
        # Each listing and each head must ask the server.
        use_listings_cache=False,
        skip_instance_cache=True,
    )
    session = await files.set_session()
    try:
        yield S3fsClient(files, job)
    finally:
        await session.close()
