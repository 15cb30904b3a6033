"""Forms whose file is streamed into an upload, on real web servers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from careflow_storage import BackblazeStorage, InvalidInputError
from careflow_storage._transfer.bodies import limits
from careflow_storage.integrations.fastapi import form_file, install_error_handlers
from careflow_storage.testing import B2Server
from tests.support.behind_proxy import NOTHING_HELD, held
from tests.support.bodies import MIB, noise
from tests.support.web import SERVERS, ServerName, Site, no_tracebacks, site

DATA = noise(200_000)
LONG = noise(6 * MIB)
BOUNDARY = "----a boundary"
TYPE = f'multipart/form-data; boundary="{BOUNDARY}"'
FILE = ("file", "call.webm", "audio/webm", DATA)
MAX_SIZE = 7 * MIB

Part = tuple[str, str | None, str | None, bytes]


@pytest.fixture
async def storage(server: B2Server) -> AsyncIterator[BackblazeStorage]:
    settings = server.settings(part_size=5 * MIB, multipart_threshold=5 * MIB)
    async with BackblazeStorage(settings) as opened:
        yield opened
        assert held(opened) == NOTHING_HELD
        if "CreateMultipartUpload" in opened.request_counts():
            assert await opened.list_incomplete_uploads() == []


def app_of(storage: BackblazeStorage, **options: Any) -> Starlette:
    async def upload(request: Request) -> Response:
        async with form_file(request, **{"max_size": MAX_SIZE, **options}) as part:
            result = await storage.upload_recording("CA1", part, part.filename)
        return JSONResponse(
            {
                "key": result.key,
                "type": result.content_type,
                "given": [part.filename, part.content_type],
                "fields": part.fields,
            },
            201,
        )

    app = Starlette(routes=[Route("/", upload, methods=["POST"])])
    install_error_handlers(app)
    return app


def form(*parts: Part, end: str = "--\r\n") -> bytes:
    """Encode a form as browsers do."""
    body = b""
    for name, filename, kind, content in parts:
        body += f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"'.encode()
        if filename is not None:
            body += f'; filename="{filename}"'.encode()
        if kind is not None:
            body += f"\r\nContent-Type: {kind}".encode()
        body += b"\r\n\r\n" + content + b"\r\n"
    return body + f"--{BOUNDARY}{end}".encode()


async def post(running: Site, body: Any, content_type: str = TYPE) -> httpx.Response:
    async with running.client() as client:
        return await client.post("/", content=body, headers={"Content-Type": content_type})


@pytest.mark.parametrize("name", SERVERS)
async def test_a_form_of_a_client_library_is_stored(
    storage: BackblazeStorage, name: ServerName
) -> None:
    async with site(app_of(storage), name) as running, running.client() as client:
        response = await client.post(
            "/",
            data={"agent": "Zoë", "note": "line 1\r\nline 2"},
            files={"file": ("Anruf 王.webm", LONG, "audio/webm;codecs=opus")},
        )
    assert response.status_code == 201, response.text
    stored = response.json()
    assert stored["given"] == ["Anruf 王.webm", "audio/webm;codecs=opus"]
    assert stored["fields"] == {"agent": "Zoë", "note": "line 1\r\nline 2"}
    assert stored["key"].endswith("-Anruf 王.webm")
    assert await storage.get_file(stored["key"]) == LONG


@pytest.mark.parametrize("size", [1, 3, 61, 1000])
async def test_the_pieces_in_which_a_form_arrives_do_not_matter(
    storage: BackblazeStorage, size: int
) -> None:
    content = b"\r\n--" + BOUNDARY[:-1].encode() + b"\r\n--\r" + noise(300)
    body = form(("before", None, None, b"1"), ("file", "a.webm", None, content)) + b"\r\nafter"

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), size):
            yield body[start : start + size]

    async with site(app_of(storage)) as running:
        response = await post(running, pieces())
    assert response.status_code == 201, response.text
    assert response.json()["given"] == ["a.webm", None]
    assert await storage.get_file(response.json()["key"]) == content


async def test_fields_after_the_file_and_inputs_without_a_file_are_no_second_file(
    storage: BackblazeStorage,
) -> None:
    empty: Part = ("other", "", "application/octet-stream", b"")
    async with site(app_of(storage)) as running:
        response = await post(running, form(empty, FILE, ("after", None, None, b"2"), empty))
    assert response.status_code == 201, response.text
    assert response.json()["fields"] == {"after": "2"}
    assert await storage.get_file(response.json()["key"]) == DATA


def too_large_by_chunks() -> Any:
    async def chunks() -> AsyncIterator[bytes]:
        yield form(("file", "a.webm", None, bytes(MAX_SIZE)), end="")
        yield b"more"

    return chunks()


REFUSED: dict[str, tuple[Any, str, int]] = {
    "no file": (form(("agent", None, None, b"1")), TYPE, 422),
    "no file chosen": (form(("file", "", "application/octet-stream", b"")), TYPE, 422),
    "a text in its place": (form(("file", None, None, b"text")), TYPE, 422),
    "nothing at all": (form(), TYPE, 422),
    "an empty file": (form(("file", "a.webm", "audio/webm", b"")), TYPE, 422),
    "two files": (form(FILE, FILE), TYPE, 422),
    "two files of which the first is long": (form(("file", "a", None, LONG), FILE), TYPE, 422),
    "a file in another field": (form(("other", "a.webm", None, b"1")), TYPE, 422),
    "a second file in another field": (form(FILE, ("other", "a.webm", None, b"1")), TYPE, 422),
    "a name with a folder": (form(("file", "../a.webm", None, b"1")), TYPE, 422),
    "an absolute name": (form(("file", "/etc/passwd", None, b"1")), TYPE, 422),
    "a Windows path": (form(("file", "C:\\calls\\a.webm", None, b"1")), TYPE, 422),
    "a Windows share": (form(("file", "\\\\host\\a.webm", None, b"1")), TYPE, 422),
    "a Windows folder": (form(("file", "..\\a.webm", None, b"1")), TYPE, 422),
    "a disguised name": (form(("file", "a\u202egpj.exe", None, b"1")), TYPE, 422),
    "a long name": (form(("file", "a" * 300, None, b"1")), TYPE, 422),
    "a part without a name": (
        f"--{BOUNDARY}\r\nContent-Type: audio/webm\r\n\r\n1\r\n--{BOUNDARY}--".encode(),
        TYPE,
        400,
    ),
    "a name in another encoding": (form(FILE).replace(b"call.webm", b"\xff.webm"), TYPE, 400),
    "a field in another encoding": (form(("a", None, None, b"\xff"), FILE), TYPE, 400),
    "no last boundary": (form(FILE, end=""), TYPE, 400),
    "an end in the file": (form(FILE)[:1000], TYPE, 400),
    "an end in the headers": (form(FILE)[:40], TYPE, 400),
    "another boundary": (form(FILE), "multipart/form-data; boundary=other", 400),
    "an invalid header": (form(FILE).replace(b"Content-Type:", b"Content Type:"), TYPE, 400),
    "an encoded file": (
        form(FILE).replace(b"Content-Type:", b"Content-Transfer-Encoding: base64\r\nContent-Type:"),
        TYPE,
        400,
    ),
    "no form": (DATA, TYPE, 400),
    "an empty body": (b"", TYPE, 400),
    "no boundary": (form(FILE), "multipart/form-data", 400),
    "an empty boundary": (form(FILE), "multipart/form-data; boundary=", 400),
    "a boundary of a kilobyte": (form(FILE), f"multipart/form-data; boundary={'b' * 1024}", 400),
    "another type": (DATA, "audio/webm", 415),
    "a form of another kind": (b"file=1", "application/x-www-form-urlencoded", 415),
    "too large": (form(("file", "a.webm", None, bytes(MAX_SIZE + 1))), TYPE, 413),
    "far too large": (form(("file", "a.webm", None, bytes(MAX_SIZE + 2 * MIB))), TYPE, 413),
    "a field of two megabytes": (form(("a", None, None, bytes(2 * MIB)), FILE), TYPE, 413),
    "too much after the file": (form(FILE) + bytes(2 * MIB), TYPE, 413),
}


@pytest.mark.parametrize("kind", REFUSED)
async def test_a_form_that_is_refused_stores_nothing(
    storage: BackblazeStorage, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    body, content_type, status = REFUSED[kind]
    async with site(app_of(storage)) as running:
        response = await post(running, body, content_type)
        assert await running.ended() is None
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert await storage.list_files() == []
    assert no_tracebacks(caplog)


async def test_a_header_of_two_megabytes_is_refused(storage: BackblazeStorage) -> None:
    async with site(app_of(storage)) as running:
        response = await post(running, form(("file", "a.webm", "b" * 2 * MIB, b"1")))
    # Newer parsers have a limit of their own for a header.
    assert response.status_code in (400, 413)
    assert await storage.list_files() == []


async def test_a_file_of_unknown_length_is_refused_when_it_becomes_too_large(
    storage: BackblazeStorage,
) -> None:
    async with site(app_of(storage)) as running:
        response = await post(running, too_large_by_chunks())
    assert (response.status_code, response.json()["error"]) == (413, "FileTooLargeError")
    assert await storage.list_files() == []


@pytest.mark.parametrize("name", SERVERS)
async def test_a_request_that_is_too_large_is_refused_before_it_is_read(
    storage: BackblazeStorage, name: ServerName
) -> None:
    async with site(app_of(storage), name) as running:
        reader, writer = await running.connect()
        writer.write(request_head(10**12))
        assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
        assert await running.ended() is None
    assert "PutObject" not in storage.request_counts()


def request_head(length: int) -> bytes:
    return (
        f"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: {TYPE}\r\n"
        f"Content-Length: {length}\r\n\r\n"
    ).encode()


@pytest.mark.parametrize("at", [10, 150, 5 * MIB + 5000])
@pytest.mark.parametrize("name", SERVERS)
async def test_a_client_that_leaves_in_its_form_stores_nothing(
    storage: BackblazeStorage, name: ServerName, at: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    body = form(("file", "a.webm", None, LONG))
    async with site(app_of(storage), name) as running:
        _, writer = await running.connect()
        writer.write(request_head(len(body)) + body[:at])
        await writer.drain()
        writer.close()
        assert await running.ended() is None
    assert await storage.list_files() == []
    assert no_tracebacks(caplog)
    assert "POST '/': the client left." in caplog.messages


@pytest.mark.parametrize(
    ("at", "read_timeout"),
    # What arrives in several reads must arrive before the timeout, on a busy machine too.
    [(0, 0.05), (10, 0.05), (150, 0.05), (5 * MIB + 5000, 1.0)],
)
@pytest.mark.parametrize("name", SERVERS)
async def test_a_client_that_stalls_is_timed_out(
    storage: BackblazeStorage, name: ServerName, at: int, read_timeout: float
) -> None:
    body = form(("file", "a.webm", None, LONG))
    async with site(app_of(storage, read_timeout=read_timeout), name) as running:
        reader, writer = await running.connect()
        writer.write(request_head(len(body)) + body[:at])
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408 ")
        assert b"connection: close" in head.lower()
        # The server closes; a reset, where it leaves bytes of the body unread.
        with contextlib.suppress(ConnectionResetError):
            await reader.read()
        assert await running.ended() is None
    assert await storage.list_files() == []


async def test_a_client_that_is_slower_than_the_least_rate_is_timed_out(
    storage: BackblazeStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RATE_WINDOW", 0.2)
    body = form(("file", "a.webm", None, LONG))
    async with site(app_of(storage, min_rate=10**9)) as running:
        reader, writer = await running.connect()
        writer.write(request_head(len(body)))

        async def send() -> None:
            for byte in body:
                writer.write(bytes([byte]))
                await asyncio.sleep(0.01)

        sending = asyncio.create_task(send())
        assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
        sending.cancel()
    assert await storage.list_files() == []


async def test_a_part_cannot_be_read_after_its_block_or_after_an_error(
    storage: BackblazeStorage,
) -> None:
    seen: list[str] = []

    async def upload(request: Request) -> Response:
        async with form_file(request) as part:
            assert await anext(part)
            with pytest.raises(InvalidInputError) as first:
                async for _ in part:
                    pass
            with pytest.raises(InvalidInputError) as second:
                await anext(part)
        with pytest.raises(InvalidInputError) as third:
            await anext(part)
        seen.extend(str(error.value) for error in (first, second, third))
        return Response()

    app = Starlette(routes=[Route("/", upload, methods=["POST"])])
    async with site(app) as running:
        await post(running, form(("file", "a.webm", None, LONG), FILE))
    assert "another file" in seen[0]
    assert seen[1] == seen[2] == "The form is closed, or could not be read."


@pytest.mark.parametrize("given", [{"max_size": -1}, {"read_timeout": 0}, {"min_rate": "fast"}])
async def test_a_limit_that_is_none_is_refused(
    storage: BackblazeStorage, given: dict[str, Any]
) -> None:
    async with site(app_of(storage, **given)) as running:
        response = await post(running, form(FILE))
    assert response.status_code == 422
    assert next(iter(given)) in response.json()["detail"]
