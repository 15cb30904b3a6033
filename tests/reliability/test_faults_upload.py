"""Uploads with a bad network and a bad server: stored once and completely, or a clear error."""

from __future__ import annotations

import asyncio
import io
import random
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from careflow_storage.errors import (
    ChecksumMismatchError,
    NoSuchKeyError,
    PreconditionFailedError,
    ServerResponseError,
    ServiceUnavailableError,
    SizeMismatchError,
    StorageTimeoutError,
)
from careflow_storage.models import Progress
from careflow_storage.settings import StorageSettings
from careflow_storage.storage import BackblazeStorage
from careflow_storage.testing.proxy.proxy import FaultProxy, Rule
from tests.support.behind_proxy import (
    NOTHING_HELD,
    PART,
    held,
    storage_behind,
    unfinished_uploads,
    versions,
)

pytestmark = pytest.mark.slow

SMALL = b"a short recording"
LARGE = random.Random(1).randbytes(3 * PART + 7)
CREATE = {"method": "POST", "path": "uploads"}
PART_2 = {"method": "PUT", "path": "partNumber=2"}
COMPLETE = {"method": "POST", "path": "uploadId="}


@pytest.fixture
async def storage(proxy: FaultProxy, settings: StorageSettings) -> AsyncIterator[BackblazeStorage]:
    async with storage_behind(proxy, settings, idle_timeout=1.0) as opened:
        # The control plane's client takes its time, which no idle timeout should measure.
        await opened.client()
        yield opened


async def assert_stored(storage: BackblazeStorage, body: bytes) -> None:
    assert await storage.get_file("key") == body
    assert held(storage) == NOTHING_HELD


async def assert_nothing_stored(storage: BackblazeStorage) -> None:
    with pytest.raises(NoSuchKeyError):
        await storage.get_file("key")
    assert await unfinished_uploads(storage) == []
    assert held(storage) == NOTHING_HELD


CUTS = ["rst", "fin", "hang"]
BROKEN: dict[str, tuple[dict[str, Any], bytes]] = {
    "put, head": ({"method": "PUT", "at": "head"}, SMALL),
    "put, response": ({"method": "PUT", "at": "resp"}, SMALL),
    "put, body": ({"method": "PUT", "at": ("req", 100_000)}, LARGE[: PART - 1]),
    "part, head": ({**PART_2, "at": "head"}, LARGE),
    "part, body": ({**PART_2, "at": ("req", 100_000)}, LARGE),
    "part, response": ({**PART_2, "at": "resp"}, LARGE),
    "create, head": ({**CREATE, "at": "head"}, LARGE),
    "create, response": ({**CREATE, "at": "resp"}, LARGE),
    "complete, head": ({**COMPLETE, "at": "head"}, LARGE),
    "complete, response": ({**COMPLETE, "at": "resp"}, LARGE),
}


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("place", BROKEN)
async def test_an_upload_survives_a_connection_that_breaks_once(
    storage: BackblazeStorage, proxy: FaultProxy, place: str, cut: str
) -> None:
    where, body = BROKEN[place]
    rule = proxy.add(**where, cut=cut, times=1)

    result = await storage.upload_file("key", body)

    assert rule.hits == 1
    again = Rule(method=rule.method, path=rule.path)
    assert sum(again.applies_to(attempt) for attempt in proxy.log) == 2
    assert result.size == len(body)
    await assert_stored(storage, body)
    # Only a PUT whose response was lost cannot know, and stores the same bytes once more.
    assert (await versions(storage, "key"))[0] == (2 if place == "put, response" else 1)
    # A lost response to the creation leaves an upload whose ID is not known.
    assert len(await unfinished_uploads(storage)) == (place == "create, response")


@pytest.mark.parametrize("checksum", ["md5", "crc32", "sha256"])
async def test_a_part_that_was_sent_twice_is_counted_once(
    storage: BackblazeStorage, proxy: FaultProxy, checksum: Any
) -> None:
    proxy.add(**PART_2, cut="rst", at=("req", 200_000), times=2)
    events: list[Progress] = []
    result = await storage.upload_file("key", LARGE, checksum=checksum, progress=events.append)
    counts = [event.transferred for event in events]
    assert counts == sorted(counts)
    assert counts[-1] == len(LARGE) == result.size
    assert result.parts == 4
    await assert_stored(storage, LARGE)


