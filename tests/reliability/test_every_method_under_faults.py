"""Every public method under every kind of fault: the right result or a clear error, never else.

Each call meets one fault in each kind of request that it sends. What its result says is then
compared with what another client finds in the bucket.
"""

from __future__ import annotations

import asyncio
import inspect
import random
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from careflow_storage import (
    AccessDeniedError,
    BackblazeStorage,
    ChecksumMismatchError,
    ConnectionFailedError,
    ServerResponseError,
    ServiceUnavailableError,
    StorageError,
    StorageSettings,
)
from careflow_storage.testing.proxy.proxy import FaultProxy
from tests.support.behind_proxy import (
    NOTHING_HELD,
    PART,
    held,
    storage_behind,
    tasks_of_the_library,
)
from tests.support.bucket import Bucket
from tests.support.every_call import CALLS, OTHER, Call, World
from tests.support.url_source import Source

pytestmark = pytest.mark.slow

DICE = random.Random(7)
SMALL = DICE.randbytes(100_000)
LARGE = DICE.randbytes(3 * PART + 7)

ANY: dict[str, dict[str, Any]] = {
    "503 no tomes available": {
        "status": 503,
        "code": "ServiceUnavailable",
        "message": "no tomes available",
    },
    "503 SlowDown, Retry-After 0": {"status": 503, "code": "SlowDown", "retry_after": 0},
    "500 InternalError": {"status": 500, "code": "InternalError"},
    "502 of a proxy": {"status": 502, "body": b"<html>bad gateway</html>"},
    "429 TooManyRequests": {"status": 429, "code": "TooManyRequests"},
    "408 RequestTimeout": {"status": 408, "code": "RequestTimeout"},
    "400 RequestTimeout": {"status": 400, "code": "RequestTimeout"},
    "reset before the request": {"cut": "rst", "at": "head"},
    "end before the request": {"cut": "fin", "at": "head"},
    "lost response": {"cut": "rst", "at": "resp"},
    "silence before": {"cut": "hang", "at": "head"},
    "silence after": {"cut": "hang", "at": "resp"},
    "reset while idle": {"cut": "rst", "at": "idle"},
    "persistent 503": {"status": 503, "code": "ServiceUnavailable", "times": None},
    "persistent resets": {"cut": "rst", "times": None},
    "every response lost": {"cut": "rst", "at": "resp", "times": None},
    "403 AccessDenied": {"status": 403, "code": "AccessDenied"},
}
WITH_BODY: dict[str, dict[str, Any]] = {
    "reset in the request": {"cut": "rst", "at": ("req", 40)},
    "silence in the request": {"cut": "hang", "at": ("req", 40)},
    "bit flipped on the way up": {"corrupt_upload": 20},
}
RESPONSES_WITH_OTHER_BODY: dict[str, dict[str, Any]] = {
    "reset in the response": {"cut": "rst", "at": ("body", 50)},
    "end in the response": {"cut": "fin", "at": ("body", 50)},
    "silence in the response": {"cut": "hang", "at": ("body", 50)},
    "response cut, length agrees": {"short": 50},
    "bit flipped in the response": {"corrupt": 0},
}
TWO_HUNDREDS: dict[str, dict[str, Any]] = {
    "200 with an Error": {"body": b"<Error><Code>InternalError</Code></Error>"},
    "200 and nothing": {"body": b""},
    "200 and garbage": {"body": b"<html>captive portal</html>"},
}
LOST_RESPONSES = {"lost response", "silence after", *RESPONSES_WITH_OTHER_BODY}
UPWARD = {"PutObject", "UploadPart", "CompleteMultipartUpload", "DeleteObjects"}
BLANK = {"DeleteObject", "AbortMultipartUpload"}  # no body, and any 200 is their success
SILENT = BLANK | {"PutObject", "UploadPart", "HeadObject"}
BYTES_PER_SECOND = {"GetObject": 5e6}  # 0.2 s; other responses are short

