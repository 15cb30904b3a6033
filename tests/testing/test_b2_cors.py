"""A page of an allowed origin can read each response of the emulator, refusals too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from careflow_storage import BackblazeStorage, StorageSettings
from careflow_storage.testing import B2Server
from tests.support.b2_wire import RawClient, Reply, wire_to

pytest_plugins = ["careflow_storage.testing.plugin"]

ORIGIN = {"origin": "https://app.example"}


@pytest.fixture
async def page(b2_settings: StorageSettings) -> AsyncIterator[BackblazeStorage]:
    """A storage whose bucket serves pages of one origin."""
    async with BackblazeStorage(b2_settings) as opened:
        await opened.admin.allow_browser_uploads([ORIGIN["origin"]], preset="multipart")
        yield opened


@pytest.fixture
async def wire(b2_server: B2Server, page: BackblazeStorage) -> AsyncIterator[RawClient]:
    async with wire_to(b2_server) as opened:
        yield opened


def allowance(reply: Reply) -> tuple[str | None, bool, str | None]:
    exposed = reply.headers.get("access-control-expose-headers", "")
    allowed = reply.headers.get("access-control-allow-origin")
    return allowed, "ETag" in exposed.split(", "), reply.headers.get("vary")


ALLOWED = (ORIGIN["origin"], True, "Origin")
NOT_ALLOWED = (None, False, None)


async def test_every_request_of_a_multipart_upload_can_be_read(wire: RawClient) -> None:
    begun = await wire.ask("POST", "a", {"uploads": ""}, headers=ORIGIN)
    upload = {"uploadId": begun.field("UploadId")}
    part = await wire.ask("PUT", "a", {**upload, "partNumber": "1"}, headers=ORIGIN, body=b"bytes")
    listed = await wire.ask("GET", "a", upload, headers=ORIGIN)
    document = (
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber>"
        f"<ETag>{part.headers['etag']}</ETag></Part></CompleteMultipartUpload>"
    ).encode()
    completed = await wire.ask("POST", "a", upload, headers=ORIGIN, body=document)
    other = await wire.ask("POST", "b", {"uploads": ""}, headers=ORIGIN)
    aborted = await wire.ask("DELETE", "b", {"uploadId": other.field("UploadId")}, headers=ORIGIN)
    replies = (begun, part, listed, completed, other, aborted)
    assert [reply.status for reply in replies] == [200, 200, 200, 200, 200, 204]
    assert [allowance(reply) for reply in replies] == [ALLOWED] * 6


async def test_every_request_for_a_file_can_be_read(wire: RawClient) -> None:
    stored = await wire.ask("PUT", "a", headers=ORIGIN, body=b"bytes")
    whole = await wire.ask("GET", "a", headers=ORIGIN)
    ranged = await wire.ask("GET", "a", headers={**ORIGIN, "range": "bytes=1-2"})
    head = await wire.ask("HEAD", "a", headers=ORIGIN)
    deleted = await wire.ask("DELETE", "a", headers=ORIGIN)
    replies = (stored, whole, ranged, head, deleted)
    assert [reply.status for reply in replies] == [200, 200, 206, 200, 204]
    assert [allowance(reply) for reply in replies] == [ALLOWED] * 5


async def test_every_refusal_can_be_read(wire: RawClient) -> None:
    late = await wire.ask("PUT", "a", headers=ORIGIN, late_by=timedelta(hours=1))
    missing = await wire.ask("GET", "a", headers=ORIGIN)
    no_upload = await wire.ask("POST", "a", {"uploadId": "x"}, headers=ORIGIN, body=b"<a/>")
    wire.server.faults.next("PutObject", status=503, code="SlowDown")
    busy = await wire.ask("PUT", "a", headers=ORIGIN, body=b"bytes")
    replies = (late, missing, no_upload, busy)
    assert [reply.status for reply in replies] == [403, 404, 404, 503]
    assert [allowance(reply) for reply in replies] == [ALLOWED] * 4


async def test_another_origin_or_method_or_no_origin_gets_no_such_headers(
    wire: RawClient, page: BackblazeStorage
) -> None:
    other = await wire.ask("PUT", "a", headers={"origin": "https://other.example"}, body=b"bytes")
    none = await wire.ask("GET", "a")
    for rule in await page.admin.get_cors_rules():
        await page.admin.put_cors_rule(rule.model_copy(update={"allowed_methods": ("GET",)}))
    method = await wire.ask("DELETE", "a", headers=ORIGIN)
    replies = (other, none, method)
    assert [reply.status for reply in replies] == [200, 200, 204]
    assert [allowance(reply) for reply in replies] == [NOT_ALLOWED] * 3
