"""aiobotocore, configured as Backblaze B2 asks for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from benchmarks.model import Job


def config(job: Job) -> AioConfig:
    """SigV4 and no checksum headers, which B2 refuses; the rest as it comes."""
    return AioConfig(
        signature_version="s3v4",
        s3={"addressing_style": "path"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        max_pool_connections=job.tuning.connections,
    )


class AiobotocoreClient:
    """Plain client calls."""

    def __init__(self, client: Any, bucket: str) -> None:
        self.client = client
        self.bucket = bucket

    async def put(self, key: str, body: bytes) -> None:
        await self.client.put_object(Bucket=self.bucket, Key=key, Body=body)

    async def get(self, key: str) -> int:
        answer = await self.client.get_object(Bucket=self.bucket, Key=key)
        async with answer["Body"] as body:
            return len(await body.read())

    async def head(self, key: str) -> int:
        answer = await self.client.head_object(Bucket=self.bucket, Key=key)
        return int(answer["ContentLength"])

    async def listing(self, prefix: str) -> int:
        answer = await self.client.list_objects_v2(Bucket=self.bucket, Prefix=prefix)
        return len(answer["Contents"])

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
        "config": config(job),
    }


@asynccontextmanager
async def open_client(job: Job) -> AsyncIterator[AiobotocoreClient]:
    async with get_session().create_client("s3", **client_arguments(job)) as client:
        yield AiobotocoreClient(client, job.endpoint.bucket)
