"""Requests to the emulator of B2 that no well-behaved client would send."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import aiohttp
from yarl import URL

from careflow_storage._s3.signing.signer import Credentials, Signer, canonical_query, encode_key
from careflow_storage.testing import ApplicationKey, B2Server


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def refusal(self) -> tuple[int, str]:
        return self.status, self.field("Code")

    def field(self, name: str) -> str:
        found = re.search(f"<{name}>(.*?)</{name}>", self.body.decode())
        return found[1] if found else ""


class RawClient:
    """Signs with a key of the server and sends over the network, without any retry."""

    def __init__(self, server: B2Server, session: aiohttp.ClientSession) -> None:
        self.server = server
        self.session = session

    async def ask(
        self,
        method: str,
        key: str = "",
        query: Mapping[str, str] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        who: ApplicationKey | None = None,
        bucket: str | None = None,
        payload_hash: str | None = None,
        region: str | None = None,
        late_by: timedelta = timedelta(0),
    ) -> Reply:
        who = who or self.server.key
        bucket = self.server.bucket if bucket is None else bucket
        path = f"/{bucket}" + (f"/{encode_key(key)}" if key else "") if bucket else "/"
        text = canonical_query(query or {})
        signed = Signer(region or self.server.region).sign(
            Credentials(who.key_id, who.application_key),
            method,
            self.server.endpoint.removeprefix("http://"),
            path,
            text,
            headers or {},
            payload_hash or hashlib.sha256(body).hexdigest(),
            datetime.now(UTC) - late_by,
        )
        return await self.send(method, f"{path}?{text}" if text else path, signed, body)

    async def send(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes = b""
    ) -> Reply:
        url = target if target.startswith("http") else self.server.endpoint + target
        async with self.session.request(
            method, URL(url, encoded=True), headers=headers, data=io.BytesIO(body) if body else None
        ) as response:
            return Reply(response.status, response.headers, await response.read())

    async def begin(self, key: str, **headers: str) -> str:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return (await self.ask("POST", key, {"uploads": ""}, headers=given)).field("UploadId")

    async def part(self, key: str, upload_id: str, number: int, body: bytes) -> Reply:
        query = {"partNumber": str(number), "uploadId": upload_id}
        return await self.ask("PUT", key, query, body=body)

    async def complete(self, key: str, upload_id: str, parts: list[tuple[int, str]]) -> Reply:
        lines = "".join(
            f"<Part><PartNumber>{n}</PartNumber><ETag>{etag}</ETag></Part>" for n, etag in parts
        )
        body = f"<CompleteMultipartUpload>{lines}</CompleteMultipartUpload>".encode()
        return await self.ask("POST", key, {"uploadId": upload_id}, body=body)


@asynccontextmanager
async def wire_to(server: B2Server) -> AsyncIterator[RawClient]:
    async with aiohttp.ClientSession() as session:
        # aiohttp sends a GET or PUT again by itself, which would be counted as ours.
        session._retry_connection = False
        yield RawClient(server, session)
