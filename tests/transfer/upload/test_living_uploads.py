"""No upload of another writer is aborted, taken over or completed, however it looks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from careflow_storage import BackblazeStorage, InvalidInputError, StorageSettings
from careflow_storage.outbox import Outbox
from careflow_storage.testing import B2Server
from careflow_storage.testing.proxy.proxy import FaultProxy
from tests.support.behind_proxy import storage_behind
from tests.support.bodies import noise

pytestmark = pytest.mark.slow

PART = 300 * 1024
BODY = noise(3 * PART + 7)
OTHER = BODY[::-1]

# What a request to begin an upload may meet, and whether it may have begun one all the same.
FAULTS: dict[str, tuple[dict[str, Any], bool]] = {
    "busy": ({"status": 503, "code": "ServiceUnavailable"}, False),
    "slow down": ({"status": 503, "code": "SlowDown"}, False),
    "too many": ({"status": 429, "code": "TooManyRequests"}, False),
    "broken": ({"status": 500, "code": "InternalError"}, True),
    "bad gateway": ({"status": 502, "body": b"<html>bad gateway</html>"}, True),
    "bare 503": ({"status": 503, "body": b""}, True),
    "unreadable": ({"status": 200, "body": b"<html>welcome</html>"}, True),
    "cut before": ({"cut": "rst", "at": "head"}, True),
    "lost": ({"cut": "rst", "at": "resp"}, True),
    "silent": ({"cut": "hang", "at": "resp"}, True),
}


@pytest.fixture
async def other(proxy: FaultProxy, settings: StorageSettings) -> AsyncIterator[BackblazeStorage]:
    """The storage of another process: it knows nothing of ours."""
    async with (
        FaultProxy(settings.endpoint or "") as own,
        storage_behind(own, settings) as opened,
    ):
        yield opened


@pytest.fixture
async def storage(proxy: FaultProxy, settings: StorageSettings) -> AsyncIterator[BackblazeStorage]:
    async with storage_behind(proxy, settings, idle_timeout=2.0) as opened:
        await opened.client()
        yield opened


@contextlib.asynccontextmanager
async def writing(
    storage: BackblazeStorage, key: str = "key", content: bytes = OTHER
) -> AsyncIterator[asyncio.Task[Any]]:
    """An upload that has begun and whose first part waits for its last bytes."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    send = storage._runtime.context().requests.upload_part

    async def upload_part(*given: Any, **named: Any) -> Any:
        begun.set()
        await go_on.wait()
        return await send(*given, **named)

    async def body() -> AsyncIterator[bytes]:
        yield content

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage._runtime.context().requests, "upload_part", upload_part)
        task = asyncio.create_task(storage.upload_file(key, body()))
        await begun.wait()
    try:
        yield task
    finally:
        go_on.set()
        await task


async def unfinished(storage: BackblazeStorage) -> list[str]:
    return [upload.upload_id for upload in await storage.list_incomplete_uploads()]


def logged(caplog: pytest.LogCaptureFixture) -> str:
    records = [record for record in caplog.records if record.name == "careflow_storage"]
    return "".join(record.getMessage() for record in records)


async def put_whole(storage: BackblazeStorage) -> None:
    assert (await storage.upload_file("key", BODY)).size == len(BODY)


async def put_stream(storage: BackblazeStorage) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield BODY

    assert (await storage.upload_file("key", body())).size == len(BODY)


async def put_resumed(storage: BackblazeStorage) -> None:
    assert (await storage.upload_file("key", BODY, resume=True)).reused == 0


@pytest.mark.parametrize("put", [put_whole, put_stream, put_resumed])
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_failed_creation_does_not_disturb_the_upload_of_another_writer(
    storage: BackblazeStorage,
    other: BackblazeStorage,
    proxy: FaultProxy,
    caplog: pytest.LogCaptureFixture,
    fault: str,
    put: Callable[[BackblazeStorage], Awaitable[None]],
) -> None:
    what, doubtful = FAULTS[fault]
    async with writing(other) as task:
        (living,) = await unfinished(other)
        before = proxy.count()
        proxy.add(operation="CreateMultipartUpload", times=1, **what)
        await put(storage)
        assert await storage.get_file("key") == BODY
        assert living in await unfinished(other)
        listings = [each for each in proxy.log[before:] if each.operation == "ListMultipartUploads"]
        # Resuming looks for uploads, too.
        assert len(listings) == doubtful + (put is put_resumed)
    assert (await task).size == len(OTHER)
    assert await storage.get_file("key") == OTHER
    left = await unfinished(storage)
    assert len(left) == (fault in ("lost", "silent"))
    assert all(upload_id in logged(caplog) for upload_id in left)


@pytest.mark.parametrize("put", [put_whole, put_stream, put_resumed])
async def test_nor_does_the_same_storage_touch_its_own_other_upload(
    storage: BackblazeStorage,
    proxy: FaultProxy,
    caplog: pytest.LogCaptureFixture,
    put: Callable[[BackblazeStorage], Awaitable[None]],
) -> None:
    async with writing(storage):
        (living,) = await unfinished(storage)
        proxy.add(operation="CreateMultipartUpload", times=1, cut="rst", at="resp")
        await put(storage)
        assert living in await unfinished(storage)
        assert living not in logged(caplog)
    assert await storage.get_file("key") == OTHER


