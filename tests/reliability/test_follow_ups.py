"""What a follow-up request meets never hides the error, or the success, that it follows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from careflow_storage import (
    AccessDeniedError,
    BackblazeStorage,
    NoSuchUploadError,
    PreconditionFailedError,
    ServiceUnavailableError,
    StorageError,
    StorageSettings,
)
from careflow_storage.testing.proxy.proxy import FaultProxy
from tests.support.behind_proxy import NOTHING_HELD, PART, held, storage_behind
from tests.support.bodies import noise

LARGE = noise(2 * PART + 7)

# What a HEAD, and the GET or the listing that explains it, may meet.
FOLLOW_UPS: dict[str, dict[str, Any]] = {
    "gone": {"status": 404, "code": "NoSuchKey"},
    "denied": {"status": 403, "code": "AccessDenied"},
    "busy": {"status": 503, "code": "SlowDown"},
    "broken": {"status": 500, "code": "InternalError"},
    "cut": {"cut": "rst"},
    "no S3 server": {"status": 404, "body": b"<html>not found</html>"},
}
REFUSALS: dict[str, tuple[str, bytes, dict[str, Any], type[StorageError]]] = {
    "412 to PUT": (
        "PutObject",
        LARGE[:1000],
        {"status": 412, "code": "PreconditionFailed"},
        PreconditionFailedError,
    ),
    "409 to PUT": (
        "PutObject",
        LARGE[:1000],
        {"status": 409, "code": "ConditionalRequestConflict"},
        PreconditionFailedError,
    ),
    "412 to Complete": (
        "CompleteMultipartUpload",
        LARGE,
        {"status": 412, "code": "PreconditionFailed"},
        PreconditionFailedError,
    ),
    "404 to Complete": (
        "CompleteMultipartUpload",
        LARGE,
        {"status": 404, "code": "NoSuchUpload"},
        NoSuchUploadError,
    ),
    "500 to Complete": (
        "CompleteMultipartUpload",
        LARGE,
        {"status": 500, "code": "InternalError"},
        ServiceUnavailableError,
    ),
}


@pytest.fixture
async def storage(proxy: FaultProxy, settings: StorageSettings) -> AsyncIterator[BackblazeStorage]:
    async with storage_behind(proxy, settings, retry_attempts=2) as opened:
        yield opened
        assert held(opened) == NOTHING_HELD


@pytest.mark.parametrize("follow_up", FOLLOW_UPS)
@pytest.mark.parametrize("refusal", REFUSALS)
async def test_the_first_error_comes_out_whatever_the_second_request_meets(
    storage: BackblazeStorage, proxy: FaultProxy, refusal: str, follow_up: str
) -> None:
    operation, body, what, expected = REFUSALS[refusal]
    refused = proxy.add(operation=operation, **what)
    proxy.add(
        when=lambda attempt: attempt.method in ("HEAD", "GET") and refused.hits > 0,
        **FOLLOW_UPS[follow_up],
    )
    with pytest.raises(expected) as caught:
        await storage.upload_file("key", body, overwrite=False)
    assert (caught.value.operation, caught.value.status) == (operation, what["status"])
    assert caught.value.key == "key"


@pytest.mark.parametrize("follow_up", ["denied", "busy", "cut"])
async def test_a_recording_that_is_kept_without_its_flag_is_reported(
    storage: BackblazeStorage, proxy: FaultProxy, follow_up: str
) -> None:
    client = await storage.client()
    where: dict[str, Any] = {"Bucket": storage.settings.bucket_name, "Key": "key"}
    upload_id = (await client.create_multipart_upload(**where))["UploadId"]
    await client.upload_part(**where, UploadId=upload_id, PartNumber=1, Body=b"sound")
    proxy.add(operation="HeadObject", **FOLLOW_UPS[follow_up])
    proxy.add(operation="GetObject", **FOLLOW_UPS[follow_up])
    with pytest.raises(StorageError) as caught:
        await storage.keep_incomplete_upload("key", upload_id)
    assert "is stored, but not marked as partial" in "".join(caught.value.__notes__)
    assert (caught.value.stored_unmarked, caught.value.retryable) == (True, False)
    proxy.clear()
    assert await storage.get_file("key") == b"sound"


@pytest.mark.parametrize("follow_up", FOLLOW_UPS)
async def test_a_resumed_upload_that_is_complete_is_a_success_whatever_follows(
    storage: BackblazeStorage, proxy: FaultProxy, follow_up: str
) -> None:
    proxy.add(operation="UploadPart", path="partNumber=3", status=403, code="AccessDenied")
    with pytest.raises(AccessDeniedError):
        await storage.upload_file("key", LARGE, resume=True)
    proxy.clear()
    completed = proxy.log
    proxy.add(
        when=lambda attempt: (
            attempt.method == "HEAD"
            and any(sent.operation == "CompleteMultipartUpload" for sent in completed)
        ),
        **FOLLOW_UPS[follow_up],
    )
    result = await storage.upload_file("key", LARGE, resume=True)
    assert result.size == len(LARGE)
    proxy.clear()
    assert await storage.get_file("key") == LARGE


async def test_an_unknown_lock_is_reported(storage: BackblazeStorage, proxy: FaultProxy) -> None:
    proxy.add(operation="UploadPart", path="partNumber=3", status=403, code="AccessDenied")
    with pytest.raises(AccessDeniedError):
        await storage.upload_file("key", LARGE, resume=True, legal_hold=True)
    proxy.clear()
    completed = proxy.log
    proxy.add(
        when=lambda attempt: (
            attempt.method == "HEAD"
            and any(sent.operation == "CompleteMultipartUpload" for sent in completed)
        ),
        **FOLLOW_UPS["busy"],
    )
    with pytest.raises(ServiceUnavailableError) as caught:
        await storage.upload_file("key", LARGE, resume=True, legal_hold=True)
    assert "The upload is complete" in "".join(caught.value.__notes__)


async def test_a_failed_upload_reports_its_reason_though_its_abort_fails_too(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    proxy.add(operation="UploadPart", status=403, code="AccessDenied")
    proxy.add(operation="AbortMultipartUpload", status=500, code="InternalError")
    with pytest.raises(AccessDeniedError) as caught:
        await storage.upload_file("key", LARGE)
    assert caught.value.operation == "UploadPart"
    assert caught.value.unfinished_upload_id
