"""A recording behind a URL is stored unchanged, or an error says why not."""

from __future__ import annotations

import asyncio
import logging
import pickle
import traceback
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from careflow_storage import (
    BackblazeStorage,
    FileTooLargeError,
    InvalidInputError,
    Progress,
    SourceError,
    SourceTooLargeError,
)
from tests.support.behind_proxy import (
    NOTHING_HELD,
    PART,
    held,
    tasks_of_the_library,
)
from tests.support.bodies import noise
from tests.support.cancelled import cancelled_at_step
from tests.support.unfinished import unfinished_uploads
from tests.support.url_source import Source, assert_nothing_stored, redirect, store

SECRET = "s3cret"
LARGE = b"RIFF" + noise(3 * PART + 3)


async def refused(storage: BackblazeStorage, url: str, **fields: Any) -> SourceError:
    """Upload; check that it fails and stores nothing; return the error."""
    with pytest.raises(SourceError) as caught:
        await store(storage, url, **fields)
    await assert_nothing_stored(storage)
    return caught.value


# --- what is stored ---------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 4095, 4097, 100_000])
async def test_given_a_recording_behind_a_url_then_its_bytes_are_stored(
    storage: BackblazeStorage, size: int
) -> None:
    async with Source(noise(size)) as source:
        result = await store(storage, source.url, metadata={"agent": "7"})
        assert (result.size, result.parts, len(source.asked)) == (size, 1, 1)
        assert result.key.startswith("recordings/CA1/")
        assert await storage.get_file(result.key) == source.body
        assert (await storage.get_file_metadata(result.key)).metadata == {"agent": "7"}


@pytest.mark.parametrize("chunked", [False, True])
async def test_given_a_large_recording_then_it_is_uploaded_in_parts(
    small_parts: BackblazeStorage, chunked: bool
) -> None:
    events: list[Progress] = []
    async with Source(LARGE, chunked=chunked) as source:
        result = await store(small_parts, source.url, progress=events.append)
        assert (result.size, result.parts) == (len(LARGE), 4)
        assert await small_parts.get_file(result.key) == LARGE
        assert events[-1].total == (None if chunked else len(LARGE))
        await source.until_left()


async def test_given_real_recordings_on_a_real_server_then_they_come_back_the_same(
    seaweed_storage: BackblazeStorage, recordings: dict[str, Path]
) -> None:
    for name, path in recordings.items():
        async with Source(
            path.read_bytes(), {"Content-Type": "application/octet-stream"}
        ) as source:
            result = await store(seaweed_storage, source.url, name)
            assert await seaweed_storage.get_file(result.key) == source.body
            assert result.content_type.split("/")[0] in ("audio", "video")


@pytest.mark.parametrize(
    ("filename", "body", "given", "expected"),
    [
        ("call", b"OggS" + bytes(99), None, "audio/ogg"),
        ("call.mp3", noise(99), None, "audio/mpeg"),
        ("call", noise(99), None, "audio/x-wav"),
        ("call", b"OggS" + bytes(99), "audio/other", "audio/other"),
    ],
)
async def test_the_content_type_is_the_callers_or_the_bytes_or_the_names_or_the_sources(
    storage: BackblazeStorage, filename: str, body: bytes, given: str | None, expected: str
) -> None:
    async with Source(body) as source:
        result = await store(storage, source.url, filename, content_type=given)
        assert result.content_type == expected
        assert (await storage.get_file_metadata(result.key)).content_type == expected


async def test_the_query_of_a_signed_url_arrives_byte_for_byte(storage: BackblazeStorage) -> None:
    query = "X-Sig=a%2Fb%2B~c+d&X-Cred=AK%2F2026&empty=&flag"
    async with Source(noise(100)) as source:
        source.routes["/old"] = redirect(f"{source.url}?{query}")
        await store(storage, f"{source.url}?{query}")
        await store(storage, f"{source.origin}/old")
        assert [request.rel_url.raw_query_string for request in source.asked] == [query, "", query]


# --- what is refused --------------------------------------------------------------------


@pytest.mark.parametrize("status", [204, 206, 401, 404, 410, 425, 501])
async def test_any_status_but_200_is_an_error_that_the_call_does_not_retry(
    storage: BackblazeStorage, status: int
) -> None:
    async def response(_: web.Request) -> web.Response:
        return web.Response(status=status)

    async with Source(routes={"/call": response}) as source:
        error = await refused(storage, source.url)
        assert (error.status, len(source.asked)) == (status, 1)
        # The file may be there later, so a job queue may call again.
        assert error.retryable == (status in (404, 425))
        if status == 404:
            assert error.hint is not None
            assert "try again later" in error.hint


@pytest.mark.parametrize(
    "content_type", ["text/html", "application/json", "text/plain", "image/png"]
)
async def test_a_content_type_that_is_no_recording_is_refused(
    storage: BackblazeStorage, content_type: str
) -> None:
    async with Source(noise(5000), {"Content-Type": content_type}) as source:
        assert content_type in str(await refused(storage, source.url))
        accepted = await store(storage, source.url, content_types=(content_type.upper(),))
        assert accepted.size == 5000
        await store(storage, source.url, content_types=None)