# No retry helps against these, or the damage is reported and not repaired.
FOR_GOOD = {"persistent 503", "persistent resets", "every response lost", "403 AccessDenied"}
DAMAGE = {"bit flipped on the way up"}
DAMAGE_DOWN = {"bit flipped in the response", "response cut, length agrees"}
# S3 has no checksum of a range. Over TLS no bit flips unseen.
UNSEEN = {
    (call, "GetObject", "bit flipped in the response")
    for call in ("open_file", "stream_file, a range", "serve_file, a suffix")
}
# It needs two servers: tests/transfer/copy_from has its faults.
ELSEWHERE = {"copy_from"}
NO_REQUEST = {
    *("client", "close", "initialize", "is_configured", "get_signed_url", "get_signed_urls"),
    *("count_requests", "request_counts", "sign_upload"),
}


def faults_of(operation: str) -> dict[str, dict[str, Any]]:
    faults = dict(ANY)
    if operation in UPWARD:
        faults |= WITH_BODY
    if operation not in SILENT:
        faults |= RESPONSES_WITH_OTHER_BODY
        faults["slow drip"] = {"rate": BYTES_PER_SECOND.get(operation, 4000.0)}
    if operation not in BLANK:
        faults |= TWO_HUNDREDS
    return faults


def may_fail(operation: str, fault: str) -> bool:
    if operation == "GetObject" and fault in DAMAGE_DOWN:
        return True
    if (
        operation in {"ListObjectsV2", "ListObjectVersions", "DeleteObjects"}
        and fault == "200 and garbage"
    ):
        return True
    return fault in FOR_GOOD | DAMAGE


def combinations() -> Iterator[Any]:
    """All combinations of a method, one of its operations, and a fault.

    The methods that send an operation share its faults out; what each of them would meet beyond
    its share is left to the session `exhaustive`.
    """
    senders: dict[str, list[str]] = {}
    for name, call in CALLS.items():
        for operation in call.operations:
            senders.setdefault(operation, []).append(name)
    for operation, names in senders.items():
        for number, fault in enumerate(faults_of(operation)):
            seen = [name for name in names if (name, operation, fault) not in UNSEEN]
            for name in seen:
                shared_out = name == seen[number % len(seen)]
                marks = () if shared_out else pytest.mark.exhaustive
                yield pytest.param(name, operation, fault, marks=marks)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def places(
    moto_server: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[World, FaultProxy]]:
    settings = StorageSettings(
        key_id="test-key-id",
        application_key="test-application-key",
        bucket_name=f"test-{uuid.uuid4().hex[:16]}",
        endpoint=moto_server,
        region="us-east-1",
        retry_base_delay=0.001,
        retry_max_delay=0.01,
    )
    Bucket(settings).create()
    async with prepared(settings, tmp_path_factory.mktemp("every"), idle_timeout=0.4) as place:
        yield place


@asynccontextmanager
async def prepared(
    settings: StorageSettings,
    folder: Path,
    *,
    large: bytes = LARGE,
    part_size: int = PART,
    **changes: Any,
) -> AsyncIterator[tuple[World, FaultProxy]]:
    async with (
        FaultProxy(settings.endpoint or "") as proxy,
        Source(large) as source,
        storage_behind(proxy, settings, memory_budget=4 * part_size, **changes) as storage,
    ):
        storage.settings.__dict__.update(part_size=part_size, multipart_threshold=part_size)
        bucket = Bucket(settings)
        await storage.client()
        await storage.upload_file("there", large)
        for key in OTHER:
            bucket.put(key, b"x")
        yield World(storage, bucket, folder, source.url, SMALL, large), proxy


@pytest.fixture
def place(places: tuple[World, FaultProxy]) -> Iterator[tuple[World, FaultProxy]]:
    yield places
    world, proxy = places
    proxy.clear()
    clean(world)


def clean(world: World) -> None:
    """Erase what the test has stored: moto's listings get slow."""
    for kept in world.bucket.history():
        if kept.key not in (world.there, *OTHER):
            world.bucket.erase(kept.key, kept.version_id)
    for key, upload_id in world.bucket.unfinished():
        world.bucket.abort(key, upload_id)


def test_every_public_method_is_in_the_matrix() -> None:
    names = {
        name
        for name, _ in inspect.getmembers(BackblazeStorage, inspect.isfunction)
        if not name.startswith("_")
    }
    assert {call.method for call in CALLS.values()} == names - NO_REQUEST - ELSEWHERE
    assert names >= NO_REQUEST | ELSEWHERE


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("call", "operation", "fault"), list(combinations()))
async def test_a_call_that_meets_a_fault_gives_the_right_result_or_a_clear_error(
    place: tuple[World, FaultProxy], call: str, operation: str, fault: str
) -> None:
    world, proxy = place
    await meet(world, proxy, CALLS[call], operation, fault)


