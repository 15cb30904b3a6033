"""boto3 in threads, as a web application calls it from coroutines.

Verifies up: SHA-256 of every object and part, in the signature, over https too. Down: nothing but
that each range is the requested one and as long as its response said; ranges carry If-Match.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

from benchmarks.clients.streams import BlockingReader
from benchmarks.clients.threads import use_threads
from benchmarks.model import Job


class Boto3Client:
    """Blocking calls, each in ``asyncio.to_thread``. Signing asks no server and stays here."""

    def __init__(self, client: Any, job: Job) -> None:
        self._client = client
        self._bucket = job.endpoint.bucket
        self._config = TransferConfig(
            multipart_chunksize=job.tuning.part_size,
            max_concurrency=job.tuning.concurrency,
            preferred_transfer_client="classic",
        )

    async def upload(self, key: str, path: Path) -> None:
        await asyncio.to_thread(
            self._client.upload_file, str(path), self._bucket, key, Config=self._config
        )

    async def download(self, key: str, path: Path) -> None:
        await asyncio.to_thread(
            self._client.download_file, self._bucket, key, str(path), Config=self._config
        )

    async def upload_stream(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        reader = BlockingReader(chunks)
        await asyncio.to_thread(
            self._client.upload_fileobj, reader, self._bucket, key, Config=self._config
        )

    async def put(self, key: str, body: bytes) -> None:
        await asyncio.to_thread(self._client.put_object, Bucket=self._bucket, Key=key, Body=body)

    async def get(self, key: str) -> int:
        return await asyncio.to_thread(self._get, key)

    def _get(self, key: str) -> int:
        with self._client.get_object(Bucket=self._bucket, Key=key)["Body"] as body:
            return len(body.read())

    async def head(self, key: str) -> int:
        response = await asyncio.to_thread(self._client.head_object, Bucket=self._bucket, Key=key)
        return int(response["ContentLength"])

    async def delete(self, key: str) -> None:
        await asyncio.to_thread(self._client.delete_object, Bucket=self._bucket, Key=key)

    async def listing(self, prefix: str) -> int:
        return await asyncio.to_thread(self._count, "Contents", Prefix=prefix)

    async def folders(self, prefix: str) -> int:
        return await asyncio.to_thread(self._count, "CommonPrefixes", Prefix=prefix, Delimiter="/")

    def _count(self, name: str, **arguments: str) -> int:
        pages = self._client.get_paginator("list_objects_v2")
        found = pages.paginate(Bucket=self._bucket, **arguments)
        return len([entry for page in found for entry in page.get(name, ())])

    async def sign(self, key: str) -> str:
        url: str = self._client.generate_presigned_url(
            "get_object", Params={"Bucket": self._bucket, "Key": key}, ExpiresIn=3600
        )
        return url

    async def sign_many(self, keys: Sequence[str]) -> Sequence[str]:
        return [await self.sign(key) for key in keys]


@asynccontextmanager
async def open_client(job: Job) -> AsyncIterator[Boto3Client]:
    use_threads(job)
    client = boto3.client(
        "s3",
        endpoint_url=job.endpoint.url,
        region_name=job.endpoint.region,
        aws_access_key_id=job.endpoint.key_id,
        aws_secret_access_key=job.endpoint.secret,
        verify=job.endpoint.ca_file,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            max_pool_connections=job.tuning.connections,
        ),
    )
    try:
        yield Boto3Client(client, job)
    finally:
        client.close()
