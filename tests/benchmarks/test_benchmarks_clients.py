"""The peers of the benchmarks do what the benchmarks measure: no number is worth more than that."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import os
import re
import sys
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from starlette.requests import Request

from benchmarks.clients.processes import executable, run
from benchmarks.clients.protocol import (
    Adapter,
    Lists,
    ListsFolders,
    Lives,
    Objects,
    Serves,
    Signs,
    Streams,
    Transfers,
)
from benchmarks.clients.streams import AsyncReader, BlockingReader
from benchmarks.measure import measured
from benchmarks.model import MIB, Endpoint, Job, Tuning
from benchmarks.servers import null_server
from careflow_storage import BackblazeStorage, StorageSettings

_EVERYTHING_BUT_FILES = (Objects, Lists, ListsFolders, Signs)
_TAKES_PART: dict[str, tuple[type, ...]] = {
    "aioboto3": (Transfers, Streams, Serves, *_EVERYTHING_BUT_FILES),
    "aiobotocore": _EVERYTHING_BUT_FILES,
    "aiohttp_s3_client": (Transfers, *_EVERYTHING_BUT_FILES),
    "awscrt": (Transfers,),
    "boto3": (Transfers, Streams, *_EVERYTHING_BUT_FILES),
    "capo_s3": (Transfers, *_EVERYTHING_BUT_FILES),
    "miniopy_async": (Transfers, Streams, *_EVERYTHING_BUT_FILES),
    "obstore": (Transfers, Streams, Serves, Lives, *_EVERYTHING_BUT_FILES),
    "ours": (Transfers, Streams, Serves, Lives, *_EVERYTHING_BUT_FILES),
    "rclone": (Transfers, Lists, ListsFolders),
    "s3fs": (Transfers, *_EVERYTHING_BUT_FILES),
    "s5cmd": (Transfers, Lists, ListsFolders),
    "starlette_file": (Serves,),
}
_PROGRAMS = ("rclone", "s5cmd")
_PART = 5 * MIB
_KEY = "recordings/CA1/1700000000000-call.webm"

pytestmark = [
    # They start servers and programs of the benchmarks; nothing of the library depends on them.
    pytest.mark.slow,
    # Peers on aiohttp send parts as they do, and a benchmark does not ask them to do better.
    pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning"),
]


def _adapter(name: str) -> Adapter:
    """The client's module, or a skipped test: the extra `bench` is not everywhere."""
    if name in _PROGRAMS:
        try:
            executable(name)
        except RuntimeError as error:
            pytest.skip(str(error))
    elif name not in ("ours", "starlette_file"):
        pytest.importorskip(name)
    return cast("Adapter", importlib.import_module(f"benchmarks.clients.{name}_client"))


def _who(protocol: type) -> pytest.MarkDecorator:
    """The test runs for every client that takes part in it."""
    names = [name for name, protocols in _TAKES_PART.items() if protocol in protocols]
    return pytest.mark.parametrize("name", names)


@pytest.fixture
def endpoint(settings: StorageSettings) -> Endpoint:
    assert settings.endpoint
    assert settings.bucket_name
    return Endpoint(
        settings.endpoint, settings.bucket_name, "test-key-id", "test-application-key", "us-east-1"
    )


@pytest.fixture
async def client(name: str, endpoint: Endpoint) -> AsyncIterator[object]:
    job = Job("test", name, endpoint, Tuning(part_size=_PART, concurrency=2))
    async with _adapter(name).open_client(job) as opened:
        yield opened


