"""The B2 emulator starts, stops, logs requests and leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import subprocess
import sys
import threading
from collections import Counter
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from careflow_storage import BackblazeStorage, InvalidInputError, StorageSettings
from careflow_storage.testing import B2Server, FaultProxy
from careflow_storage.testing.server import EmulatorError
from tests.support.b2_wire import wire_to
from tests.support.descriptors import descriptors

pytest_plugins = ["careflow_storage.testing.plugin"]

BODY = b"hello"
PARTING = 100_000


def open_files() -> Counter[str]:
    gc.collect()
    return Counter(name for name in descriptors() if name != "/dev/null")  # uvloop's reserve


def threads() -> set[threading.Thread]:
    """All but those of executors, which start one more when the others are not yet idle."""
    return {each for each in threading.enumerate() if not each.name.startswith("asyncio_")}


def test_it_serves_without_any_event_loop() -> None:
    with B2Server() as server:
        url = urlsplit(server.endpoint)
        with socket.create_connection((url.hostname, url.port)) as connection:
            connection.sendall(b"GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            response = connection.makefile("rb").read()
    assert response.startswith(b"HTTP/1.1 403 ")
    assert [attempt.operation for attempt in server.requests] == ["ListObjects"]


async def test_it_serves_several_loops_and_outlives_each(b2_server: B2Server) -> None:
    async def store(key: str) -> None:
        async with BackblazeStorage(b2_server.settings()) as storage:
            await storage.upload_file(key, BODY)

    for key in ("1", "2"):
        await asyncio.to_thread(asyncio.run, store(key))
    await store("3")
    assert [version.key for version in b2_server.versions()] == ["1", "2", "3"]


@pytest.mark.skipif(sys.platform != "linux", reason="counts in /proc")
async def test_it_leaves_no_thread_socket_or_file_behind() -> None:
    async with B2Server():
        pass  # what moto opens for good, it has opened now
    before, files = threads(), open_files()
    async with B2Server() as server, wire_to(server) as wire:
        upload_id = await wire.begin("key")
        assert (await wire.part("key", upload_id, 1, bytes(6_000_000))).status == 200
        assert (await wire.ask("PUT", "key", body=bytes(6_000_000))).status == 200
        rule = server.faults.next(cut="hang")
        hanging = asyncio.create_task(wire.ask("GET", "key"))
        await rule.fired.wait()
        server.stop()
        with pytest.raises(aiohttp.ClientError):
            await hanging
    for _ in range(10):
        await asyncio.sleep(0)  # uvloop closes sockets a little later
    # Threads and sockets of earlier tests may still have been ending.
    assert threads() <= before
    assert open_files() <= files


async def test_it_stops_although_a_client_does_not_read_its_response() -> None:
    async with B2Server() as server, wire_to(server) as wire:
        await wire.ask("PUT", "key", body=bytes(20_000_000))
        url = await presigned(server, "key")
        async with aiohttp.ClientSession(read_bufsize=2**10) as session:
            response = await session.get(url)
            server.stop()  # in the very thread that would have to read
            response.close()


async def presigned(server: B2Server, key: str) -> str:
    async with BackblazeStorage(server.settings()) as storage:
        return await storage.get_signed_url(key)


async def test_cancelled_while_it_starts_then_nothing_is_left() -> None:
    before = servers()
    server = B2Server()
    starting = asyncio.create_task(server.__aenter__())
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert servers() == before
    with pytest.raises(EmulatorError):
        _ = server.endpoint


def servers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "b2-server"]


async def test_two_servers_know_nothing_of_each_other(b2_server: B2Server) -> None:
    async with B2Server() as other, wire_to(other) as wire:
        assert (await wire.ask("PUT", "key", body=BODY)).status == 200
        assert (await wire.ask("GET", who=b2_server.key)).status == 403
        assert len(other.versions()) == 1
        assert b2_server.versions() == []


async def test_mock_aws_beside_it_disturbs_neither(b2_server: B2Server) -> None:
    import boto3
    from moto import mock_aws

    async with wire_to(b2_server) as wire:
        assert (await wire.ask("PUT", "key", body=bytes(6_000_000))).status == 200
        with mock_aws():
            client = boto3.client(
                "s3", "us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
            )
            client.create_bucket(Bucket=b2_server.bucket)
            assert client.list_objects_v2(Bucket=b2_server.bucket)["KeyCount"] == 0
        assert len((await wire.ask("GET", "key")).body) == 6_000_000


def test_it_must_run_to_be_used_and_runs_once() -> None:
    server = B2Server()
    for use in (lambda: server.endpoint, server.settings, server.versions, server.reset):
        with pytest.raises(EmulatorError, match="not running"):
            use()
    server.stop()
    with server:
        with pytest.raises(EmulatorError, match="already"):
            server.start()
        assert server.versions() == []


def test_its_settings_are_complete_and_can_be_changed(
    b2_server: B2Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = b2_server.settings(max_connections=7)
    assert settings.is_configured
    assert (settings.region, settings.max_connections) == ("us-west-004", 7)
    assert settings.retry_max_delay < 1 < b2_server.settings(fast_retries=False).retry_max_delay
    for name, value in b2_server.environment().items():
        monkeypatch.setenv(name, value)
    found = StorageSettings()
    assert (found.endpoint, found.key_id) == (settings.endpoint, settings.key_id)
    # So that busy servers cost tests milliseconds, unless real pauses are asked for.
    assert found.retry_base_delay == settings.retry_base_delay
    assert found.retry_max_delay == settings.retry_max_delay
    assert not [name for name in b2_server.environment(fast_retries=False) if "RETRY" in name]


def test_buckets_are_made_without_a_request(b2_server: B2Server) -> None:
    b2_server.create_bucket("another-one")
    assert b2_server.versions(bucket="another-one") == []
    for name in ("another-one", "short", "b2-reserved"):
        with pytest.raises(InvalidInputError):
            b2_server.create_bucket(name)
    with pytest.raises(InvalidInputError, match="does not exist"):
        b2_server.versions(bucket="not-there")
    with pytest.raises(InvalidInputError, match="downlaod"):
        b2_server.capped = {"downlaod"}


async def test_requests_are_logged_without_their_secrets(b2_server: B2Server) -> None:
    async with BackblazeStorage(b2_server.settings()) as storage:
        await storage.upload_file("a b", BODY)
        url = await storage.get_signed_url("a b")
        async with wire_to(b2_server) as wire:
            assert (await wire.send("GET", url, {})).body == BODY
    put, get = b2_server.requests
    assert (put.operation, put.bucket, put.key) == ("PutObject", b2_server.bucket, "a b")
    assert (put.status, put.body_bytes, put.fault) == (200, len(BODY), None)
    assert put.headers["authorization"] == "REDACTED"
    assert "X-Amz-Signature=REDACTED" in get.target
    assert url.rpartition("=")[2] not in repr(b2_server.requests)


async def test_reset_makes_it_as_new(b2_server: B2Server) -> None:
    async with wire_to(b2_server) as wire:
        key = b2_server.create_key()
        await wire.ask("PUT", "key", body=BODY, who=key)
        await wire.begin("open")
        b2_server.faults.always(status=500)
        b2_server.capped = {"storage"}
        b2_server.clock_skew = timedelta(hours=1)
        b2_server.reset()
        assert (b2_server.requests, b2_server.versions()) == ([], [])
        assert b2_server.incomplete_uploads() == []
        assert not b2_server.capped
        assert (await wire.ask("PUT", "key", body=BODY)).status == 200
        assert (await wire.ask("PUT", "key", body=BODY, who=key)).status == 403


async def test_a_fault_proxy_can_stand_before_it(b2_server: B2Server) -> None:
    async with FaultProxy(b2_server.endpoint) as proxy:
        rule = proxy.add(operation="PutObject", key="^b$", times=1, status=503, code="SlowDown")
        settings = b2_server.settings(endpoint=proxy.url)
        async with BackblazeStorage(settings) as storage:
            for key in ("a", "b"):
                await storage.upload_file(key, BODY)
    assert rule.hits == 1
    assert [attempt.key for attempt in proxy.log] == ["a", "b", "b"]
    assert [attempt.key for attempt in b2_server.requests] == ["a", "b"]


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1, and its key."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
        "-subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    )
    subprocess.run(
        [*command.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True
    )
    return certificate, key


async def test_it_speaks_https_when_it_is_given_a_certificate(
    certificate: tuple[Path, Path],
) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(*certificate)
    async with B2Server(tls=tls) as server:
        assert server.endpoint.startswith("https://")
        server.faults.next("PutObject", cut="rst", at="resp")
        async with BackblazeStorage(server.settings(ca_file=certificate[0])) as storage:
            await storage.upload_file("key", BODY)
            assert await storage.get_file("key") == BODY
        assert len(server.versions("key")) == 2


def test_moto_is_imported_only_by_a_start_which_names_the_extra_without_it() -> None:
    code = """
