"""With types-aiobotocore, `storage.client()` is its client. Only `nox -s stubs` checks this."""

from __future__ import annotations

from typing import assert_type

from types_aiobotocore_s3 import S3Client
from types_aiobotocore_s3.type_defs import HeadObjectOutputTypeDef

from careflow_storage import BackblazeStorage


async def head(storage: BackblazeStorage) -> None:
    client = await storage.client()
    assert_type(client, S3Client)
    head = await client.head_object(Bucket="careflow-recordings", Key="key")
    assert_type(head, HeadObjectOutputTypeDef)
    await client.head_object(Bucket="b", Key=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
