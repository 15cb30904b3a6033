"""With resume=True an upload continues where the last run stopped, and stores the right bytes."""

from __future__ import annotations

import asyncio
import hashlib
import io
import logging
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from careflow_storage.errors import (
    AccessDeniedError,
    InvalidInputError,
    PreconditionFailedError,
    StorageError,
)
from careflow_storage.models import ChecksumAlgorithm, Progress
from careflow_storage.settings import StorageSettings
from careflow_storage.storage import BackblazeStorage
from careflow_storage.testing.proxy.proxy import Attempt, FaultProxy
from tests.support.behind_proxy import (
    NOTHING_HELD,
    PART,
    cleared,
    held,
    storage_behind,
    unfinished_uploads,
    versions,
)

pytestmark = pytest.mark.slow

LARGE = random.Random(2).randbytes(4 * PART + 7)
CHANGED = LARGE[:-1] + b"?"


@pytest.fixture
async def storage(proxy: FaultProxy, settings: StorageSettings) -> AsyncIterator[BackblazeStorage]:
    async with storage_behind(proxy, settings) as opened:
        yield opened


async def interrupt(
    storage: BackblazeStorage, proxy: FaultProxy, body: Any = LARGE, **options: Any
) -> str:
    """Begin an upload that fails at its third part, and return its upload ID."""
    proxy.add(operation="UploadPart", path="partNumber=3", status=403, code="AccessDenied")
    with pytest.raises(AccessDeniedError) as caught:
        await storage.upload_file("key", body, resume=True, **options)
    await cleared(proxy)
    assert caught.value.unfinished_upload_id is not None
    return caught.value.unfinished_upload_id


def sent_parts(proxy: FaultProxy) -> list[str]:
    return sorted(
        attempt.target.partition("partNumber=")[2].partition("&")[0]
        for attempt in proxy.log
        if attempt.operation == "UploadPart"
    )


async def assert_stored_alone(storage: BackblazeStorage, content: bytes) -> None:
    assert await storage.get_file("key") == content
    assert await unfinished_uploads(storage) == []
    assert held(storage) == NOTHING_HELD


BODIES: dict[str, Callable[[Path], Any]] = {
    "path": lambda path: path,
    "bytes": lambda path: path.read_bytes(),
    "file": lambda path: io.BytesIO(path.read_bytes()),
}


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("checksum", ["md5", "crc32", "sha256"])
async def test_the_same_call_again_sends_only_the_parts_that_are_missing(
    storage: BackblazeStorage,
    proxy: FaultProxy,
    tmp_path: Path,
    kind: str,
    checksum: ChecksumAlgorithm,
) -> None:
    (tmp_path / "source").write_bytes(LARGE)
    await interrupt(storage, proxy, BODIES[kind](tmp_path / "source"), checksum=checksum)
    seen: list[Progress] = []

    result = await storage.upload_file(
        "key",
        BODIES[kind](tmp_path / "source"),
        resume=True,
        checksum=checksum,
        progress=seen.append,
    )

    assert "3" in sent_parts(proxy)
    assert len(sent_parts(proxy)) < 5
    assert result.reused == len(LARGE) - sum(
        attempt.body_bytes for attempt in proxy.log if attempt.operation == "UploadPart"
    )
    assert result.reused >= PART
    assert seen[0].transferred >= result.reused
    assert seen[-1].transferred == len(LARGE)
    assert (result.size, result.parts) == (len(LARGE), 5)
    anew = await storage.upload_file("other", LARGE, checksum=checksum)
    assert result.checksum == anew.checksum
    await assert_stored_alone(storage, LARGE)


