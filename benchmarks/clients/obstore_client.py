"""obstore: the object_store crate of Rust behind Python bindings.

Verifies up: SHA-256 of every object and part, in the signature, over https too (option
``payload=unsigned``: nothing). Down: length.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.store import S3Store

from benchmarks.clients.protocol import LiveWriter
from benchmarks.model import Endpoint, Job

if TYPE_CHECKING:
    from obstore.store import ClientConfig
    from starlette.requests import Request
    from starlette.responses import Response

_CHUNK = 256 * 1024
_HOUR = timedelta(hours=1)


def open_store(endpoint: Endpoint, *, unsigned: bool = False, retries: int = 10) -> S3Store:
    """The store. Its default timeout of 30 s per request would cut slow benchmark runs."""
    options: ClientConfig = {"allow_http": True, "timeout": "600s"}
    if endpoint.ca_file is not None:
        options["root_certificate"] = Path(endpoint.ca_file).read_bytes()
    return S3Store(
        endpoint.bucket,
        endpoint=endpoint.url,
        access_key_id=endpoint.key_id,
        secret_access_key=endpoint.secret,
        region=endpoint.region,
        virtual_hosted_style_request=False,
        unsigned_payload=unsigned,
        client_options=options,
        retry_config={"max_retries": retries},
    )


class ObstoreClient:
    """The calls as obstore's documentation shows them. It has no limit of connections to set."""

    def __init__(self, job: Job) -> None:
        self._store = open_store(job.endpoint, unsigned=job.options.get("payload") == "unsigned")
        self._tuning = job.tuning

    async def upload(self, key: str, path: Path) -> None:
        await obstore.put_async(
            self._store,
            key,
            path,
            chunk_size=self._tuning.part_size,
            max_concurrency=self._tuning.concurrency,
        )

    async def download(self, key: str, path: Path) -> None:
        response = await obstore.get_async(self._store, key)
        with path.open("wb") as file:
            async for chunk in response.stream():
                file.write(chunk)

    async def upload_stream(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        await obstore.put_async(
            self._store,
            key,
            chunks,
            chunk_size=self._tuning.part_size,
            max_concurrency=self._tuning.concurrency,
        )

    async def put(self, key: str, body: bytes) -> None:
        await obstore.put_async(self._store, key, body)

    async def get(self, key: str) -> int:
        response = await obstore.get_async(self._store, key)
        return len(await response.bytes_async())

    async def head(self, key: str) -> int:
        return (await obstore.head_async(self._store, key))["size"]

    async def delete(self, key: str) -> None:
        await obstore.delete_async(self._store, key)

    async def listing(self, prefix: str) -> int:
        """Prefixes are whole folders here: ``calls/CA1`` would not find ``calls/CA12.webm``."""
        return len(await obstore.list(self._store, prefix, chunk_size=1000).collect_async())

    async def folders(self, prefix: str) -> int:
        found = await obstore.list_with_delimiter_async(self._store, prefix)
        return len(found["common_prefixes"])

    async def sign(self, key: str) -> str:
        return await obstore.sign_async(self._store, "GET", key, _HOUR)

    async def sign_many(self, keys: Sequence[str]) -> Sequence[str]:
        return await obstore.sign_async(self._store, "GET", keys, _HOUR)

    async def respond(self, key: str, path: str, request: Request) -> Response:
        """Request the range of the Range header, and make the headers that a player needs."""
        # Only here: no other workload needs a web framework.
        from starlette.responses import StreamingResponse

        first, _, last = request.headers["range"].removeprefix("bytes=").partition("-")
        wanted = (int(first), int(last) + 1)
        found = await obstore.get_async(self._store, key, options={"range": wanted})
        start, end = found.range
        headers = {
            "content-length": str(end - start),
            "content-range": f"bytes {start}-{end - 1}/{found.meta['size']}",
            "content-type": "audio/webm",
            "accept-ranges": "bytes",
            "etag": found.meta["e_tag"] or "",
        }

        async def chunks() -> AsyncIterator[memoryview]:
            async for chunk in found.stream(min_chunk_size=_CHUNK):
                yield memoryview(chunk)

        return StreamingResponse(chunks(), 206, headers)

    @asynccontextmanager
    async def live(self, key: str) -> AsyncIterator[LiveWriter]:
        async with obstore.open_writer_async(
            self._store,
            key,
            buffer_size=self._tuning.part_size,
            max_concurrency=self._tuning.concurrency,
        ) as file:
            yield file


@asynccontextmanager
async def open_client(job: Job) -> AsyncIterator[ObstoreClient]:
    yield ObstoreClient(job)
