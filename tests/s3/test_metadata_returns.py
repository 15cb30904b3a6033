"""Whatever metadata is taken can be read back, equal, whichever way it was stored."""

from __future__ import annotations

import asyncio
import itertools
import string
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from careflow_storage import BackblazeStorage, FileMetadata, InvalidInputError
from careflow_storage._s3.headers.metadata import MAX_TOTAL_BYTES
from careflow_storage.outbox import Outbox
from careflow_storage.testing import B2Server
from tests.support.stopping import PART, small_parts
from tests.support.url_source import Source

SIGNS = string.ascii_lowercase + string.digits + "-_.~!#$%^&*'|+`"
RECORDED_AT = datetime(2026, 11, 23, tzinfo=UTC)


def most_names() -> dict[str, str]:
    """As many names as fit: each with the shortest value that takes no encoding."""
    metadata: dict[str, str] = {}
    left = MAX_TOTAL_BYTES
    for length in (1, 2):
        for letters in itertools.product(SIGNS, repeat=length):
            if left < length + 1:
                return metadata
            metadata["".join(letters)] = "v"
            left -= length + 1
    return metadata


EXTREMES: dict[str, dict[str, str]] = {
    "most names": most_names(),
    "300 names": {f"{number:03}": "val" for number in range(300)},
    "one long value": {"a": "v" * (MAX_TOTAL_BYTES - 1)},
    "one long encoded value": {"a": "ä" * 500},
    "values that are not ASCII": {f"{number}": "ä" for number in range(100)},
    "empty values": {f"{number}": "" for number in range(100)},
    "the longest names": {SIGNS[number] * 50: "v" for number in range(30)},
    "all signs": {SIGNS[:25]: "a" * 100, SIGNS[25:]: "b"},
}


@pytest.fixture(scope="module")
def server() -> Iterator[B2Server]:
    with B2Server(min_part_size=1) as running:
        yield running


Way = Callable[[BackblazeStorage, dict[str, str], Path], Awaitable[str]]


async def by_one_put(storage: BackblazeStorage, metadata: dict[str, str], _: Path) -> str:
    return (await storage.upload_file("k", b"x", metadata=metadata)).key


async def in_parts(storage: BackblazeStorage, metadata: dict[str, str], _: Path) -> str:
    return (await storage.upload_file("k", bytes(2 * PART + 1), metadata=metadata)).key


async def live(storage: BackblazeStorage, metadata: dict[str, str], _: Path) -> str:
    writer = storage.open_recording("CA1", "a.wav", metadata=metadata, recorded_at=RECORDED_AT)
    async with writer:
        await writer.write(b"x")
    return writer.result.key


async def by_copy(storage: BackblazeStorage, metadata: dict[str, str], _: Path) -> str:
    await storage.upload_file("k", b"x", metadata=metadata)
    await storage.admin.copy_file("k", "k2")
    return "k2"


async def by_the_outbox(storage: BackblazeStorage, metadata: dict[str, str], folder: Path) -> str:
    async with Outbox(folder / "outbox", storage) as box:
        entry = await box.put_recording("CA1", b"x", "a.wav", metadata=metadata)
        await box.drain()
    return entry.key


async def from_a_url(storage: BackblazeStorage, metadata: dict[str, str], _: Path) -> str:
    async with Source(b"RIFF" + bytes(100)) as source:
        result = await storage.upload_from_url(
            "CA1", source.url, "a.wav", metadata=metadata, allow_private_addresses=True
        )
    return result.key


WAYS: dict[str, Way] = {
    function.__name__: function
    for function in (by_one_put, in_parts, live, by_copy, by_the_outbox, from_a_url)
}


async def read_back(storage: BackblazeStorage, key: str, folder: Path) -> FileMetadata:
    """The metadata of a file that can be read by every call."""
    assert await storage.file_exists(key)
    content = await storage.get_file(key)
    async with storage.stream_file(key) as stream:
        assert await stream.read() == content
    await storage.download_file(key, folder / "file")
    return await storage.get_file_metadata(key)


# The emulator's copies go through a library that reads names as CGI does, without most signs.
CASES = [
    pytest.param(metadata, way, id=f"{what}-{name}")
    for what, metadata in EXTREMES.items()
    for name, way in WAYS.items()
    if way is not by_copy or what not in ("most names", "all signs")
]


@pytest.mark.parametrize(("metadata", "way"), CASES)
async def test_the_most_that_is_taken_comes_back(
    server: B2Server, metadata: dict[str, str], way: Way, tmp_path: Path
) -> None:
    async with BackblazeStorage(small_parts(server.settings())) as storage:
        key = await way(storage, metadata, tmp_path)
        assert (await read_back(storage, key, tmp_path)).metadata == metadata


names = st.text(SIGNS + string.ascii_uppercase, min_size=1, max_size=51)
values = st.text(max_size=200) | st.text(string.printable, max_size=300) | st.just("=?utf-8?q?a?=")


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(names, values, max_size=30))
@example({"a": " leading and  double "})
@example({"content-type": "x", "careflow": "", "server": "\u2028"})
def test_what_is_taken_comes_back_equal(server: B2Server, metadata: dict[str, str]) -> None:
    async def both() -> Any:
        async with BackblazeStorage(server.settings()) as storage:
            try:
                await storage.upload_file("any", b"x", metadata=metadata)
            except InvalidInputError:
                return None
            return (await storage.get_file_metadata("any")).metadata

    found = asyncio.run(both())
    assert found is None or found == {name.lower(): text for name, text in metadata.items()}
