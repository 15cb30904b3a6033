"""Proxies of the environment, as curl understands them; what they do wrong is told as theirs."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from careflow_storage import (
    BackblazeStorage,
    ConnectionFailedError,
    InvalidInputError,
    SourceError,
    StorageError,
    StorageSettings,
    StorageTimeoutError,
)
from careflow_storage._http.environment_proxy import environment_proxy
from careflow_storage.doctor import diagnose
from tests.support.hostile import Asked, HostileServer, raw_response
from tests.support.url_source import Source, redirect, store

HOST = "store.example"
SECRET = "p@ss:/w\u00f6rd"
QUOTED = "p%40ss%3A%2Fw%C3%B6rd"
AUTHORIZATION = "Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode()
OPENED = b"HTTP/1.1 200 Connection established\r\n\r\n"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


# --- which proxy ------------------------------------------------------------------------

HTTPS = "https://s3.us-west-004.backblazeb2.com"


@pytest.mark.parametrize(
    ("variables", "endpoint", "expected"),
    [
        ({"https_proxy": "http://p:3128"}, HTTPS, "http://p:3128"),
        ({"HTTPS_PROXY": "http://p:3128"}, HTTPS, "http://p:3128"),
        ({"HTTPS_PROXY": "http://a:1", "https_proxy": "http://b:2"}, HTTPS, "http://b:2"),
        ({"HTTPS_PROXY": "p:3128"}, HTTPS, "http://p:3128"),
        ({"HTTPS_PROXY": "me:x@p:3128"}, HTTPS, "http://p:3128"),
        ({"HTTPS_PROXY": "p"}, HTTPS, "http://p:80"),
        ({"HTTPS_PROXY": "http://p/"}, HTTPS, "http://p:80"),
        ({"HTTPS_PROXY": "HTTP://P:3128"}, HTTPS, "http://p:3128"),
        ({"HTTPS_PROXY": " http://p:3128 "}, HTTPS, "http://p:3128"),
        ({"HTTPS_PROXY": "https://p"}, HTTPS, "https://p:443"),
        ({"HTTPS_PROXY": "127.0.0.1:3128"}, HTTPS, "http://127.0.0.1:3128"),
        ({"HTTPS_PROXY": "http://[2001:db8::1]:3128"}, HTTPS, "http://[2001:db8::1]:3128"),
        ({"HTTPS_PROXY": "[::1]:3128"}, HTTPS, "http://[::1]:3128"),
        ({"ALL_PROXY": "http://p:1"}, HTTPS, "http://p:1"),
        ({"all_proxy": "http://p:1"}, "http://x.example", "http://p:1"),
        ({"ALL_PROXY": "socks5://p:1", "HTTPS_PROXY": "http://q:2"}, HTTPS, "http://q:2"),
        ({"ALL_PROXY": "http://p:1", "https_proxy": ""}, HTTPS, None),
        ({"HTTPS_PROXY": "http://p:1", "https_proxy": ""}, HTTPS, None),
        ({"http_proxy": "http://p:1"}, HTTPS, None),
        ({"http_proxy": "http://p:1"}, "http://x.example", "http://p:1"),
        ({"HTTP_PROXY": "http://p:1"}, "http://x.example", None),
        ({"HTTPS_PROXY": "http://p:1"}, "http://x.example", None),
        ({"HTTPS_PROXY": "http://p:1"}, "https://localhost:9000", None),
        ({"HTTPS_PROXY": "http://p:1"}, "https://127.8.9.1:9000", None),
        ({"HTTPS_PROXY": "http://p:1"}, "https://[::1]:9000", None),
        ({}, HTTPS, None),
    ],
)
def test_which_proxy_is_meant(
    variables: dict[str, str],
    endpoint: str,
    expected: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = environment_proxy(endpoint)
    assert (None if found is None else found.url) == expected


@pytest.mark.parametrize(
    ("listed", "endpoint", "excluded"),
    [
        ("*", "https://x.example", True),
        ("a.example,*", "https://x.example", True),
        ("x.example", "https://x.example", True),
        ("x.example", "https://s3.x.example", True),
        (".x.example", "https://s3.x.example", True),
        (".x.example", "https://x.example", True),
        ("*.x.example", "https://s3.x.example", True),
        ("X.EXAMPLE", "https://s3.x.example", True),
        ("x.example.", "https://x.example", True),
        ("x.example", "https://notx.example", False),
        ("s3.x.example", "https://x.example", False),
        ("example", "https://x.example", True),
        ("ample", "https://x.example", False),
        ("a.example, x.example", "https://x.example", True),
        ("a.example x.example", "https://x.example", True),
        ("a.example,,x.example,", "https://x.example", True),
        ("x.example:443", "https://x.example", True),
        ("x.example:9000", "https://x.example", False),
        ("x.example:9000", "https://x.example:9000", True),
        ("https://x.example", "https://x.example", True),
        ("", "https://x.example", False),
        (".", "https://x.example", False),
        (",", "https://x.example", False),
        ("10.0.0.0/8", "https://10.1.2.3", True),
        ("10.0.0.0/8", "https://11.1.2.3", False),
        ("10.1.2.3", "https://10.1.2.3:9000", True),
        ("10.1.2.3:9000", "https://10.1.2.3:9000", True),
        ("10.1.2.3:9001", "https://10.1.2.3:9000", False),
        ("10.1.2.3", "https://110.1.2.3", False),
        ("0.1.2.3", "https://10.1.2.3", False),
        ("2001:db8::1", "https://[2001:db8::1]:9443", True),
        ("2001:DB8:0::1", "https://[2001:db8::1]:9443", True),
        ("[2001:db8::1]", "https://[2001:db8::1]:9443", True),
        ("[2001:db8::1]:9443", "https://[2001:db8::1]:9443", True),
        ("[2001:db8::1]:1", "https://[2001:db8::1]:9443", False),
        ("2001:db8::/32", "https://[2001:db8::1]:9443", True),
        ("10.0.0.0/99", "https://10.1.2.3", False),
        ("[", "https://10.1.2.3", False),
    ],
)
@pytest.mark.parametrize("variable", ["NO_PROXY", "no_proxy"])
def test_what_is_reached_without(
    variable: str,
    listed: str,
    endpoint: str,
    excluded: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://p:3128")
    monkeypatch.setenv(variable, listed)
    assert (environment_proxy(endpoint) is None) == excluded


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("socks5://me:s3cret@p:1080", "SOCKS"),
        ("socks5h://p:1080", "SOCKS"),
        ("socks4://p:1080", "SOCKS"),
        ("SOCKS5://p:1080", "SOCKS"),
        ("ftp://me:s3cret@p:21", "not the URL of an HTTP proxy"),
        ("http://", "no valid host"),
        ("http://p:99999", "no valid host"),
        ("http://p:0", "no valid host"),
        ("http://me:s3cret/@p:1", "no valid host"),
        ("http://[::1", "no valid host"),
        ("http://p q:1", "no valid host"),
        ("http://m%3Ae:s3cret@p:1", "':' in the user name"),
        (":3128", "no valid host"),
    ],
)
async def test_what_is_no_http_proxy_is_refused_when_the_storage_opens(
    variable: str, value: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    storage = BackblazeStorage(settings_for(HTTPS, None))
    with pytest.raises(InvalidInputError, match=problem) as caught:
        await storage.initialize()
    await storage.close()
    assert variable in caught.value.message
    assert "NO_PROXY" in (caught.value.hint or "")
    assert "s3cret" not in str(caught.value)


# --- through it -------------------------------------------------------------------------


def settings_for(
    endpoint: str, ca_file: Path | None, attempts: int = 4, connect_timeout: float = 30
) -> StorageSettings:
    return StorageSettings(
        key_id="keyId",
        application_key="applicationKey",
        bucket_name="recordings-bucket",
        endpoint=endpoint,
        region="us-west-004" if "backblaze" in endpoint else "us-east-1",
        ca_file=ca_file,
        retry_attempts=attempts,
        retry_base_delay=0.001,
        retry_max_delay=0.01,
        connect_timeout=connect_timeout,
        idle_timeout=30,
        allow_http=True,
    )


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


@pytest.fixture
async def server(authority: trustme.CA) -> AsyncIterator[HostileServer]:
    """A server over TLS that stores nothing and is content; it has every name."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST, "2001:db8::1").configure_cert(tls)
    async with HostileServer(lambda _: raw_response(b"", ETag='"e"'), tls) as opened:
        yield opened


