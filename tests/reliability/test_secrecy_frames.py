"""No local variable of a failure holds a token, a signature, a customer's key or a key of B2."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from careflow_storage import BackblazeStorage, CustomerKey, StorageError
from careflow_storage.keys import ApplicationKeys
from careflow_storage.testing import B2Server
from tests.support.bodies import noise
from tests.support.frames import recorded
from tests.support.hostile import HostileServer, raw_response

pytest_plugins = ["careflow_storage.testing.plugin"]

SECRET, TOKEN = "K004VerySecretKeyOfTests0000000", "SessionT0kenOfTests"
CUSTOMER_KEY = CustomerKey(b"0123456789abcdefCustomerKey76543")
SIGNATURE = re.compile(r"Signature=[0-9a-f]{64}")
HIDDEN = (SECRET, TOKEN, CUSTOMER_KEY.to_base64())

Call = Callable[[BackblazeStorage], Awaitable[Any]]


async def read_stream(storage: BackblazeStorage) -> None:
    async with storage.stream_file("a", encryption=CUSTOMER_KEY) as stream:
        async for _ in stream:
            pass


async def write_live(storage: BackblazeStorage) -> None:
    async with storage.open_recording("CA1", "a.wav", encryption=CUSTOMER_KEY) as writer:
        await writer.write(noise(300_000))


async def many_urls(storage: BackblazeStorage) -> None:
    def keys() -> Any:
        yield from (f"{number}.webm" for number in range(2000))
        yield "../a"

    await storage.get_signed_urls(keys())


async def cancelled_urls(storage: BackblazeStorage) -> None:
    task = asyncio.create_task(storage.get_signed_urls([str(number) for number in range(2000)]))
    await asyncio.sleep(0)
    task.cancel()
    await task


async def late(storage: BackblazeStorage) -> None:
    await storage.upload_file("a", b"x", timeout=0.000_001)


BEFORE_ANY_REQUEST: dict[str, Call] = {
    "version": lambda storage: storage.get_signed_url("a", version_id="\ud800"),
    "expiry": lambda storage: storage.get_signed_url("a", 0),
    "urls": many_urls,
    "cancelled": cancelled_urls,
    "upload": lambda storage: storage.sign_upload("a", content_type="audio/wav", md5="x"),
    "uploads key": lambda storage: storage.sign_upload(
        "a",
        content_type="audio/wav",
        encryption=CUSTOMER_KEY,  # type: ignore[arg-type]  # that is the mistake
    ),
    "key for all": lambda storage: storage.get_file("../a", encryption=CUSTOMER_KEY),
}
REFUSED: dict[str, Call] = {
    "put": lambda storage: storage.upload_file("a", b"x", encryption=CUSTOMER_KEY),
    "parts": lambda storage: storage.upload_file("a", noise(300_000), encryption=CUSTOMER_KEY),
    "get": lambda storage: storage.get_file("a", encryption=CUSTOMER_KEY),
    "head": lambda storage: storage.get_file_metadata("a", encryption=CUSTOMER_KEY),
    "exists": lambda storage: storage.file_exists("a", encryption=CUSTOMER_KEY),
    "open": lambda storage: storage.open_file("a", encryption=CUSTOMER_KEY),
    "stream": read_stream,
    "live": write_live,
    "list": lambda storage: storage.list_files(),
    "delete": lambda storage: storage.delete_files(["a"]),
    "purge": lambda storage: storage.purge_file("a"),
    "cors": lambda storage: storage.admin.list_buckets(),
    "late": late,
}


@pytest.fixture
async def server() -> AsyncIterator[HostileServer]:
    refusal = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
    async with HostileServer(lambda _: raw_response(refusal, "403 Forbidden")) as hostile:
        yield hostile


@pytest.mark.parametrize("name", [*BEFORE_ANY_REQUEST, *REFUSED])
async def test_given_any_failing_call_then_no_frame_holds_a_secret(
    server: HostileServer, name: str
) -> None:
    settings = server.settings(application_key=SECRET, session_token=TOKEN)
    async with BackblazeStorage(settings) as storage:
        with pytest.raises((StorageError, asyncio.CancelledError)) as caught:
            await (BEFORE_ANY_REQUEST | REFUSED)[name](storage)
    kept = recorded(caught.value)
    assert not [line for line in kept.splitlines() if any(each in line for each in HIDDEN)]
    assert not SIGNATURE.search(kept)


@pytest.mark.parametrize("wrong", ["key", "realm", "id", "secret"])
async def test_given_application_keys_that_fail_then_no_frame_holds_the_key(
    b2_server: B2Server, wrong: str
) -> None:
    given: dict[str, Any] = {
        "key_id": b2_server.key.key_id,
        "application_key": SECRET,
        "realm": b2_server.endpoint,
    }
    changes: dict[str, dict[str, Any]] = {
        "key": {},
        "realm": {"realm": ""},
        "id": {"key_id": b""},
        "secret": {"application_key": SECRET.encode()},
    }
    given |= changes[wrong]
    with pytest.raises(StorageError) as caught:
        await ApplicationKeys(**given).list()
    kept = recorded(caught.value)
    basic = base64.b64encode(f"{b2_server.key.key_id}:{SECRET}".encode()).decode()
    assert not [line for line in kept.splitlines() if SECRET in line or basic in line]


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_given_a_proxy_that_fails_then_no_frame_holds_its_password(
    monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    refusal = raw_response(b"", "407 Proxy Authentication Required")
    async with HostileServer(lambda _: refusal) as proxy:
        for name in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(name, f"http://user:{SECRET}@127.0.0.1:{proxy.port}")
        settings = proxy.settings(endpoint=f"{scheme}://storage.invalid", allow_http=True)
        async with BackblazeStorage(settings) as storage:
            with pytest.raises(StorageError) as caught:
                await storage.upload_file("a", b"x")
    kept = recorded(caught.value)
    basic = base64.b64encode(f"user:{SECRET}".encode()).decode()
    assert not [line for line in kept.splitlines() if SECRET in line or basic in line]
