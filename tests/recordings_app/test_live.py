"""Recordings that the page sends while it makes them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import httpx
import pytest

from careflow_storage import BackblazeStorage
from tests.recordings_app.conftest import TOKENS

pytest_plugins = ["careflow_storage.testing.plugin"]

CHUNKS = [b"\x1aE\xdf\xa3" + bytes(1000), bytes(2000), b"the end"]
WEBM = "audio/webm;codecs=opus"


@pytest.fixture
async def browser(address: str) -> AsyncIterator[aiohttp.ClientSession]:
    """A browser in which a user is signed in."""
    cookies = {"recordings_token": TOKENS["anna"]}
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(address, cookies=cookies, cookie_jar=jar) as session:
        yield session


def live(browser: aiohttp.ClientSession, call: str = "CA1", **options: Any) -> Any:
    content_type = options.pop("content_type", WEBM)
    return browser.ws_connect(f"/api/live/{call}", params={"content_type": content_type}, **options)


async def test_a_recording_is_stored_when_it_ends(
    browser: aiohttp.ClientSession, emulated: BackblazeStorage
) -> None:
    async with live(browser) as socket:
        name = (await socket.receive_json())["name"]
        for chunk in CHUNKS:
            await socket.send_bytes(chunk)
        await socket.send_str("end")
        assert await socket.receive_json() == {"stored": True}
    key = f"recordings/anna.CA1/{name}"
    assert await emulated.get_file(key) == b"".join(CHUNKS)
    file = await emulated.get_file_metadata(key)
    assert (file.content_type, file.partial) == (WEBM, False)


async def test_a_recording_that_is_cut_off_is_kept_and_marked(
    browser: aiohttp.ClientSession, emulated: BackblazeStorage, anna: httpx.AsyncClient
) -> None:
    async with live(browser) as socket:
        name = (await socket.receive_json())["name"]
        await socket.send_bytes(CHUNKS[0])
        await socket.close(code=1001)  # a closed tab
    path = f"/api/recordings/CA1/{name}"
    while (await anna.head(path)).status_code == 404:
        pass  # the app is storing it
    assert await emulated.get_file(f"recordings/anna.CA1/{name}") == CHUNKS[0]
    assert (await anna.get(f"{path}/details")).json()["partial"] is True


@pytest.mark.parametrize("end", [True, False])
async def test_a_recorder_that_sends_nothing_leaves_nothing(
    browser: aiohttp.ClientSession, emulated: BackblazeStorage, end: bool
) -> None:
    async with live(browser) as socket:
        assert (await socket.receive_json())["name"].endswith("-microphone.webm")
        if end:
            await socket.send_str("end")
            await socket.receive()
            assert socket.close_code == 1008
    assert await emulated.list_files() == []
    assert await emulated.list_incomplete_uploads() == []


@pytest.mark.parametrize(
    ("call", "options", "status"),
    [
        ("CA1", {"content_type": "text/html"}, 403),
        ("CA1", {"headers": {"Origin": "http://evil.example"}}, 403),
        ("CA1", {"headers": {"Cookie": "recordings_token=wrong"}}, 401),
        ("x" * 300, {}, 422),
    ],
)
async def test_what_may_not_be_recorded_is_refused_before_the_first_byte(
    browser: aiohttp.ClientSession,
    emulated: BackblazeStorage,
    call: str,
    options: dict[str, Any],
    status: int,
) -> None:
    if status == 401:
        browser.cookie_jar.clear()
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await live(browser, call, **options)
    assert refused.value.status == status
    assert await emulated.list_files() == []
