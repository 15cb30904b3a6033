"""No secret and no signature in anything that is printed, logged, pickled or raised."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import logging
import pickle
import re
import socket
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from careflow_storage import BackblazeStorage, StorageError, StorageSettings
from careflow_storage._s3.redaction import REDACTED, guard_logs, redact
from careflow_storage._s3.signing.signer import derive_signing_key
from careflow_storage.testing.proxy.proxy import FaultProxy
from tests.support.behind_proxy import storage_behind
from tests.support.bodies import noise
from tests.support.hostile import HostileServer, raw_response

SECRET = "K005cvEryS3cretApplicationKey+/"
TOKEN = "FwoGZXIvYXdzEBYaDsEssIonT0k3n+/=="
SIGNED = re.compile(r"Signature=([0-9a-f]{64})")
BY_HEADER = re.compile(r"AWS4-HMAC-SHA256 Credential=[^\[]")

Call = Callable[[BackblazeStorage, Path], Awaitable[Any]]


async def read_stream(storage: BackblazeStorage, _: Path) -> None:
    async with storage.stream_file("small") as stream:
        async for _chunk in stream:
            pass


async def read_file(storage: BackblazeStorage, _: Path) -> None:
    async with await storage.open_file("small") as file:
        await file.read()


async def presign_with_the_client(storage: BackblazeStorage, _: Path) -> None:
    client = await storage.client()
    where = {"Bucket": storage.settings.bucket_name, "Key": "small"}
    await client.generate_presigned_url("get_object", Params=where)


async def use_a_customer_key(storage: BackblazeStorage, _: Path) -> None:
    client = await storage.client()
    await client.head_object(
        Bucket=storage.settings.bucket_name,
        Key="small",
        SSECustomerAlgorithm="AES256",
        SSECustomerKey=CUSTOMER_KEY,
    )


CUSTOMER_KEY = "0123456789abcdefCUSTOMERKEY76543"
CALLS: dict[str, Call] = {
    "put": lambda storage, _: storage.upload_file("small", b"x", metadata={"name": "ä"}),
    "multipart": lambda storage, _: storage.upload_file("large", noise(700_000)),
    "recording": lambda storage, _: storage.upload_recording("CA1", b"x", "a.webm"),
    "get": lambda storage, _: storage.get_file("small"),
    "stream": read_stream,
    "open": read_file,
    "download": lambda storage, folder: storage.download_file("large", folder / "copy"),
    "sign": lambda storage, _: storage.get_signed_url("small"),
    "sign many": lambda storage, _: storage.get_signed_urls(["small", "large"]),
    "sign with the client": presign_with_the_client,
    "head": lambda storage, _: storage.get_file_metadata("small"),
    "exists": lambda storage, _: storage.file_exists("none"),
    "list": lambda storage, _: storage.list_files(),
    "delete": lambda storage, _: storage.delete_file("small"),
    "delete many": lambda storage, _: storage.delete_files(["small"]),
    "purge": lambda storage, _: storage.purge_file("large"),
    "missing": lambda storage, _: storage.get_file("none"),
    "customer key": use_a_customer_key,
}


class Ear(logging.Handler):
    """Hears everything, and looks as deep into it as an error tracker does."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.heard: list[str] = []
        self.names: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        self.names.add(record.name.partition(".")[0])
        self.heard += [self.format(record), repr(vars(record))]
        if record.exc_info and record.exc_info[1] is not None:
            self.heard.append(with_locals(record.exc_info[1]))


@pytest.fixture
def ear() -> Iterator[Ear]:
    root, ear = logging.getLogger(), Ear()
    before = root.level
    root.addHandler(ear)
    root.setLevel(logging.DEBUG)
    yield ear
    root.removeHandler(ear)
    root.setLevel(before)


def with_locals(error: BaseException) -> str:
    return "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())


def pickled(error: StorageError) -> bytes:
    """Pickle an error as programs do that have not imported Dask, which adds contexts to it."""
    data = io.BytesIO()
    pickler = pickle.Pickler(data)
    pickler.dispatch_table = {}
    pickler.dump(error)
    return data.getvalue()


def everything_of(error: BaseException, *outer: BaseException) -> Iterator[str]:
    """Everything that a program might print of an error and its causes."""
    # What pickles contexts, as Dask does, would not end with an error that is its own context.
    assert error not in outer, f"{error!r} holds itself"
    yield with_locals(error)
    yield from (str(error), repr(error), repr(vars(error)), repr(error.args))
    if isinstance(error, StorageError):
        yield repr(pickled(error))
    within = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    for other in (error.__cause__, error.__context__, *within):
        if other is not None:
            yield from everything_of(other, error, *outer)


