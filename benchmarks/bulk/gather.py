"""What one writes with aioboto3: list, then `gather` a get and a put for each object.

``python -m benchmarks.bulk.gather JSON``, with the two endpoints and the number at once.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import aioboto3
from aiobotocore.config import AioConfig
from boto3.s3.transfer import TransferConfig

from benchmarks.model import MIB, Endpoint

_PART = 8 * MIB
_KEPT = ("ContentType", "CacheControl", "Metadata")


def _arguments(endpoint: Endpoint, connections: int) -> dict[str, Any]:
    return {
        "endpoint_url": endpoint.url,
        "region_name": endpoint.region,
        "aws_access_key_id": endpoint.key_id,
        "aws_secret_access_key": endpoint.secret,
        "config": AioConfig(
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            max_pool_connections=connections,
        ),
    }


def _same(old: str, new: str) -> bool:
    # The ETag of an object in parts depends on their size, so the object's size must do.
    return old == new or "-" in old


async def copy(source: Endpoint, target: Endpoint, at_once: int) -> None:
    session = aioboto3.Session()
    config = TransferConfig(multipart_chunksize=_PART, max_concurrency=4)
    slots = asyncio.Semaphore(at_once)
    connections = 4 * at_once
    async with (
        session.client("s3", **_arguments(source, connections)) as old,
        session.client("s3", **_arguments(target, connections)) as new,
    ):
        present: dict[str, tuple[int, str]] = {}
        async for page in new.get_paginator("list_objects_v2").paginate(Bucket=target.bucket):
            for entry in page.get("Contents", ()):
                present[entry["Key"]] = entry["Size"], entry["ETag"]

        async def copy_one(entry: dict[str, Any]) -> None:
            known = present.get(entry["Key"])
            if known is not None and known[0] == entry["Size"] and _same(known[1], entry["ETag"]):
                return
            async with slots:
                found = await old.get_object(Bucket=source.bucket, Key=entry["Key"])
                kept = {name: found[name] for name in _KEPT if name in found}
                body = found["Body"]
                if entry["Size"] <= _PART:
                    data = await body.read()
                    await new.put_object(Bucket=target.bucket, Key=entry["Key"], Body=data, **kept)
                else:
                    await new.upload_fileobj(
                        body, target.bucket, entry["Key"], ExtraArgs=kept, Config=config
                    )

        pages = old.get_paginator("list_objects_v2").paginate(
            Bucket=source.bucket, Prefix="recordings/"
        )
        entries = [entry async for page in pages for entry in page.get("Contents", ())]
        await asyncio.gather(*map(copy_one, entries))


def main() -> None:
    given = json.loads(sys.argv[1])
    asyncio.run(copy(Endpoint(**given["source"]), Endpoint(**given["target"]), given["at_once"]))


if __name__ == "__main__":
    main()
