"""`serve_file`: what a web app passes on to a browser or player, by RFC 9110."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from careflow_storage import (
    BackblazeStorage,
    ChecksumMismatchError,
    InvalidInputError,
    NoSuchKeyError,
    ServedFile,
    StorageClosedError,
    StorageSettings,
    StorageTimeoutError,
)
from careflow_storage.testing import B2Server
from careflow_storage.testing.proxy.proxy import FaultProxy
from tests.support.behind_proxy import NOTHING_HELD, held, storage_behind
from tests.support.bodies import MIB, noise

DATA = noise(MIB + 17)
SIZE = len(DATA)
ETAG = f'"{hashlib.md5(DATA, usedforsecurity=False).hexdigest()}"'
OTHER = '"00000000000000000000000000000000"'

SERVERS = ["moto", "emulator", pytest.param("seaweedfs", marks=pytest.mark.integration)]


@pytest.fixture(params=SERVERS)
async def proxy(request: pytest.FixtureRequest) -> AsyncIterator[FaultProxy]:
    """Before each server in turn; it counts the requests."""
    server: B2Server | None = None
    if request.param == "emulator":
        server = request.getfixturevalue("server")
        given = server.settings()
    else:
        name = "settings" if request.param == "moto" else "seaweed_settings"
        given = request.getfixturevalue(name)
    async with FaultProxy(given.endpoint or "") as opened:
        opened.given = given  # type: ignore[attr-defined]  # for `storage`
        yield opened


@pytest.fixture
async def storage(proxy: FaultProxy) -> AsyncIterator[BackblazeStorage]:
    """With `DATA` under "a.webm" and an empty file under "empty.webm"."""
    given: StorageSettings = proxy.given  # type: ignore[attr-defined]
    async with storage_behind(
        proxy, given, multipart_threshold=4 * MIB, max_connections=8
    ) as opened:
        opened.settings.__dict__.update(part_size=4 * MIB, memory_budget=16 * MIB)
        await opened.upload_file("a.webm", DATA, "audio/webm")
        await opened.upload_file("empty.webm", b"", "audio/webm")
        proxy.clear()
        proxy.log.clear()
        yield opened
        assert held(opened) == NOTHING_HELD


async def read(served: ServedFile) -> bytes:
    async with served.body as body:
        return b"".join([chunk async for chunk in body])


async def get(
    storage: BackblazeStorage, headers: dict[str, str] | None = None, **request: Any
) -> tuple[int, dict[str, str], bytes]:
    key = request.pop("key", "a.webm")
    served = await storage.serve_file(key, headers=headers, **request)
    body = await read(served)
    if served.status != 304 and request.get("method") != "HEAD":
        assert served.headers["Content-Length"] == str(len(body))
    assert not [name for name in served.headers if name.lower().startswith("x-amz")]
    return served.status, served.headers, body


async def test_a_whole_file_takes_one_request(storage: BackblazeStorage, proxy: FaultProxy) -> None:
    found = await storage.get_file_metadata("a.webm")
    proxy.log.clear()
    status, headers, body = await get(storage)
    assert (status, body) == (200, DATA)
    assert headers == {
        "Content-Type": "audio/webm",
        "Content-Length": str(SIZE),
        "Accept-Ranges": "bytes",
        "ETag": ETAG,
        "Last-Modified": format_datetime(found.last_modified, usegmt=True),
        "Cache-Control": "private",
        "X-Content-Type-Options": "nosniff",
    }
    assert len(proxy.log) == 1


async def test_a_head_request_has_the_headers_of_a_get_and_no_body(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    _, headers, _ = await get(storage)
    proxy.log.clear()
    # A range means nothing for HEAD.
    ranged = {"Range": "bytes=0-1"}
    assert await get(storage, ranged, method="HEAD") == (200, headers, b"")
    assert [attempt.method for attempt in proxy.log] == ["HEAD"]


RANGES = [
    ("bytes=0-1", 0, 2),
    ("bytes=0-0", 0, 1),
    ("bytes=0-", 0, SIZE),
    (f"bytes=0-{SIZE - 1}", 0, SIZE),
    (f"bytes=0-{10**18}", 0, SIZE),
    ("bytes=0-" + "9" * 60, 0, SIZE),
    ("bytes=1000-1999", 1000, 2000),
    ("bytes=100-", 100, SIZE),
    (f"bytes={SIZE - 1}-", SIZE - 1, SIZE),
    ("bytes=-1", SIZE - 1, SIZE),
    ("bytes=-1000", SIZE - 1000, SIZE),
    (f"bytes=-{SIZE}", 0, SIZE),
    (f"bytes=-{SIZE * 5}", 0, SIZE),
    ("bytes=-" + "9" * 60, 0, SIZE),
    ("Bytes=5-6", 5, 7),
    ("bytes= 5-6 ,", 5, 7),
]


async def test_a_range_takes_one_request(storage: BackblazeStorage, proxy: FaultProxy) -> None:
    for asked, start, end in RANGES:
        proxy.log.clear()
        status, headers, body = await get(storage, {"rAnGe": asked})
        assert (status, body) == (206, DATA[start:end]), asked
        assert headers["Content-Range"] == f"bytes {start}-{end - 1}/{SIZE}"
        assert headers["Content-Type"] == "audio/webm"
        assert headers["ETag"] == ETAG
        assert len(proxy.log) == 1


IGNORED = [
    *("", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=1-b", "bytes=5-4", "bytes=--1"),
    *(
        "items=0-5",
        "bytes=0-1, 5-6",
        "bytes=0-1,-1",
        "bytes 0-1/5",
        "bytes=0 - 1",
        "bytes=+1-2",
    ),
    *("bytes=١-٢", "bytes=0-1\n", "bytes=0-" + "9" * 200, "9" * 5000),
]


async def test_a_range_that_is_malformed_or_has_several_parts_is_ignored(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    for asked in IGNORED:
        proxy.log.clear()
        status, headers, body = await get(storage, {"Range": asked})
        assert (status, body) == (200, DATA), asked
        assert "Content-Range" not in headers
        assert len(proxy.log) == 1


BEYOND = [
    (f"bytes={SIZE}-", 2),
    (f"bytes={SIZE}-{SIZE + 5}", 2),
    ("bytes=-0", 1),
    ("bytes=" + "9" * 60 + "-", 1),
]


async def test_a_range_beyond_the_end_is_refused_with_the_size(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    for asked, requests in BEYOND:
        proxy.log.clear()
        status, headers, body = await get(storage, {"Range": asked})
        assert (status, body) == (416, b"")
        assert headers["Content-Range"] == f"bytes */{SIZE}"
        assert "Content-Type" not in headers
        assert len(proxy.log) == requests


async def test_an_empty_file(storage: BackblazeStorage) -> None:
    status, headers, body = await get(storage, key="empty.webm")
    assert (status, body, headers["Content-Length"]) == (200, b"", "0")
    status, headers, body = await get(storage, {"Range": "bytes=0-"}, key="empty.webm")
    assert (status, headers["Content-Range"]) == (416, "bytes */0")
    status, headers, body = await get(storage, {"Range": "bytes=0-1"}, key="empty.webm")
    assert (status, headers["Content-Range"]) == (416, "bytes */0")
    # By RFC 9110 a suffix of an empty file is satisfiable.
    status, headers, body = await get(storage, {"Range": "bytes=-5"}, key="empty.webm")
    assert (status, "Content-Range" in headers, body) == (200, False, b"")


def dates(modified: Any) -> dict[str, str]:
    return {
        name: format_datetime(modified + timedelta(seconds=seconds), usegmt=True)
        for name, seconds in (("same", 0), ("before", -1), ("after", 1))
    }


CONDITIONS = [
    ({"If-None-Match": ETAG}, 304),
    ({"If-None-Match": f"W/{ETAG}"}, 304),
    ({"If-None-Match": f"{OTHER}, W/{ETAG}"}, 304),
    ({"If-None-Match": ETAG.strip('"')}, 304),
    ({"If-None-Match": "*"}, 304),
    ({"If-None-Match": OTHER}, 200),
    ({"If-None-Match": f"W/{OTHER}"}, 200),
    ({"If-None-Match": '"ü"'}, 200),
    ({"If-None-Match": '"'}, 200),
    ({"If-Modified-Since": "same"}, 304),
    ({"If-Modified-Since": "after"}, 304),
    ({"If-Modified-Since": "before"}, 200),
    ({"If-Modified-Since": "yesterday"}, 200),
    # An ETag is more exact than a date, which is then ignored.
    ({"If-None-Match": OTHER, "If-Modified-Since": "same"}, 200),
    ({"If-None-Match": ETAG, "If-Modified-Since": "before"}, 304),
    ({"If-Match": ETAG}, 200),
    ({"If-Match": "*"}, 200),
    ({"If-Match": f"{OTHER}, {ETAG}"}, 200),
    ({"If-Match": OTHER}, 412),
    ({"If-Match": f"W/{ETAG}"}, 412),
    ({"If-Match": ETAG, "If-Unmodified-Since": "before"}, 200),
    ({"If-Match": ETAG, "If-None-Match": ETAG}, 304),
    ({"If-Match": OTHER, "If-None-Match": ETAG}, 412),
    ({"If-Unmodified-Since": "same"}, 200),
    ({"If-Unmodified-Since": "before"}, 412),
    ({"If-Unmodified-Since": "nonsense"}, 200),
]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_conditions(storage: BackblazeStorage, proxy: FaultProxy, method: str) -> None:
    modified = (await storage.get_file_metadata("a.webm")).last_modified
    for given, status in CONDITIONS:
        for asked in ("", "bytes=5-9", "bytes=-5"):
            sent = {name: dates(modified).get(value, value) for name, value in given.items()}
            proxy.log.clear()
            found, headers, body = await get(storage, sent | {"Range": asked}, method=method)
            whole = method == "HEAD" or not asked
            assert found == (206 if status == 200 and not whole else status), (given, asked)
            assert len(proxy.log) == 1
            assert headers["ETag"] == ETAG
            if status == 304:
                # Not every server sends the date with its own 304.
                assert set(headers) <= {"ETag", "Last-Modified", "Cache-Control", "Expires"}
            else:
                assert headers["Last-Modified"] == dates(modified)["same"]
            if status != 200:
                assert body == b""


IF_RANGES = [
    (ETAG, True, 1),
    (OTHER, False, 2),
    (f"W/{ETAG}", False, 1),
    ('"ü"', False, 1),
    ("same", True, 1),
    ("before", False, 2),
    ("after", False, 2),
    ("nonsense", False, 2),
]


async def test_if_range(storage: BackblazeStorage, proxy: FaultProxy) -> None:
    modified = (await storage.get_file_metadata("a.webm")).last_modified
    beyond = f"bytes={SIZE}-"
    for given, fits, requests in IF_RANGES:
        for asked, part in {"bytes=5-9": DATA[5:10], "bytes=-5": DATA[-5:], beyond: b""}.items():
            sent = {"Range": asked, "If-Range": dates(modified).get(given, given)}
            proxy.log.clear()
            status, headers, body = await get(storage, sent)
            assert len(proxy.log) <= requests + (asked == beyond), (given, asked)
            if not fits:
                assert (status, body) == (200, DATA)
            elif asked == beyond:
                assert (status, headers["Content-Range"]) == (416, f"bytes */{SIZE}")
            else:
                assert (status, body) == (206, part)
            # For HEAD it means nothing.
            assert (await get(storage, sent, method="HEAD"))[0] == 200
    # Nor does it without a range.
    assert (await get(storage, {"If-Range": OTHER}))[0] == 200


DISPOSITIONS = [
    ("audio/webm", None, None),
    ("audio/webm", 'inline; filename="a.webm"', 'inline; filename="a.webm"'),
    ("audio/webm; codecs=opus", None, None),
    ("application/pdf", None, None),
    ("text/html", None, "attachment"),
    ("text/html; charset=utf-8", 'inline; filename="a.html"', 'attachment; filename="a.html"'),
    ("TEXT/HTML", 'attachment; filename="a.html"', 'attachment; filename="a.html"'),
    ("image/svg+xml", None, "attachment"),
    ("application/xhtml+xml", None, "attachment"),
    ("text/javascript", None, "attachment"),
    ("image/png, text/html", None, "attachment"),
    ("image/png; a=,text/html", None, "attachment"),
]


async def test_what_a_browser_could_run_is_saved(storage: BackblazeStorage) -> None:
    for kind, stored, disposition in DISPOSITIONS:
        await storage.upload_file(
            "b", b"bytes", kind, content_disposition=stored, cache_control="no-store"
        )
        _, headers, _ = await get(storage, key="b")
        assert headers.get("Content-Disposition") == disposition, kind
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert headers["Content-Type"].lower() == kind.lower()


async def test_download_as_names_the_file(storage: BackblazeStorage) -> None:
    for method in ("GET", "HEAD"):
        _, headers, _ = await get(storage, method=method, download_as='Gespräch "1".webm')
        assert headers["Content-Disposition"] == (
            "attachment; filename=\"Gespr?ch '1'.webm\"; "
            "filename*=UTF-8''Gespr%C3%A4ch%20%221%22.webm"
        )


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": "POST"},
        {"method": "get"},
        {"download_as": "../a.webm"},
        {"download_as": "a\r\nSet-Cookie: b"},
        {"headers": [("Range", "bytes=0-1")]},
        {"headers": {"Range": b"bytes=0-1"}},
        {"timeout": 0},
    ],
)
async def test_bad_input_sends_no_request(
    storage: BackblazeStorage, proxy: FaultProxy, wrong: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInputError):
        await storage.serve_file("a.webm", **wrong)
    assert not proxy.log


async def test_a_missing_file_is_an_error_also_under_conditions(storage: BackblazeStorage) -> None:
    for headers in ({}, {"Range": "bytes=-5"}, {"If-None-Match": "*"}, {"If-Match": ETAG}):
        for method in ("GET", "HEAD"):
            with pytest.raises(NoSuchKeyError) as caught:
                await storage.serve_file("none", method=method, headers=headers)
            assert caught.value.method == "serve_file"


async def test_one_version(storage: BackblazeStorage) -> None:
    first = await storage.get_file_metadata("a.webm")
    await storage.upload_file("a.webm", DATA[::-1], "audio/webm")
    _, _, body = await get(storage, {"Range": "bytes=-5"}, version_id=first.version_id)
    assert body == DATA[-5:]
    assert (await get(storage, {"Range": "bytes=-5"}))[2] == DATA[::-1][-5:]
    # What the client has is of the other version.
    status, _, body = await get(storage, {"Range": "bytes=-5", "If-Range": ETAG})
    assert (status, body) == (200, DATA[::-1])


@pytest.mark.parametrize("asked", [None, "bytes=-700000", "bytes=300000-"])
async def test_a_broken_connection_continues_on_the_same_version(
    storage: BackblazeStorage, proxy: FaultProxy, asked: str | None
) -> None:
    proxy.add(method="GET", cut="reset", at=("body", 400_000), times=1)
    served = await storage.serve_file("a.webm", headers={"Range": asked} if asked else {})
    await storage.upload_file("a.webm", DATA[::-1], "audio/webm")
    start = 0 if asked is None else SIZE - 700_000 if asked == "bytes=-700000" else 300_000
    assert await read(served) == DATA[start:]


async def test_damaged_bytes_never_look_complete(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    proxy.add(method="GET", corrupt=1000, times=1)
    served = await storage.serve_file("a.webm")
    received = 0

    async def receive() -> None:
        nonlocal received
        async for chunk in served.body:
            received += len(chunk)

    with pytest.raises(ChecksumMismatchError) as caught:
        await receive()
    assert received < SIZE
    assert caught.value.method == "serve_file"


async def test_a_client_that_leaves_gives_slot_and_connection_back(
    storage: BackblazeStorage,
) -> None:
    never_read = await storage.serve_file("a.webm")
    assert held(storage)["slots"] == 1
    await never_read.body.aclose()
    await never_read.body.aclose()
    assert held(storage) == NOTHING_HELD
    left = await storage.serve_file("a.webm")
    await anext(left.body)
    assert held(storage)["slots"] == 1
    await left.body.aclose()
    assert held(storage) == NOTHING_HELD
    for served in (never_read, left):
        with pytest.raises(StorageClosedError):
            await anext(served.body)


async def test_a_cancelled_read_gives_all_back_and_does_not_end_as_if_complete(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    proxy.add(method="GET", cut="hang", at=("body", 500_000), times=1)
    served = await storage.serve_file("a.webm")
    begun = asyncio.Event()

    async def play() -> None:
        async with served.body as body:
            async for _ in body:
                begun.set()

    task = asyncio.create_task(play())
    await begun.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert held(storage) == NOTHING_HELD
    with pytest.raises(StorageClosedError):
        await anext(served.body)


async def test_the_timeout_is_for_the_call_and_not_for_the_body(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    served = await storage.serve_file("a.webm", timeout=20)
    assert await read(served) == DATA
    proxy.add(method="GET", cut="hang", times=1)
    with pytest.raises(StorageTimeoutError):
        await storage.serve_file("a.webm", timeout=0.05)
    gc.collect()
    assert held(storage) == NOTHING_HELD


async def test_more_slow_players_than_connections_do_not_stop_a_head_request(
    storage: BackblazeStorage,
) -> None:
    most = storage.settings.max_connections
    players = [await storage.serve_file("a.webm") for _ in range(2 * most)]
    half_read = [await anext(served.body) for served in players[:most]]
    assert (await storage.serve_file("a.webm", method="HEAD")).status == 200
    rest = await asyncio.gather(*(read(served) for served in players[:most]))
    assert all(first + other == DATA for first, other in zip(half_read, rest, strict=True))
    for served in players[most:]:
        await served.body.aclose()
