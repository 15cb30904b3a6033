"""However an upload from a URL fails, nothing of the error shows the URL's token or the password.

Looked at as error trackers do: every error that caused it, and all local variables of all frames.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import pickle
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web

from careflow_storage import BackblazeStorage, StorageError
from careflow_storage.testing import B2Server
from tests.support.bodies import noise
from tests.support.frames import recorded
from tests.support.url_source import Source, redirect

pytest_plugins = ["careflow_storage.testing.plugin"]

TOKEN, USER, PASSWORD, HEADER = "QueryT0ken", "AC0user", "Pa55w0rd+", "HeaderS3cret"
BASIC = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
SECRETS = (TOKEN, PASSWORD, BASIC, HEADER)
FIELDS: dict[str, Any] = {
    "auth": (USER, PASSWORD),
    "headers": {"X-Api-Key": HEADER},
    "allow_private_addresses": True,
}
DATA = noise(400_000)


async def response_with(status: int) -> web.StreamResponse:
    return web.Response(status=status, headers={"Content-Type": "audio/wav"}, body=b"x" * 100)


def status(code: int) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    return lambda _: response_with(code)


async def break_off(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "audio/wav", "Content-Length": "9999"})
    await response.prepare(request)
    await response.write(b"x" * 100)
    assert request.transport is not None
    request.transport.abort()
    return response


async def hang(request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(3600)
    raise AssertionError


async def page(_: web.Request) -> web.StreamResponse:
    return web.Response(text=f"<html>{TOKEN}</html>", content_type="text/html")


async def packed(_: web.Request) -> web.StreamResponse:
    return web.Response(body=b"x", headers={"Content-Encoding": "gzip"})


@pytest.fixture
async def source() -> AsyncIterator[Source]:
    routes = {
        **{f"/{code}": status(code) for code in (204, 401, 403, 404, 410, 500, 503)},
        "/loop": redirect(f"/loop?token={TOKEN}"),
        "/nowhere": redirect(""),
        "/ftp": redirect(f"ftp://{TOKEN}@example.com/{TOKEN}"),
        "/userinfo": redirect(f"http://u:{TOKEN}@127.0.0.1/"),
        "/elsewhere": redirect(f"http://localhost:1/?token={TOKEN}"),
        "/broken": break_off,
        "/hang": hang,
        "/page": page,
        "/packed": packed,
    }
    async with Source(DATA, routes=routes) as server:
        yield server


@pytest.fixture
async def opened(b2_server: B2Server) -> AsyncIterator[BackblazeStorage]:
    changes: dict[str, Any] = {
        "retry_attempts": 2,
        "idle_timeout": 0.5,
        "multipart_threshold": 100_000,
    }
    async with BackblazeStorage(b2_server.settings(**changes)) as storage:
        yield storage


def check(error: BaseException, log: str = "") -> None:
    """Look at all that is kept of an error, here and after a journey."""
    looked_at = [recorded(error), log]
    if isinstance(error, StorageError):
        looked_at.append(recorded(pickle.loads(pickle.dumps(error))))  # noqa: S301 - ours
    for text in looked_at:
        found = [line for line in text.splitlines() if any(each in line for each in SECRETS)]
        assert not found, found[:5]


async def fail(storage: BackblazeStorage, url: str, **fields: Any) -> BaseException:
    given = {"call_id": "CA1", "filename": "call.wav", **FIELDS} | fields
    # As a caller's own frame would hold them, which is not ours.
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - whatever it is
        await storage.upload_from_url(given.pop("call_id"), url, given.pop("filename"), **given)
    return caught.value


@pytest.mark.parametrize(
    "path",
    [
        *(f"/{code}" for code in (204, 401, 403, 404, 410, 500, 503)),
        *("/loop", "/nowhere", "/ftp", "/userinfo", "/elsewhere"),
        *("/broken", "/page", "/packed", "/missing"),
    ],
)
async def test_given_a_source_that_fails_then_the_error_holds_no_secret(
    opened: BackblazeStorage, source: Source, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "careflow_storage")
    error = await fail(opened, f"{source.origin}{path}?token={TOKEN}")
    assert isinstance(error, StorageError)
    check(error, "".join(each.getMessage() for each in caplog.records if "careflow" in each.name))


@pytest.mark.parametrize(
    "url",
    [
        f"http://127.0.0.1:1/?token={TOKEN}",
        f"https://127.0.0.1:1/?token={TOKEN}",
        f"http://no-such-host.invalid/?token={TOKEN}",
        f"http://u:{TOKEN}@127.0.0.1:1/",
        f"ftp://127.0.0.1/?token={TOKEN}",
        f"http://127.0.0.1:99999/?token={TOKEN}",
        f"http://[::1/?token={TOKEN}",
        f"http://exa mple/?token={TOKEN}",
        f"//{TOKEN}",
        f"http://127.0.0.1/\r\n{TOKEN}",
        f"http://127.0.0.1/?\ud800={TOKEN}",
        TOKEN.encode(),
    ],
    ids=ascii,
)
async def test_given_a_url_that_leads_nowhere_then_the_error_holds_no_secret(
    opened: BackblazeStorage, url: Any
) -> None:
    error = await fail(opened, url)
    assert isinstance(error, StorageError)
    check(error)


@pytest.mark.parametrize(
    "wrong",
    [
        {"call_id": "../a"},
        {"filename": ""},
        {"metadata": {"a": "\n"}},
        {"checksum": "md4"},
        {"encryption": "none"},
        {"recorded_at": "now"},
        {"auth": f"{USER}:{PASSWORD}"},
        {"auth": [USER, PASSWORD]},
        {"auth": (USER, PASSWORD, "")},
        {"auth": ("", PASSWORD)},
        {"auth": (f"{USER}:", PASSWORD)},
        {"auth": (USER, f"{PASSWORD}\n")},
        {"auth": (USER, f"{PASSWORD}\ud800")},
        {"auth": (USER, PASSWORD.encode())},
        {"headers": {"Authorization": f"Bearer {HEADER}"}},
        {"headers": {"Host": HEADER}},
        {"headers": {"X-Api-Key": f"{HEADER}\n"}},
        {"headers": {"X-Api-Key": HEADER, "a b": "c"}},
        {"headers": [("X-Api-Key", HEADER)]},
        {"headers": HEADER},
        {"allow_private_addresses": False},
        {"max_size": 10},
        {"max_size": -1},
        {"max_redirects": None},
        {"content_types": "audio"},
        {"content_types": ["nothing"]},
        {"content_types": ["video/mp4"]},
        {"timeout": 0},
        {"timeout": -1},
    ],
    ids=ascii,
)
async def test_given_an_argument_that_is_refused_then_the_error_holds_no_secret(
    opened: BackblazeStorage, source: Source, wrong: dict[str, Any]
) -> None:
    error = await fail(opened, f"{source.url}?token={TOKEN}", **wrong)
    assert isinstance(error, StorageError), repr(error)
    check(error)


async def test_given_a_certificate_that_is_not_trusted_then_the_error_holds_no_secret(
    opened: BackblazeStorage,
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    async with Source(DATA, tls=context) as source:
        error = await fail(opened, f"{source.url}?token={TOKEN}")
    assert "TLS" in str(error)
    check(error)


@pytest.mark.parametrize("operation", ["PutObject", "CreateMultipartUpload", "UploadPart"])
@pytest.mark.parametrize("size", [1000, len(DATA)])
async def test_given_a_storage_that_fails_then_the_error_holds_no_secret(
    opened: BackblazeStorage, b2_server: B2Server, source: Source, operation: str, size: int
) -> None:
    source.body = DATA[:size]
    b2_server.faults.always(status=403, code="AccessDenied")
    check(await fail(opened, f"{source.url}?token={TOKEN}"))


async def test_given_a_callback_that_raises_then_the_error_holds_no_secret(
    opened: BackblazeStorage, source: Source
) -> None:
    def progress(_: object) -> None:
        raise KeyError("of the caller")

    error = await fail(opened, f"{source.url}?token={TOKEN}", progress=progress)
    assert isinstance(error, KeyError)
    check(error)


@pytest.mark.parametrize("seconds", [0.001, 0.2])
async def test_given_a_deadline_that_is_over_then_the_error_holds_no_secret(
    opened: BackblazeStorage, source: Source, seconds: float
) -> None:
    check(await fail(opened, f"{source.origin}/hang?token={TOKEN}", timeout=seconds))


async def test_given_a_source_that_falls_silent_then_the_error_holds_no_secret(
    b2_server: B2Server, source: Source
) -> None:
    settings = b2_server.settings(retry_attempts=2, idle_timeout=0.05)
    async with BackblazeStorage(settings) as storage:
        error = await fail(storage, f"{source.origin}/hang?token={TOKEN}")
    assert "no data was transferred" in str(error)
    check(error)


@pytest.mark.parametrize("turns", [0, 1, 2, 5])
@pytest.mark.parametrize("path", ["/call", "/hang"])
async def test_given_a_cancellation_then_it_holds_no_secret(
    opened: BackblazeStorage, source: Source, turns: int, path: str
) -> None:
    url = f"{source.origin}{path}?token={TOKEN}"
    task = asyncio.create_task(fail(opened, url))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    if turns:
        check(await task)
    else:
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_given_a_closed_storage_then_the_error_holds_no_secret(
    opened: BackblazeStorage, source: Source, tmp_path: Path
) -> None:
    await opened.close()
    check(await fail(opened, f"{source.url}?token={TOKEN}"))