@pytest.mark.parametrize(
    "response",
    [
        b"<Error><Code>InternalError</Code><Message>incident</Message></Error>",
        b"<Error><Code>SlowDown</Code><Message>no tomes available</Message></Error>",
        b"",
        b"<?xml version='1.0'?><CompleteMultipartUploadResult><ETag>&quot;abc",
        b"<html>captive portal</html>",
    ],
    ids=["InternalError", "SlowDown", "empty", "cut", "html"],
)
async def test_a_200_that_is_no_success_is_not_believed(
    storage: BackblazeStorage, proxy: FaultProxy, response: bytes
) -> None:
    rule = proxy.add(**COMPLETE, body=response, times=1)
    result = await storage.upload_file("key", LARGE)
    assert rule.hits == 1
    assert proxy.count("POST", "uploadId=") == 2
    assert result.etag.endswith("-4")
    await assert_stored(storage, LARGE)
    assert await versions(storage, "key") == (1, 0)


async def test_a_200_that_is_never_a_success_ends_in_an_error_and_an_abort(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    proxy.add(**COMPLETE, body=b"")
    with pytest.raises(ServerResponseError) as caught:
        await storage.upload_file("key", LARGE)
    assert caught.value.unfinished_upload_id is None
    assert proxy.count("POST", "uploadId=") == storage.settings.retry_attempts
    await assert_nothing_stored(storage)


async def test_a_creation_that_gets_no_response_is_tried_again(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    proxy.add(**CREATE, body=b"", times=1)
    await storage.upload_file("key", LARGE)
    await assert_stored(storage, LARGE)


async def test_a_lost_response_to_complete_is_settled_by_the_mark_in_the_object(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    # Committed, not heard; from then on the upload is unknown, as on B2.
    proxy.add(**COMPLETE, cut="rst", at="resp", times=1)
    proxy.add(**COMPLETE, status=404, code="NoSuchUpload")
    result = await storage.upload_file("key", LARGE)
    assert [attempt.method for attempt in proxy.log][-3:] == ["POST", "POST", "HEAD"]
    assert result.version_id == (await storage.get_file_metadata("key")).version_id
    assert (await storage.get_file_metadata("key")).etag == result.etag
    assert await versions(storage, "key") == (1, 0)
    await assert_stored(storage, LARGE)


async def test_another_object_under_the_key_is_not_taken_for_ours(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    await storage.upload_file("key", LARGE[:-1])
    proxy.add(**COMPLETE, status=404, code="NoSuchUpload")
    with pytest.raises(Exception, match="NoSuchUpload"):
        await storage.upload_file("key", LARGE)
    await assert_stored(storage, LARGE[:-1])
    assert await unfinished_uploads(storage) == []


async def test_with_overwrite_false_our_own_lost_put_is_not_taken_for_someone_elses(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    proxy.add(method="PUT", cut="rst", at="resp", times=1)
    proxy.add(method="PUT", status=412, code="PreconditionFailed")
    result = await storage.upload_file("key", SMALL, overwrite=False)
    assert result.version_id == (await storage.get_file_metadata("key")).version_id
    assert await versions(storage, "key") == (1, 0)
    with pytest.raises(PreconditionFailedError):
        await storage.upload_file("key", SMALL, overwrite=False)


@pytest.mark.parametrize("target", [CREATE, PART_2, COMPLETE], ids=["create", "part", "complete"])
async def test_after_a_503_every_request_of_a_multipart_upload_takes_a_new_connection(
    storage: BackblazeStorage, proxy: FaultProxy, target: dict[str, str]
) -> None:
    rule = proxy.add(**target, times=3, status=503, code="SlowDown")
    await storage.upload_file("key", LARGE)
    wanted = Rule(method=rule.method, path=rule.path)
    attempts = [attempt for attempt in proxy.log if wanted.applies_to(attempt)]
    assert [attempt.status for attempt in attempts] == [503, 503, 503, 200]
    assert len({attempt.connection for attempt in attempts}) == 4
    await assert_stored(storage, LARGE)


@pytest.fixture
def rewindable(tmp_path: Path) -> Iterator[dict[str, Any]]:
    path = tmp_path / "recording"
    path.write_bytes(LARGE)
    with path.open("rb") as file:
        yield {"bytes": LARGE, "path": path, "file": file, "BytesIO": io.BytesIO(LARGE)}


@pytest.mark.parametrize("kind", ["bytes", "path", "file", "BytesIO"])
async def test_a_vault_that_stays_busy_is_left_by_a_new_upload(
    storage: BackblazeStorage, proxy: FaultProxy, rewindable: dict[str, Any], kind: str
) -> None:
    attempts = storage.settings.retry_attempts
    rule = proxy.add(**PART_2, times=attempts, status=503, code="ServiceUnavailable")
    events: list[Progress] = []

    await storage.upload_file("key", rewindable[kind], progress=events.append)

    assert rule.hits == attempts
    assert proxy.count("POST", "uploads") == 2
    counts = [event.transferred for event in events]
    assert counts == sorted(counts)
    assert counts[-1] == len(LARGE)
    await assert_stored(storage, LARGE)
    assert await versions(storage, "key") == (1, 0)
    assert await unfinished_uploads(storage) == []


async def test_what_cannot_be_read_again_is_not_begun_anew(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield LARGE

    proxy.add(**PART_2, status=503, code="ServiceUnavailable")
    with pytest.raises(ServiceUnavailableError):
        await storage.upload_file("key", body())
    assert proxy.count("POST", "uploads") == 1
    await assert_nothing_stored(storage)


@pytest.mark.parametrize(
    ("target", "status"),
    [(CREATE, 503), (COMPLETE, 503), (PART_2, 500), (PART_2, 429)],
    ids=["create", "complete", "part 500", "part 429"],
)
async def test_only_a_busy_vault_is_a_reason_to_begin_anew(
    storage: BackblazeStorage, proxy: FaultProxy, target: dict[str, str], status: int
) -> None:
    proxy.add(**target, status=status)
    with pytest.raises(ServiceUnavailableError):
        await storage.upload_file("key", LARGE)
    creations = storage.settings.retry_attempts if target is CREATE else 1
    assert proxy.count("POST", "uploads") == creations
    await assert_nothing_stored(storage)


@pytest.mark.parametrize("body", [LARGE[: PART - 1], LARGE], ids=["put", "parts"])
async def test_a_bit_that_flips_on_the_way_up_is_noticed(
    storage: BackblazeStorage, proxy: FaultProxy, body: bytes
) -> None:
    proxy.add(method="PUT", corrupt_upload=12_345)
    with pytest.raises(ChecksumMismatchError):
        await storage.upload_file("key", body)
    assert held(storage) == NOTHING_HELD
    if body is LARGE:
        await assert_nothing_stored(storage)


async def test_a_body_longer_than_declared_gives_its_memory_back(
    storage: BackblazeStorage,
) -> None:
    def body() -> Iterator[bytes]:
        yield from (LARGE[:PART],) * 8

    for _ in range(3):
        with pytest.raises(SizeMismatchError):
            await storage.upload_file("key", body(), size=3 * PART)
        await assert_nothing_stored(storage)


@pytest.mark.parametrize("body", [LARGE, 40 * LARGE[:PART]], ids=["parts", "put"])
async def test_a_peer_that_never_reads_ends_by_the_idle_timeout(
    settings: StorageSettings, body: bytes
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        proxy = FaultProxy("http://127.0.0.1:9")
        proxy.url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        limits = {"multipart_threshold": 100 * PART} if body is not LARGE else {}
        async with storage_behind(
            proxy, settings, idle_timeout=0.3, retry_attempts=2, **limits
        ) as storage:
            await storage.client()
            async with asyncio.timeout(60):
                with pytest.raises(StorageTimeoutError) as caught:
                    await storage.upload_file("key", body)
            assert caught.value.retryable
            assert held(storage) == NOTHING_HELD


async def test_a_slow_but_living_upload_does_not_time_out(
    proxy: FaultProxy, settings: StorageSettings
) -> None:
    # It takes more than three idle timeouts; what the kernel would buffer unasked, more than one.
    # The narrow place is the network here: accepted sockets inherit this small buffer.
    proxy._server.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)
    body = 30 * LARGE[:PART]
    proxy.add(method="PUT", upload_rate=len(body) / 7)
    async with storage_behind(
        proxy, settings, idle_timeout=2.0, retry_attempts=1, multipart_threshold=len(body)
    ) as storage:
        await storage.upload_file("key", body)
        assert held(storage) == NOTHING_HELD


async def test_a_refusal_that_comes_before_the_body_was_taken_is_the_error(
    settings: StorageSettings,
) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 403 Forbidden\r\nx-amz-request-id: 1\r\nContent-Length: 0\r\n\r\n")
        await released.wait()
        writer.close()

    released = asyncio.Event()
    server = await asyncio.start_server(refuse, "127.0.0.1", 0, limit=1024)
    proxy = FaultProxy("http://127.0.0.1:9")
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with storage_behind(
        proxy, settings, idle_timeout=60, multipart_threshold=100 * PART
    ) as storage:
        async with asyncio.timeout(30):
            with pytest.raises(PermissionError):
                await storage.upload_file("key", 60 * LARGE[:PART])
        assert held(storage) == NOTHING_HELD
    released.set()
    server.close()
    await server.wait_closed()