def signing_keys(secret: str) -> Iterator[str]:
    today = datetime.now(UTC)
    for day in (today - timedelta(days=1), today):
        key = derive_signing_key(secret, f"{day:%Y%m%d}", "us-east-1", "s3")
        yield from (key.hex(), base64.b64encode(key).decode(), repr(key)[2:-1])


def assert_silent(texts: list[str], secrets: list[str]) -> None:
    for text in texts:
        assert not [secret for secret in secrets if secret in text], text[:3000]
        assert BY_HEADER.search(text) is None, text[:3000]


class Outcome:
    """What all calls led to. Not a local variable: those of the test itself are looked at, too."""

    def __init__(self) -> None:
        self.errors: list[StorageError] = []
        self.urls: list[str] = []


async def call_all(storage: BackblazeStorage, folder: Path) -> Outcome:
    outcome = Outcome()
    for call in CALLS.values():
        await try_one(outcome, call, storage, folder)
    return outcome


async def try_one(outcome: Outcome, call: Call, storage: BackblazeStorage, folder: Path) -> None:
    from botocore.exceptions import BotoCoreError, ClientError

    with contextlib.suppress(BotoCoreError, ClientError):  # the lent client raises its own
        try:
            result = await call(storage, folder)
        except StorageError as error:
            outcome.errors.append(error)
        else:
            outcome.urls += [result] if isinstance(result, str) else []


def secrets_of(proxy: FaultProxy, outcome: Outcome, *more: str) -> list[str]:
    """What went over the wire, and what could sign."""
    sent = [attempt.headers.get("authorization", "") for attempt in proxy.log]
    signatures = SIGNED.findall(" ".join([*sent, *outcome.urls]))
    assert len(signatures) > 10
    return [*signatures, *more, CUSTOMER_KEY, base64.b64encode(CUSTOMER_KEY.encode()).decode()]


@pytest.fixture
async def token_proxy(settings: StorageSettings) -> AsyncIterator[FaultProxy]:
    """Before the fast server, which takes any token."""
    async with FaultProxy(str(settings.endpoint)) as proxy:
        yield proxy


def temporary_credentials() -> Any:
    from aiobotocore.session import AioSession

    session = AioSession()
    session.set_credentials("test-key-id", SECRET, TOKEN)
    return session


@pytest.mark.integration
async def test_given_all_loggers_at_debug_when_everything_is_called_then_no_secret_is_heard(
    seaweed_settings: StorageSettings, ear: Ear, tmp_path: Path
) -> None:
    assert seaweed_settings.application_key is not None
    secret = seaweed_settings.application_key.get_secret_value()
    async with FaultProxy(str(seaweed_settings.endpoint)) as proxy:
        async with storage_behind(proxy, seaweed_settings) as storage:
            outcome = await call_all(storage, tmp_path)
        secrets = secrets_of(proxy, outcome, secret, *signing_keys(secret))
    assert outcome.errors
    assert "botocore" in ear.names
    assert_silent(ear.heard, secrets)
    for error in outcome.errors:
        assert_silent([*everything_of(error)], secrets)


async def test_given_temporary_credentials_when_everything_is_called_then_no_secret_is_heard(
    settings: StorageSettings, token_proxy: FaultProxy, ear: Ear, tmp_path: Path
) -> None:
    settings = settings.model_copy(update={"endpoint": token_proxy.url})
    async with BackblazeStorage(settings, session=temporary_credentials()) as storage:
        outcome = await call_all(storage, tmp_path)
    assert {attempt.headers["x-amz-security-token"] for attempt in token_proxy.log} == {TOKEN}
    secrets = secrets_of(token_proxy, outcome, SECRET, TOKEN, *signing_keys(SECRET))
    assert_silent(ear.heard, secrets)
    for error in outcome.errors:
        assert_silent([*everything_of(error)], secrets)


