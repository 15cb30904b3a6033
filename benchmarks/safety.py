"""What clients do when bytes change on the way, and when a call is cancelled.

    python -m benchmarks.safety

Each case runs on a new B2 emulator. It prints what the client reported and what was left in the
bucket: facts, not times, so one run is enough.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import aioboto3
import obstore
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from obstore.store import S3Store

from careflow_storage import BackblazeStorage
from careflow_storage.testing import B2Server

MIB = 1024 * 1024
KEY = "call.bin"
DATA = bytes(range(256)) * (32 * MIB // 256)


class Client(Protocol):
    """What the cases call."""

    async def put(self, data: bytes) -> None: ...
    async def upload_in_parts(self, data: bytes) -> None: ...
    async def get(self) -> bytes: ...


class Ours:
    def __init__(self, storage: BackblazeStorage) -> None:
        self._storage = storage

    async def put(self, data: bytes) -> None:
        await self._storage.upload_file(KEY, data)

    async def upload_in_parts(self, data: bytes) -> None:
        await self._storage.upload_file(KEY, io.BytesIO(data))

    async def get(self) -> bytes:
        return await self._storage.get_file(KEY)


class Aioboto3:
    def __init__(self, client: Any, bucket: str) -> None:
        self._client, self._bucket = client, bucket

    async def put(self, data: bytes) -> None:
        await self._client.put_object(Bucket=self._bucket, Key=KEY, Body=data)

    async def upload_in_parts(self, data: bytes) -> None:
        await self._client.upload_fileobj(
            io.BytesIO(data), self._bucket, KEY, Config=TransferConfig(multipart_threshold=5 * MIB)
        )

    async def get(self) -> bytes:
        response = await self._client.get_object(Bucket=self._bucket, Key=KEY)
        async with response["Body"] as body:
            return bytes(await body.read())


class Obstore:
    def __init__(self, store: S3Store) -> None:
        self._store = store

    async def put(self, data: bytes) -> None:
        await obstore.put_async(self._store, KEY, data, use_multipart=False)

    async def upload_in_parts(self, data: bytes) -> None:
        await obstore.put_async(self._store, KEY, data, use_multipart=True, chunk_size=5 * MIB)

    async def get(self) -> bytes:
        response = await obstore.get_async(self._store, KEY)
        return bytes(await response.bytes_async())


async def flipped_download(client: Client, server: B2Server) -> str:
    await client.put(DATA)
    server.faults.always("GetObject", corrupt=70_000)
    try:
        data = await client.get()
    except Exception as error:  # noqa: BLE001  # what each client raises is the result
        return f"detected: {type(error).__name__}"
    return "intact" if data == DATA else "returned wrong bytes"


async def flipped_upload(client: Client, server: B2Server) -> str:
    server.faults.next("PutObject", corrupt_upload=70_000)
    try:
        await client.put(DATA)
    except Exception as error:  # noqa: BLE001  # what each client raises is the result
        return f"detected: {type(error).__name__}"
    (version,) = server.versions(KEY)
    return "repaired" if version.body == DATA else "stored wrong bytes"


async def cancelled_upload(client: Client, server: B2Server) -> str:
    # The second part never gets a response: the upload is in progress when it is cancelled.
    rule = server.faults.always("UploadPart", cut="hang", key=KEY)
    upload = asyncio.create_task(client.upload_in_parts(DATA))
    await rule.fired.wait()
    upload.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await upload
    # Clients that clean up in the background get the time for it.
    await asyncio.sleep(2)
    left = len(server.incomplete_uploads())
    return "nothing left" if not left else f"{left} unfinished upload left, and billed"


Case = Callable[[Client, B2Server], Awaitable[str]]
CASES: dict[str, Case] = {
    "a bit flips in a download": flipped_download,
    "a bit flips in an upload": flipped_upload,
    "an upload in parts is cancelled": cancelled_upload,
}


async def with_ours(case: Case, server: B2Server) -> str:
    async with BackblazeStorage(server.settings()) as storage:
        return await case(Ours(storage), server)


async def with_aioboto3(case: Case, server: B2Server) -> str:
    # Without this setting B2 refuses its uploads.
    config = Config(request_checksum_calculation="when_required", read_timeout=10)
    session = aioboto3.Session(
        server.key.key_id, server.key.application_key, region_name=server.region
    )
    async with session.client("s3", endpoint_url=server.endpoint, config=config) as client:
        return await case(Aioboto3(client, str(server.settings().bucket_name)), server)


async def with_obstore(case: Case, server: B2Server) -> str:
    store = S3Store(
        str(server.settings().bucket_name),
        endpoint=server.endpoint,
        region=server.region,
        access_key_id=server.key.key_id,
        secret_access_key=server.key.application_key,
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )
    return await case(Obstore(store), server)


async def main() -> None:
    """Print a table, as Markdown."""
    print("| | careflow-storage | aioboto3 | obstore |\n|---|---|---|---|")
    for name, case in CASES.items():
        cells = []
        for run in (with_ours, with_aioboto3, with_obstore):
            with B2Server() as server:
                cells.append(await run(case, server))
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    asyncio.run(main())
