"""The holes of aioboto3, aiobotocore and aiohttp that the library stands before, one test each.

Tested elsewhere, by the same names of things:

- the hidden resend that doubles versions, hidden retries of botocore: test_retry,
  test_each_request_on_the_wire_is_one_of_our_attempts and
  test_botocore_and_its_connection_pool_resend_nothing_either; counted in test_lost_responses;
- Retry-After ignored: test_retry, test_retry_after_is_waited_for; 429 and a 400 RequestTimeout
  not retried: test_a_transient_error_that_comes_once_is_not_seen_by_the_caller; 501 and 403
  retried: test_a_permanent_refusal_costs_exactly_one_request;
- a silent peer hangs PUT and UploadPart without a limit: test_faults_upload,
  test_an_upload_survives_a_connection_that_breaks_once (hang) and
  test_a_peer_that_never_reads_ends_by_the_idle_timeout;
- a slow upload fails by the read timeout: test_a_slow_but_living_upload_does_not_time_out;
- ClientPayloadError leaks out of bodies, nothing is resumed: test_faults_download,
  test_a_stream_that_is_cut_goes_on_where_it_was_pinned_to_the_same_version;
- a stall in a body: test_a_stall_ends_by_the_idle_timeout_and_the_rest_is_fetched; a drip of a
  byte per second has no end: test_deadlines, test_a_body_that_stalls_or_drips_ends_in_time;
- a short body, a flipped bit are accepted: test_faults_download,
  test_a_short_body_with_a_length_that_agrees_is_not_taken_for_the_whole and
  test_a_flipped_bit_leaves_no_file;
- Complete: 200 with an Error, cut or empty: test_faults_upload,
  test_a_200_that_is_no_success_is_not_believed; Complete, lost and then NoSuchUpload:
  test_a_lost_response_to_complete_is_settled_by_the_mark_in_the_object and test_second_server;
- a 412 to our own If-None-Match PUT: test_faults_upload,
  test_with_overwrite_false_our_own_lost_put_is_not_taken_for_someone_elses;
- the wait for the pool has no timeout: test_retry,
  test_a_request_that_finds_no_slot_fails_after_the_pool_timeout; bodies that are left or
  cancelled keep their slot: test_stream (breaks off, is cancelled), test_faults_download,
  test_a_stream_that_is_left_gives_its_only_slot_back_without_the_garbage_collector;
- a GET after an idle reset: test_retry,
  test_a_connection_that_the_server_closed_while_idle_is_replaced_without_a_pause.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import io
import random
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from careflow_storage import (
    BackblazeStorage,
    ConnectionFailedError,
    StorageError,
    StorageSettings,
)
from careflow_storage.testing.proxy.proxy import FaultProxy
from tests.support.behind_proxy import NOTHING_HELD, PART, held, storage_behind
from tests.support.bucket import Bucket

SMALL = b"a short recording"
LARGE = random.Random(9).randbytes(3 * PART + 7)

Call = Callable[[BackblazeStorage], Awaitable[Any]]


@pytest.fixture
async def storage(proxy: FaultProxy, settings: StorageSettings) -> AsyncIterator[BackblazeStorage]:
    async with storage_behind(proxy, settings) as opened:
        yield opened
        assert held(opened) == NOTHING_HELD


@pytest.fixture
def bucket(settings: StorageSettings) -> Bucket:
    return Bucket(settings)


def test_aiohttp_is_none_of_those_that_resend_an_emptied_body() -> None:
    """3.10.11 to 3.14.3 do (aiohttp issue 13329), and a good object is replaced by nothing."""
    wanted = [Requirement(line) for line in importlib.metadata.requires("careflow-storage") or []]
    (aiohttp,) = [each for each in wanted if each.name == "aiohttp" and each.marker is None]
    for version in ("3.10.11", "3.11.18", "3.12.15", "3.13.2", "3.14.0", "3.14.3"):
        assert not aiohttp.specifier.contains(version)
    assert aiohttp.specifier.contains(importlib.metadata.version("aiohttp"))


async def test_no_request_waits_for_a_100_continue_that_may_never_come(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    await storage.upload_file("small", SMALL)
    await storage.upload_file("large", LARGE)
    await storage.delete_files(["small"])
    await storage.purge_file("large")
    assert len({attempt.operation for attempt in proxy.log}) >= 7
    assert [attempt for attempt in proxy.log if "expect" in attempt.headers] == []


async def test_a_file_that_begins_at_an_offset_is_not_uploaded_whole_on_a_retry(
    storage: BackblazeStorage, proxy: FaultProxy, bucket: Bucket, tmp_path: Path
) -> None:
    path = tmp_path / "source"
    path.write_bytes(b"not this!" + LARGE)
    for size, part in ((PART, ""), (len(LARGE), "partNumber=[12]&")):
        for source in (io.BytesIO(path.read_bytes()[: 9 + size]), path.open("rb")):
            with source as file:
                file.seek(9 if isinstance(source, io.BytesIO) else 9 + len(LARGE) - size)
                proxy.add(method="PUT", path=part, times=2, status=503, code="SlowDown")
                result = await storage.upload_file("key", file)
            assert result.size == size
            expected = LARGE[:size] if isinstance(source, io.BytesIO) else LARGE[-size:]
            assert bucket.content("key") == expected


async def test_one_outage_does_not_use_up_the_retries_of_later_calls(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    """botocore's quota of 500 tokens does: later calls fail at their first error."""
    proxy.add(operation="HeadObject", cut="rst")
    proxy.add(operation="ListMultipartUploads", cut="rst")
    for _ in range(15):
        for call in (storage.get_file_metadata("key"), storage.list_incomplete_uploads()):
            with pytest.raises(ConnectionFailedError):
                await call
    attempts = storage.settings.retry_attempts
    assert len(proxy.log) == 15 * 2 * attempts
    proxy.clear()
    proxy.add(status=503, code="SlowDown", times=attempts - 1)
    assert await storage.list_incomplete_uploads() == []
    proxy.clear()
    proxy.add(status=503, code="SlowDown", times=attempts - 1)
    assert await storage.list_files() == []