class Proxy:
    """Responses CONNECT with ``response``, and leads every tunnel to ``port``."""

    def __init__(self, response: bytes, port: int) -> None:
        self.heads: list[str] = []
        self.port = 0
        self._response, self._target = response, port
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        there: asyncio.StreamWriter | None = None
        try:
            while True:
                self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
                writer.write(self._response)
                if self._response.startswith((b"HTTP/1.1 200", b"HTTP/1.0 200")):
                    from_there, there = await asyncio.open_connection("127.0.0.1", self._target)
                    await asyncio.gather(_pump(reader, there), _pump(from_there, writer))
                    return
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client has left, or the test has ended
        finally:
            self._tasks.discard(task)
            writer.transport.abort()
            if there is not None:
                there.transport.abort()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


@asynccontextmanager
async def proxy_to(
    port: int, response: bytes = OPENED, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Proxy]:
    proxy = Proxy(response, port)
    listening = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, ssl=tls)
    proxy.port = listening.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        listening.close()
        await proxy.close()
        await listening.wait_closed()


@pytest.mark.parametrize("form", ["{at}", "http://{at}", "http://{at}/", "https://{at}"])
@pytest.mark.parametrize("host", [HOST, "[2001:db8::1]"])
@pytest.mark.parametrize("port", ["", ":9443"])
async def test_both_planes_go_through_the_tunnel_and_the_password_stays_with_the_proxy(
    form: str,
    host: str,
    port: str,
    server: HostileServer,
    authority: trustme.CA,
    ca_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    tls: ssl.SSLContext | None = None
    if form.startswith("https"):
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(tls)
    caplog.set_level("DEBUG")
    async with proxy_to(server.port, tls=tls) as proxy:
        url = form.format(at=f"me:{QUOTED}@127.0.0.1:{proxy.port}")
        monkeypatch.setenv("HTTPS_PROXY", url)
        settings = settings_for(f"https://{host}{port}", ca_file)
        async with BackblazeStorage(settings) as storage:
            assert (await storage.upload_file("key", b"x")).etag == "e"
            if tls is None:
                # aiohttp cannot do TLS within TLS on every loop.
                with pytest.raises(StorageError):
                    await storage.admin.get_cors_rules()
        target = f"{host}{port or ':443'}"
        assert all(head.startswith(f"CONNECT {target} HTTP/1.1\r\n") for head in proxy.heads)
        assert all(AUTHORIZATION in head for head in proxy.heads)
        assert len(proxy.heads) == (1 if tls is not None else 2)
    assert server.asked
    assert not any("proxy-authorization" in asked.headers for asked in server.asked)
    assert SECRET not in caplog.text
    assert QUOTED not in caplog.text
    assert AUTHORIZATION.split()[1] not in caplog.text


async def test_an_http_endpoint_is_asked_of_the_proxy_with_its_url(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with HostileServer(lambda _: raw_response(b"", ETag='"e"')) as proxy:
        monkeypatch.setenv("http_proxy", f"me:{QUOTED}@127.0.0.1:{proxy.port}")
        async with BackblazeStorage(settings_for(f"http://{HOST}:9000", None)) as storage:
            await storage.upload_file("key", b"x")
        assert proxy.asked[0].headers["proxy-authorization"] == AUTHORIZATION
        assert [asked.target for asked in proxy.asked] == [
            f"http://{HOST}:9000/recordings-bucket/key"
        ]


# --- what it does wrong -----------------------------------------------------------------

HTML = b"Content-Length: 6\r\n\r\n<html>"
FORGED = raw_response(b"forged", ETag='"e"')
# The response to CONNECT; its status, whether it may pass, what is said.
WRONGS: dict[str, tuple[bytes, int | None, bool, str]] = {
    "407": (b"HTTP/1.1 407 Who?\r\n" + HTML, 407, False, "user name and a password"),
    "403": (b"HTTP/1.1 403 No\r\n" + HTML, 403, False, "HTTP 403"),
    "405": (b"HTTP/1.1 405 No\r\n" + HTML, 405, False, "HTTP 405"),
    "302": (b"HTTP/1.1 302 Login\r\nLocation: http://x\r\n" + HTML, 302, False, "HTTP 302"),
    "500": (b"HTTP/1.1 500 Oops\r\n" + HTML, 500, True, "HTTP 500"),
    "502": (b"HTTP/1.1 502 Gone\r\n" + HTML, 502, True, "HTTP 502"),
    "503": (b"HTTP/1.1 503 Busy\r\n" + HTML, 503, True, "HTTP 503"),
    "504": (b"HTTP/1.1 504 Late\r\n" + HTML, 504, True, "HTTP 504"),
    "429": (b"HTTP/1.1 429 Often\r\n" + HTML, 429, True, "HTTP 429"),
    "101": (b"HTTP/1.1 101 Other\r\n\r\n", None, False, "no valid response to CONNECT"),
    "1xx for ever": (
        b"HTTP/1.1 103 Wait\r\n\r\n" * 20,
        None,
        False,
        "no valid response to CONNECT",
    ),
    "SOCKS": (b"\x05\xff", None, False, "no valid response to CONNECT"),
    "SSH": (b"SSH-2.0-x\r\n", None, False, "no valid response to CONNECT"),
    "two lengths": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        None,
        False,
        "no valid response to CONNECT",
    ),
    "a response behind it": (OPENED + FORGED, None, False, "before TLS"),
    "one byte behind it": (OPENED + b"\x16", None, False, "before TLS"),
    "a body with a length": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged",
        None,
        False,
        "before TLS",
    ),
    "a body in chunks": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        None,
        False,
        "before TLS",
    ),
}