async def test_a_failure_reports_that_the_upload_is_kept(
    storage: BackblazeStorage, proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.add(operation="UploadPart", path="partNumber=3", status=403, code="AccessDenied")
    with caplog.at_level(logging.INFO), pytest.raises(AccessDeniedError) as caught:
        await storage.upload_file("key", LARGE, resume=True)
    (upload_id,) = await unfinished_uploads(storage)
    assert caught.value.unfinished_upload_id == upload_id
    assert "resume=True continues it" in caught.value.__notes__[0]
    logged = [r for r in caplog.records if upload_id in r.message and r.name == "careflow_storage"]
    assert [record.levelname for record in logged] == ["INFO"]
    assert held(storage) == NOTHING_HELD


async def test_a_cancelled_upload_is_kept_and_continued(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    hanging = proxy.add(operation="UploadPart", path="partNumber=4", cut="hang")
    upload = asyncio.create_task(storage.upload_file("key", LARGE, resume=True))
    await hanging.fired.wait()
    upload.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await upload
    (upload_id,) = await unfinished_uploads(storage)
    assert upload_id in caught.value.__notes__[0]
    await cleared(proxy)

    result = await storage.upload_file("key", LARGE, resume=True)

    assert result.reused >= PART
    assert proxy.count("POST", "uploads") == 0
    await assert_stored_alone(storage, LARGE)


@pytest.mark.parametrize("body", [CHANGED, b"!" + LARGE[1:], LARGE[: 3 * PART], LARGE + LARGE])
async def test_a_changed_body_starts_a_new_upload_and_leaves_the_other_alone(
    storage: BackblazeStorage, proxy: FaultProxy, body: bytes
) -> None:
    upload_id = await interrupt(storage, proxy)
    await send_part(storage, upload_id, 5, LARGE[4 * PART :])
    result = await storage.upload_file("key", body, resume=True)
    assert result.reused == 0
    assert await storage.get_file("key") == body
    assert await unfinished_uploads(storage) == [upload_id]


async def send_part(storage: BackblazeStorage, upload_id: str, number: int, content: bytes) -> None:
    client = await storage.client()
    bucket = storage.settings.bucket_name
    await client.upload_part(
        Bucket=bucket, Key="key", UploadId=upload_id, PartNumber=number, Body=content
    )


async def test_when_all_parts_are_there_it_is_only_completed(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    refused = {"operation": "CompleteMultipartUpload", "status": 403, "code": "AccessDenied"}
    proxy.add(**refused)
    with pytest.raises(AccessDeniedError):
        await storage.upload_file("key", LARGE, resume=True)
    await cleared(proxy)
    result = await storage.upload_file("key", LARGE, resume=True)
    assert sent_parts(proxy) == []
    assert result.reused == len(LARGE)
    await assert_stored_alone(storage, LARGE)


async def test_a_completed_upload_whose_response_was_lost_is_not_repeated(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    first = await storage.upload_file("key", LARGE, resume=True, metadata={"a": "b"})
    await cleared(proxy)
    again = await storage.upload_file("key", LARGE, resume=True, metadata={"a": "b"})
    assert again == first.model_copy(update={"reused": len(LARGE)})
    assert [attempt.operation for attempt in proxy.log] == ["HeadObject"]
    assert await versions(storage, "key") == (1, 0)


@pytest.mark.parametrize("change", [{"metadata": {"a": "c"}}, {"checksum": "crc32"}])
async def test_a_stored_object_with_other_headers_is_uploaded_again(
    storage: BackblazeStorage, change: dict[str, Any]
) -> None:
    await storage.upload_file("key", LARGE, resume=True, metadata={"a": "b"})
    again = await storage.upload_file("key", LARGE, resume=True, **change)
    assert again.reused == 0
    assert (await storage.get_file_metadata("key")).metadata == change.get("metadata", {})


async def test_a_resumed_upload_with_other_headers_stores_the_new_headers(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    await interrupt(storage, proxy, metadata={"attempt": "1"}, content_type="audio/ogg")
    result = await storage.upload_file(
        "key", LARGE, "audio/wav", resume=True, metadata={"attempt": "2"}
    )
    stored = await storage.get_file_metadata("key")
    assert (stored.content_type, stored.metadata) == ("audio/wav", {"attempt": "2"})
    assert (result.etag, result.version_id) == (stored.etag, stored.version_id)
    assert result.reused == 0
    await assert_stored_alone(storage, LARGE)


async def test_an_upload_begun_without_resume_by_a_killed_process_is_resumed(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    proxy.add(operation="UploadPart", path="partNumber=3", status=403, code="AccessDenied")
    proxy.add(operation="AbortMultipartUpload", status=403, code="AccessDenied")
    with pytest.raises(AccessDeniedError):
        await storage.upload_file("key", LARGE)
    await cleared(proxy)
    assert (await storage.upload_file("key", LARGE, resume=True)).reused >= PART
    await assert_stored_alone(storage, LARGE)


async def test_another_part_size_than_the_interrupted_run_had_resumes_with_its(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    await interrupt(storage, proxy)
    storage.settings.__dict__["part_size"] = 2 * PART
    result = await storage.upload_file("key", LARGE, resume=True)
    assert result.parts == 5
    assert result.reused >= PART
    await assert_stored_alone(storage, LARGE)
    assert (await storage.download_file("key", "file")).verified == "composite-md5"


class Pipe(io.BytesIO):
    """A file that only goes forward."""

    def seekable(self) -> bool:
        return False


@pytest.mark.parametrize("body", [iter([LARGE]), Pipe(LARGE)])
async def test_a_body_that_cannot_be_read_again_is_refused_before_any_request(
    storage: BackblazeStorage, proxy: FaultProxy, body: Any
) -> None:
    with pytest.raises(InvalidInputError, match="from its start") as caught:
        await storage.upload_file("key", body, resume=True, size=len(LARGE))
    assert "open_recording" in str(caught.value.hint)
    assert proxy.log == []


async def test_a_small_body_is_one_put_with_resume_too(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    result = await storage.upload_file("key", LARGE[:PART], resume=True)
    assert (result.parts, result.reused) == (1, 0)
    assert [attempt.operation for attempt in proxy.log] == ["PutObject"]


async def test_two_with_different_bytes_never_make_a_mixture(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    await interrupt(storage, proxy)
    outcomes = await asyncio.gather(
        *(storage.upload_file("key", body, resume=True) for body in (LARGE, CHANGED)),
        return_exceptions=True,
    )
    assert [each for each in outcomes if not isinstance(each, StorageError)]
    assert await storage.get_file("key") in (LARGE, CHANGED)


async def test_an_upload_that_another_process_aborts_is_started_again(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    upload_id = await interrupt(storage, proxy)
    gone = {"status": 404, "code": "NoSuchUpload"}
    proxy.add(operation="UploadPart", path=f"uploadId={upload_id}", **gone)
    proxy.add(operation="ListParts", path=upload_id, when=lambda _: len(proxy.log) > 6, **gone)
    result = await storage.upload_file("key", LARGE, resume=True)
    assert result.reused == 0
    assert await storage.get_file("key") == LARGE


async def test_a_part_that_another_process_has_replaced_leads_to_a_new_upload(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    proxy.add(operation="CompleteMultipartUpload", status=400, code="InvalidPart", times=1)
    upload_id = await interrupt(storage, proxy)
    proxy.add(operation="CompleteMultipartUpload", status=400, code="InvalidPart", times=1)
    result = await storage.upload_file("key", LARGE, resume=True)
    assert result.reused == 0
    assert await storage.get_file("key") == LARGE
    assert await unfinished_uploads(storage) == [upload_id]


async def test_a_lost_response_to_complete_is_no_failure_of_a_resumed_upload(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    await interrupt(storage, proxy)
    proxy.add(operation="CompleteMultipartUpload", cut="rst", at="resp", times=1)
    proxy.add(operation="CompleteMultipartUpload", status=404, code="NoSuchUpload")
    result = await storage.upload_file("key", LARGE, resume=True)
    assert result.reused >= PART
    await assert_stored_alone(storage, LARGE)
    assert await versions(storage, "key") == (1, 0)


async def test_a_vault_that_stays_busy_gets_no_more_of_the_resumed_upload(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    upload_id = await interrupt(storage, proxy)
    proxy.add(operation="UploadPart", path=upload_id, status=503, code="ServiceUnavailable")
    result = await storage.upload_file("key", LARGE, resume=True)
    assert result.reused == 0
    await assert_stored_alone(storage, LARGE)


async def test_overwrite_false_continues_its_own_upload_and_refuses_the_object_of_another_writer(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    await interrupt(storage, proxy, overwrite=False)
    for reused in (PART, len(LARGE)):
        result = await storage.upload_file("key", LARGE, resume=True, overwrite=False)
        assert result.reused >= reused
    with pytest.raises(PreconditionFailedError):
        await storage.upload_file("key", CHANGED, resume=True, overwrite=False)
    await assert_stored_alone(storage, LARGE)


async def test_uploads_of_longer_keys_are_not_touched(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    client = await storage.client()
    bucket = storage.settings.bucket_name
    other = await client.create_multipart_upload(Bucket=bucket, Key="key.webm")
    assert (await storage.upload_file("key", LARGE, resume=True)).reused == 0
    assert await unfinished_uploads(storage) == [other["UploadId"]]


async def test_all_pages_of_parts_are_read(storage: BackblazeStorage, proxy: FaultProxy) -> None:
    proxy.add(operation="CompleteMultipartUpload", status=403, code="AccessDenied")
    with pytest.raises(AccessDeniedError):
        await storage.upload_file("key", LARGE, resume=True)
    await cleared(proxy)
    pieces = [LARGE[start : start + PART] for start in range(0, len(LARGE), PART)]
    for number, piece in enumerate(pieces, start=1):
        page = f"part-number-marker={number - 1}"
        proxy.add(
            operation="ListParts",
            when=lambda attempt, page=page: on_page(attempt, page),
            body=page_of_parts(number, piece, last=number == len(pieces)),
        )
    result = await storage.upload_file("key", LARGE, resume=True)
    assert result.reused == len(LARGE)
    await assert_stored_alone(storage, LARGE)


def on_page(attempt: Attempt, page: str) -> bool:
    first = page.endswith("=0")
    return page in attempt.target or (first and "marker" not in attempt.target)


def page_of_parts(number: int, content: bytes, *, last: bool) -> bytes:
    etag = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return (
        f"<ListPartsResult><NextPartNumberMarker>{number}</NextPartNumberMarker>"
        f"<IsTruncated>{str(not last).lower()}</IsTruncated>"
        f"<Part><PartNumber>{number}</PartNumber><Size>{len(content)}</Size>"
        f"<ETag>&quot;{etag}&quot;</ETag>"
        "<LastModified>2026-11-23T00:00:00.000Z</LastModified></Part></ListPartsResult>"
    ).encode()


# --- lost responses -------------------------------------------------------------------------


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("times", [1, 3])
async def test_a_lost_response_to_the_creation_is_logged_with_the_uploads_that_it_may_have_left(
    storage: BackblazeStorage,
    proxy: FaultProxy,
    caplog: pytest.LogCaptureFixture,
    resume: bool,
    times: int,
) -> None:
    proxy.add(operation="CreateMultipartUpload", cut="rst", at="resp", times=times)
    await storage.upload_file("key", LARGE, resume=resume)
    assert await storage.get_file("key") == LARGE
    left = await unfinished_uploads(storage)
    assert len(left) == times
    (logged,) = [record for record in caplog.records if hasattr(record, "upload_ids")]
    assert sorted(logged.upload_ids) == sorted(left)
    assert all(upload_id in logged.message for upload_id in left)


@pytest.mark.parametrize("above", ["object", "marker"])
async def test_after_a_lost_completion_a_newer_version_of_another_does_not_hide_ours(
    storage: BackblazeStorage, proxy: FaultProxy, settings: StorageSettings, above: str
) -> None:
    async with BackblazeStorage(settings) as other:
        proxy.add(operation="CompleteMultipartUpload", cut="rst", at="resp", times=1)
        overtaken = proxy.add(
            operation="CompleteMultipartUpload", status=404, code="NoSuchUpload", delay=60
        )
        upload = asyncio.create_task(storage.upload_file("key", LARGE))
        await overtaken.fired.wait()
        if above == "object":
            await other.upload_file("key", b"newer")
        else:
            await other.delete_file("key")
        overtaken.release.set()
        result = await upload
    assert result.size == len(LARGE)
    assert await storage.get_file("key", version_id=result.version_id) == LARGE


async def test_the_error_of_a_progress_callback_names_the_upload_that_could_not_be_aborted(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    proxy.add(operation="AbortMultipartUpload", status=403, code="AccessDenied")

    def fail(_: Progress) -> None:
        raise ValueError("the callback's own")

    with pytest.raises(ValueError, match="own") as caught:
        await storage.upload_file("key", LARGE, progress=fail)
    (upload_id,) = await unfinished_uploads(storage)
    assert upload_id in caught.value.__notes__[0]