async def test_of_several_that_resume_the_same_upload_at_once_none_fails() -> None:
    with B2Server(min_part_size=1) as server:
        async with (
            FaultProxy(server.endpoint) as proxy,
            storage_behind(proxy, server.settings()) as storage,
            storage_behind(proxy, server.settings()) as other,
        ):
            for _ in range(10):
                results = await asyncio.gather(
                    *(
                        each.upload_file("key", BODY, resume=True)
                        for each in (storage, other, storage, other)
                    )
                )
                assert {result.size for result in results} == {len(BODY)}
                assert await storage.get_file("key") == BODY
                await storage.purge_file("key")


@pytest.mark.parametrize("ours", [True, False])
async def test_an_upload_that_another_process_completes_is_started_again(ours: bool) -> None:
    """The other one resumes what it takes for its own: the first parts are the same."""
    second = BODY if ours else BODY[: 3 * PART] + b"another"
    with B2Server(min_part_size=1) as server:
        async with (
            FaultProxy(server.endpoint) as proxy,
            storage_behind(proxy, server.settings()) as storage,
            FaultProxy(server.endpoint) as another,
            storage_behind(another, server.settings()) as other,
        ):
            held = proxy.add(operation="UploadPart", path="partNumber=4", cut="hang", times=1)
            first = asyncio.create_task(storage.upload_file("key", BODY))
            await held.fired.wait()
            done = await other.upload_file("key", second, resume=True)
            assert done.reused
            held.release.set()
            result = await first
            assert await storage.get_file("key", version_id=done.version_id) == second
            assert await storage.get_file("key", version_id=result.version_id) == BODY
            assert server.incomplete_uploads() == []


async def test_a_recording_of_many_hours_is_not_stale(
    storage: BackblazeStorage, other: BackblazeStorage, proxy: FaultProxy
) -> None:
    """Neither one that this storage writes, nor one of another whose parts go on coming."""
    client = await storage.client()
    where: dict[str, Any] = {"Bucket": storage.settings.bucket_name, "Key": "left"}
    left = (await client.create_multipart_upload(**where))["UploadId"]
    async with writing(storage, "ours"):
        flushed = asyncio.Event()
        async with other.open_recording(
            "CA1", "call.webm", progress=lambda _: flushed.set()
        ) as recording:
            await recording.write(BODY)
            await flushed.wait()
            date = datetime.now(UTC) + timedelta(hours=5)
            proxy.add(
                operation="ListMultipartUploads",
                headers={"Date": format_datetime(date, usegmt=True)},
            )
            modified = f"<LastModified>{date - timedelta(minutes=1):%Y-%m-%dT%H:%M:%S}.000Z"
            proxy.add(
                operation="ListParts",
                path=recording.upload_id or "",
                body=(
                    "<ListPartsResult><IsTruncated>false</IsTruncated><Part><PartNumber>1"
                    f"</PartNumber><Size>{PART}</Size><ETag>x</ETag>{modified}</LastModified>"
                    "</Part></ListPartsResult>"
                ).encode(),
            )
            aborted = await storage.abort_stale_uploads(timedelta(hours=4))
            assert [upload.upload_id for upload in aborted] == [left]
        assert recording.result.size == len(BODY)


async def test_an_upload_in_progress_cannot_be_kept_as_if_it_were_left(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    async with writing(storage):
        (living,) = await unfinished(storage)
        before = proxy.count()
        with pytest.raises(InvalidInputError, match="in progress"):
            await storage.keep_incomplete_upload("key", living)
        assert proxy.count() == before


async def test_a_delivery_leaves_the_uploads_of_others_alone(
    storage: BackblazeStorage, other: BackblazeStorage, proxy: FaultProxy, tmp_path: Path
) -> None:
    async with Outbox(tmp_path / "outbox", storage, retry_base_delay=0.001) as outbox:
        entry = await outbox.put_recording("CA1", BODY, "call.webm")
        proxy.add(operation="UploadPart", times=8, status=500, code="InternalError")
        async with writing(other, entry.key):
            assert (await outbox.drain()).delivered == 1
            assert await storage.get_file(entry.key) == BODY
        assert await storage.get_file(entry.key) == OTHER


@pytest.mark.integration
@pytest.mark.parametrize("fault", ["busy", "lost"])
async def test_two_writers_of_one_key_both_succeed_on_a_real_server(
    seaweed_settings: StorageSettings, fault: str
) -> None:
    part = 5 * 1024 * 1024
    body = noise(2 * part + 7)
    async with (
        FaultProxy(seaweed_settings.endpoint or "") as proxy,
        storage_behind(proxy, seaweed_settings, memory_budget=4 * part) as storage,
        BackblazeStorage(seaweed_settings) as other,
    ):
        for each in (storage, other):
            each.settings.__dict__.update(part_size=part, multipart_threshold=part)
        proxy.add(operation="CreateMultipartUpload", times=1, **FAULTS[fault][0])
        async with writing(other, content=body):
            assert (await storage.upload_file("key", body)).size == len(body)
            assert await storage.get_file("key") == body
