"""Faults on request: each does what it says, and the storage gets over those that it can."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from careflow_storage import (
    BackblazeStorage,
    ChecksumMismatchError,
    InvalidInputError,
    ServiceUnavailableError,
    StorageTimeoutError,
)
from careflow_storage.testing import B2Server
from careflow_storage.testing.proxy.faults import COMMON, KINDS
from tests.support.b2_wire import RawClient, wire_to
from tests.support.bodies import noise

pytest_plugins = ["careflow_storage.testing.plugin"]

BODY = noise(200_000)
PART = 5 * 2**20
LARGE = noise(PART + 1)


@pytest.fixture
async def wire(b2_server: B2Server) -> AsyncIterator[RawClient]:
    async with wire_to(b2_server) as opened:
        yield opened


@pytest.fixture
async def storage(b2_server: B2Server) -> AsyncIterator[BackblazeStorage]:
    settings = b2_server.settings(part_size=PART, multipart_threshold=PART)
    async with BackblazeStorage(settings) as opened:
        yield opened


async def test_an_error_comes_so_often_and_only_to_its_operation_and_key(
    wire: RawClient, b2_server: B2Server
) -> None:
    rule = b2_server.faults.next(
        "PutObject",
        key=r"\.webm$",
        status=503,
        code="ServiceUnavailable",
        message="no tomes available",
        retry_after=3,
        times=2,
    )
    assert (await wire.ask("PUT", "a.ogg", body=BODY)).status == 200
    assert (await wire.ask("GET", "a.webm")).status == 404
    for _ in range(2):
        reply = await wire.ask("PUT", "a.webm", body=BODY)
        assert reply.refusal == (503, "ServiceUnavailable")
        assert reply.field("Message") == "no tomes available"
        assert reply.headers["Retry-After"] == "3"
    assert (await wire.ask("PUT", "a.webm", body=BODY)).status == 200
    assert rule.hits == 2
    assert len(b2_server.versions("a.webm")) == 1


async def test_the_storage_gets_over_busy_parts(
    storage: BackblazeStorage, b2_server: B2Server
) -> None:
    rule = b2_server.faults.next(
        "UploadPart", status=503, code="ServiceUnavailable", message="no tomes available", times=3
    )
    result = await storage.upload_file("key", LARGE)
    assert rule.hits == 3
    parts = [attempt for attempt in b2_server.requests if attempt.operation == "UploadPart"]
    assert len(parts) == result.parts + 3
    assert b2_server.versions("key")[0].body == LARGE
    assert b2_server.incomplete_uploads() == []


async def test_always_lasts_until_it_is_cleared(
    storage: BackblazeStorage, b2_server: B2Server
) -> None:
    b2_server.faults.always("GetObject", status=500, code="InternalError")
    await storage.upload_file("key", BODY)
    with pytest.raises(ServiceUnavailableError):
        await storage.get_file("key")
    b2_server.faults.clear()
    assert await storage.get_file("key") == BODY


@pytest.mark.parametrize(
    ("fault", "stored"),
    [
        ({"cut": "rst"}, 1),
        ({"cut": "fin"}, 1),
        ({"cut": "rst", "at": ("req", 100_000)}, 1),
        ({"cut": "rst", "at": "resp"}, 2),
        ({"status": 200, "body": b""}, 1),
    ],
    ids=["reset", "closed", "reset in the body", "lost response", "empty 200"],
)
async def test_a_put_that_breaks_is_sent_again_and_only_a_lost_response_stores_twice(
    storage: BackblazeStorage, b2_server: B2Server, fault: dict[str, Any], stored: int
) -> None:
    b2_server.faults.next("PutObject", **fault)
    await storage.upload_file("key", BODY)
    assert [version.body for version in b2_server.versions("key")] == [BODY] * stored
    assert await storage.get_file("key") == BODY


@pytest.mark.parametrize(
    "fault",
    [
        {"cut": "rst", "at": "resp"},
        {"status": 200, "code": "InternalError"},
        {"status": 200, "body": b""},
    ],
    ids=["lost response", "200 with an error", "empty 200"],
)
async def test_a_completion_that_goes_wrong_makes_one_object(
    storage: BackblazeStorage, b2_server: B2Server, fault: dict[str, Any]
) -> None:
    b2_server.faults.next("CompleteMultipartUpload", **fault)
    result = await storage.upload_file("key", LARGE)
    (version,) = b2_server.versions("key")
    assert (version.etag, version.body) == (result.etag, LARGE)
    assert b2_server.incomplete_uploads() == []


@pytest.mark.parametrize(
    "fault",
    [
        {"cut": "fin", "at": ("body", 100_000)},
        {"cut": "rst", "at": ("body", 0)},
        {"short": 100_000},
    ],
    ids=["cut off", "reset", "short with a length that agrees"],
)
async def test_a_download_that_breaks_goes_on(
    storage: BackblazeStorage, b2_server: B2Server, fault: dict[str, Any]
) -> None:
    await storage.upload_file("key", BODY)
    b2_server.faults.next("GetObject", **fault)
    try:
        received = await storage.get_file("key")
    except ChecksumMismatchError:
        assert "short" in fault  # it can only be seen, not mended
    else:
        assert received == BODY


async def test_a_flipped_bit_of_an_upload_is_seen_by_the_server(
    wire: RawClient, b2_server: B2Server
) -> None:
    b2_server.faults.next("PutObject", corrupt_upload=70_000)
    reply = await wire.ask("PUT", "key", body=BODY)
    assert reply.refusal == (400, "XAmzContentSHA256Mismatch")
    assert b2_server.versions() == []


async def test_a_flipped_bit_of_an_upload_is_mended_by_sending_it_again(
    storage: BackblazeStorage, b2_server: B2Server
) -> None:
    b2_server.faults.next("PutObject", corrupt_upload=70_000)
    b2_server.faults.next("UploadPart", corrupt_upload=70_000)
    await storage.upload_file("small", BODY)
    await storage.upload_file("large", LARGE)
    assert [version.body for version in b2_server.versions()] == [LARGE, BODY]


async def test_a_flipped_bit_of_a_download_is_seen_by_the_client(
    storage: BackblazeStorage, b2_server: B2Server
) -> None:
    await storage.upload_file("key", BODY)
    b2_server.faults.next("GetObject", corrupt=70_000)
    with pytest.raises(ChecksumMismatchError):
        await storage.get_file("key")


@pytest.mark.parametrize("at", ["head", "resp", ("body", 1000)])
async def test_a_stall_is_silent_until_the_client_gives_up(b2_server: B2Server, at: Any) -> None:
    async with BackblazeStorage(b2_server.settings()) as patient:
        await patient.upload_file("key", BODY)
    settings = b2_server.settings(idle_timeout=0.2, retry_attempts=1)
    async with BackblazeStorage(settings) as storage:
        rule = b2_server.faults.always("GetObject", cut="hang", at=at)
        with pytest.raises(StorageTimeoutError):
            await storage.get_file("key")
        assert rule.fired.is_set()


async def test_a_stall_can_be_waited_for_and_released_from_the_tests_loop(
    wire: RawClient, b2_server: B2Server
) -> None:
    rule = b2_server.faults.next("GetObject", cut="hang")
    asking = asyncio.create_task(wire.ask("GET", "key"))
    await rule.fired.wait()
    assert not asking.done()
    rule.release.set()
    with pytest.raises(aiohttp.ClientError):
        await asking


async def test_a_slow_drip_takes_its_time(wire: RawClient, b2_server: B2Server) -> None:
    await wire.ask("PUT", "key", body=BODY)
    b2_server.faults.next("GetObject", rate=1_000_000)
    started = asyncio.get_running_loop().time()
    assert (await wire.ask("GET", "key")).body == BODY
    assert asyncio.get_running_loop().time() - started > 0.15


async def test_random_faults_are_the_same_for_the_same_seed(
    wire: RawClient, b2_server: B2Server
) -> None:
    async def play(seed: int) -> list[bool]:
        b2_server.requests.clear()
        b2_server.faults.random(0.5, seed=seed, kinds=["busy"])
        for _ in range(30):
            await wire.ask("GET", "missing")
        return [attempt.fault is not None for attempt in b2_server.requests]

    first = await play(7)
    assert 5 < sum(first) < 25
    assert await play(7) == first
    assert await play(8) != first


async def test_random_faults_can_be_limited_to_operations(
    wire: RawClient, b2_server: B2Server
) -> None:
    b2_server.faults.random(1.0, kinds=["broken"], operations=["PutObject"])
    assert (await wire.ask("GET", "missing")).status == 404
    assert (await wire.ask("PUT", "key", body=BODY)).status == 500


def test_a_kind_that_does_not_exist_is_refused(b2_server: B2Server) -> None:
    for rate, kinds in ((0.5, ["bsuy"]), (1.5, ["busy"]), (0.5, [])):
        with pytest.raises(InvalidInputError):
            b2_server.faults.random(rate, kinds=kinds)


@pytest.mark.parametrize("kind", KINDS)
async def test_every_random_kind_can_happen_to_every_request(
    wire: RawClient, b2_server: B2Server, kind: str
) -> None:
    assert (await wire.ask("PUT", "key", body=BODY)).status == 200
    b2_server.faults.random(1.0, kinds=[kind])
    for method in ("PUT", "GET", "HEAD", "DELETE"):
        try:
            await wire.ask(method, "key", body=BODY if method == "PUT" else b"")
        except aiohttp.ClientError:
            continue
    assert all(attempt.fault is not None for attempt in b2_server.requests[1:])


async def test_a_quarter_of_faults_loses_nothing(
    storage: BackblazeStorage, b2_server: B2Server
) -> None:
    b2_server.faults.random(0.25, seed=1, kinds=COMMON)
    for number in range(40):
        body = BODY[: 1000 * (number + 1)]
        await storage.upload_file(f"key{number}", body)
        assert await storage.get_file(f"key{number}") == body
    result = await storage.upload_file("large", LARGE)
    assert b2_server.versions("large")[0].etag == result.etag
    assert sum(attempt.fault is not None for attempt in b2_server.requests) > 10
    b2_server.faults.clear()
    assert b2_server.incomplete_uploads() == []
