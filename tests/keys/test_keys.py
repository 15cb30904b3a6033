"""Making, listing and deleting application keys."""

from __future__ import annotations

import asyncio
import logging
import pickle
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from b2sdk.v3 import exception

from careflow_storage import (
    AccessDeniedError,
    BackblazeStorage,
    ConnectionFailedError,
    InvalidCredentialsError,
    InvalidInputError,
    MissingExtraError,
    NoSuchApplicationKeyError,
    NoSuchBucketError,
    NotSupportedError,
    ServiceUnavailableError,
    StorageError,
    StorageSettings,
)
from careflow_storage.keys import (
    CAPABILITIES,
    PRESETS,
    ApplicationKeys,
)
from careflow_storage.testing import B2Server
from careflow_storage.testing.b2 import keys as emulated
from tests.support.native_account import BUCKET, SimulatedAccount, simulated_account

pytest_plugins = ["careflow_storage.testing.plugin"]

b2: Any = exception  # its classes have no types


@pytest.fixture
def account() -> Iterator[SimulatedAccount]:
    with simulated_account() as opened:
        yield opened


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """b2sdk repeats at once."""
    monkeypatch.setattr("b2sdk._internal.b2http.time.sleep", lambda _: None)


# --- what it does -------------------------------------------------------------------------


async def test_a_key_is_made_with_the_least_that_its_program_needs(
    account: SimulatedAccount,
) -> None:
    keys = account.keys()
    made = await keys.create(
        "careflow-prod",
        "app",
        bucket=BUCKET,
        prefix="recordings/",
        expires_in=timedelta(days=90),
    )
    assert made.capabilities == ("listBuckets", "listFiles", "readFiles", "writeFiles")
    assert made.bucket_names == (BUCKET,)
    assert made.bucket_ids == (account.bucket_id,)
    assert made.prefix == "recordings/"
    assert made.expires_at is not None
    assert abs(made.expires_at - datetime.now(UTC) - timedelta(days=90)) < timedelta(minutes=1)
    assert not made.expired
    assert made.application_key.get_secret_value() == "appKey0"
    [listed] = await keys.list()
    assert listed.model_dump() == made.model_dump(exclude={"application_key"})
    assert (await keys.delete(made.key_id)).key_id == made.key_id
    assert await keys.list() == []


async def test_a_key_of_all_buckets_has_no_limits(account: SimulatedAccount) -> None:
    made = await account.keys().create("reader", ["readFiles"])
    assert (made.bucket_names, made.bucket_ids, made.prefix, made.expires_at) == (None,) * 4


