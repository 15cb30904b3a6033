"""`Hooks` see every call and request, its end, and no key unless they ask for it."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from careflow_storage import (
    BackblazeStorage,
    NoSuchKeyError,
    PreconditionFailedError,
    RecordingWriter,
    StorageSettings,
)
from careflow_storage.errors import (
    ConnectionFailedError,
    InvalidInputError,
    ServiceUnavailableError,
    StorageClosedError,
    StorageTimeoutError,
)
from careflow_storage.hooks import CallEvent, Hooks, RequestEvent
from careflow_storage.testing import B2Server
from careflow_storage.testing.proxy.proxy import FaultProxy
from tests.support.behind_proxy import PART, storage_behind
from tests.support.bodies import noise
from tests.support.bucket import Bucket
from tests.support.every_call import CALLS, OTHER, World
from tests.support.hooks import Recorder
from tests.support.url_source import Source

SMALL = b"a short recording"
LARGE = noise(3 * PART)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
async def storage(
    proxy: FaultProxy, settings: StorageSettings, recorder: Recorder
) -> AsyncIterator[BackblazeStorage]:
    async with storage_behind(proxy, settings, hooks=[recorder]) as opened:
        yield opened
    recorder.check_ended()


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - states that set no event
        await asyncio.sleep(0.001)


# --- all methods ------------------------------------------------------------------------

SENT_BY = {"open_file": {"open_file", "read"}}


@pytest.mark.parametrize("name", CALLS)
async def test_every_request_of_every_method_is_reported_with_its_end(
    storage: BackblazeStorage,
    proxy: FaultProxy,
    recorder: Recorder,
    settings: StorageSettings,
    tmp_path: Path,
    name: str,
) -> None:
    call = CALLS[name]
    async with Source(LARGE) as source:
        world = World(storage, Bucket(settings), tmp_path, source.url, SMALL, LARGE)
        await storage.upload_file("there", LARGE)
        for key in OTHER:
            world.bucket.put(key, b"x")
        call.prepare(world, "the-key")
        recorder.clear()
        proxy.clear()

        await call.act(world, "the-key")

    recorder.check_ended()
    expected = Counter((attempt.operation, attempt.status) for attempt in proxy.log)
    assert Counter((each.operation, each.status) for each in recorder.requests) == expected
    assert set(call.operations) <= {operation for operation, _ in expected}
    methods = SENT_BY.get(call.method, {call.method})
    assert set(recorder.methods) == methods
    for each in recorder.requests:
        assert each.call in recorder.calls
        assert each.http_method in {attempt.method for attempt in proxy.log}
        assert each.bucket == settings.bucket_name
        assert (each.server_address, each.server_port) == ("127.0.0.1", _port(proxy))
    assert not [value for value in recorder.values() if value in ("the-key", "there", *OTHER)]


@pytest.mark.parametrize(
    "name",
    [
        *("upload_file", "upload_file, large", "upload_from_url", "open_recording", "get_file"),
        *("stream_file", "open_file", "download_file", "list_files", "list_incomplete_uploads"),
    ],
)
async def test_a_refused_and_a_lost_request_are_reported_and_so_is_each_retry(
    storage: BackblazeStorage,
    proxy: FaultProxy,
    recorder: Recorder,
    settings: StorageSettings,
    tmp_path: Path,
    name: str,
) -> None:
    call = CALLS[name]
    async with Source(LARGE) as source:
        world = World(storage, Bucket(settings), tmp_path, source.url, SMALL, LARGE)
        await storage.upload_file("there", LARGE)
        for key in OTHER:
            world.bucket.put(key, b"x")
        call.prepare(world, "the-key")
        recorder.clear()
        proxy.clear()
        proxy.add(times=1, status=503, code="SlowDown")
        proxy.add(times=1, cut="rst")

        await call.act(world, "the-key")

    recorder.check_ended()
    assert len(recorder.requests) == len(proxy.log)
    failed = Counter((each.status, each.error_type) for each in recorder.requests)
    assert failed[503, "ServiceUnavailableError"] == 1
    assert failed[None, "ConnectionFailedError"] == 1
    assert Counter((each.status, each.error_type) for each in recorder.retries) == {
        (503, "ServiceUnavailableError"): 1,
        (None, "ConnectionFailedError"): 1,
    }
    assert all(call.error_type is None for call in recorder.calls)
    assert max(each.attempt for each in recorder.requests) > 1


def test_the_recorder_would_see_a_method_that_reports_no_end() -> None:
    recorder = Recorder()
    recorder.call_started(CallEvent("upload_file", None, None))
    with pytest.raises(AssertionError):
        recorder.check_ended()


# --- what events say --------------------------------------------------------------------


async def test_a_request_has_its_sizes_part_and_status(
    storage: BackblazeStorage, recorder: Recorder
) -> None:
    await storage.upload_file("large", LARGE)
    await storage.get_file("large")

    by_part = {each.part_number: each for each in recorder.requests if each.part_number}
    assert sorted(by_part) == [1, 2, 3]
    assert {each.request_bytes for each in by_part.values()} == {PART}
    upload_ids = {each.upload_id for each in recorder.requests}
    assert len(upload_ids - {None}) == 1
    read = recorder.requests[-1]
    assert (read.operation, read.http_method, read.status) == ("GetObject", "GET", 200)
    assert (read.request_bytes, read.response_bytes) == (None, len(LARGE))
    assert read.attempt == 1
    assert 0 < (read.duration or 0) < 120
    assert 0 < (recorder.calls[-1].duration or 0) < 120


async def test_keys_are_recorded_where_they_are_asked_for(
    settings: StorageSettings, recorder: Recorder
) -> None:
    with_keys = Recorder(record_keys=True)
    async with BackblazeStorage(settings, hooks=[recorder, with_keys]) as storage:
        with pytest.raises(NoSuchKeyError):
            await storage.get_file("the-key")
        await storage.admin.get_cors_rules()
        await storage.upload_recording("CA1", SMALL, "a.webm")

    assert with_keys.calls[0].key == with_keys.requests[0].key == "the-key"
    assert with_keys.requests[-1].key is not None
    assert with_keys.requests[-1].key.startswith("recordings/CA1/")
    assert {call.key for call in recorder.calls} == {None}
    assert {request.key for request in recorder.requests} == {None}
    assert recorder.operations == with_keys.operations


async def test_the_end_of_a_call_names_its_exception(
    storage: BackblazeStorage, proxy: FaultProxy, recorder: Recorder
) -> None:
    with pytest.raises(NoSuchKeyError):
        await storage.get_file("missing")
    with pytest.raises(InvalidInputError):
        await storage.upload_file("", SMALL)
    assert not await storage.file_exists("missing")
    proxy.add(method="GET", status=503, code="SlowDown")
    with pytest.raises(ServiceUnavailableError):
        await storage.list_files()
    proxy.clear()
    hanging = proxy.add(method="GET", cut="hang")
    with pytest.raises(StorageTimeoutError):
        await storage.get_file("there", timeout=0.05)
    assert hanging.hits

    assert [(call.method, call.error_type) for call in recorder.calls] == [
        ("get_file", "NoSuchKeyError"),
        ("upload_file", "InvalidInputError"),
        ("file_exists", None),
        ("list_files", "ServiceUnavailableError"),
        ("get_file", "StorageTimeoutError"),
    ]
    first, *_, last = recorder.requests
    assert (first.status, first.error_code, first.error_type) == (
        404, "NoSuchKey", "NoSuchKeyError"
    )  # fmt: skip
    assert (last.status, last.error_type) == (None, "CancelledError")


async def test_a_cancelled_upload_ends_with_its_requests_and_its_clean_up(
    storage: BackblazeStorage, proxy: FaultProxy, recorder: Recorder
) -> None:
    part = proxy.add(path="partNumber=1", cut="hang")
    upload = asyncio.create_task(storage.upload_file("key", LARGE))
    await part.fired.wait()
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload

    recorder.check_ended()
    (call,) = recorder.calls
    assert call.error_type == "CancelledError"
    assert {each.call for each in recorder.requests} == {call}
    cut = next(each for each in recorder.requests if each.part_number == 1)
    assert cut.error_type == "CancelledError"
    assert "AbortMultipartUpload" in recorder.operations


async def test_calls_side_by_side_keep_their_own_requests(
    storage: BackblazeStorage, recorder: Recorder
) -> None:
    recorder.record_keys = True
    await asyncio.gather(*(storage.upload_file(f"key-{n}", LARGE) for n in range(5)))

    assert len(recorder.calls) == 5
    for request in recorder.requests:
        assert request.call is not None
        assert request.key == request.call.key
    assert Counter(each.key for each in recorder.requests) == {f"key-{n}": 5 for n in range(5)}


async def test_a_stream_that_is_a_body_belongs_to_the_upload(
    storage: BackblazeStorage, recorder: Recorder, settings: StorageSettings
) -> None:
    await storage.upload_file("there", LARGE)
    recorder.clear()
    await storage.upload_file("copy", storage.stream_file("there"))
    stream = next(call for call in recorder.calls if call.method == "stream_file")
    assert stream.parent is not None
    assert stream.parent.method == "upload_file"
    assert stream.parent.parent is None

    # Another storage with the same hooks, too.
    async with BackblazeStorage(settings, hooks=[recorder]) as other:
        recorder.clear()
        await other.upload_file("again", storage.stream_file("there"))
    assert [call.parent.method for call in recorder.calls if call.parent] == ["upload_file"]


# --- what takes several steps -----------------------------------------------------------


async def test_a_stream_is_one_call_until_it_is_read_or_closed(
    storage: BackblazeStorage, proxy: FaultProxy, recorder: Recorder
) -> None:
    await storage.upload_file("there", LARGE)
    recorder.clear()

    async for chunk in storage.stream_file("there"):
        assert chunk
        break
    await _until(lambda: not recorder._open)
    (early,) = recorder.calls
    assert early.error_type is None
    assert (recorder.requests[0].response_bytes or 0) < len(LARGE)

    recorder.clear()
    async with storage.stream_file("there"):
        assert recorder.methods == ["stream_file"]
    recorder.check_ended()
    assert recorder.requests[0].response_bytes == 0

    recorder.clear()
    proxy.add(method="GET", times=1, cut="fin", at=("body", 300_000))
    assert await storage.stream_file("there").read() == LARGE
    recorder.check_ended()
    broken, rest = recorder.requests
    assert broken.error_type == "ConnectionFailedError"
    assert (broken.response_bytes or 0) + (rest.response_bytes or 0) == len(LARGE)
    assert broken.call is rest.call
    assert len(recorder.retries) == 1

    recorder.clear()
    proxy.add(method="GET", status=403, code="AccessDenied")
    with pytest.raises(PermissionError):
        await storage.stream_file("there").read()
    assert recorder.calls[0].error_type == "AccessDeniedError"


async def test_a_dropped_stream_ends_too(storage: BackblazeStorage, recorder: Recorder) -> None:
    await storage.upload_file("there", LARGE)
    recorder.clear()
    stream = await storage.stream_file("there").__aenter__()
    dropped = [stream]
    del stream
    with pytest.warns(ResourceWarning, match="dropped unclosed"):
        dropped.clear()
    await _until(lambda: not any(isinstance(each, RequestEvent) for each in recorder._open))
    # A stream that is dropped does not report the end of its call.
    recorder._open.clear()


async def test_a_listing_is_one_call_of_many_pages(settings: StorageSettings) -> None:
    recorder = Recorder()
    bucket = Bucket(settings)
    for number in range(3):
        bucket.put(f"{number}", b"x")
    async with BackblazeStorage(settings, hooks=[recorder]) as storage:
        async for file in storage.list_files():
            assert file.key == "0"
            break
        await _until(lambda: not recorder._open)
        await storage.admin.list_file_versions()
        await storage.list_folder()
    assert recorder.methods == ["list_files", "list_file_versions", "list_folder"]
    assert [call.error_type for call in recorder.calls] == [None] * 3
    recorder.check_ended()


async def test_a_recording_is_one_call_and_its_block_may_make_others(
    storage: BackblazeStorage, recorder: Recorder
) -> None:
    async with storage.open_recording("CA1", "a.wav") as writer:
        await writer.write(LARGE)
        await storage.list_files()
    recording, listing = recorder.calls
    assert listing.parent is recording
    await storage.list_files()
    assert recorder.calls[-1].parent is None
    assert {each.call for each in recorder.requests if "Part" in each.operation} == {recording}

    recorder.clear()
    writer = storage.open_recording("CA1", "b.wav")
    with pytest.raises(ZeroDivisionError):
        await _fail_within(writer)
    assert recorder.calls[0].error_type == "ZeroDivisionError"
    assert recorder.operations.count("CompleteMultipartUpload") == 0

    recorder.clear()
    await storage.upload_file(writer.key, SMALL)
    again = storage.open_recording(
        "CA1", "b.wav", if_exists="error", recorded_at=_time_of(writer.key)
    )
    with pytest.raises(PreconditionFailedError):
        await again.__aenter__()
    assert recorder.calls[-1].error_type == "PreconditionFailedError"


async def _fail_within(writer: RecordingWriter) -> None:
    async with writer:
        await writer.write(LARGE)
        raise ZeroDivisionError


def _port(proxy: FaultProxy) -> int | None:
    return urlsplit(proxy.url).port


def _time_of(key: str) -> datetime:
    return datetime.fromtimestamp(int(key.split("/")[2].split("-")[0]) / 1000, UTC)


async def test_closing_ends_calls_requests_and_connections(
    proxy: FaultProxy, settings: StorageSettings, recorder: Recorder
) -> None:
    async with storage_behind(proxy, settings, hooks=[recorder]) as storage:
        hanging = proxy.add(method="GET", cut="hang")
        call = asyncio.create_task(storage.get_file("there"))
        await hanging.fired.wait()
        await storage.close(grace=0)
        with pytest.raises(StorageClosedError):
            await call
    recorder.check_ended()
    assert recorder.calls[0].error_type == "StorageClosedError"
    last = recorder.connections[-1]
    assert (last.active, last.idle) == (0, 0)
    assert (last.server_address, last.server_port) == ("127.0.0.1", _port(proxy))


async def test_the_connections_in_use_and_idle_are_reported(
    storage: BackblazeStorage, recorder: Recorder
) -> None:
    await storage.upload_file("large", LARGE)
    assert {(each.active, each.idle) for each in recorder.connections} >= {(1, 0), (0, 1), (2, 0)}
    last = recorder.connections[-1]
    assert last.active == 0
    assert last.idle == max(each.active + each.idle for each in recorder.connections)


# --- the aioboto3 client, admin, outbox -------------------------------------------------


async def test_the_lent_client_is_reported_without_a_call(
    storage: BackblazeStorage, recorder: Recorder
) -> None:
    client = await storage.client()
    await client.list_buckets()
    with pytest.raises(client.exceptions.NoSuchKey):
        await client.get_object(Bucket=storage.settings.bucket_name, Key="missing")

    buckets, missing = recorder.requests
    assert (buckets.operation, buckets.http_method, buckets.status) == ("ListBuckets", "GET", 200)
    assert buckets.bucket is None
    assert (missing.bucket, missing.key) == (storage.settings.bucket_name, None)
    assert (missing.status, missing.error_type) == (404, "NoSuchKeyError")
    assert {buckets.call, missing.call} == {None}


async def test_calls_of_admin_are_reported(server: B2Server, recorder: Recorder) -> None:
    async with BackblazeStorage(server.settings(), hooks=[recorder]) as storage:
        await storage.upload_file("key", SMALL)
        await storage.admin.copy_file("key", "copy")
        await storage.admin.get_lifecycle_rules()
    assert recorder.methods == ["upload_file", "copy_file", "get_lifecycle_rules"]
    assert all(each.request_id for each in recorder.requests)
    copied = next(each for each in recorder.requests if each.operation == "CopyObject")
    assert (copied.http_method, copied.status, copied.attempt) == ("PUT", 200, 1)
    assert copied.call is recorder.calls[1]
    recorder.check_ended()


# --- hooks that are wrong ---------------------------------------------------------------


class Raising(Hooks):
    """Raises in one of its methods."""

    def __init__(self, method: str) -> None:
        setattr(self, method, self._fail)

    def _fail(self, _: object) -> None:
        raise ZeroDivisionError("in the hook")


HOOKS = [name for name in vars(Hooks) if not name.startswith("_") and name != "record_keys"]


@pytest.mark.parametrize("method", HOOKS)
async def test_a_hook_that_raises_is_logged_once_and_breaks_nothing(
    proxy: FaultProxy,
    settings: StorageSettings,
    recorder: Recorder,
    caplog: pytest.LogCaptureFixture,
    method: str,
) -> None:
    hooks = [Raising(method), recorder]
    async with storage_behind(proxy, settings, hooks=hooks) as storage:
        for _ in range(2):
            proxy.add(times=1, status=503, code="SlowDown")
            await storage.upload_file("large", LARGE)
            assert await storage.get_file("large") == LARGE
    records = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert [each.getMessage() for each in records] == [
        f"The hook Raising.{method}() failed: ZeroDivisionError. Further failures of this hook "
        "are not logged."
    ]
    recorder.check_ended()
    assert len(recorder.calls) == 4


class Async(Hooks):
    async def request_ended(self, request: RequestEvent) -> None:  # type: ignore[override]  # wrong
        raise AssertionError


@pytest.mark.parametrize(
    "wrong", [Recorder(), [object()], [Recorder], "hooks", 5, [Async()], [None], None]
)
def test_hooks_of_another_kind_are_refused(settings: StorageSettings, wrong: Any) -> None:
    with pytest.raises(InvalidInputError, match="ooks") as caught:
        BackblazeStorage(settings, hooks=wrong)
    assert isinstance(caught.value, TypeError)


async def test_hooks_need_not_be_subclasses(settings: StorageSettings) -> None:
    class Silent:
        record_keys = False

        def __getattr__(self, name: str) -> Callable[[object], None]:
            if name not in HOOKS:
                raise AttributeError(name)
            return seen.append

    seen: list[object] = []
    async with BackblazeStorage(settings, hooks=[Silent()]) as storage:
        await storage.list_files()
    assert seen


async def test_a_storage_without_hooks_observes_nothing(settings: StorageSettings) -> None:
    async with BackblazeStorage(settings, hooks=[]) as storage:
        await storage.list_files()
        context = storage._runtime.context()
        assert context.session.observer is None
        assert context.retry.observer is None
        assert context.session.pool._on_change is None


def test_errors_of_connections_have_public_names() -> None:
    from careflow_storage._observer import public_name

    class _HiddenError(ConnectionFailedError): ...

    assert public_name(_HiddenError("x")) == "ConnectionFailedError"
