"""AWS's Common Runtime, the C library behind ``boto3[crt]``, through its own S3 client.

boto3 cannot be used for it here: up to 1.44 it hands no ``endpoint_url`` on to the runtime, so
that every transfer would go to AWS, and it always adds CRC32 trailers, which others do not send.

It must not be installed where botocore is measured: as soon as it can be imported, botocore, and
with it every client that is built on it, imports it and signs with it.

Verifies up: nothing, the payload is unsigned. Down: length; ranges carry If-Match.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from awscrt.auth import AwsCredentialsProvider
from awscrt.http import HttpHeaders, HttpRequest
from awscrt.io import (
    ClientBootstrap,
    ClientTlsContext,
    DefaultHostResolver,
    EventLoopGroup,
    TlsContextOptions,
)
from awscrt.s3 import S3Client, S3RequestTlsMode, S3RequestType

from benchmarks.model import Endpoint, Job


class AwscrtClient:
    """Files up and down; the runtime does nothing else faster than boto3.

    How many parts are under way at once follows from the throughput that it aims at, 10 Gbit/s
    where it does not know the machine: there is no knob for the concurrency.
    """

    def __init__(self, client: S3Client, endpoint: Endpoint) -> None:
        self._client = client
        self._bucket = endpoint.bucket
        self._host = urlsplit(endpoint.url).netloc

    def _request(self, method: str, key: str, size: int) -> HttpRequest:
        headers = HttpHeaders([("host", self._host), ("content-length", str(size))])
        return HttpRequest(method, f"/{self._bucket}/{quote(key)}", headers)

    async def _send(self, kind: S3RequestType, request: HttpRequest, **files: str) -> None:
        sent: Any = self._client.make_request(type=kind, request=request, **files)
        await asyncio.wrap_future(sent.finished_future)

    async def upload(self, key: str, path: Path) -> None:
        size = (await asyncio.to_thread(path.stat)).st_size
        request = self._request("PUT", key, size)
        await self._send(S3RequestType.PUT_OBJECT, request, send_filepath=str(path))

    async def download(self, key: str, path: Path) -> None:
        request = self._request("GET", key, 0)
        await self._send(S3RequestType.GET_OBJECT, request, recv_filepath=str(path))


@asynccontextmanager
async def open_client(job: Job) -> AsyncIterator[AwscrtClient]:
    endpoint = job.endpoint
    loops = EventLoopGroup()
    https = endpoint.url.startswith("https://")
    trusted = TlsContextOptions()
    if endpoint.ca_file is not None:
        trusted.override_default_trust_store_from_path(ca_filepath=endpoint.ca_file)
    client = S3Client(
        bootstrap=ClientBootstrap(loops, DefaultHostResolver(loops)),
        region=endpoint.region,
        credential_provider=AwsCredentialsProvider.new_static(endpoint.key_id, endpoint.secret),
        part_size=job.tuning.part_size,
        tls_mode=S3RequestTlsMode.ENABLED if https else S3RequestTlsMode.DISABLED,
        tls_connection_options=ClientTlsContext(trusted).new_connection_options()
        if https
        else None,
    )
    yield AwscrtClient(client, endpoint)