async def test_all_pages_of_keys_are_listed(
    account: SimulatedAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("careflow_storage.keys.b2_api._PAGE", 2)
    keys = account.keys()
    for number in range(5):
        await keys.create(f"key-{number}", ["listFiles"])
    assert [key.name for key in await keys.list()] == [f"key-{n}" for n in range(5)]


async def test_a_key_of_a_bucket_that_is_gone_is_still_listed(account: SimulatedAccount) -> None:
    keys = account.keys()
    made = await keys.create("of-it", "app", bucket=BUCKET)
    del account.simulator.bucket_id_to_bucket[account.bucket_id]
    del account.simulator.bucket_name_to_bucket[BUCKET]
    [listed] = await account.keys().list()
    assert (listed.key_id, listed.bucket_ids) == (made.key_id, (account.bucket_id,))
    assert listed.bucket_names == ()


async def test_the_storages_own_key_makes_keys_that_work(b2_server: B2Server) -> None:
    async with BackblazeStorage(b2_server.settings()) as storage:
        made = await storage.admin.keys.create("reader", "analytics", bucket=b2_server.bucket)
        await storage.upload_file("a.txt", b"hello")
    settings = b2_server.settings(key_id=made.key_id, application_key=made.application_key)
    async with BackblazeStorage(settings) as reader:
        assert await reader.get_file("a.txt") == b"hello"
        with pytest.raises(AccessDeniedError):
            await reader.upload_file("b.txt", b"no")


async def test_an_uploader_uploads_in_parts_and_hides_but_reads_nothing(
    b2_server: B2Server,
) -> None:
    keys = ApplicationKeys.of_settings(b2_server.settings())
    made = await keys.create("uploader", "uploader", bucket=b2_server.bucket)
    settings = b2_server.settings(
        key_id=made.key_id,
        application_key=made.application_key,
        part_size=5 * 2**20,
        multipart_threshold=1,
    )
    async with BackblazeStorage(settings) as storage:
        result = await storage.upload_file("a.bin", b"x" * (6 * 2**20))
        await storage.delete_file("a.bin")
        with pytest.raises(AccessDeniedError):
            await storage.get_file("a.bin")
        with pytest.raises(AccessDeniedError):
            await storage.list_files()
    assert result.parts == 2


async def test_an_admin_key_does_all_of_the_administration_but_not_keys(
    b2_server: B2Server,
) -> None:
    keys = ApplicationKeys.of_settings(b2_server.settings())
    made = await keys.create("admin", "admin", bucket=b2_server.bucket)
    settings = b2_server.settings(key_id=made.key_id, application_key=made.application_key)
    async with BackblazeStorage(settings) as storage:
        await storage.upload_file("a.txt", b"hello")
        await storage.admin.allow_browser_uploads(["https://app.example"])
        await storage.admin.expire_recordings(hide_after_days=30)
        await storage.purge_file("a.txt")
        with pytest.raises(AccessDeniedError) as caught:
            await storage.admin.keys.create("more", "admin")
    assert "writeKeys" in (caught.value.hint or "")
    assert b2_server.versions() == []


def test_presets_hold_nothing_that_destroys_or_gives_away() -> None:
    everything = frozenset().union(*PRESETS.values())
    assert everything < CAPABILITIES
    assert not everything & {"writeKeys", "deleteKeys", "listKeys", "deleteBuckets"}
    assert "bypassGovernance" not in everything
    assert PRESETS["uploader"] < PRESETS["app"] < PRESETS["admin"]
    assert PRESETS["analytics"] < PRESETS["app"]
    assert CAPABILITIES == emulated.CAPABILITIES


# --- what is refused before any request ---------------------------------------------------


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "a b"}, "name"),
        ({"name": "a" * 101}, "name"),
        ({"name": "ä"}, "name"),
        ({"name": None}, "name"),
        ({"capabilities": []}, "capabilities"),
        ({"capabilities": "everything"}, "capabilities"),
        ({"capabilities": ["readFiles", "readFile"]}, r"capabilities\[1\]"),
        ({"capabilities": [None]}, r"capabilities\[0\]"),
        ({"capabilities": 5}, "capabilities"),
        ({"prefix": "recordings/", "bucket": None}, "prefix"),
        ({"prefix": "a\n"}, "prefix"),
        ({"prefix": 5}, "prefix"),
        ({"bucket": ""}, "bucket"),
        ({"expires_in": timedelta(0)}, "expires_in"),
        ({"expires_in": timedelta(seconds=-1)}, "expires_in"),
        ({"expires_in": timedelta(milliseconds=999)}, "expires_in"),
        ({"expires_in": timedelta(days=1000)}, "expires_in"),
        ({"expires_in": 3600}, "expires_in"),
    ],
)
async def test_a_key_that_cannot_be_is_refused_before_any_request(
    given: dict[str, Any], field: str
) -> None:
    keys = ApplicationKeys("a" * 25, "K", realm="http://127.0.0.1:9")
    wanted: dict[str, Any] = {"name": "app", "capabilities": "app", "bucket": BUCKET} | given
    with pytest.raises(InvalidInputError, match=f"^create_key: {field}|{field}"):
        await keys.create(**wanted)


@pytest.mark.parametrize(
    ("key_id", "secret", "realm"), [("", "K", "r"), ("k", "", "r"), ("k", "K", "")]
)
def test_an_empty_key_or_realm_is_refused(key_id: str, secret: str, realm: str) -> None:
    with pytest.raises(InvalidInputError):
        ApplicationKeys(key_id, secret, realm=realm)


def test_only_backblaze_and_this_machine_have_a_native_api() -> None:
    given: dict[str, Any] = {
        "key_id": "a" * 25,
        "application_key": "K004x",
        "bucket_name": "bucket",
    }
    for endpoint in ("https://s3.us-west-004.backblazeb2.com", "http://127.0.0.1:9"):
        ApplicationKeys.of_settings(StorageSettings(endpoint=endpoint, **given))
    with pytest.raises(InvalidInputError, match="which only Backblaze has"):
        ApplicationKeys.of_settings(StorageSettings(endpoint="https://s3.example.com", **given))
    with pytest.raises(StorageError, match="BACKBLAZE_KEY_ID"):
        ApplicationKeys.of_settings(StorageSettings(endpoint="http://127.0.0.1:9"))


async def test_without_b2sdk_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "b2sdk.v3", None)
    with pytest.raises(MissingExtraError, match="admin"):
        await ApplicationKeys("a" * 25, "K").list()


# --- what B2 refuses ----------------------------------------------------------------------


async def test_a_key_that_is_not_there_has_an_error_of_its_own(account: SimulatedAccount) -> None:
    with pytest.raises(NoSuchApplicationKeyError) as caught:
        await account.keys().delete("004000000000000000000000f")
    assert (caught.value.operation, caught.value.status) == ("b2_delete_key", 400)
    assert pickle.loads(pickle.dumps(caught.value)).code == "bad_request"  # noqa: S301