POSTS: dict[str, tuple[str, Call]] = {
    "Create": ("CreateMultipartUpload", lambda storage: storage.upload_file("key", LARGE)),
    "Complete": ("CompleteMultipartUpload", lambda storage: storage.upload_file("key", LARGE)),
    "DeleteObjects": ("DeleteObjects", lambda storage: storage.delete_files(["there"])),
}


@pytest.mark.parametrize("name", POSTS)
async def test_a_post_on_a_connection_that_was_reset_while_idle_is_sent_again(
    storage: BackblazeStorage, proxy: FaultProxy, bucket: Bucket, name: str
) -> None:
    """aiohttp resends no POST."""
    operation, call = POSTS[name]
    await storage.client()
    bucket.put("there", SMALL)
    # Warm connections of both planes, each reset after its response.
    rule = proxy.add(cut="rst", at="idle", times=3)
    await storage.list_files()
    await storage.list_incomplete_uploads()
    await call(storage)
    assert rule.hits == 3
    assert operation in {attempt.operation for attempt in proxy.log}
    if name == "DeleteObjects":
        assert bucket.content("there") is None
    else:
        assert bucket.content("key") == LARGE
    assert bucket.unfinished() == []


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1, and its key."""
    folder = tmp_path_factory.mktemp("certificate")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
        "-subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    )
    subprocess.run(
        [*command.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True
    )
    return certificate, key


CALLS: dict[str, Call] = {
    "of ours": lambda storage: storage.list_files(),
    "of botocore": lambda storage: storage.list_incomplete_uploads(),
}


@pytest.mark.parametrize("name", CALLS)
async def test_an_untrusted_certificate_is_reported_and_not_retried(
    settings: StorageSettings, certificate: tuple[Path, Path], name: str
) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(*certificate)
    patient = {"retry_base_delay": 600.0, "retry_max_delay": 600.0}
    async with FaultProxy(settings.endpoint or "", tls=tls) as proxy:
        async with (
            asyncio.timeout(60),
            storage_behind(proxy, settings, **patient) as storage,
        ):
            with pytest.raises(ConnectionFailedError, match="TLS") as caught:
                await CALLS[name](storage)
        assert not caught.value.retryable
        assert proxy.log == []
        trusting = settings.model_copy(update={"endpoint": proxy.url, "ca_file": certificate[0]})
        async with BackblazeStorage(trusting) as storage:
            await CALLS[name](storage)


@pytest.mark.parametrize("name", CALLS)
async def test_a_host_without_an_address_is_retried_and_then_reported(
    settings: StorageSettings, name: str
) -> None:
    nowhere = settings.model_copy(
        update={"endpoint": "https://no-such-host.invalid", "retry_attempts": 2}
    )
    async with BackblazeStorage(nowhere) as storage:
        with pytest.raises(ConnectionFailedError) as caught:
            await CALLS[name](storage)
    assert caught.value.retryable
    assert "BACKBLAZE_ENDPOINT" in str(caught.value)


@pytest.mark.integration
async def test_an_upload_that_is_cut_before_its_first_byte_does_not_stay_empty(
    seaweed_settings: StorageSettings,
) -> None:
    """SeaweedFS replaces the old object by an empty one then: our next attempt mends it."""
    bucket = Bucket(seaweed_settings)
    bucket.put("key", b"what was there before")
    async with (
        FaultProxy(seaweed_settings.endpoint or "") as proxy,
        storage_behind(proxy, seaweed_settings) as storage,
    ):
        rule = proxy.add(method="PUT", cut="rst", at=("req", 0), times=2)
        result = await storage.upload_file("key", SMALL)
    assert rule.hits == 2
    assert bucket.content("key") == SMALL
    assert bucket.content("key", result.version_id) == SMALL


@pytest.mark.integration
async def test_an_empty_upload_does_not_poison_the_connection_for_the_next(
    seaweed_settings: StorageSettings,
) -> None:
    """With botocore it does, on servers that response without a 100 Continue (issue 3755)."""
    bucket = Bucket(seaweed_settings)
    async with (
        FaultProxy(seaweed_settings.endpoint or "") as proxy,
        storage_behind(proxy, seaweed_settings, max_connections=1) as storage,
    ):
        for number in range(3):
            await storage.upload_file(f"empty-{number}", b"")
            await storage.upload_file(f"full-{number}", SMALL)
        assert proxy.connections == 1
    assert [bucket.content(f"empty-{number}") for number in range(3)] == [b""] * 3
    assert [bucket.content(f"full-{number}") for number in range(3)] == [SMALL] * 3


async def test_every_error_of_botocore_and_aiohttp_comes_out_as_ours(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    await storage.client()
    for fields in (
        {"cut": "rst"},
        {"cut": "fin"},
        {"cut": "fin", "at": ("body", 10)},
        {"body": b"\x00\xff not XML"},
        {"headers": {"Content-Length": "7"}, "status": 200, "body": b"too much for it"},
    ):
        proxy.clear()
        proxy.add(**fields)
        for call in CALLS.values():
            with pytest.raises(StorageError):
                await call(storage)
