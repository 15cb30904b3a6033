"""The servers and settings that tests share, and the isolation of each test."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import ipaddress
import os
import signal
import socket
import sys
import tempfile
import uuid
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import hypothesis
import pytest

from careflow_storage._s3.signing.signer import Credentials
from careflow_storage._transfer.upload import multipart
from careflow_storage.local import LocalServer
from careflow_storage.local.client import SyncClient
from careflow_storage.settings import StorageSettings
from careflow_storage.storage import BackblazeStorage
from careflow_storage.testing import B2Server
from careflow_storage.testing.proxy.proxy import FaultProxy
from tests.support.chromium import PATIENCE_MS, launched

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

# How long an example takes says how busy the machine is, nothing more. A run depends on no other,
# and the repository may be read-only.
hypothesis.settings.register_profile(
    "patient",
    deadline=None,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("patient")

_LOOPBACK = ("127.0.0.1", "localhost")
# What an output looks like is the terminal's, or that of CI.
_OF_TERMINALS = ("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "PY_COLORS", "GITHUB_ACTIONS")
_FILE_SYSTEM = "careflow_storage.integrations.fsspec.filesystem"
_FAST_RETRIES: dict[str, Any] = {"retry_base_delay": 0.001, "retry_max_delay": 0.01}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--loop",
        choices=("asyncio", "uvloop", "both"),
        default=os.environ.get("CAREFLOW_TEST_LOOP", "asyncio"),
        help="the event loop that tests run on (or the variable CAREFLOW_TEST_LOOP)",
    )


def pytest_configure() -> None:
    # Shells and nohup let programs ignore signals that tests send to the programs they start. What
    # has a handler here has its default there.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda _number, _frame: None)


def pytest_asyncio_loop_factories(
    config: pytest.Config,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    wanted = config.getoption("--loop")
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {}
    if wanted != "uvloop":
        factories["asyncio"] = asyncio.new_event_loop
    if wanted != "asyncio":
        import uvloop

        factories["uvloop"] = uvloop.new_event_loop
    return factories


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    # Before the worker tells pytest-xdist what it has.
    if hasattr(session.config, "workerinput"):
        _begin_with_the_longest(session.items)
    # Thousands of tests and modules stay: the garbage collector need not walk them each time.
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if "seaweedfs" in fixtures:
            item.add_marker(pytest.mark.integration)
        if "chromium" in fixtures:
            item.add_marker(pytest.mark.browser)


def _begin_with_the_longest(items: list[pytest.Item]) -> None:
    """Order the files: a worker that begins a long one last would keep all others waiting."""
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)

    def length(tests: list[pytest.Item]) -> tuple[float, int]:
        limits = [mark for test in tests if (mark := test.get_closest_marker("timeout"))]
        return max((mark.args[0] for mark in limits), default=0), len(tests)

    by_length = sorted(files.values(), key=length, reverse=True)
    items[:] = [item for tests in by_length for item in tests]


@pytest.fixture(autouse=True)
def isolation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the settings, keys and .env file of the person who runs the tests."""
    for name in list(os.environ):
        if name.startswith(("BACKBLAZE_", "AWS_", "OTEL_")) or name in _OF_TERMINALS:
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    # A proxy of the machine is for the registry of npm, not for the servers of the tests.
    for name in list(os.environ):
        if name.lower() in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.delenv(name)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, ",".join(filter(None, [os.environ.get(name), *_LOOPBACK])))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def no_name_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Find this machine only, so that a test ends alike with and without a network."""

    def find(host: str | bytes | None, *given: Any, **named: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name in (None, "", "localhost", socket.gethostname()) or _is_address(name):
            return getaddrinfo(host, *given, **named)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    getaddrinfo = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", find)


@pytest.fixture(autouse=True)
def closed_file_systems() -> Iterator[None]:
    """fsspec keeps its file systems for the whole process; the next test has another server."""
    yield
    if (module := sys.modules.get(_FILE_SYSTEM)) is not None:
        for opened in [*module.CareflowFileSystem._cache.values()]:
            opened.close()
        module.CareflowFileSystem.clear_instance_cache()


@pytest.fixture(scope="session", autouse=True)
def patient_aborts() -> Iterator[None]:
    """A cancelled upload is aborted within 0.8 s, which a busy machine may need for one request."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multipart, "_ABORT_SECONDS_WHEN_CANCELLED", 5.0)
        yield


@pytest.fixture(scope="session", autouse=True)
def patient_clients() -> Iterator[None]:
    """httpx waits longer than 5 s for a response, which a busy machine may need; loads TLS once."""
    # All clients that are given no timeout share this object.
    default = inspect.signature(httpx.AsyncClient).parameters["timeout"].default
    # It takes 25 ms to load the certificates of all authorities, which no test needs.
    context = functools.cache(httpx.create_ssl_context)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("httpx._transports.default.create_ssl_context", context)
        for name in ("connect", "read", "write", "pool"):
            patch.setattr(default, name, 60.0)
        yield