async def test_an_unknown_bucket_is_named(account: SimulatedAccount) -> None:
    with pytest.raises(NoSuchBucketError) as caught:
        await account.keys().create("app", "app", bucket="elsewhere")
    assert caught.value.bucket == "elsewhere"
    assert account.names == []


@pytest.mark.parametrize(
    ("capabilities", "call", "missing"),
    [
        (["listBuckets"], "list", "listKeys"),
        (["listKeys"], "delete", "deleteKeys"),
        (["listBuckets"], "create", "writeKeys"),
        (["writeKeys"], "create", "listBuckets"),
    ],
)
async def test_the_capability_that_is_missing_is_named(
    b2_server: B2Server, capabilities: list[str], call: str, missing: str
) -> None:
    key = b2_server.create_key(capabilities=capabilities)
    keys = ApplicationKeys.of_settings(b2_server.settings(key=key))
    calls: dict[str, Any] = {
        "list": lambda: keys.list(),
        "delete": lambda: keys.delete(key.key_id),
        "create": lambda: keys.create("app", "app", bucket=b2_server.bucket),
    }
    with pytest.raises(AccessDeniedError, match=missing):
        await calls[call]()


async def test_a_wrong_key_is_distinguished_from_a_missing_permission(b2_server: B2Server) -> None:
    keys = ApplicationKeys(b2_server.key.key_id, "K004wrong", realm=b2_server.endpoint)
    with pytest.raises(InvalidCredentialsError) as caught:
        await keys.list()
    assert caught.value.operation == "b2_authorize_account"
    assert "K004wrong" not in str(caught.value)


async def test_a_server_that_is_not_there_is_a_connection_error(no_pauses: None) -> None:
    with pytest.raises(ConnectionFailedError) as caught:
        await ApplicationKeys("a" * 25, "K", realm="http://127.0.0.1:9").list()
    assert caught.value.retryable


async def test_a_busy_server_is_tried_again_and_then_reported(
    b2_server: B2Server, no_pauses: None
) -> None:
    busy = b'{"status": 503, "code": "service_unavailable", "message": "too busy"}'
    keys = ApplicationKeys.of_settings(b2_server.settings())
    b2_server.faults.next("b2_list_keys", times=4, status=503, body=busy)
    assert [key.key_id for key in await keys.list()] == [b2_server.key.key_id]
    b2_server.faults.always("b2_list_keys", status=503, body=busy)
    with pytest.raises(ServiceUnavailableError, match="too busy") as caught:
        await keys.list()
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (405, b'<?xml version="1.0"?><Error><Code>MethodNotAllowed</Code></Error>'),
        (405, b""),
        (404, b"<html>"),
        (501, b'<?xml version="1.0"?><Error><Code>NotImplemented</Code></Error>'),
        (403, b"<Error><Code>AccessDenied</Code></Error>"),
    ],
)
async def test_a_server_without_the_native_api_is_reported(
    b2_server: B2Server, no_pauses: None, status: int, body: bytes
) -> None:
    b2_server.faults.always("b2_authorize_account", status=status, body=body)
    with pytest.raises(NotSupportedError, match="no native API") as caught:
        await ApplicationKeys.of_settings(b2_server.settings()).list()
    assert "B2Server" in (caught.value.hint or "")
    assert "<" not in str(caught.value)


