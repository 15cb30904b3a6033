"""The unfinished uploads that a failed upload may leave in the bucket."""

from __future__ import annotations

import asyncio
import re

from careflow_storage import BackblazeStorage, StorageSettings
from careflow_storage._s3.signing.signer import Credentials
from careflow_storage.local.client import SyncClient


async def unfinished_uploads(settings: StorageSettings) -> list[str]:
    """The upload IDs of all multipart uploads that were neither completed nor aborted."""
    # By a plain request: the aioboto3 client would cost every test a third of a second.
    assert settings.endpoint is not None
    assert settings.key_id is not None
    assert settings.application_key is not None
    secret = settings.application_key.get_secret_value()
    client = SyncClient(settings.endpoint, Credentials(settings.key_id, secret))
    response = await asyncio.to_thread(
        client.request, "GET", f"/{settings.bucket_name}", {"uploads": ""}
    )
    assert response.status == 200, response
    return re.findall(r"<UploadId>([^<]+)</UploadId>", response.body.decode())


async def begin_upload(storage: BackblazeStorage, key: str) -> None:
    """Begin a multipart upload and leave it so, as a process that dies does."""
    client = await storage.client()
    await client.create_multipart_upload(Bucket=storage.settings.bucket_name, Key=key)
