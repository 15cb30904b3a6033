"""The hint of a `SourceError` advises to try again only where ``retryable`` says it may help."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any

import pytest
from aiohttp import web

from careflow_storage import BackblazeStorage, SourceError
from tests.support.url_source import Handler, Source, redirect, store

AUDIO = {"Content-Type": "audio/wav"}
AGAIN = re.compile(r"\b(later|again|wait|until)\b")
OTHERWISE = re.compile(
    r"(?:^|[.:] )(Pass|Raise|Check|Ask|Put|For a server in your own)\b|pass \w+="
)
RETRYABLE = {408, 429, 500, 502, 503, 504, 404, 425}


def assert_agrees(error: SourceError) -> None:
    """The hint of an error that may pass says so; that of another says what to change."""
    hint = error.hint or ""
    if AGAIN.search(hint):
        assert error.retryable, error
    if OTHERWISE.search(hint):
        assert not error.retryable, error
    # A time to wait is of use only to those who try again.
    assert error.retryable or not AGAIN.search(error.message), error


@pytest.fixture
async def source() -> AsyncIterator[Source]:
    async with Source(b"RIFF" + bytes(2000)) as source:
        yield source


async def failure(storage: BackblazeStorage, url: str, **options: Any) -> SourceError:
    with pytest.raises(SourceError) as caught:
        await store(storage, url, **options)
    return caught.value


@pytest.mark.parametrize("query", ["", "?X-Amz-Signature=a&X-Amz-Credential=b"], ids=["", "signed"])
async def test_the_error_of_each_status(
    storage: BackblazeStorage, source: Source, query: str
) -> None:
    async def respond(request: web.Request) -> web.Response:
        return web.Response(status=int(request.path.rpartition("/")[2]))

    for status in HTTPStatus:
        if status < 400:
            continue
        source.routes[f"/{status:d}"] = respond
        error = await failure(storage, f"{source.origin}/{status:d}{query}")
        assert error.status == status
        assert error.retryable is (status in RETRYABLE)
        assert_agrees(error)


def respond_with(body: bytes = b"RIFF data", **headers: str) -> Handler:
    async def respond(_: web.Request) -> web.Response:
        return web.Response(
            body=body, headers=AUDIO | {name.replace("_", "-"): to for name, to in headers.items()}
        )

    return respond


async def cut_off(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers=AUDIO | {"Content-Length": "100"})
    await response.prepare(request)
    await response.write(b"RIFF")
    assert request.transport is not None
    request.transport.close()
    return response


async def hang_up(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.close()
    return web.Response()


async def no_http(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.write(b"this is no HTTP\r\n\r\n")
    request.transport.close()
    return web.Response()


REFUSALS: dict[str, tuple[Handler, bool]] = {
    "empty": (respond_with(b""), False),
    "a page": (respond_with(b"<html>", Content_Type="text/html"), False),
    "a page in disguise": (respond_with(b"<!doctype html><html>"), False),
    "json": (respond_with(b'{"error": 1}'), False),
    "encoded": (respond_with(Content_Encoding="br"), False),
    "a range": (respond_with(Content_Range="bytes 0-8/9"), False),
    "redirect to nothing": (redirect(""), False),
    "redirect to another scheme": (redirect("ftp://example.com/a"), False),
    "redirect in a circle": (redirect("/here"), False),
    "too large": (respond_with(bytes(3000)), False),
    "cut off": (cut_off, True),
    "hung up": (hang_up, True),
    "no HTTP": (no_http, False),
}


@pytest.mark.parametrize("name", REFUSALS)
async def test_the_error_of_each_refused_response(
    storage: BackblazeStorage, source: Source, name: str
) -> None:
    source.routes["/here"], retryable = REFUSALS[name]
    error = await failure(storage, f"{source.origin}/here", max_size=2500)
    assert error.retryable is retryable
    assert_agrees(error)


@pytest.mark.parametrize(
    ("url", "private", "retryable"),
    [
        ("http://127.0.0.1:1/a", True, True),
        ("https://no-such-host.invalid/a", True, False),
        ("http://localhost:1/a", False, False),
    ],
    ids=["no listener", "no such host", "private"],
)
async def test_the_error_of_each_connection_that_fails(
    storage: BackblazeStorage, url: str, private: bool, retryable: bool
) -> None:
    error = await failure(storage, url, allow_private_addresses=private)
    assert error.retryable is retryable, error
    assert_agrees(error)


async def test_the_error_of_a_server_without_tls(storage: BackblazeStorage, source: Source) -> None:
    error = await failure(storage, source.url.replace("http://", "https://"))
    assert error.retryable is False
    assert_agrees(error)
