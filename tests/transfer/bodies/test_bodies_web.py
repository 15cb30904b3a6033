"""Bodies of web frameworks and HTTP clients: stored whole, or refused."""

from __future__ import annotations

import asyncio
import base64
import io
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import httpx
import pytest
import requests
import urllib3
from aiohttp import web
from starlette.datastructures import UploadFile

from careflow_storage import BackblazeStorage, InvalidInputError, SizeMismatchError
from careflow_storage.testing import B2Server
from tests.support.bodies import MIB, noise

# One line, far longer than the limit of any line reader.
DATA = noise(300_002).replace(b"\n", b" ")
THRESHOLD = 100_000

Open = Callable[[str, AsyncExitStack], Any]


@pytest.fixture
async def storage(server: B2Server) -> AsyncIterator[BackblazeStorage]:
    settings = server.settings(part_size=5 * MIB, multipart_threshold=THRESHOLD)
    async with BackblazeStorage(settings) as opened:
        yield opened


@pytest.fixture
async def url(storage: BackblazeStorage) -> str:
    """A URL from which ``DATA`` can be downloaded."""
    await storage.upload_file("source", DATA)
    return await storage.get_signed_url("source")


# --- responses --------------------------------------------------------------------------


async def _aiohttp(url: str, stack: AsyncExitStack) -> Any:
    client = await stack.enter_async_context(aiohttp.ClientSession())
    return await stack.enter_async_context(client.get(url))


async def _aiohttp_read(url: str, stack: AsyncExitStack) -> Any:
    response = await _aiohttp(url, stack)
    await response.read()
    return response


async def _aiohttp_content(url: str, stack: AsyncExitStack) -> Any:
    return (await _aiohttp(url, stack)).content


async def _aiohttp_chunks(url: str, stack: AsyncExitStack) -> Any:
    return (await _aiohttp(url, stack)).content.iter_chunked(999)


async def _httpx(url: str, stack: AsyncExitStack) -> Any:
    client = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))
    return await client.get(url)


async def _httpx_stream(url: str, stack: AsyncExitStack) -> Any:
    client = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))
    return await stack.enter_async_context(client.stream("GET", url))


async def _httpx_bytes(url: str, stack: AsyncExitStack) -> Any:
    return (await _httpx_stream(url, stack)).aiter_bytes()


async def _httpx_sync(url: str, stack: AsyncExitStack) -> Any:
    client = stack.enter_context(httpx.Client(trust_env=False))
    return await asyncio.to_thread(client.get, url)


async def _httpx_sync_stream(url: str, stack: AsyncExitStack) -> Any:
    client = stack.enter_context(httpx.Client(trust_env=False))
    request = client.build_request("GET", url)
    response = await asyncio.to_thread(client.send, request, stream=True)
    stack.callback(response.close)
    return response


async def _requests(url: str, stack: AsyncExitStack, *, stream: bool = False) -> Any:
    session = stack.enter_context(requests.Session())
    session.trust_env = False
    response = await asyncio.to_thread(session.get, url, stream=stream)
    return stack.enter_context(response)


async def _requests_stream(url: str, stack: AsyncExitStack) -> Any:
    return await _requests(url, stack, stream=True)


async def _requests_raw(url: str, stack: AsyncExitStack) -> Any:
    return (await _requests(url, stack, stream=True)).raw


async def _urllib3(url: str, stack: AsyncExitStack) -> Any:
    pool = stack.enter_context(urllib3.PoolManager())
    response = await asyncio.to_thread(pool.request, "GET", url, preload_content=False)
    stack.callback(response.close)
    return response


async def _urllib(url: str, stack: AsyncExitStack) -> Any:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return stack.enter_context(await asyncio.to_thread(opener.open, url))


RESPONSES: dict[str, Open] = {
    "aiohttp": _aiohttp,
    "aiohttp, read before": _aiohttp_read,
    "aiohttp's content": _aiohttp_content,
    "aiohttp's chunks": _aiohttp_chunks,
    "httpx": _httpx,
    "httpx, streamed": _httpx_stream,
    "httpx, aiter_bytes()": _httpx_bytes,
    "httpx, sync": _httpx_sync,
    "httpx, sync and streamed": _httpx_sync_stream,
    "requests": _requests,
    "requests, streamed": _requests_stream,
    "requests, raw": _requests_raw,
    "urllib3": _urllib3,
    "urllib": _urllib,
}


@pytest.mark.parametrize("kind", RESPONSES)
async def test_given_a_response_then_it_is_stored_whole(
    storage: BackblazeStorage, url: str, kind: str
) -> None:
    async with AsyncExitStack() as stack:
        body = await RESPONSES[kind](url, stack)
        result = await storage.upload_file("a", body)
    assert result.size == len(DATA)
    assert await storage.get_file("a") == DATA


