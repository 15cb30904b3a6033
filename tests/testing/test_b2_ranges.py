"""Range and If-Range on the emulator, by RFC 9110, as a player or a browser sends them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from email.utils import format_datetime

import aiohttp
import pytest

from careflow_storage import BackblazeStorage
from careflow_storage.testing import B2Server

pytest_plugins = ["careflow_storage.testing.plugin"]

DATA = bytes(range(250)) * 4
WHOLE = "whole"
NONE = "416"


@pytest.fixture
async def opened(b2_server: B2Server) -> AsyncIterator[BackblazeStorage]:
    async with BackblazeStorage(b2_server.settings()) as storage:
        await storage.upload_file("a.webm", DATA)
        await storage.upload_file("empty.webm", b"")
        yield storage


@pytest.fixture
async def player() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def ask(
    player: aiohttp.ClientSession, storage: BackblazeStorage, method: str, key: str, **headers: str
) -> tuple[int, str | None, str | None, bytes]:
    """The status, Content-Range, Content-Length and body."""
    url = await storage.get_signed_url(key, method="HEAD" if method == "HEAD" else "GET")
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    async with player.request(method, url, headers=sent) as response:
        shown = response.headers
        return (
            response.status,
            shown.get("Content-Range"),
            shown.get("Content-Length"),
            await response.read(),
        )


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("asked", "span"),
    [
        ("bytes=0-0", (0, 0)),
        ("bytes=0-1", (0, 1)),
        ("bytes=10-19", (10, 19)),
        ("bytes=990-", (990, 999)),
        ("bytes=0-", (0, 999)),
        ("bytes=999-999", (999, 999)),
        ("bytes=990-5000", (990, 999)),
        ("bytes=0-99999999999999999999999999999999999999999", (0, 999)),
        ("bytes=-1", (999, 999)),
        ("bytes=-1000", (0, 999)),
        ("bytes=-5000", (0, 999)),
        ("BYTES=0-1", (0, 1)),
        ("Bytes=0-1", (0, 1)),
        ("bytes= 0-1", (0, 1)),
        ("bytes=0-1 ", (0, 1)),
        ("bytes=,0-1,", (0, 1)),
        ("bytes=007-008", (7, 8)),
        ("bytes=1000-", NONE),
        ("bytes=1000-1001", NONE),
        ("bytes=99999999999999999999999999999999999999999-", NONE),
        ("bytes=-0", NONE),
        ("bytes=", WHOLE),
        ("bytes=-", WHOLE),
        ("bytes=,", WHOLE),
        ("bytes=a-b", WHOLE),
        ("bytes=0", WHOLE),
        ("bytes=0-1-2", WHOLE),
        ("bytes=5-4", WHOLE),
        ("bytes=0x0-0x1", WHOLE),
        ("bytes=+0-1", WHOLE),
        ("bytes=--1", WHOLE),
        ("bytes=1.0-2", WHOLE),
        ("bytes 0-1", WHOLE),
        ("bytes:0-1", WHOLE),
        ("0-1", WHOLE),
        ("items=0-5", WHOLE),
        ("byte=0-5", WHOLE),
        ("garbage", WHOLE),
        ("=0-1", WHOLE),
        ("bytes=0-0,-1", WHOLE),
        ("bytes=0-1,5-6", WHOLE),
        ("bytes=0-1,x", WHOLE),
        ("bytes=5000-,6000-", WHOLE),
    ],
)
async def test_a_range_follows_the_rfc(
    opened: BackblazeStorage,
    player: aiohttp.ClientSession,
    method: str,
    asked: str,
    span: tuple[int, int] | str,
) -> None:
    status, shown, length, body = await ask(player, opened, method, "a.webm", Range=asked)
    if span == NONE:
        assert (status, shown) == (416, "bytes */1000")
        assert b"InvalidRange" in body or method == "HEAD"
        return
    start, end = (0, 999) if isinstance(span, str) else span
    assert status == (200 if span == WHOLE else 206)
    assert shown == (None if span == WHOLE else f"bytes {start}-{end}/1000")
    assert length == str(end - start + 1)
    assert body == (DATA[start : end + 1] if method == "GET" else b"")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ("bytes=0-0", 416),
        ("bytes=0-", 416),
        ("bytes=-1", 416),
        ("bytes=5-4", 200),
        ("garbage", 200),
        ("bytes=0-1,2-3", 200),
    ],
)
async def test_of_an_empty_file_there_is_no_range(
    opened: BackblazeStorage,
    player: aiohttp.ClientSession,
    method: str,
    asked: str,
    status: int,
) -> None:
    found, shown, _, _ = await ask(player, opened, method, "empty.webm", Range=asked)
    assert found == status
    assert shown == ("bytes */0" if status == 416 else None)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("validator", "status"),
    [
        ("etag", 206),
        ("date", 206),
        ('"other"', 200),
        ("weak", 200),
        ("unquoted", 200),
        ("earlier", 200),
        ("later", 200),
        ("nonsense", 200),
        ("*", 200),
    ],
)
async def test_if_range_must_name_what_is_there(
    opened: BackblazeStorage,
    player: aiohttp.ClientSession,
    method: str,
    validator: str,
    status: int,
) -> None:
    about = await opened.get_file_metadata("a.webm")
    dates = {"date": 0, "earlier": -1, "later": 1}
    named = {"etag": f'"{about.etag}"', "weak": f'W/"{about.etag}"', "unquoted": about.etag}
    named |= {
        name: format_datetime(about.last_modified + timedelta(seconds=seconds), usegmt=True)
        for name, seconds in dates.items()
    }
    value = named.get(validator, validator)
    found = await ask(player, opened, method, "a.webm", Range="bytes=0-1", If_Range=value)
    assert found[:3] == ((206, "bytes 0-1/1000", "2") if status == 206 else (200, None, "1000"))
    # A range that cannot be is no matter where the whole is sent.
    found = await ask(player, opened, method, "a.webm", Range="bytes=5000-", If_Range=value)
    assert found[0] == (416 if status == 206 else 200)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_conditions_on_the_version_go_first(
    opened: BackblazeStorage, player: aiohttp.ClientSession, method: str
) -> None:
    etag = f'"{(await opened.get_file_metadata("a.webm")).etag}"'
    for asked in ("bytes=0-1", "bytes=5000-"):
        found = await ask(player, opened, method, "a.webm", Range=asked, If_Match='"other"')
        assert found[0] == 412
        found = await ask(player, opened, method, "a.webm", Range=asked, If_None_Match=etag)
        assert found[0] == 304