REAL_PART = 5 * 1024 * 1024  # a real server takes no less
ON_A_REAL_SERVER = {
    "upload_file": {"PutObject": ["bit flipped on the way up", "reset in the request"]},
    "upload_file, large": {
        "CreateMultipartUpload": ["lost response"],
        "UploadPart": ["bit flipped on the way up", "silence in the request", "persistent 503"],
        "CompleteMultipartUpload": ["lost response", "200 and nothing", "every response lost"],
    },
    "upload_file, not to overwrite": {"PutObject": ["lost response"]},
    "stream_file": {"GetObject": ["reset in the response", "bit flipped in the response"]},
    "download_file": {"GetObject": ["end in the response", "response cut, length agrees"]},
    "list_files": {"ListObjectsV2": ["response cut, length agrees", "200 with an Error"]},
    "delete_file": {"DeleteObject": ["lost response"]},
    "delete_files": {"DeleteObjects": ["lost response"]},
    "purge_file": {"ListObjectVersions": ["200 and nothing"]},
}


async def test_on_a_real_server_a_call_that_meets_a_fault_gives_the_right_result_or_an_error(
    seaweed_settings: StorageSettings, tmp_path: Path
) -> None:
    body = DICE.randbytes(2 * REAL_PART + 7)
    async with prepared(
        seaweed_settings, tmp_path, large=body, part_size=REAL_PART, idle_timeout=3.0
    ) as (world, proxy):
        world.verifies_uploads = True
        for name, operations in ON_A_REAL_SERVER.items():
            for operation, faults in operations.items():
                for fault in faults:
                    await meet(world, proxy, CALLS[name], operation, fault)
                    clean(world)


async def meet(
    world: World, proxy: FaultProxy, call: Call, operation: str, fault: str
) -> StorageError | None:
    """Make the call under the fault and check all that must be true; return its error."""
    key = f"key-{uuid.uuid4().hex[:8]}"
    call.prepare(world, key)
    before = tasks_of_the_library()
    proxy.clear()
    rule = proxy.add(**{"operation": operation, "times": 1, **faults_of(operation)[fault]})
    result, error = None, None
    try:
        async with asyncio.timeout(20):
            result = await call.act(world, key)
    except StorageError as caught:
        error = caught
    proxy.clear()

    assert rule.hits, "the fault was never met"
    assert held(world.storage) == NOTHING_HELD
    assert tasks_of_the_library() <= before
    if error is None:
        call.check(world, key, result)
        # An upload without a known ID may be another writer's: it is reported, and left
        # to abort_stale_uploads.
        lost = operation == "CreateMultipartUpload" and fault in LOST_RESPONSES
        assert len(world.bucket.unfinished()) == int(lost)
        return None
    assert may_fail(operation, fault), error
    assert_explains(error, fault)
    if not (fault in DAMAGE and operation == "PutObject" and not world.verifies_uploads):
        call.survives(world, key)
    assert_nothing_unfinished(world, error, call, operation, fault)
    return error


def assert_explains(error: StorageError, fault: str) -> None:
    expected: dict[str, type[StorageError]] = {
        "persistent 503": ServiceUnavailableError,
        "persistent resets": ConnectionFailedError,
        "every response lost": ConnectionFailedError,
        "403 AccessDenied": AccessDeniedError,
        "response cut, length agrees": ServerResponseError,
        "200 and garbage": ServerResponseError,
    }
    assert isinstance(error, expected.get(fault, ChecksumMismatchError))
    assert error.operation
    assert error.bucket or not error.status


def assert_nothing_unfinished(
    world: World, error: StorageError, call: Call, operation: str, fault: str
) -> None:
    left = world.bucket.unfinished()
    if operation == "CreateMultipartUpload" and fault == "every response lost":
        # No response had an ID: abort_stale_uploads is for these.
        assert len(left) == world.storage.settings.retry_attempts
    elif call is CALLS["upload_file, resumable"] and left:
        # The next try goes on with it.
        assert [upload_id for _, upload_id in left] == [error.unfinished_upload_id]
    elif not call.method.endswith(("_upload", "_uploads", "purge_file")):
        assert left == []