@pytest.mark.parametrize(
    "body",
    [
        b"<!DOCTYPE html><title>Log in</title>",
        b"\xef\xbb\xbf \r\n<html lang='de'>",
        b"<?xml version='1.0'?><Error/>",
        b'{"code": 20003}',
        b"[1]",
        b'{"name": "' + "ü".encode() * 5000 + b'"}',
    ],
)
async def test_a_page_declared_as_audio_is_refused(storage: BackblazeStorage, body: bytes) -> None:
    async with Source(body, {"Content-Type": "audio/x-wav"}) as source:
        assert "but its bytes are" in str(await refused(storage, source.url))
        await store(storage, source.url, content_types=["*/*"])


@pytest.mark.parametrize("body", [b"<\x00\x01", b"{\xff\xfe\x80", b"[" + bytes(40), b"hello"])
async def test_sound_that_begins_like_a_page_is_stored(
    storage: BackblazeStorage, body: bytes
) -> None:
    async with Source(body) as source:
        assert (await store(storage, source.url)).size == len(body)


async def test_a_source_larger_than_allowed_is_not_read(storage: BackblazeStorage) -> None:
    async with Source(noise(10_000)) as source:
        error = await refused(storage, source.url, max_size=9_999)
        assert "9999 bytes" in str(error)
        assert isinstance(error, FileTooLargeError)
        assert (await store(storage, source.url, max_size=10_000)).size == 10_000


async def test_a_source_that_hides_its_size_is_cut_off_at_the_limit(
    small_parts: BackblazeStorage,
) -> None:
    async with Source(LARGE, chunked=True) as source:
        error = await refused(small_parts, source.url, max_size=len(LARGE) - 1)
        assert isinstance(error, SourceTooLargeError)
        assert (await store(small_parts, source.url, max_size=len(LARGE))).size == len(LARGE)
        await source.until_left()


@pytest.mark.parametrize("encoding", ["gzip", "br", "aws-chunked"])
async def test_bytes_that_would_have_to_be_decoded_are_refused(
    storage: BackblazeStorage, encoding: str
) -> None:
    async with Source(noise(5000), {"Content-Encoding": encoding}) as source:
        assert encoding in str(await refused(storage, source.url))
        assert source.asked[0].headers["Accept-Encoding"] == "identity"


async def test_an_empty_source_is_refused(storage: BackblazeStorage) -> None:
    for chunked in (False, True):
        async with Source(b"", chunked=chunked) as source:
            assert "empty" in str(await refused(storage, source.url))