async def test_a_proxy_that_refuses_is_not_taken_for_another_server(b2_server: B2Server) -> None:
    b2_server.faults.always("b2_authorize_account", status=403, body=b"<html>Blocked</html>")
    with pytest.raises(StorageError) as caught:
        await ApplicationKeys.of_settings(b2_server.settings()).list()
    assert not isinstance(caught.value, NotSupportedError)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("Failed to establish a new connection: [Errno 111] Connection refused", "refused"),
        ("Failed to resolve 'b2.example'", "name was not found"),
        ("certificate verify failed: CERTIFICATE_VERIFY_FAILED", "not trusted"),
        ("('Connection aborted.', RemoteDisconnected())", "failed or was cut"),
    ],
)
async def test_a_lost_connection_is_reported_as_our_own_error(
    account: SimulatedAccount, monkeypatch: pytest.MonkeyPatch, words: str, reason: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise b2.B2ConnectionError(f"HTTPConnectionPool(host='b2.example', port=80): {words}")

    monkeypatch.setattr(account.simulator, "list_keys", fail)
    with pytest.raises(ConnectionFailedError, match=reason) as caught:
        await account.keys().list()
    assert "Pool" not in str(caught.value)
    assert caught.value.retryable


async def test_an_s3_server_as_realm_is_reported(b2_server: B2Server) -> None:
    b2_server.faults.always("b2_authorize_account", status=200, body=b"<html>")
    with pytest.raises(StorageError, match="Malformed response"):
        await ApplicationKeys.of_settings(b2_server.settings()).list()


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (b2.TooManyRequests(retry_after_seconds=7), ServiceUnavailableError),
        (b2.TransactionCapExceeded(), AccessDeniedError),
        (b2.AccessDenied(), AccessDeniedError),
        (b2.B2RequestTimeout("slow"), TimeoutError),
        (b2.NoPaymentHistory("pay", "no_payment_history"), AccessDeniedError),
        (b2.InvalidAuthToken("old", "expired_auth_token"), InvalidCredentialsError),
        (b2.BadJson("bad"), StorageError),
        (b2.UnknownError("?"), StorageError),
        (KeyError("keys"), StorageError),
    ],
)
async def test_whatever_b2sdk_raises_is_one_of_our_errors(
    account: SimulatedAccount,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    wanted: type[Exception],
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(account.simulator, "list_keys", fail)
    with pytest.raises(wanted) as caught:
        await account.keys().list()
    assert isinstance(caught.value, StorageError)
    assert caught.value.operation == "b2_list_keys"
    assert caught.value.__context__ is None


# --- secrets and litter -------------------------------------------------------------------


async def test_no_secret_is_shown_or_logged(
    b2_server: B2Server, caplog: pytest.LogCaptureFixture, no_pauses: None
) -> None:
    caplog.set_level(logging.DEBUG)
    keys = ApplicationKeys.of_settings(b2_server.settings())
    made = await keys.create("app", "app", bucket=b2_server.bucket)
    b2_server.faults.next("b2_list_keys", status=503, body=b"{}")
    await keys.list()
    secret = made.application_key.get_secret_value()
    assert "b2_create_key" in caplog.text
    for text in (caplog.text, repr(keys), repr(made), str(made), made.model_dump_json()):
        assert secret not in text
        assert b2_server.key.application_key not in text
        assert "authorizationToken" not in text


async def test_a_cancelled_creation_leaves_no_key(
    account: SimulatedAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    create = account.simulator.create_key

    def slow(*given: object, **named: object) -> Any:
        begun.set()
        go_on.wait(30)
        return create(*given, **named)

    monkeypatch.setattr(account.simulator, "create_key", slow)
    task = asyncio.create_task(account.keys().create("app", ["readFiles"]))
    await asyncio.to_thread(begun.wait, 30)
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert account.names == []


async def test_a_cancelled_creation_that_cannot_be_undone_says_which_key_is_left(
    account: SimulatedAccount,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    create = account.simulator.create_key

    def slow(*given: object, **named: object) -> Any:
        begun.set()
        go_on.wait(30)
        return create(*given, **named)

    def fail(*_: object, **__: object) -> None:
        raise b2.ServiceError("503 busy")

    monkeypatch.setattr(account.simulator, "create_key", slow)
    monkeypatch.setattr(account.simulator, "delete_key", fail)
    task = asyncio.create_task(account.keys().create("app", ["readFiles"]))
    await asyncio.to_thread(begun.wait, 30)
    task.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert f"the key {account.ids[0]} is not used" in caplog.text


async def test_a_token_that_has_expired_is_renewed(b2_server: B2Server) -> None:
    keys = ApplicationKeys(
        b2_server.master_key.key_id,
        b2_server.master_key.application_key,
        realm=b2_server.endpoint,
    )
    await keys.list()
    b2_server.clock_skew = timedelta(hours=25)
    assert len(await keys.list()) == 1


async def test_a_lost_response_is_reported_since_it_may_leave_a_second_key(
    b2_server: B2Server, caplog: pytest.LogCaptureFixture, no_pauses: None
) -> None:
    b2_server.faults.next("b2_create_key", cut="rst", at="resp")
    keys = ApplicationKeys.of_settings(b2_server.settings())
    made = await keys.create("app", ["readFiles"])
    twins = [key.key_id for key in await keys.list() if key.name == "app"]
    assert len(twins) == 2
    assert made.key_id in twins
    assert "a second key with this name" in caplog.text


async def test_nothing_blocks_the_loop_or_writes_to_the_home(
    account: SimulatedAccount, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    loops = threading.get_ident()
    threads: list[int] = []
    list_keys = account.simulator.list_keys

    def noted(*given: object, **named: object) -> Any:
        threads.append(threading.get_ident())
        return list_keys(*given, **named)

    monkeypatch.setattr(account.simulator, "list_keys", noted)
    await account.keys().list()
    assert threads
    assert loops not in threads
    assert list(tmp_path.iterdir()) == []