async def _aiohttp_consumed(url: str, stack: AsyncExitStack) -> Any:
    response = await _aiohttp(url, stack)
    async for _ in response.content.iter_any():
        pass
    return response


async def _httpx_consumed(url: str, stack: AsyncExitStack) -> Any:
    response = await _httpx_stream(url, stack)
    async for _ in response.aiter_raw():
        pass
    return response


async def _httpx_closed(url: str, stack: AsyncExitStack) -> Any:
    response = await _httpx_stream(url, stack)
    await response.aclose()
    return response


async def _urllib_consumed(url: str, stack: AsyncExitStack) -> Any:
    response = await _urllib(url, stack)
    await asyncio.to_thread(response.read)
    return response


async def _urllib3_consumed(url: str, stack: AsyncExitStack) -> Any:
    response = await _urllib3(url, stack)
    await asyncio.to_thread(response.read)
    return response


async def _aiohttp_head(url: str, stack: AsyncExitStack) -> Any:
    client = await stack.enter_async_context(aiohttp.ClientSession())
    return await stack.enter_async_context(client.head(url))


async def _aiohttp_not_awaited(url: str, stack: AsyncExitStack) -> Any:
    client = await stack.enter_async_context(aiohttp.ClientSession())
    return client.get(url)


async def _httpx_context(url: str, stack: AsyncExitStack) -> Any:
    client = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))
    return client.stream("GET", url)


CONSUMED: dict[str, Open] = {
    "aiohttp": _aiohttp_consumed,
    "aiohttp, to HEAD": _aiohttp_head,
    "aiohttp, not awaited": _aiohttp_not_awaited,
    "httpx": _httpx_consumed,
    "httpx, closed": _httpx_closed,
    "httpx, not entered": _httpx_context,
    "urllib": _urllib_consumed,
    "urllib3": _urllib3_consumed,
}


@pytest.mark.parametrize("kind", CONSUMED)
async def test_given_a_response_that_was_consumed_then_it_is_refused(
    storage: BackblazeStorage, server: B2Server, url: str, kind: str
) -> None:
    get = await storage.get_signed_url("source", method="HEAD") if "HEAD" in kind else url
    async with AsyncExitStack() as stack:
        body = await CONSUMED[kind](get, stack)
        with pytest.raises(InvalidInputError) as caught:
            await storage.upload_file("a", body)
    assert caught.value.hint
    assert [version.key for version in server.versions()] == ["source"]


@asynccontextmanager
async def _cutting_off(length: int) -> AsyncIterator[str]:
    """A server that announces ``length`` bytes and sends 1,000 fewer."""

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % length)
        writer.write(DATA[: length - 1_000])
        await writer.drain()
        writer.close()

    listening = await asyncio.start_server(respond, "127.0.0.1", 0)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}/"


@pytest.mark.parametrize("kind", ["aiohttp", "httpx, streamed", "requests, streamed", "urllib3"])
async def test_given_a_truncated_response_then_the_error_of_the_client_is_raised(
    storage: BackblazeStorage, server: B2Server, kind: str
) -> None:
    async with _cutting_off(200_000) as url, AsyncExitStack() as stack:
        body = await RESPONSES[kind](url, stack)
        with pytest.raises(
            (
                aiohttp.ClientPayloadError,
                httpx.RemoteProtocolError,
                requests.RequestException,
                urllib3.exceptions.ProtocolError,
            )
        ):
            await storage.upload_file("a", body)
    assert (server.versions(), server.incomplete_uploads()) == ([], [])


@pytest.mark.parametrize("length", [50_000, 200_000])
async def test_given_a_silently_truncated_response_then_its_length_is_verified(
    storage: BackblazeStorage, server: B2Server, length: int
) -> None:
    async with _cutting_off(length) as url, AsyncExitStack() as stack:
        with pytest.raises(SizeMismatchError, match=str(length)):
            await storage.upload_file("a", await _urllib(url, stack))
    assert (server.versions(), server.incomplete_uploads()) == ([], [])


# --- forms and requests -----------------------------------------------------------------