FAILURES: dict[str, dict[str, Any]] = {
    "no response": {"cut": "rst"},
    "cut off": {"cut": "fin"},
    "response lost": {"cut": "rst", "at": "resp"},
    "refused": {"status": 403, "code": "SignatureDoesNotMatch"},
    "busy": {"status": 503, "code": "SlowDown"},
    "no XML": {"status": 200, "body": b"<"},
    "silence": {"cut": "hang"},
    "bad header": {"status": 200, "headers": {"X-Bad": "a\r\nno colon here"}},
    "bad charset": {"status": 200, "headers": {"ETag": "\xff\xfe"}},
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES.keys())
async def test_given_a_failure_when_everything_is_called_then_no_error_and_no_log_has_a_secret(
    settings: StorageSettings,
    token_proxy: FaultProxy,
    ear: Ear,
    tmp_path: Path,
    failure: dict[str, Any],
) -> None:
    token_proxy.add(**failure)
    settings = settings.model_copy(
        update={
            "endpoint": token_proxy.url,
            "multipart_threshold": 100_000,
            "retry_attempts": 2,
            "idle_timeout": 0.1,
        }
    )
    async with BackblazeStorage(settings, session=temporary_credentials()) as storage:
        outcome = await call_all(storage, tmp_path)
    assert len(outcome.errors) >= 6
    secrets = secrets_of(token_proxy, outcome, SECRET, TOKEN, *signing_keys(SECRET))
    assert_silent(ear.heard, secrets)
    for error in outcome.errors:
        assert_silent([*everything_of(error)], secrets)


async def test_given_no_connection_then_no_error_and_no_log_shows_the_secret(
    settings: StorageSettings, ear: Ear, tmp_path: Path
) -> None:
    with socket.socket() as bound:  # but not listening
        bound.bind(("127.0.0.1", 0))
        settings = settings.model_copy(
            update={
                "application_key": SECRET,
                "endpoint": f"http://127.0.0.1:{bound.getsockname()[1]}",
                "multipart_threshold": 100_000,
                "retry_attempts": 3,
            }
        )
        async with BackblazeStorage(settings) as storage:
            outcome = await call_all(storage, tmp_path)
    assert any("retrying" in text for text in ear.heard)
    secrets = [SECRET, *signing_keys(SECRET)]
    assert_silent(ear.heard, secrets)
    for error in outcome.errors:
        assert_silent([*everything_of(error)], secrets)


async def test_given_a_cancelled_call_then_its_traceback_has_no_secret(
    settings: StorageSettings, token_proxy: FaultProxy
) -> None:
    settings = settings.model_copy(update={"endpoint": token_proxy.url})
    async with BackblazeStorage(settings, session=temporary_credentials()) as storage:
        for call in (storage.get_file, storage.purge_file):
            texts, sent = [], list[str]()
            token_proxy.clear()
            rule = token_proxy.add(cut="hang")
            task = asyncio.create_task(call("a"))
            await rule.fired.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError) as caught:
                await task
            texts = [*everything_of(caught.value)]
            sent = [attempt.headers["authorization"] for attempt in token_proxy.log]
            assert_silent(texts, [*SIGNED.findall(" ".join(sent)), SECRET, TOKEN])


async def test_given_an_open_storage_then_nothing_that_prints_it_shows_the_secret(
    settings: StorageSettings,
) -> None:
    settings = settings.model_copy(update={"application_key": SECRET})
    secrets = [SECRET, *signing_keys(SECRET)]
    async with BackblazeStorage(settings) as storage:
        await storage.upload_file("a", b"x")
        url = await storage.get_signed_url("a")
        context = storage._runtime.context()
        session = context.session
        stream = storage.stream_file("a")
        reader = await storage.open_file("a")
        things: list[Any] = [storage, storage.settings, context, stream, reader]
        things += [session, session.signer, session.static_credentials, await storage.client()]
        for thing in things:
            assert_silent([repr(thing), str(thing), f"{thing}"], secrets)
        assert_silent([storage.settings.model_dump_json(), url], secrets)
        await reader.aclose()


async def test_given_what_holds_the_connections_then_it_cannot_be_sent_elsewhere_by_pickle(
    settings: StorageSettings,
) -> None:
    settings = settings.model_copy(update={"application_key": SECRET})
    async with BackblazeStorage(settings) as storage:
        await storage.upload_file("a", b"x")
        context = storage._runtime.context()
        for thing in (
            storage,
            context,
            context.session,
            context.session.signer,
            context.session.static_credentials,
        ):
            into = io.BytesIO()
            with contextlib.suppress(TypeError, AttributeError, pickle.PicklingError):
                pickle.dump(thing, into)
            assert SECRET.encode() not in into.getvalue()


@pytest.mark.parametrize(
    "bad",
    [
        {"endpoint": f"https://user:{SECRET}@host"},
        {"part_size": 1},
        {"bucket_name": "../b", "region": "us-west-004"},
    ],
)
def test_given_settings_that_are_refused_then_the_error_does_not_show_the_secret(
    bad: dict[str, Any],
) -> None:
    with pytest.raises((ValidationError, StorageError)) as caught:
        StorageSettings(**{"application_key": SECRET, "key_id": "id", **bad})
    assert_silent(["".join(traceback.format_exception(caught.value))], [SECRET])