async def test_a_source_without_length_and_end_is_refused(storage: BackblazeStorage) -> None:
    async def response(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: audio/wav\r\n\r\n" + noise(5000))
        writer.close()

    server = await asyncio.start_server(response, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        assert "its end is unknown" in str(await refused(storage, f"http://127.0.0.1:{port}/call"))


async def test_the_end_of_a_chunk_that_comes_late_is_not_the_end_of_the_recording(
    storage: BackblazeStorage,
) -> None:
    async def response(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1388\r\n" + noise(5000))
        await writer.drain()
        # The client has taken all of it when it waits for more.
        await asyncio.sleep(0.05)
        writer.write(b"\r\n1388\r\n" + noise(5000) + b"\r\n0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(response, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        result = await store(storage, f"http://127.0.0.1:{port}/call")
        assert await storage.get_file(result.key) == noise(5000) * 2


@pytest.mark.parametrize(
    "head", [b"SSH-2.0-OpenSSH_9", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000], ids=["ssh", "giant"]
)
async def test_given_a_response_that_is_not_http_then_the_error_says_so(
    storage: BackblazeStorage, head: bytes
) -> None:
    async def response(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head + b"\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(response, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        error = await refused(storage, f"http://127.0.0.1:{port}/call?token=s3cret")
        assert "not valid HTTP" in str(error)
        assert "s3cret" not in "".join(traceback.format_exception(error))


@pytest.mark.parametrize(
    "fields",
    [
        {"url": "ftp://example.com/a"},
        {"url": "/call"},
        {"url": "http:///call"},
        {"url": "https://example.com:0/a"},
        {"url": "https://example.com:99999/a"},
        {"url": "https://exa%6dple.com/a"},
        {"url": "https://example.com/a b"},
        {"url": "https://example.com/a\r\nX: y"},
        {"url": "https://example.com\\@evil.com/"},
        {"url": b"https://example.com"},
        {"url": f"https://{'a' * 64}.com/"},
        {"url": f"https://{'a.' * 130}com/"},
        {"url": "https://a..b/"},
        {"url": "https://[::g]/"},
        {"url": "https://[v1.x]/"},
        {"url": "https://ex\udcffample.com/"},
        {"headers": {"X-A": "b\r\nHost: evil"}},
        {"headers": {"X A": "b"}},
        {"headers": {"X-A": 1}},
        {"headers": {"Host": "evil"}},
        {"headers": {"content-length": "5"}},
        {"headers": {"Transfer-Encoding": "chunked"}},
        {"headers": {"If-None-Match": "*"}},
        {"headers": {"Range": "bytes=5-"}},
        {"headers": {"Authorization": "Bearer x"}, "auth": ("a", "b")},
        {"auth": ("a:b", "c")},
        {"auth": ("a", "c\n")},
        {"auth": ("", "c")},
        {"auth": "AC:token"},
        {"max_size": -1},
        {"max_size": 1.5},
        {"max_redirects": True},
        {"content_types": "audio/*"},
        {"content_types": ("audio",)},
        {"content_type": "a\r\nb"},
    ],
)
async def test_invalid_arguments_are_refused_before_any_request(
    storage: BackblazeStorage, fields: dict[str, Any]
) -> None:
    async with Source(noise(100)) as source:
        with pytest.raises(InvalidInputError):
            await store(storage, **{"url": source.url, **fields})
        assert source.asked == []
    await assert_nothing_stored(storage)


@pytest.mark.parametrize("host", ["xn--", "xn--a", "xn--zzzzzzzzzzz.example.com"])
async def test_a_host_that_cannot_be_decoded_is_a_malformed_url(
    storage: BackblazeStorage, host: str
) -> None:
    with pytest.raises(InvalidInputError, match="cannot be used: it is malformed") as caught:
        await store(storage, f"https://{host}/call?token=hidden")
    assert "hidden" not in str(caught.value)


# --- secrets ----------------------------------------------------------------------------


async def test_credentials_go_to_the_source_and_into_no_error_or_log(
    storage: BackblazeStorage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    errors: list[Exception] = []
    async with Source(noise(100)) as source:
        query = f"token={SECRET}"
        source.routes["/gone"] = redirect(f"{source.origin}/none?{query}", 307)
        await store(storage, source.url, auth=("AC1", f"{SECRET}ä"))
        assert source.asked[0].headers["Authorization"] == "Basic QUMxOnMzY3JldMOk"
        for url, error_type in (
            (f"{source.origin}/gone?{query}", SourceError),
            (f"http://127.0.0.1:1/gone?{query}", SourceError),
            (f"http://u:{SECRET}@127.0.0.1:{source.port}/call", InvalidInputError),
            (f"https://{SECRET}@/", InvalidInputError),
        ):
            with pytest.raises(error_type) as caught:
                await store(storage, url, headers={"X-Key": SECRET})
            errors.append(caught.value)
        assert source.asked[-1].headers["X-Key"] == SECRET
        assert f"{source.origin}/none" in str(errors[0])
    for error in errors:
        text = "".join(traceback.format_exception(error)) + repr(error) + str(vars(error))
        assert SECRET not in text + repr(pickle.dumps(error))
        assert error.__context__ is None
    ours = [r for r in caplog.records if r.name != "aiohttp.access"]  # the source's own
    assert SECRET not in "".join(record.getMessage() for record in ours)


async def test_credentials_go_over_http_only_in_a_network_of_ones_own(
    storage: BackblazeStorage,
) -> None:
    for fields in ({"auth": ("a", "b")}, {"headers": {"authorization": "Bearer s3cret"}}):
        with pytest.raises(InvalidInputError, match="over http://"):
            await store(storage, "http://example.com/", allow_private_addresses=False, **fields)


async def test_no_proxy_cookie_or_netrc_of_the_surroundings_is_used(
    storage: BackblazeStorage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    async with Source(noise(100)) as source:

        async def first(_: web.Request) -> web.Response:
            return web.Response(status=302, headers={"Location": "/call", "Set-Cookie": "a=b"})

        source.routes["/first"] = first
        await store(storage, f"{source.origin}/first")
        assert not {"Authorization", "Cookie"} & set(source.asked[1].headers)


# --- cancellation -----------------------------------------------------------------------


async def test_cancelled_whenever_it_waits_it_leaves_nothing_behind(
    small_parts: BackblazeStorage,
) -> None:
    tasks = {task for task in tasks_of_the_library() if "careflow" in repr(task)}
    async with Source(LARGE) as source:
        source.routes["/old"] = redirect("/call")
        number = 1
        while await cancelled_at_step(
            store(small_parts, f"{source.origin}/old", checksum="crc32"), number
        ):
            left = {task for task in tasks_of_the_library() if "careflow" in repr(task)}
            assert left <= tasks
            await source.until_left()
            assert await unfinished_uploads(small_parts.settings) == []
            assert held(small_parts) == NOTHING_HELD
            number += 1
            assert number < 300
        assert number > 5
        for file in await small_parts.list_files():
            assert await small_parts.get_file(file.key) == LARGE
        await source.until_left()
