"""aiobotocore, configured as Backblaze B2 asks for it.

Verifies up: SHA-256 of every object, in the signature, over https too. Down: nothing but that the
body is as long as the response said (aiohttp).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from benchmarks.model import Job


def config_fields(job: Job) -> dict[str, Any]:
    """SigV4 and no checksum headers, which B2 refuses; the rest as it comes."""
    return {
        "signature_version": "s3v4",
        "s3": {"addressing_style": "path"},
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
        "max_pool_connections": job.tuning.connections,
    }


class AiobotocoreClient:
    """Plain client calls."""

    def __init__(self, client: Any, bucket: str) -> None:
        self.client = client
        self.bucket = bucket

    async def put(self, key: str, body: bytes) -> None:
        await self.client.put_object(Bucket=self.bucket, Key=key, Body=body)

    async def get(self, key: str) -> int:
        response = await self.client.get_object(Bucket=self.bucket, Key=key)
        async with response["Body"] as body:
            return len(await body.read())

    async def head(self, key: str) -> int:
        response = await self.client.head_object(Bucket=self.bucket, Key=key)
        return int(response["ContentLength"])

    async def delete(self, key: str) -> None:
        await self.client.delete_object(Bucket=self.bucket, Key=key)

    async def listing(self, prefix: str) -> int:
        return len([entry async for entry in self._entries("Contents", Prefix=prefix)])

    async def folders(self, prefix: str) -> int:
        entries = self._entries("CommonPrefixes", Prefix=prefix, Delimiter="/")
        return len([entry async for entry in entries])

    async def _entries(self, name: str, **arguments: str) -> AsyncIterator[dict[str, Any]]:
        pages = self.client.get_paginator("list_objects_v2")
        async for page in pages.paginate(Bucket=self.bucket, **arguments):
            for entry in page.get(name, ()):
                yield entry

    async def sign(self, key: str) -> str:
        url: str = await self.client.generate_presigned_url(
            "get_object", Params={"Bucket": self.bucket, "Key": key}, ExpiresIn=3600
        )
        return url

    async def sign_many(self, keys: Sequence[str]) -> Sequence[str]:
        return [await self.sign(key) for key in keys]


def client_arguments(job: Job) -> dict[str, Any]:
    return {
        "endpoint_url": job.endpoint.url,
        "region_name": job.endpoint.region,
        "aws_access_key_id": job.endpoint.key_id,
        "aws_secret_access_key": job.endpoint.secret,
        "verify": job.endpoint.ca_file,
        "config": AioConfig(**config_fields(job)),
    }


@asynccontextmanager
async def open_client(job: Job) -> AsyncIterator[AiobotocoreClient]:
    async with get_session().create_client("s3", **client_arguments(job)) as client:
        yield AiobotocoreClient(client, job.endpoint.bucket)
