"""Refusals of a body that was sent whole: the client knows better, and sends it again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from careflow_storage import BackblazeStorage, StorageError, StorageSettings
from careflow_storage.testing.proxy.proxy import FaultProxy
from tests.support.behind_proxy import NOTHING_HELD, PART, held, storage_behind
from tests.support.bodies import noise, pieces

LARGE = noise(3 * PART + 7)
SMALL = LARGE[:1000]

REFUSALS: dict[str, dict[str, Any]] = {
    "B2": {"status": 400, "code": "InvalidRequest", "message": "The request body was too small"},
    "B2, other words": {"status": 400, "code": "BadRequest", "message": "Request body too short"},
    "Amazon": {
        "status": 400,
        "code": "IncompleteBody",
        "message": "You did not provide the number of bytes specified by the Content-Length "
        "HTTP header",
    },
    "Amazon, without a code of its own": {
        "status": 400,
        "code": "InvalidRequest",
        "message": "The request body terminated unexpectedly",
    },
    "SeaweedFS": {"status": 400, "code": "InvalidRequest", "message": "unexpected EOF"},
    "no length": {"status": 411, "code": "MissingContentLength"},
    "no length, by a proxy": {"status": 411, "body": b"<html>411 Length Required</html>"},
    "no body": {
        "status": 400,
        "code": "MissingRequestBodyError",
        "message": "Request Body is empty",
    },
    "too slow": {"status": 400, "code": "RequestTimeout"},
    "damaged": {"status": 400, "code": "BadDigest"},
    "damaged, by its SHA-256": {"status": 400, "code": "XAmzContentSHA256Mismatch"},
    "a proxy": {"status": 400, "body": b"<html><h1>400 Bad Request</h1>nginx</html>"},
    "a silent proxy": {"status": 400, "body": b""},
}


async def live(storage: BackblazeStorage, data: bytes) -> None:
    async with storage.open_recording("CA1", "call.webm") as recording:
        for piece in pieces(data, 100_000):
            await recording.write(piece)
    assert await storage.get_file(recording.key) == data


async def put(storage: BackblazeStorage, data: bytes, **options: Any) -> None:
    await storage.upload_file("key", data, **options)
    assert await storage.get_file("key") == data


Call = Callable[[BackblazeStorage], Awaitable[object]]
CALLS: dict[str, tuple[str, Call]] = {
    "put": ("PutObject", lambda storage: put(storage, SMALL)),
    "put, sha256": ("PutObject", lambda storage: put(storage, SMALL, checksum="sha256")),
    "part": ("UploadPart", lambda storage: put(storage, LARGE)),
    "resumed part": ("UploadPart", lambda storage: put(storage, LARGE, resume=True)),
    "complete": ("CompleteMultipartUpload", lambda storage: put(storage, LARGE)),
    "short call": ("PutObject", lambda storage: live(storage, SMALL)),
    "long call": ("UploadPart", lambda storage: live(storage, LARGE)),
    "delete many": ("DeleteObjects", lambda storage: storage.delete_files(["a", "b"])),
}


@pytest.fixture
async def storage(proxy: FaultProxy, settings: StorageSettings) -> AsyncIterator[BackblazeStorage]:
    async with storage_behind(proxy, settings) as opened:
        yield opened
        assert held(opened) == NOTHING_HELD


# Every refusal of a PUT, and two refusals of every call; the slow tests have the others.
CASES = [
    pytest.param(
        call,
        refusal,
        marks=[] if call == "put" or refusal in ("B2", "no length") else pytest.mark.slow,
        id=f"{call}-{refusal}",
    )
    for call in CALLS
    for refusal in REFUSALS
]


@pytest.mark.parametrize(("call", "refusal"), CASES)
async def test_a_body_that_is_said_to_be_cut_is_sent_again_on_a_new_connection(
    storage: BackblazeStorage, proxy: FaultProxy, call: str, refusal: str
) -> None:
    operation, run = CALLS[call]
    rule = proxy.add(operation=operation, times=1, **REFUSALS[refusal])
    await run(storage)
    assert rule.hits == 1
    refused = next(attempt for attempt in proxy.log if attempt.fault is rule)
    after = proxy.log[proxy.log.index(refused) + 1 :]
    assert refused.connection not in {attempt.connection for attempt in after}


@pytest.mark.parametrize("operation", ["CompleteMultipartUpload", "DeleteObjects"])
async def test_a_document_of_ours_that_cannot_be_read_was_cut(
    storage: BackblazeStorage, proxy: FaultProxy, operation: str
) -> None:
    rule = proxy.add(operation=operation, times=1, status=400, code="MalformedXML")
    await put(storage, LARGE)
    await storage.delete_files(["key"])
    assert rule.hits == 1


async def test_a_small_object_is_never_too_small(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    proxy.add(operation="PutObject", times=1, status=400, code="EntityTooSmall")
    await put(storage, SMALL)


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_a_body_that_is_cut_again_and_again_is_an_error_that_may_pass(
    storage: BackblazeStorage, proxy: FaultProxy, refusal: str
) -> None:
    rule = proxy.add(operation="PutObject", **REFUSALS[refusal])
    with pytest.raises(StorageError) as caught:
        await storage.upload_file("key", SMALL)
    assert caught.value.retryable
    assert caught.value.hint
    assert caught.value.status == REFUSALS[refusal]["status"]
    assert rule.hits == storage.settings.retry_attempts


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("InvalidRequest", "Missing required header for this request: x-amz-content-sha256"),
        ("InvalidRequest", "Content-MD5 HTTP header is required for Put Object requests"),
        ("InvalidArgument", "The body is fine, the argument is not"),
        ("EntityTooLarge", "Your proposed upload exceeds the maximum allowed object size"),
        ("MetadataTooLarge", "Your metadata headers exceed the maximum allowed metadata size"),
        ("InvalidDigest", "The Content-MD5 you specified is not valid"),
    ],
)
async def test_what_the_client_cannot_disprove_is_not_asked_again(
    storage: BackblazeStorage, proxy: FaultProxy, code: str, message: str
) -> None:
    rule = proxy.add(operation="PutObject", status=400, code=code, message=message)
    with pytest.raises(StorageError) as caught:
        await storage.upload_file("key", SMALL)
    assert not caught.value.retryable
    assert rule.hits <= 2  # a missing checksum is given once
