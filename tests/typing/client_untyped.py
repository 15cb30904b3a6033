"""Without types-aiobotocore, `storage.client()` is Any."""

from __future__ import annotations

from typing import Any, assert_type

from careflow_storage import BackblazeStorage


async def head(storage: BackblazeStorage) -> None:
    client = await storage.client()
    assert_type(client, Any)
    await client.head_object(Bucket="careflow-recordings", Key="key")