import sys

import careflow_storage
assert not any(name.startswith("careflow_storage.testing") for name in sys.modules)
from careflow_storage.testing import B2Server
assert not {"moto", "boto3", "pytest"} & set(sys.modules)
sys.modules["moto"] = None
try:
    B2Server().start()
except careflow_storage.StorageError as error:
    print(repr(error))
"""
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert finished.stdout.startswith("MissingExtraError(")
    assert "careflow-storage[testing]" in finished.stdout


async def test_a_folder_is_listed_while_one_of_its_files_is_visible(b2_server: B2Server) -> None:
    async with BackblazeStorage(b2_server.settings()) as storage:
        for key in ("calls/hidden/1", "calls/shown/1", "calls/shown/2", "calls-of-others/1"):
            await storage.upload_file(key, BODY)
        await storage.delete_files(["calls/hidden/1", "calls/shown/1"])
        assert (await storage.list_folder("calls/")).common_prefixes == ["calls/shown/"]
        await storage.delete_file("calls/shown/2")
        assert (await storage.list_folder()).common_prefixes == ["calls-of-others/"]


async def test_its_state_is_that_after_all_requests_that_were_sent_before(
    b2_server: B2Server,
) -> None:
    async with BackblazeStorage(b2_server.settings()) as storage:
        signed = [
            await storage.sign_upload(f"{number}", content_type="audio/wav", size=PARTING)
            for number in range(20)
        ]
    for round_ in range(5):
        for request in signed:
            url = urlsplit(request.url)
            headers = {"Host": url.netloc, "Content-Length": f"{PARTING}"} | dict(request.headers)
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            head = f"PUT {url.path}?{url.query} HTTP/1.1\r\n{lines}\r\n"
            # A client that leaves without waiting for the response.
            with socket.create_connection((url.hostname, url.port)) as connection:
                connection.sendall(head.encode() + bytes(PARTING))
        if round_ % 2:
            b2_server.faults.always(status=500)
            b2_server.faults.clear()
        assert len(b2_server.requests) == 20 * (round_ + 1)
        assert len(b2_server.versions()) == 20 * (round_ + 1)


async def test_a_function_of_its_faults_may_read_its_state(b2_server: B2Server) -> None:
    seen: list[int] = []

    def look(_: object) -> bool:
        seen.append(len(b2_server.versions()))
        return False

    b2_server.faults.always(when=look)
    async with BackblazeStorage(b2_server.settings()) as storage:
        await storage.upload_file("a", BODY)
        await storage.upload_file("b", BODY)
    assert seen == [0, 1]


async def test_its_state_can_be_read_while_others_keep_it_busy(b2_server: B2Server) -> None:
    async def ask() -> None:
        async with BackblazeStorage(b2_server.settings()) as storage:
            while not done.is_set():
                await asyncio.gather(*(storage.file_exists("a") for _ in range(8)))

    done = threading.Event()
    clients = [threading.Thread(target=asyncio.run, args=(ask(),)) for _ in range(2)]
    for client in clients:
        client.start()
    try:
        while len(b2_server.requests) < 100:
            assert b2_server.versions() == []
    finally:
        done.set()
        for client in clients:
            client.join()