@pytest.mark.parametrize("wrong", WRONGS)
async def test_what_the_proxy_does_wrong_is_told_as_the_proxys(
    wrong: str, server: HostileServer, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    response, status, again, said = WRONGS[wrong]
    async with proxy_to(server.port, response) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:{QUOTED}@127.0.0.1:{proxy.port}")
        async with BackblazeStorage(settings_for(f"https://{HOST}", ca_file)) as storage:
            with pytest.raises(ConnectionFailedError) as caught:
                await storage.get_file("key")
        error = caught.value
        assert (error.status, error.retryable, len(proxy.heads)) == (
            status,
            again,
            4 if again else 1,
        )
        assert f"The proxy 127.0.0.1:{proxy.port}" in error.message
        assert said in error.message
        assert "HTTPS_PROXY" in (error.hint or "")
        assert "BACKBLAZE_ENDPOINT" not in str(error)
        assert SECRET not in str(error)
        assert "%40" not in str(error)
    assert server.asked == []


@pytest.mark.parametrize(
    "opened",
    [
        b"HTTP/1.0 200 Connection established\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 77\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
async def test_what_the_head_of_an_open_tunnel_says_of_a_body_is_passed_over(
    opened: bytes, server: HostileServer, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with proxy_to(server.port, opened) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"127.0.0.1:{proxy.port}")
        async with BackblazeStorage(settings_for(f"https://{HOST}", ca_file)) as storage:
            for _ in range(2):
                await storage.upload_file("key", b"x")
        assert len(proxy.heads) == 1


async def test_a_407_to_a_request_is_the_proxys_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async with HostileServer(lambda _: raw_response(b"<html>", "407 Who?")) as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        async with BackblazeStorage(settings_for(f"http://{HOST}", None)) as storage:
            with pytest.raises(ConnectionFailedError) as caught:
                await storage.get_file("key")
            with pytest.raises(ConnectionFailedError):
                await storage.file_exists("key")
        assert len(proxy.asked) == 2
        assert (caught.value.status, caught.value.retryable) == (407, False)
        assert "http_proxy" in (caught.value.hint or "")


async def test_a_proxy_that_is_not_there_or_silent_is_named(
    ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(f"https://{HOST}", ca_file, 1)
    async with proxy_to(0, b"") as silent:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:{QUOTED}@127.0.0.1:{silent.port}")
        impatient = settings_for(f"https://{HOST}", ca_file, 1, connect_timeout=0.5)
        async with BackblazeStorage(impatient) as storage:
            with pytest.raises(StorageTimeoutError) as late:
                await storage.get_file("key")
    async with BackblazeStorage(settings) as storage:
        with pytest.raises(ConnectionFailedError) as refused:
            await storage.get_file("key")
        with pytest.raises(ConnectionFailedError) as control:
            await storage.admin.get_cors_rules()
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid:1")
    async with BackblazeStorage(settings) as storage:
        with pytest.raises(ConnectionFailedError) as unknown:
            await storage.get_file("key")
    for caught, name in (
        (late, f"127.0.0.1:{silent.port}"),
        (refused, f"127.0.0.1:{silent.port}"),
        (control, f"127.0.0.1:{silent.port}"),
        (unknown, "proxy.invalid"),
    ):
        assert f"the proxy {name}" in caught.value.message
        assert "HTTPS_PROXY" in (caught.value.hint or "")
        assert "BACKBLAZE_ENDPOINT" not in str(caught.value)
        assert SECRET not in str(caught.value)
        assert caught.value.retryable


async def test_the_control_plane_asks_a_proxy_that_refuses_once(
    server: HostileServer, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with proxy_to(server.port, WRONGS["407"][0]) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        async with BackblazeStorage(settings_for(f"https://{HOST}", ca_file)) as storage:
            with pytest.raises(ConnectionFailedError) as caught:
                await storage.admin.get_cors_rules()
        assert (caught.value.status, len(proxy.heads)) == (407, 1)
        assert "user name and a password" in caught.value.message


async def test_the_doctor_says_which_proxy_it_is(
    ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:s3cret@127.0.0.1:9")
    report = await diagnose(settings_for(f"https://{HOST}", ca_file))
    said = str(report)
    assert "through the proxy 127.0.0.1:9 (HTTPS_PROXY)" in said
    assert "s3cret" not in said
    monkeypatch.setenv("HTTPS_PROXY", "socks5://me:s3cret@127.0.0.1:9")
    said = str(await diagnose(settings_for(f"https://{HOST}", ca_file)))
    assert "HTTPS_PROXY is a SOCKS proxy" in said
    assert "s3cret" not in said


# --- and the sources of uploads ---------------------------------------------------------


async def test_a_source_is_asked_through_a_proxy_where_the_caller_says_so(
    storage: BackblazeStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def response(asked: Asked) -> bytes:
        return raw_response(b"RIFF" + bytes(100), Content_Type="audio/wav")

    async with HostileServer(response) as proxy:
        monkeypatch.setenv("http_proxy", f"http://me:{QUOTED}@127.0.0.1:{proxy.port}")
        fields: dict[str, Any] = {"allow_private_addresses": False, "use_proxy": True}
        result = await store(storage, "http://calls.example/call", **fields)
        assert await storage.get_file(result.key) == b"RIFF" + bytes(100)
        assert [asked.target for asked in proxy.asked] == ["http://calls.example/call"]
        assert proxy.asked[0].headers["proxy-authorization"] == AUTHORIZATION
        for literal in ("http://10.0.0.1/call", "http://[fd00::1]/call"):
            with pytest.raises(InvalidInputError, match="not a public one"):
                await store(storage, literal, **fields)
        assert len(proxy.asked) == 1


async def test_a_redirect_to_a_private_address_is_refused_behind_a_proxy_too(
    storage: BackblazeStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = raw_response(b"", "302 Found", Location="http://169.254.169.254/latest")
    async with HostileServer(lambda _: moved) as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(SourceError, match="not a public one"):
            await store(
                storage,
                "http://calls.example/call",
                allow_private_addresses=False,
                use_proxy=True,
            )
        assert len(proxy.asked) == 1


async def test_a_proxy_that_refuses_a_source_is_named_and_says_what_to_do(
    storage: BackblazeStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with proxy_to(0, WRONGS["407"][0]) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:{QUOTED}@127.0.0.1:{proxy.port}")
        with pytest.raises(SourceError) as caught:
            await store(storage, "https://calls.example/call", use_proxy=True)
        assert f"the proxy 127.0.0.1:{proxy.port} refuses with HTTP 407" in caught.value.message
        assert (caught.value.status, caught.value.retryable, len(proxy.heads)) == (407, False, 1)
        assert "HTTPS_PROXY" in (caught.value.hint or "")
        assert SECRET not in str(caught.value)


async def test_a_source_that_cannot_be_reached_tells_of_the_proxy_that_was_not_used(
    storage: BackblazeStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Source() as gone:
        gone.routes["/moved"] = redirect("http://calls.invalid/call")
        monkeypatch.setenv("http_proxy", "http://me:s3cret@127.0.0.1:9")
        with pytest.raises(SourceError) as caught:
            await store(storage, f"{gone.origin}/moved")
    assert "use_proxy=True" in (caught.value.hint or "")
    assert "s3cret" not in str(caught.value)
