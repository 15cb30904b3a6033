"""Telephone calls in the example app, from Twilio's webhook to the list of the user."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from careflow_storage.testing import B2Server
from examples.recordings_app import AppSettings, create_app
from tests.recordings_app.conftest import SERVED, TOKENS
from tests.support.served import served
from tests.support.twilio_media import API_KEY, API_SECRET, AUTH_TOKEN, Recording, TwilioMedia

pytest_plugins = ["careflow_storage.testing.plugin"]

SID = "RE" + "3" * 32


@pytest.fixture
async def media(recordings: dict[str, Path]) -> AsyncIterator[TwilioMedia]:
    """Twilio's media server, which is not ready at first and redirects then."""
    files = {kind: recordings[f"greeting.{kind}"].read_bytes() for kind in ("wav", "mp3")}
    async with TwilioMedia() as running:
        running.recordings[SID] = Recording(files, faults=["404", "404"], redirect=302)
        yield running


@pytest.fixture
async def calls(
    b2_server: B2Server, media: TwilioMedia, tmp_path: Path
) -> AsyncIterator[httpx.AsyncClient]:
    """The app, with Twilio, and its user."""
    settings = AppSettings.model_validate(
        {
            "users": TOKENS,
            "twilio": {
                "user": "anna",
                "auth_token": AUTH_TOKEN,
                "api_key": API_KEY,
                "api_secret": API_SECRET,
                "public_url": "https://calls.example.com",
                "outbox": tmp_path / "outbox",
                "media_host": "127.0.0.1",
                "allow_private_addresses": True,
            },
        }
    )
    app = create_app(settings, b2_server.settings())
    headers = {"Authorization": f"Bearer {TOKENS['anna']}"}
    async with (
        served(app, **SERVED) as address,
        httpx.AsyncClient(base_url=address, headers=headers, trust_env=False) as client,
    ):
        yield client


def signed(params: dict[str, str], token: str = AUTH_TOKEN) -> dict[str, str]:
    """The header with which Twilio signs a webhook."""
    text = "https://calls.example.com/twilio/recording"
    text += "".join(name + params[name] for name in sorted(params))
    digest = hmac.new(token.encode(), text.encode(), hashlib.sha1).digest()
    return {"X-Twilio-Signature": base64.b64encode(digest).decode()}


async def test_a_call_at_twilio_becomes_a_recording_of_the_user(
    calls: httpx.AsyncClient, media: TwilioMedia, recordings: dict[str, Path]
) -> None:
    callback = media.callback(SID)
    for _ in range(2):  # Twilio may send it twice
        queued = await calls.post("/twilio/recording", data=callback, headers=signed(callback))
        assert (queued.status_code, queued.content) == (204, b"")
    while not (found := (await calls.get("/api/recordings")).json()["recordings"]):
        pass  # the worker is fetching it
    (recording,) = found
    assert (recording["call"], recording["title"]) == (callback["CallSid"], f"{SID}.wav")
    played = await calls.get(f"/api/recordings/{recording['call']}/{recording['name']}")
    assert played.content == recordings["greeting.wav"].read_bytes()


@pytest.mark.parametrize("headers", [{}, signed({"a": "b"}), {"X-Twilio-Signature": "x"}])
async def test_a_webhook_with_a_wrong_signature_queues_nothing(
    calls: httpx.AsyncClient, media: TwilioMedia, headers: dict[str, str], tmp_path: Path
) -> None:
    refused = await calls.post("/twilio/recording", data=media.callback(SID), headers=headers)
    assert refused.status_code == 403
    assert media.asked == []


async def test_a_webhook_that_leads_elsewhere_is_refused(
    calls: httpx.AsyncClient, media: TwilioMedia
) -> None:
    callback = media.callback(SID, RecordingUrl="https://evil.example/RE1")
    refused = await calls.post("/twilio/recording", data=callback, headers=signed(callback))
    assert refused.status_code == 400
    assert "does not lead to 127.0.0.1" in refused.text