@pytest.fixture(scope="module")
def null(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    pytest.importorskip("uvloop")
    with null_server(tmp_path_factory.mktemp("null"), keys=2300) as endpoint:
        yield endpoint


async def _chunks(data: bytes, size: int = 100_000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


@_who(Transfers)
@pytest.mark.parametrize("size", [1000, 2 * _PART + 1], ids=["small", "parts"])
async def test_a_file_is_stored_and_read_back(
    client: object, storage: BackblazeStorage, tmp_path: Path, size: int
) -> None:
    assert isinstance(client, Transfers)
    data = os.urandom(size)
    source, target = tmp_path / "source.webm", tmp_path / "target.webm"
    source.write_bytes(data)

    await client.upload(_KEY, source)
    await client.download(_KEY, target)

    assert await storage.get_file(_KEY, verify=False) == data
    assert target.read_bytes() == data


@_who(Streams)
@pytest.mark.parametrize("size", [1000, 2 * _PART + 1], ids=["small", "parts"])
async def test_a_stream_is_stored(client: object, storage: BackblazeStorage, size: int) -> None:
    assert isinstance(client, Streams)
    data = os.urandom(size)

    await client.upload_stream(_KEY, _chunks(data))

    assert await storage.get_file(_KEY, verify=False) == data


@_who(Serves)
async def test_a_range_is_served(client: object, storage: BackblazeStorage, tmp_path: Path) -> None:
    assert isinstance(client, Serves)
    data = os.urandom(MIB)
    source = tmp_path / "source.webm"
    source.write_bytes(data)
    await storage.upload_file(_KEY, data)
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def stay() -> Any:
        await asyncio.Event().wait()

    headers = [(b"range", b"bytes=1000-999999")]
    scope = {"type": "http", "method": "GET", "path": "/", "headers": headers, "extensions": {}}
    response = await client.respond(_KEY, str(source), Request(scope, stay))
    await response(scope, stay, send)

    assert sent[0]["status"] == 206
    found = {name.lower(): value for name, value in sent[0]["headers"]}
    assert found[b"content-range"] == b"bytes 1000-999999/1048576"
    assert found[b"content-length"] == b"999000"
    assert b"".join(bytes(one["body"]) for one in sent[1:]) == data[1000:1_000_000]


@_who(Objects)
async def test_small_objects_are_stored_told_and_gone(
    client: object, storage: BackblazeStorage
) -> None:
    assert isinstance(client, Objects)
    data = os.urandom(1000)

    await client.put(_KEY, data)
    assert await storage.get_file(_KEY) == data
    assert await client.get(_KEY) == 1000
    assert await client.head(_KEY) == 1000
    await client.delete(_KEY)
    assert not await storage.file_exists(_KEY)


@_who(Signs)
async def test_a_signed_url_opens_the_object(client: object, storage: BackblazeStorage) -> None:
    assert isinstance(client, Signs)
    await storage.upload_file(_KEY, b"recording")

    urls = [await client.sign(_KEY), *await client.sign_many([_KEY, "recordings/CA2/other.webm"])]

    assert all(re.search("[?&]X-Amz-Signature=[0-9a-f]{64}", url) for url in urls)
    assert "/recordings/CA2/other.webm?" in urls[2]
    for url in urls[:2]:
        with await asyncio.to_thread(urllib.request.urlopen, url) as response:
            assert response.read() == b"recording"


@_who(Lives)
async def test_a_call_in_progress_is_stored(client: object, storage: BackblazeStorage) -> None:
    assert isinstance(client, Lives)
    data = os.urandom(_PART + 1)

    async with client.live(_KEY) as writer:
        async for chunk in _chunks(data):
            await writer.write(chunk)

    assert await storage.get_file(_KEY, verify=False) == data


@_who(Lists)
async def test_a_listing_has_all_pages(name: str, null: Endpoint) -> None:
    async with _adapter(name).open_client(Job("test", name, null)) as client:
        assert isinstance(client, Lists)
        assert await client.listing("recordings/") == 2300


@_who(ListsFolders)
async def test_a_listing_has_all_folders(name: str, null: Endpoint) -> None:
    async with _adapter(name).open_client(Job("test", name, null)) as client:
        assert isinstance(client, ListsFolders)
        assert await client.folders("recordings/") == 46


async def test_b2sdk_makes_the_calls_of_the_native_api(tmp_path: Path) -> None:
    """In Backblaze's own simulator: this needs no server that speaks the native API."""
    b2 = pytest.importorskip("b2sdk.v3")
    from benchmarks.clients.b2sdk_client import B2sdkClient

    api = b2.B2Api(
        b2.InMemoryAccountInfo(), api_config=b2.B2HttpApiConfig(_raw_api_class=b2.RawSimulator)
    )
    key_id, key = cast("Any", api.session.raw_api).create_account()
    api.authorize_account(key_id, key)
    bucket = api.create_bucket("bench", "allPrivate")
    endpoint = Endpoint("http://127.0.0.1", "bench", key_id, key)
    client = B2sdkClient(api, bucket, Job("test", "b2sdk", endpoint, Tuning(part_size=MIB // 4)))
    source, target, data = tmp_path / "source", tmp_path / "target", os.urandom(MIB - 1)
    source.write_bytes(data)

    await client.upload("recordings/CA1/1.webm", source)
    await client.download("recordings/CA1/1.webm", target)
    assert target.read_bytes() == data
    await client.upload_stream("recordings/CA2/2.webm", _chunks(data))
    await client.put("recordings/3.webm", b"recording")
    assert await client.get("recordings/CA2/2.webm") == len(data)
    assert await client.head("recordings/3.webm") == 9
    assert await client.listing("recordings/") == 3
    assert await client.folders("recordings/") == 2
    await client.delete("recordings/CA1/1.webm")
    assert await client.listing("recordings/") == 2


async def test_readers_give_what_the_iterator_gave() -> None:
    data = os.urandom(10_000)
    reader = AsyncReader(_chunks(data, 700))
    assert await reader.read(0) == b""
    assert [len(await reader.read(4000)) for _ in range(4)] == [4000, 4000, 2000, 0]
    assert await AsyncReader(_chunks(data, 700)).read() == data

    blocking = BlockingReader(_chunks(data, 700))
    parts = [await asyncio.to_thread(blocking.read, 6000) for _ in range(3)]
    assert hashlib.sha256(b"".join(parts)).digest() == hashlib.sha256(data).digest()


async def test_what_a_program_uses_is_measured() -> None:
    work = "import time\nb = bytearray(100 << 20)\nwhile time.process_time() < 0.3: pass\nprint(1)"
    async with measured(None) as section:
        assert await run([sys.executable, "-c", work], {}) == b"1\n"

    assert section.sample.cpu_s >= 0.3
    assert section.sample.peak_rss_mib - section.sample.base_rss_mib > 100


async def test_a_program_that_fails_says_why() -> None:
    with pytest.raises(RuntimeError, match="ended with 3: it broke"):
        await run(
            [sys.executable, "-c", "import sys; sys.stderr.write('it broke'); sys.exit(3)"], {}
        )
