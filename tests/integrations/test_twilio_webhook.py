"""The webhook: it checks a request, queues it once, and responds without waiting for Twilio."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from fastapi import FastAPI, HTTPException, Request
from twilio.request_validator import RequestValidator

from careflow_storage import BackblazeStorage, InvalidInputError
from careflow_storage.integrations.twilio import (
    RecordingCallback,
    queue_recording,
    read_callback,
    recording_router,
)
from careflow_storage.outbox import Outbox
from tests.support.behind_proxy import versions
from tests.support.bodies import noise
from tests.support.served import served
from tests.support.twilio_media import (
    API_KEY,
    API_SECRET,
    AUTH_TOKEN,
    Fault,
    Recording,
    TwilioMedia,
    signed,
)
from tests.support.web import site

SID, CALL = "RE" + "3" * 32, "CA" + "2" * 32
PUBLIC = "https://calls.example.com"
QUICK: dict[str, Any] = {"poll_interval": 0.05, "retry_base_delay": 0.001, "retry_max_delay": 0.01}
WAV, MP3, DUAL = noise(300_000), noise(50_000), noise(600_000)
LOCAL: dict[str, Any] = {"media_host": "127.0.0.1", "allow_private_addresses": True}
Routed = Callable[..., Any]


@pytest.fixture
async def media() -> AsyncIterator[TwilioMedia]:
    async with TwilioMedia() as server:
        server.recordings[SID] = Recording({"wav": WAV, "mp3": MP3})
        yield server


@pytest.fixture
async def outbox(tmp_path: Path) -> AsyncIterator[Outbox]:
    """Takes webhooks, and delivers nothing."""
    async with Outbox(tmp_path / "outbox") as opened:
        yield opened


@pytest.fixture
async def worker(tmp_path: Path, storage: BackblazeStorage) -> AsyncIterator[Outbox]:
    credentials = {"twilio": (API_KEY, API_SECRET)}
    async with Outbox(tmp_path / "outbox", storage, credentials=credentials, **QUICK) as opened:
        yield opened


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False) as opened:
        yield opened


def app_with(outbox: Outbox, **options: Any) -> FastAPI:
    app = FastAPI()
    options = {"auth_token": AUTH_TOKEN, "public_url": PUBLIC, **LOCAL, **options}
    app.include_router(recording_router(outbox, **options), prefix="/twilio")
    return app


async def announce(
    client: httpx.AsyncClient, url: str, params: Mapping[str, str], **changes: Any
) -> httpx.Response:
    fields: dict[str, Any] = {
        "headers": signed(f"{PUBLIC}/twilio/recording", params),
        "content": urlencode(params),
        **changes,
    }
    kind = {"Content-Type": "application/x-www-form-urlencoded; charset=UTF-8"}
    fields["headers"] = kind | fields["headers"]
    return await client.post(f"{url}/twilio/recording", **fields)


# --- from the webhook into the bucket ---------------------------------------------------


@pytest.mark.parametrize(
    ("faults", "redirect"),
    [
        ([], None),
        (["404", "404"], 302),
        (["401", "404", "429", "503"], 307),
        (["truncated", "reset"], None),
        (["truncated"], 302),
    ],
)
async def test_a_recording_that_is_announced_is_stored_once(
    worker: Outbox,
    storage: BackblazeStorage,
    media: TwilioMedia,
    client: httpx.AsyncClient,
    faults: list[Fault],
    redirect: int | None,
) -> None:
    media.recordings[SID].faults, media.recordings[SID].redirect = faults, redirect
    async with served(app_with(worker, cache_control="no-store")) as url:
        for _ in range(2):
            response = await announce(client, url, media.callback(SID))
            assert (response.status_code, response.content) == (204, b"")
        assert media.asked == []  # by the webhook itself
    (entry,) = await worker.entries()
    when = int(datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp() * 1000)
    assert entry.key == f"recordings/{CALL}/{when}-{SID}.wav"
    async with asyncio.timeout(30):
        status = await worker.drain()
    assert (status.delivered, status.dead) == (1, 0), status.last_error
    assert await storage.get_file(entry.key) == WAV
    stored = await storage.get_file_metadata(entry.key)
    assert stored.content_type in ("audio/x-wav", "audio/wav")
    assert (stored.metadata, stored.cache_control) == ({"recording-sid": SID}, "no-store")
    assert await versions(storage, entry.key) == (1, 0)
    assert media.recordings[SID].served == 1
    assert bool(media.media_asked) == (redirect is not None)


@pytest.mark.parametrize(
    ("dual", "kind", "expected"), [(None, "mp3", MP3), (DUAL, "wav", DUAL), (DUAL, "mp3", DUAL)]
)
async def test_both_sides_of_a_call_are_kept_in_the_format_of_choice(
    worker: Outbox,
    storage: BackblazeStorage,
    media: TwilioMedia,
    dual: bytes | None,
    kind: Any,
    expected: bytes,
) -> None:
    media.recordings[SID].dual = dual
    callback = RecordingCallback.from_params(media.callback(SID))
    entry = await queue_recording(worker, callback, format=kind, **LOCAL)
    assert entry is not None
    assert entry.key.endswith(f"{SID}.{kind}")
    await worker.drain()
    assert await storage.get_file(entry.key) == expected


async def test_a_recording_without_a_start_is_queued_once_too(
    outbox: Outbox, media: TwilioMedia
) -> None:
    for start in ("", "yesterday"):
        params = media.callback(SID, RecordingStartTime=start)
        await queue_recording(outbox, RecordingCallback.from_params(params), **LOCAL)
    assert len(await outbox.entries()) == 1


@pytest.mark.parametrize("status", ["in-progress", "absent", "failed"])
async def test_another_status_is_accepted_and_nothing_is_queued(
    outbox: Outbox, media: TwilioMedia, client: httpx.AsyncClient, status: str
) -> None:
    params = media.callback(SID, RecordingStatus=status, RecordingUrl="", RecordingDuration="-1")
    async with served(app_with(outbox)) as url:
        assert (await announce(client, url, params)).status_code == 204
    assert await outbox.entries() == []


# --- what is refused --------------------------------------------------------------------


async def test_whatever_twilio_did_not_sign_is_refused(
    outbox: Outbox, media: TwilioMedia, client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    params = media.callback(SID)
    good = f"{PUBLIC}/twilio/recording"
    async with served(app_with(outbox)) as url:
        for headers in (
            {},
            {"X-Twilio-Signature": ""},
            {"X-Twilio-Signature": "ü"},
            signed(good, params, "another token"),
            signed(f"{url}/twilio/recording", params),
            signed(good, params | {"RecordingSid": "RE" + "4" * 32}),
            signed(good, params) | {"X-Twilio-Webhooks-Signature-Settings": "key=k,algorithm=none"},
        ):
            encoded = [(name, value.encode("latin-1")) for name, value in headers.items()]
            response = await announce(client, url, params, headers=dict(encoded))
            assert response.status_code == 403, headers
    assert await outbox.entries() == []
    assert f"{good} has no valid X-Twilio-Signature" in caplog.text
    assert AUTH_TOKEN not in caplog.text


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"RecordingSid": ""}, 400),
        ({"RecordingSid": "../RE1"}, 400),
        ({"CallSid": ""}, 400),
        ({"CallSid": "a/b"}, 400),
        ({"RecordingStatus": ""}, 400),
        ({"RecordingUrl": ""}, 400),
        ({"RecordingUrl": "https://twilio.com.example.org/RE1"}, 400),
        ({"RecordingUrl": "https://user:x@127.0.0.1/RE1"}, 400),
        ({"RecordingUrl": "ftp://127.0.0.1/RE1"}, 400),
        ({"RecordingUrl": "http://["}, 400),
        ({"RecordingUrl": "x" * 70_000}, 413),
        ({"RecordingChannels": "two", "RecordingDuration": "long"}, 204),
        ({"RecordingStartTime": "yesterday"}, 204),
        ({"RecordingStartTime": "Fri, 31 Dec 9999 23:59:59 -2359"}, 204),
        ({"Something": "new"}, 204),
    ],
)
async def test_a_signed_webhook_that_makes_no_sense_has_a_clear_status(
    outbox: Outbox,
    media: TwilioMedia,
    client: httpx.AsyncClient,
    changes: dict[str, str],
    status: int,
) -> None:
    async with served(app_with(outbox)) as url:
        response = await announce(client, url, media.callback(SID) | changes)
    assert response.status_code == status, response.text
    assert len(await outbox.entries()) == (1 if status == 204 else 0)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b"{}"),
        ("application/x-www-form-urlencoded", b"\xff"),
        ("application/x-www-form-urlencoded", b"a=%ff"),
        ("application/x-www-form-urlencoded", b"a&" * 300),
        ("application/x-www-form-urlencoded", b""),
        ("multipart/form-data; boundary=x", b"--x--"),
    ],
)
async def test_a_body_that_is_no_form_is_refused(
    outbox: Outbox, client: httpx.AsyncClient, kind: str, body: bytes
) -> None:
    async with served(app_with(outbox)) as url:
        response = await client.post(
            f"{url}/twilio/recording", content=body, headers={"Content-Type": kind}
        )
    assert response.status_code in (400, 403)


async def test_an_outbox_that_cannot_keep_it_lets_twilio_try_again(
    tmp_path: Path, media: TwilioMedia, client: httpx.AsyncClient
) -> None:
    outbox = Outbox(tmp_path / "outbox")
    async with served(app_with(outbox)) as url:
        response = await announce(client, url, media.callback(SID))
    assert (response.status_code, response.headers["retry-after"]) == (503, "10")


# --- where the app stands ---------------------------------------------------------------


@pytest.mark.parametrize("public_url", [None, PUBLIC, f"{PUBLIC}/", f"{PUBLIC}/base"])
@pytest.mark.parametrize("query", ["", "?tenant=a%20b&x=%C3%BC+1"])
async def test_the_url_is_compared_as_twilio_knows_it(
    outbox: Outbox,
    media: TwilioMedia,
    client: httpx.AsyncClient,
    public_url: str | None,
    query: str,
) -> None:
    params = media.callback(SID)
    async with served(app_with(outbox, public_url=public_url, path="/réc")) as url:
        base = (public_url or url).rstrip("/")
        # Signed by Twilio's own library.
        signature = RequestValidator(AUTH_TOKEN).compute_signature(
            f"{base}/twilio/r%C3%A9c{query}", params
        )
        response = await client.post(
            f"{url}/twilio/r%C3%A9c{query}", data=params, headers={"X-Twilio-Signature": signature}
        )
    assert response.status_code == 204, response.text
    assert len(await outbox.entries()) == 1


@pytest.mark.parametrize("host", ["[", "[::1", "a]b", "a b", "user@host", "x:y:z", ""])
async def test_a_malformed_host_matches_no_signature(outbox: Outbox, host: str) -> None:
    async with site(app_with(outbox)) as running:
        reader, writer = await running.connect()
        request = "GET /twilio/recording?CallSid=CA1 HTTP/1.1\r\nX-Twilio-Signature: x"
        writer.write(f"{request}\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        assert (await reader.read()).startswith(b"HTTP/1.1 403 ")


async def test_a_webhook_may_be_a_get(
    outbox: Outbox, media: TwilioMedia, client: httpx.AsyncClient
) -> None:
    query = urlencode(media.callback(SID))
    headers = signed(f"{PUBLIC}/twilio/recording?{query}", {})
    async with served(app_with(outbox)) as url:
        response = await client.get(f"{url}/twilio/recording?{query}", headers=headers)
    assert response.status_code == 204
    assert len(await outbox.entries()) == 1


async def test_a_shared_key_signs_in_place_of_the_auth_token(
    outbox: Outbox, media: TwilioMedia, client: httpx.AsyncClient
) -> None:
    params = media.callback(SID)
    signature = RequestValidator("shared secret").compute_signature(
        f"{PUBLIC}/twilio/recording", params, "HMAC_SHA256"
    )
    headers = {
        "X-Twilio-Signature": signature,
        "X-Twilio-Webhooks-Signature-Settings": "key=webhooks_sharedkey_1,algorithm=HMAC_SHA256",
    }
    shared = {"webhooks_sharedkey_1": "shared secret"}
    async with served(app_with(outbox, shared_keys=shared)) as url:
        assert (await announce(client, url, params, headers=headers)).status_code == 204
    async with served(app_with(outbox)) as url:
        assert (await announce(client, url, params, headers=headers)).status_code == 403


async def test_a_route_of_your_own_reads_the_callback(
    outbox: Outbox, media: TwilioMedia, client: httpx.AsyncClient
) -> None:
    seen: list[RecordingCallback] = []
    app = FastAPI()

    @app.post("/twilio/recording", status_code=204, response_model=None)
    async def recording(request: Request) -> None:
        callback = await read_callback(request, auth_token=AUTH_TOKEN, public_url=PUBLIC)
        seen.append(callback)
        await queue_recording(outbox, callback, **LOCAL)

    async with served(app) as url:
        assert (await announce(client, url, media.callback(SID))).status_code == 204
        assert (await announce(client, url, media.callback(SID), headers={})).status_code == 403
    (callback,) = seen
    assert (callback.call_id, callback.recording_sid, callback.channels) == (CALL, SID, 1)
    assert (callback.duration, callback.completed) == (timedelta(seconds=3), True)
    assert callback.started_at == datetime(2026, 11, 23, 12, tzinfo=UTC)
    assert len(await outbox.entries()) == 1


def test_a_conference_is_the_call_of_its_recording() -> None:
    callback = RecordingCallback.from_params(
        {"ConferenceSid": "CF1", "RecordingSid": "RE1", "RecordingStatus": "absent"}
    )
    assert (callback.call_id, callback.call_sid, callback.url) == ("CF1", None, None)


@pytest.mark.parametrize("token", ["", None, []])
def test_a_router_without_a_token_is_not_made(tmp_path: Path, token: Any) -> None:
    with pytest.raises(InvalidInputError, match="auth_token"):
        recording_router(Outbox(tmp_path), auth_token=token)


async def test_credentials_go_to_twilio_only(outbox: Outbox, media: TwilioMedia) -> None:
    callback = RecordingCallback.from_params(media.callback(SID))
    with pytest.raises(InvalidInputError, match=r"twilio\.com"):
        await queue_recording(outbox, callback)
    for number, host in enumerate(("api.twilio.com", "api.dublin.ie1.twilio.com")):
        changes = {"url": f"https://{host}/RE{number}", "recording_sid": f"RE{number}"}
        entry = await queue_recording(outbox, callback.model_copy(update=changes))
        assert entry is not None
        assert entry.url == f"https://{host}/RE{number}.wav"


def test_nothing_secret_is_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    router = recording_router(Outbox(tmp_path), auth_token=AUTH_TOKEN)
    assert AUTH_TOKEN not in f"{router!r} {[repr(route) for route in router.routes]}"


# --- whose call it is -------------------------------------------------------------------


@pytest.mark.parametrize("is_async", [False, True])
async def test_the_app_names_the_call_of_a_recording(
    outbox: Outbox, media: TwilioMedia, client: httpx.AsyncClient, is_async: bool
) -> None:
    def call_of(request: Request, callback: RecordingCallback) -> str:
        return f"{request.query_params['tenant']}.{callback.call_id}"

    async def later(request: Request, callback: RecordingCallback) -> str:
        return call_of(request, callback)

    params, query = media.callback(SID), "?tenant=anna"
    app = app_with(outbox, call_id_of=later if is_async else call_of, path="/recording")
    headers = signed(f"{PUBLIC}/twilio/recording{query}", params)
    async with served(app) as url:
        for _ in range(2):
            response = await client.post(
                f"{url}/twilio/recording{query}", data=params, headers=headers
            )
            assert response.status_code == 204, response.text
    (entry,) = await outbox.entries()
    assert entry.key.startswith(f"recordings/anna.{CALL}/")


@pytest.mark.parametrize(
    ("error", "status"),
    [(HTTPException(404, "no such call"), 404), (InvalidInputError("no such call"), 400)],
)
async def test_a_call_that_the_app_refuses_queues_nothing(
    outbox: Outbox, media: TwilioMedia, client: httpx.AsyncClient, error: Exception, status: int
) -> None:
    def refuse(request: Request, callback: RecordingCallback) -> str:
        raise error

    async with served(app_with(outbox, call_id_of=refuse)) as url:
        assert (await announce(client, url, media.callback(SID))).status_code == status
        # A recording that is not fetched has no call.
        params = media.callback(SID, RecordingStatus="absent")
        assert (await announce(client, url, params)).status_code == 204
    assert await outbox.entries() == []