@asynccontextmanager
async def _app(handle: Callable[[web.Request], Any]) -> AsyncIterator[str]:
    app = web.Application(client_max_size=10 * MIB)
    app.router.add_post("/", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


async def _post(handle: Callable[[web.Request], Any], **request: Any) -> None:
    async def respond(request: web.Request) -> web.Response:
        await handle(request)
        return web.Response()

    async with (
        _app(respond) as url,
        aiohttp.ClientSession() as client,
        client.post(url, **request) as response,
    ):
        assert response.status == 200


async def test_given_requests_and_form_parts_of_aiohttp_then_they_are_stored_whole(
    storage: BackblazeStorage,
) -> None:
    async def whole(request: web.Request) -> None:
        await storage.upload_file("request", request)

    async def content(request: web.Request) -> None:
        await storage.upload_file("content", request.content)

    async def part(request: web.Request) -> None:
        form: Any = await request.multipart()
        async for each in form:
            await storage.upload_file(f"part-{each.name}", each)

    async def field(request: web.Request) -> None:
        form = await request.post()
        found: Any = form["file"]
        with pytest.raises(InvalidInputError, match=r"body\.file"):
            await storage.upload_file("field", found)
        await storage.upload_file("field", found.file)
        found.file.close()

    await _post(whole, data=DATA)
    await _post(content, data=DATA)
    await _post(part, data={"a": io.BytesIO(DATA), "b": io.BytesIO(b"short")})
    await _post(field, data={"file": io.BytesIO(DATA)})
    names = ["request", "content", "part-a", "field"]
    assert [name for name in names if await storage.get_file(name) != DATA] == []
    assert await storage.get_file("part-b") == b"short"


@pytest.mark.parametrize("size", [0, 1, 2, 3, 10_000, 200_001])
async def test_given_a_form_part_in_base64_then_its_decoded_bytes_are_stored(
    storage: BackblazeStorage, size: int
) -> None:
    data = DATA[:size]

    async def part(request: web.Request) -> None:
        found: Any = await (await request.multipart()).next()
        await storage.upload_file("a", found)

    await _post(part, **_encoded_part("base64", base64.encodebytes(data).replace(b"\n", b"")))
    assert await storage.get_file("a") == data


async def test_given_a_form_part_that_cannot_be_streamed_or_was_read_then_it_is_refused(
    storage: BackblazeStorage, server: B2Server
) -> None:
    async def quoted(request: web.Request) -> None:
        found: Any = await (await request.multipart()).next()
        with pytest.raises(InvalidInputError, match="decode=True"):
            await storage.upload_file("a", found)

    async def read(request: web.Request) -> None:
        found: Any = await (await request.multipart()).next()
        await found.read()
        with pytest.raises(InvalidInputError, match="already"):
            await storage.upload_file("a", found)

    await _post(quoted, **_encoded_part("quoted-printable", b"a=3Db"))
    await _post(read, data={"file": io.BytesIO(DATA)})
    assert server.requests == []


def _encoded_part(encoding: str, data: bytes) -> dict[str, Any]:
    head = (
        '--X\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n'
        f"Content-Transfer-Encoding: {encoding}\r\n\r\n"
    )
    return {
        "data": head.encode() + data + b"\r\n--X--\r\n",
        "headers": {"Content-Type": "multipart/form-data; boundary=X"},
    }


class TestUploadFile:
    """Starlette's class, which FastAPI uses."""

    @pytest.mark.parametrize("start", [0, 7, 100_000])
    @pytest.mark.parametrize("size", [None, len(DATA)])
    async def test_given_a_partly_read_upload_file_then_the_rest_is_stored(
        self, storage: BackblazeStorage, start: int, size: int | None
    ) -> None:
        with io.BytesIO(DATA) as file:
            body = UploadFile(file, size=size)
            await body.read(start)
            await storage.upload_file("a", body)
        assert await storage.get_file("a") == DATA[start:]

    @pytest.mark.parametrize("size", [len(DATA) - 1, len(DATA) + 1, 1_000_000, 10])
    async def test_given_an_upload_file_with_another_size_then_nothing_is_stored(
        self, storage: BackblazeStorage, server: B2Server, size: int
    ) -> None:
        with io.BytesIO(DATA) as file, pytest.raises(SizeMismatchError):
            await storage.upload_file("a", UploadFile(file, size=size))
        assert (server.versions(), server.incomplete_uploads()) == ([], [])

    async def test_given_an_upload_file_that_is_closed_or_at_its_end_then_it_is_refused(
        self, storage: BackblazeStorage, server: B2Server
    ) -> None:
        with io.BytesIO(DATA) as file:
            body = UploadFile(file, size=len(DATA))
            await body.read()
            with pytest.raises(InvalidInputError, match="end"):
                await storage.upload_file("a", body)
            await body.close()
            with pytest.raises(InvalidInputError, match="closed"):
                await storage.upload_file("a", body)
        assert server.requests == []


async def test_given_uploaded_files_of_django_then_they_are_stored_whole(
    storage: BackblazeStorage, tmp_path: Path
) -> None:
    settings = pytest.importorskip("django.conf").settings
    files = pytest.importorskip("django.core.files.base")
    uploaded = pytest.importorskip("django.core.files.uploadedfile")
    if not settings.configured:
        settings.configure()
    with uploaded.TemporaryUploadedFile("a", "audio/wav", len(DATA), None) as temporary:
        temporary.write(DATA)
        temporary.seek(0)
        memory = uploaded.InMemoryUploadedFile(io.BytesIO(DATA), None, "a", "a", len(DATA), None)
        bodies: dict[str, Any] = {
            "temporary": temporary,
            "memory": memory,
            "content": files.ContentFile(DATA),
            "file": files.File(io.BytesIO(DATA)),
        }
        for name, body in bodies.items():
            await storage.upload_file(name, body)
            body.seek(0)
            await storage.upload_file(f"{name}-chunks", body.chunks(999))
        wrong = uploaded.InMemoryUploadedFile(io.BytesIO(DATA), None, "a", "a", len(DATA) + 1, None)
        with pytest.raises(SizeMismatchError):
            await storage.upload_file("wrong", wrong)
    names = [*bodies, *(f"{name}-chunks" for name in bodies)]
    assert [name for name in names if await storage.get_file(name) != DATA] == []


# --- async files and our own readers ----------------------------------------------------


async def test_given_async_files_then_they_are_stored_from_their_position(
    storage: BackblazeStorage, tmp_path: Path
) -> None:
    aiofiles = pytest.importorskip("aiofiles")
    path = tmp_path / "a"
    await asyncio.to_thread(path.write_bytes, DATA)
    async with aiofiles.open(path, "rb") as first, await anyio.open_file(path, "rb") as second:
        for name, body in (("aiofiles", first), ("anyio", second)):
            await body.seek(10)
            await storage.upload_file(name, body)
    await storage.upload_file("anyio-path", anyio.Path(path))
    assert await storage.get_file("aiofiles") == await storage.get_file("anyio") == DATA[10:]
    assert await storage.get_file("anyio-path") == DATA


async def test_given_async_files_in_text_mode_or_closed_then_they_are_refused(
    storage: BackblazeStorage, server: B2Server, tmp_path: Path
) -> None:
    aiofiles = pytest.importorskip("aiofiles")
    path = tmp_path / "a"
    await asyncio.to_thread(path.write_bytes, b"words")
    async with aiofiles.open(path) as first, await anyio.open_file(path) as second:
        texts: list[Any] = [first, second]
        for text in texts:
            with pytest.raises(InvalidInputError, match="text"):
                await storage.upload_file("a", text)
    async with aiofiles.open(path, "rb") as third, await anyio.open_file(path, "rb") as fourth:
        pass
    for closed in (third, fourth):
        with pytest.raises(InvalidInputError, match="closed"):
            await storage.upload_file("a", closed)
    assert server.requests == []


async def test_given_a_stream_reader_of_asyncio_then_its_lines_may_be_of_any_length(
    storage: BackblazeStorage,
) -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(DATA)
    reader.feed_eof()
    await storage.upload_file("a", reader)
    assert await storage.get_file("a") == DATA


async def test_given_our_own_streams_and_readers_then_a_file_is_copied(
    storage: BackblazeStorage, url: str
) -> None:
    assert url
    await storage.upload_file("stream", storage.stream_file("source"))
    async with storage.stream_file("source", start=5, end=200_005) as stream:
        await storage.upload_file("range", stream)
    async with await storage.open_file("source") as reader:
        await storage.upload_file("reader", reader)
        await reader.seek(100)
        await storage.upload_file("rest", reader)
        with pytest.raises(InvalidInputError, match="end"):
            await storage.upload_file("nothing", reader)
    assert await storage.get_file("stream") == await storage.get_file("reader") == DATA
    assert await storage.get_file("range") == DATA[5:200_005]
    assert await storage.get_file("rest") == DATA[100:]


async def test_given_arrays_of_numpy_then_their_items_are_stored_in_their_order(
    storage: BackblazeStorage, server: B2Server
) -> None:
    numpy = pytest.importorskip("numpy")
    table = numpy.arange(600, dtype="<i4").reshape(20, 30)
    records = numpy.zeros(3, dtype=[("a", ">i2"), ("b", "S3")])
    stored = [table, table[3:5], table.astype(">f8"), records, numpy.array(5), numpy.zeros((0, 3))]
    for array in stored:
        await storage.upload_file("a", array)
        assert await storage.get_file("a") == array.tobytes()
    server.requests.clear()
    refused = [
        *(table[:, ::2], table.T, numpy.asfortranarray(table), table[::-1]),
        *(numpy.array([object()]), numpy.array(["2026-01-01"], dtype="M8[s]")),
    ]
    for array in refused:
        with pytest.raises(InvalidInputError, match="contiguous"):
            await storage.upload_file("a", array)
    assert server.requests == []