def test_given_an_environment_that_is_refused_then_the_error_does_not_show_the_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BACKBLAZE_APPLICATION_KEY", SECRET)
    monkeypatch.setenv("BACKBLAZE_KEY_ID", "0123456789ab")
    monkeypatch.setenv("BACKBLAZE_REGION", "us-west-004")
    with pytest.raises(StorageError) as caught:
        BackblazeStorage()
    assert_silent(["".join(traceback.format_exception(caught.value))], [SECRET])


# --- the filter -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Signature:\nabc123", f"Signature:\n{REDACTED}"),
        ("?a=1&X-Amz-Signature=abc&b=2", f"?a=1&X-Amz-Signature={REDACTED}&b=2"),
        ("X-Amz-Security-Token=a%2Fb&x", f"X-Amz-Security-Token={REDACTED}&x"),
        ("{'X-Amz-Security-Token': 'a/b+='}", f"{{'X-Amz-Security-Token': '{REDACTED}'}}"),
        ("x-amz-security-token:abc\n\nhost", f"x-amz-security-token:{REDACTED}\n\nhost"),
        (
            "{'Authorization': b'AWS4-HMAC-SHA256 Credential=a/b, Signature=c', 'Host': 'h'}",
            f"{{'Authorization': b'{REDACTED}', 'Host': 'h'}}",
        ),
        ("Proxy-Authorization: Basic dXNlcg==", f"Proxy-Authorization: {REDACTED}"),
        ("proxy http://user:pass@host:1/", f"proxy http://{REDACTED}@host:1/"),
        (
            "{'SSECustomerKey': 'abc', 'Key': 'k'}",
            f"{{'SSECustomerKey': '{REDACTED}', 'Key': 'k'}}",
        ),
        ("aws_secret_access_key = abc", f"aws_secret_access_key = {REDACTED}"),
    ],
)
def test_a_secret_is_redacted_and_its_name_stays(text: str, left: str) -> None:
    assert redact(text) == left


@pytest.mark.parametrize(
    "text",
    [
        "Event before-sign.s3.PutObject: calling handler <function x at 0x7f>",
        "Sending http request: PUT https://host/recordings/CA1/1-a.webm?partNumber=1&uploadId=x",
        "signature version s3v4, https://host/a@b",
        "SSECustomerKeyMD5: abc",
    ],
)
def test_what_is_no_secret_is_left_alone(text: str) -> None:
    assert redact(text) == text


def test_the_filter_is_put_on_once_and_is_not_asked_below_the_level() -> None:
    guard_logs()
    logger = logging.getLogger("botocore.auth")
    before = list(logger.filters)
    guard_logs()
    assert logger.filters == before
    assert not logging.getLogger().filters
    assert not logging.getLogger("careflow_storage").filters


def test_a_logged_exception_keeps_its_text_and_loses_its_frames(ear: Ear) -> None:
    guard_logs()
    try:
        raise ValueError("X-Amz-Signature=abc")
    except ValueError:
        logging.getLogger("botocore.httpsession").debug("it %s", "failed", exc_info=True)
    heard = "\n".join(ear.heard)
    assert "ValueError" in heard
    assert "it failed" in heard
    assert "abc" not in heard.replace(REDACTED, "")


async def test_a_proxys_password_is_in_no_error_and_no_log(
    monkeypatch: pytest.MonkeyPatch, ear: Ear, tmp_path: Path
) -> None:
    async with HostileServer(
        lambda _: raw_response(b"", "407 Proxy Authentication Required")
    ) as proxy:
        monkeypatch.setenv("http_proxy", f"http://user:{TOKEN[:12]}@127.0.0.1:{proxy.port}")
        monkeypatch.setenv("https_proxy", f"http://user:{TOKEN[:12]}@127.0.0.1:{proxy.port}")
        encoded = base64.b64encode(f"user:{TOKEN[:12]}".encode()).decode()
        for scheme in ("http", "https"):
            settings = proxy.settings(endpoint=f"{scheme}://storage.invalid", allow_http=True)
            async with BackblazeStorage(settings) as storage:
                outcome = await call_all(storage, tmp_path)
            for error in outcome.errors:
                assert_silent([*everything_of(error)], [TOKEN[:12], encoded])
            assert_silent(ear.heard, [TOKEN[:12], encoded])
        assert {asked.headers["proxy-authorization"] for asked in proxy.asked} == {
            f"Basic {encoded}"
        }
        # To the data plane and to the control plane it was the same proxy.
        assert {asked.method for asked in proxy.asked} > {"CONNECT", "GET", "PUT", "POST"}
