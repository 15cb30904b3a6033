"""One retry policy: what is tried again, how often, how soon, and over which connection."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from careflow_storage._s3.retry import RetryPolicy
from careflow_storage.errors import (
    AccessDeniedError,
    CapExceededError,
    ConnectionFailedError,
    InvalidCredentialsError,
    NoSuchKeyError,
    NotSupportedError,
    PreconditionFailedError,
    ServiceUnavailableError,
    StorageError,
    StorageTimeoutError,
    TransferError,
)
from careflow_storage.settings import StorageSettings
from careflow_storage.storage import BackblazeStorage
from careflow_storage.testing.proxy.proxy import FaultProxy
from tests.support.behind_proxy import NOTHING_HELD, PART, held, storage_behind
from tests.support.hooks import Recorder

SMALL = b"a short recording"
LARGE = bytes(range(256)) * (3 * PART // 256)


@pytest.fixture
async def storage(proxy: FaultProxy, settings: StorageSettings) -> AsyncIterator[BackblazeStorage]:
    async with storage_behind(proxy, settings) as opened:
        yield opened


Call = Callable[[BackblazeStorage], Awaitable[object]]
CALLS: dict[str, tuple[str, Call]] = {
    "put": ("PUT", lambda storage: storage.upload_file("key", SMALL)),
    "get": ("GET", lambda storage: storage.get_file("there")),
    "head": ("HEAD", lambda storage: storage.get_file_metadata("there")),
    "delete": ("DELETE", lambda storage: storage.delete_file("there")),
    "delete many": ("POST", lambda storage: storage.delete_files(["there"])),
    "list": ("GET", lambda storage: storage.list_files()),
}
TRANSIENT = [
    (503, "SlowDown", "slow down"),
    (503, "ServiceUnavailable", "no tomes available"),
    (503, None, "a proxy's own page"),
    (500, "InternalError", "incident id"),
    (502, None, ""),
    (504, None, ""),
    (429, "TooManyRequests", "too many"),
    (408, "RequestTimeout", "too slow"),
    (400, "RequestTimeout", "as AWS says it"),
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(("status", "code", "message"), TRANSIENT)
async def test_a_transient_error_that_comes_once_is_not_seen_by_the_caller(
    storage: BackblazeStorage,
    proxy: FaultProxy,
    call: str,
    status: int,
    code: str | None,
    message: str,
) -> None:
    method, run = CALLS[call]
    if method == "HEAD" and status == 400:
        pytest.skip("A HEAD response cannot tell its code.")
    await storage.upload_file("there", SMALL)
    proxy.clear()
    proxy.add(method=method, times=1, status=status, code=code, message=message)

    await run(storage)

    assert [attempt.method for attempt in proxy.log] == [method, method]
    first, second = proxy.log
    assert first.connection != second.connection
    assert held(storage) == NOTHING_HELD


@pytest.mark.parametrize("call", CALLS)
async def test_a_server_that_stays_busy_is_asked_as_often_as_the_settings_say(
    storage: BackblazeStorage, proxy: FaultProxy, call: str
) -> None:
    method, run = CALLS[call]
    await storage.upload_file("there", SMALL)
    proxy.clear()
    proxy.add(method=method, status=503, code="SlowDown", message="no tomes available")

    with pytest.raises(ServiceUnavailableError) as caught:
        await run(storage)

    assert caught.value.retryable
    assert caught.value.status == 503
    assert len(proxy.log) == storage.settings.retry_attempts
    # A new connection each time: Backblaze routes it to another vault.
    assert len({attempt.connection for attempt in proxy.log}) == len(proxy.log)
    assert held(storage) == NOTHING_HELD


PERMANENT: list[tuple[int, str | None, type[StorageError]]] = [
    (501, "NotImplemented", NotSupportedError),
    (400, "InvalidArgument", TransferError),
    (401, None, InvalidCredentialsError),
    (403, "AccessDenied", AccessDeniedError),
    (403, "SignatureDoesNotMatch", InvalidCredentialsError),
    (403, "RequestTimeTooSkewed", InvalidCredentialsError),
    (404, "NoSuchKey", NoSuchKeyError),
    (412, "PreconditionFailed", PreconditionFailedError),
]


@pytest.mark.parametrize("call", ["put", "get", "delete", "list"])
@pytest.mark.parametrize(("status", "code", "error"), PERMANENT)
async def test_a_permanent_refusal_costs_exactly_one_request(
    storage: BackblazeStorage,
    proxy: FaultProxy,
    call: str,
    status: int,
    code: str | None,
    error: type[StorageError],
) -> None:
    method, run = CALLS[call]
    proxy.add(status=status, code=code, headers={"x-amz-request-id": "request-7"})

    with pytest.raises(error) as caught:
        await run(storage)

    assert [attempt.method for attempt in proxy.log] == [method]
    assert not caught.value.retryable
    assert (caught.value.status, caught.value.request_id) == (status, "request-7")
    assert caught.value.bucket == storage.settings.bucket_name


async def test_a_used_up_cap_is_told_at_once(storage: BackblazeStorage, proxy: FaultProxy) -> None:
    proxy.add(status=403, code="AccessDenied", message="Transaction cap exceeded.")
    with pytest.raises(CapExceededError):
        await storage.upload_file("key", SMALL)
    assert proxy.count() == 1


async def test_retry_after_is_waited_for(proxy: FaultProxy, settings: StorageSettings) -> None:
    proxy.add(times=1, status=503, code="SlowDown", headers={"Retry-After": "1"})
    async with storage_behind(proxy, settings, retry_max_delay=1.5) as storage:
        begun = time.monotonic()
        await storage.upload_file("key", SMALL)
        assert time.monotonic() - begun >= 1.0
    assert proxy.count() == 2


@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["put", "parts"])
async def test_a_longer_retry_after_than_allowed_comes_out_at_once_for_the_caller_to_schedule(
    storage: BackblazeStorage, proxy: FaultProxy, body: bytes
) -> None:
    proxy.add(method="PUT", status=503, code="SlowDown", headers={"Retry-After": "120"})
    with pytest.raises(ServiceUnavailableError) as caught:
        await storage.upload_file("key", body)
    assert caught.value.retry_after == 120.0
    assert caught.value.retryable
    # Of the parts those in flight have failed together; none came again in a new upload.
    assert proxy.count("PUT") <= storage.settings.transfer_concurrency
    assert proxy.count("POST") == (1 if body is LARGE else 0)


@pytest.mark.parametrize(
    "asked", ["Fri, 31 Dec 1999 23:59:59 GMT", "Friday, 31-Dec-99 23:59:59 GMT", "some day"]
)
async def test_a_retry_after_that_has_passed_or_is_none_does_not_disturb(
    storage: BackblazeStorage, proxy: FaultProxy, asked: str
) -> None:
    proxy.add(times=1, status=503, code="SlowDown", headers={"Retry-After": asked})
    await storage.upload_file("key", SMALL)
    assert proxy.count() == 2


async def test_a_connection_that_the_server_closed_while_idle_is_replaced_without_a_pause(
    proxy: FaultProxy, settings: StorageSettings
) -> None:
    proxy.add(cut="rst", at="idle", times=1)
    async with storage_behind(
        proxy, settings, retry_base_delay=600, retry_max_delay=600
    ) as storage:
        await storage.upload_file("first", SMALL)
        async with asyncio.timeout(60):
            await storage.upload_file("second", SMALL)
    # At the most one request met the closed connection, none was resent behind our back.
    assert [attempt.status for attempt in proxy.log] == [200, 200]
    assert proxy.connections == 2


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("cut", ["rst", "fin"])
async def test_each_request_on_the_wire_is_one_of_our_attempts(
    proxy: FaultProxy, settings: StorageSettings, call: str, cut: str
) -> None:
    method, run = CALLS[call]
    async with storage_behind(proxy, settings, retry_attempts=1) as storage:
        await storage.upload_file("there", SMALL)
        proxy.clear()
        proxy.add(cut=cut)
        with pytest.raises(ConnectionFailedError) as caught:
            await run(storage)
    assert caught.value.retryable
    assert [attempt.method for attempt in proxy.log] == [method]


@pytest.mark.parametrize("path", ["uploads", "uploadId="], ids=["create", "complete"])
async def test_botocore_and_its_connection_pool_resend_nothing_either(
    proxy: FaultProxy, settings: StorageSettings, path: str
) -> None:
    async with storage_behind(proxy, settings, retry_attempts=1) as storage:
        rule = proxy.add(method="POST", path=path, cut="rst")
        with pytest.raises(ConnectionFailedError):
            await storage.upload_file("key", LARGE)
    assert rule.hits == 1


async def test_a_refused_connection_says_what_to_check(settings: StorageSettings) -> None:
    async with FaultProxy(settings.endpoint or "") as gone:
        pass
    async with storage_behind(gone, settings, retry_attempts=2) as storage:
        for body in (SMALL, LARGE):
            with pytest.raises(ConnectionFailedError) as caught:
                await storage.upload_file("key", body)
            assert caught.value.retryable
            assert caught.value.hint is not None


async def test_a_request_that_finds_no_slot_fails_after_the_pool_timeout(
    proxy: FaultProxy, settings: StorageSettings
) -> None:
    recorder = Recorder()
    few: dict[str, Any] = {"max_connections": 1, "pool_timeout": 0.2, "hooks": [recorder]}
    async with storage_behind(proxy, settings, **few) as storage:
        await storage.upload_file("key", LARGE[:PART])
        async with storage.stream_file("key"):
            with pytest.raises(StorageTimeoutError, match="slots"):
                await storage.get_file("key")
            # It waits once, not once per attempt.
            assert recorder.retries == []
        assert await storage.get_file("key") == LARGE[:PART]


def test_pauses_double_up_to_the_maximum_with_full_jitter() -> None:
    policy = RetryPolicy(attempts=8, base_delay=1.0, max_delay=64.0)
    busy = ServiceUnavailableError("busy", retryable=True)
    for number in range(1, 8):
        pauses = [policy.pause_after(busy, number) or 0.0 for _ in range(300)]
        ceiling = min(64.0, 2.0 ** (number - 1))
        assert 0.0 <= min(pauses) < ceiling * 0.1
        assert ceiling * 0.9 < max(pauses) <= ceiling
    assert policy.pause_after(busy, 8) is None


def test_retry_after_is_a_lower_bound_of_the_pause() -> None:
    policy = RetryPolicy(attempts=8, base_delay=1.0, max_delay=64.0)
    busy = ServiceUnavailableError("busy", retryable=True, retry_after=5.0)
    assert {policy.pause_after(busy, 1) for _ in range(50)} == {5.0}
    busy.retry_after = 64.5
    assert policy.pause_after(busy, 1) is None


async def test_cancelling_during_a_pause_stops_at_once(
    proxy: FaultProxy, settings: StorageSettings
) -> None:
    rule = proxy.add(status=503, code="SlowDown", headers={"Retry-After": "60"})
    async with storage_behind(proxy, settings, retry_max_delay=100) as storage:
        upload = asyncio.create_task(storage.upload_file("key", SMALL))
        await rule.fired.wait()
        _, waiting = await asyncio.wait({upload}, timeout=0.1)
        assert waiting
        upload.cancel()
        await asyncio.wait({upload}, timeout=30)
        assert upload.cancelled()
        assert held(storage) == NOTHING_HELD
    assert proxy.count() == 1