@pytest.fixture(scope="session", autouse=True)
def quick_clients() -> Iterator[None]:
    """botocore works out once what is equal for each of a thousand clients."""
    import botocore.hooks
    import botocore.regions
    import botocore.session

    # The data of the services, a megabyte of JSON.
    create_loader = functools.cache(botocore.session.create_loader)
    inspected: weakref.WeakKeyDictionary[Any, bool] = weakref.WeakKeyDictionary()
    names: dict[str, str] = {}
    rules: dict[tuple[int, int, str], Any] = {}

    def accepts_kwargs(handler: Any) -> bool:
        if not inspect.isfunction(handler):
            return bool(inspect_handler(handler))
        if handler not in inspected:
            inspected[handler] = bool(inspect_handler(handler))
        return inspected[handler]

    def alias(aliaser: Any, name: str) -> str:
        if name not in names:
            names[name] = find_alias(aliaser, name)
        return names[name]

    def endpoint_rules(ruleset_data: Any, partition_data: Any, **others: Any) -> Any:
        # The loader returns the same objects each time.
        found = id(ruleset_data), id(partition_data), repr(others)
        if found not in rules:
            rules[found] = provider(
                ruleset_data=ruleset_data, partition_data=partition_data, **others
            )
        return rules[found]

    inspect_handler = botocore.hooks.accepts_kwargs
    find_alias = botocore.hooks.EventAliaser._alias_event_name
    provider = botocore.regions.EndpointProvider
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", create_loader)
        patch.setattr(botocore.hooks, "accepts_kwargs", accepts_kwargs)
        patch.setattr(botocore.hooks.EventAliaser, "_alias_event_name", alias)
        patch.setattr(botocore.regions, "EndpointProvider", endpoint_rules)
        yield


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A temporary directory of its own, to see what is left in it."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


@pytest.fixture
async def jump(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Moves the clock of the event loop; a busy machine does not reach a deadline of a minute."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop, asyncio.BaseEventLoop):
        pytest.skip("the clock of this event loop cannot be moved")
    time, ahead = loop.time, [0.0]
    monkeypatch.setattr(loop, "time", lambda: time() + ahead[0])

    def jump(seconds: float) -> None:
        ahead[0] += seconds

    return jump


@pytest.fixture
def recordings() -> dict[str, Path]:
    """Real recordings of speech, by filename."""
    data = Path(__file__).parent / "data"
    return {path.name: path for path in sorted(data.iterdir()) if path.suffix in _AUDIO}


_AUDIO = {".webm", ".ogg", ".wav", ".mp3", ".m4a"}


@pytest.fixture(scope="session")
def seaweedfs() -> Iterator[LocalServer]:
    """A real S3 server."""
    with LocalServer() as server:
        yield server


@pytest.fixture(scope="session")
def moto_server() -> Iterator[str]:
    """The endpoint of a fast S3 server in a thread, which checks no signatures."""
    from moto.server import ThreadedMotoServer
    from werkzeug.serving import WSGIRequestHandler

    send_header = WSGIRequestHandler.send_header

    def send_header_once(handler: WSGIRequestHandler, name: str, value: str) -> None:
        # moto says `server`, too. With `python -X dev` aiohttp refuses a response with both.
        if name != "Server":
            send_header(handler, name, value)

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WSGIRequestHandler, "send_header", send_header_once)
        server.start()
        try:
            host, port = server.get_host_and_port()
            yield f"http://{host}:{port}"
        finally:
            server.stop()


@pytest.fixture(scope="module")
def running() -> Iterator[B2Server]:
    """The B2 emulator, running for one module of tests."""
    with B2Server() as emulator:
        yield emulator


@pytest.fixture
def server(running: B2Server) -> Iterator[B2Server]:
    """The B2 emulator, emptied after the test."""
    yield running
    running.reset()


@pytest.fixture
def settings(moto_server: str) -> StorageSettings:
    """For a new versioned bucket on the fast server; retries wait for milliseconds."""
    bucket = _new_bucket_name()
    client = SyncClient(moto_server, Credentials("test-key-id", "test-application-key"))
    assert client.create_bucket(bucket).status == 200
    assert client.enable_versioning(bucket).status == 200
    return StorageSettings(
        key_id="test-key-id",
        application_key="test-application-key",
        bucket_name=bucket,
        endpoint=moto_server,
        region="us-east-1",
        **_FAST_RETRIES,
    )


@pytest.fixture
async def proxy(settings: StorageSettings) -> AsyncIterator[FaultProxy]:
    """A proxy before the fast server, for faults."""
    async with FaultProxy(settings.endpoint or "") as opened:
        yield opened


@pytest.fixture
def seaweed_settings(seaweedfs: LocalServer) -> StorageSettings:
    """For a new versioned bucket on the real server; retries wait for milliseconds."""
    bucket = _new_bucket_name()
    seaweedfs.create_bucket(bucket)
    return seaweedfs.settings(bucket_name=bucket, **_FAST_RETRIES)


@pytest.fixture
async def storage(settings: StorageSettings) -> AsyncIterator[BackblazeStorage]:
    """Open on the fast server."""
    async with BackblazeStorage(settings) as opened:
        yield opened


@pytest.fixture
async def seaweed_storage(seaweed_settings: StorageSettings) -> AsyncIterator[BackblazeStorage]:
    """Open on the real server."""
    async with BackblazeStorage(seaweed_settings) as opened:
        yield opened


@pytest.fixture
def chromium_arguments() -> tuple[str, ...]:
    """More arguments for Chromium. A module may have its own, such as a fake microphone."""
    return ()


@pytest.fixture
async def chromium(chromium_arguments: tuple[str, ...]) -> AsyncIterator[Browser]:
    """Chromium, running for one test."""
    async with launched(*chromium_arguments) as browser:
        yield browser


@pytest.fixture
async def tab(chromium: Browser) -> Page:
    """A page of Chromium, with cookies and storage of its own."""
    context = await chromium.new_context()
    context.set_default_timeout(PATIENCE_MS)
    return await context.new_page()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


def _new_bucket_name() -> str:
    return f"test-{uuid.uuid4().hex[:16]}"
