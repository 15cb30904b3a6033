"""b2sdk: Backblaze's own client, which speaks the native API and not S3; in threads.

Verifies up: SHA-1 of every object and part. Down: length; SHA-1 where the server keeps that of the
whole object, which it does not for what was uploaded in parts.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import requests
from b2sdk.v3 import (
    B2Api,
    B2HttpApiConfig,
    InMemoryAccountInfo,
    InMemoryCache,
    UploadSourceLocalFile,
)
from requests.adapters import HTTPAdapter

from benchmarks.clients.streams import BlockingReader
from benchmarks.clients.threads import use_threads
from benchmarks.model import Endpoint, Job


class B2sdkClient:
    """Blocking calls, each in ``asyncio.to_thread``. The endpoint is the realm of its account."""

    def __init__(self, api: Any, bucket: Any, job: Job) -> None:
        self._api = api
        self._bucket = bucket
        self._tuning = job.tuning

    async def upload(self, key: str, path: Path) -> None:
        await asyncio.to_thread(
            # `upload_local_file` takes the part size that the server recommends.
            self._bucket.concatenate,
            [UploadSourceLocalFile(str(path))],
            key,
            recommended_upload_part_size=self._tuning.part_size,
        )

    async def download(self, key: str, path: Path) -> None:
        await asyncio.to_thread(self._download, key, path)

    def _download(self, key: str, path: Path) -> None:
        self._bucket.download_file_by_name(key).save_to(path)

    async def upload_stream(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        await asyncio.to_thread(
            self._bucket.upload_unbound_stream,
            BlockingReader(chunks),
            key,
            recommended_upload_part_size=self._tuning.part_size,
            buffers_count=self._tuning.concurrency,
            # Each read is a trip to the loop and back, so its own 8 KiB would be nothing but trips.
            read_size=self._tuning.part_size,
        )

    async def put(self, key: str, body: bytes) -> None:
        await asyncio.to_thread(self._bucket.upload_bytes, body, key)

    async def get(self, key: str) -> int:
        return await asyncio.to_thread(self._get, key)

    def _get(self, key: str) -> int:
        body = io.BytesIO()
        self._bucket.download_file_by_name(key).save(body)
        return len(body.getbuffer())

    async def head(self, key: str) -> int:
        found = await asyncio.to_thread(self._bucket.get_file_info_by_name, key)
        return int(found.size)

    async def delete(self, key: str) -> None:
        """Hide, as a DELETE of S3 does."""
        await asyncio.to_thread(self._bucket.hide_file, key)

    async def listing(self, prefix: str) -> int:
        return await asyncio.to_thread(self._list, prefix, recursive=True)

    async def folders(self, prefix: str) -> int:
        return await asyncio.to_thread(self._list, prefix, recursive=False)

    def _list(self, prefix: str, *, recursive: bool) -> int:
        found = self._bucket.ls(prefix, recursive=recursive)
        return sum(recursive or folder is not None for _, folder in found)


def _sessions(endpoint: Endpoint, connections: int) -> requests.Session:
    session = requests.Session()
    adapter = HTTPAdapter(pool_connections=connections, pool_maxsize=connections)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    if endpoint.ca_file is not None:
        session.verify = endpoint.ca_file
    return session


@asynccontextmanager
async def open_client(job: Job) -> AsyncIterator[B2sdkClient]:
    use_threads(job)
    endpoint, tuning = job.endpoint, job.tuning
    api = B2Api(
        InMemoryAccountInfo(),
        cache=InMemoryCache(),
        api_config=B2HttpApiConfig(lambda: _sessions(endpoint, tuning.connections)),
        max_upload_workers=tuning.concurrency,
        max_download_workers=tuning.concurrency,
        max_download_streams_per_file=tuning.concurrency,
    )
    await asyncio.to_thread(
        api.authorize_account, endpoint.key_id, endpoint.secret, realm=endpoint.url
    )
    bucket = await asyncio.to_thread(api.get_bucket_by_name, endpoint.bucket)
    yield B2sdkClient(api, bucket, job)
