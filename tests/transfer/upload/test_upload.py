"""Every kind of body in every interesting size arrives as it is."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from careflow_storage import BackblazeStorage, StorageSettings
from careflow_storage._transfer.bodies.sources import UploadBody
from tests.support.bodies import BODIES, MIB, AsyncFile, noise, pieces, stream

THRESHOLD = 100_000
PART = 5 * MIB


@pytest.fixture
async def storage(settings: StorageSettings) -> AsyncIterator[BackblazeStorage]:
    """Whose files above 100 kB go in parts of 5 MiB."""
    small = settings.model_copy(update={"part_size": PART, "multipart_threshold": THRESHOLD})
    async with BackblazeStorage(small) as opened:
        yield opened


# All kinds in one test: with a storage for each it would take twenty times as long.
@pytest.mark.parametrize("size", [0, 2, 10_000, 300_000])
async def test_given_any_kind_of_body_when_uploaded_then_exactly_its_bytes_are_stored(
    storage: BackblazeStorage, size: int, tmp_path: Path
) -> None:
    data = noise(size)
    damaged = []
    for kind, make in BODIES.items():
        with ExitStack() as stack:
            result = await storage.upload_file(kind, make(data, tmp_path, stack))
        if result.size != size or await storage.get_file(kind) != data:
            damaged.append(kind)
    assert damaged == []


@pytest.mark.parametrize(
    ("size", "etag_parts"),
    [(0, 0), (1, 0), (THRESHOLD - 1, 0), (THRESHOLD, 0), (THRESHOLD + 1, 1)],
)
async def test_given_a_size_around_the_threshold_when_uploaded_then_only_more_goes_in_parts(
    storage: BackblazeStorage, size: int, etag_parts: int
) -> None:
    data = noise(size)
    result = await storage.upload_file("a.bin", data)
    assert (result.size, result.parts) == (size, 1)
    assert ("-" in result.etag) == bool(etag_parts)
    assert await storage.get_file("a.bin") == data


@pytest.mark.parametrize(("size", "parts"), [(PART, 1), (PART + 1, 2), (2 * PART, 2)])
@pytest.mark.parametrize("known", [True, False])
async def test_given_a_size_around_a_multiple_of_the_part_size_then_no_part_is_empty_or_missing(
    storage: BackblazeStorage, size: int, parts: int, known: bool
) -> None:
    data = noise(size)
    result = await storage.upload_file("a.bin", data if known else stream(data, MIB + 7))
    assert (result.size, result.parts) == (size, parts)
    assert result.etag.endswith(f"-{parts}")
    assert await storage.get_file("a.bin") == data


async def test_given_a_stream_that_says_its_size_when_uploaded_then_it_is_held_to_it(
    storage: BackblazeStorage,
) -> None:
    data = noise(PART + 1000)
    result = await storage.upload_file("a.bin", stream(data), size=len(data))
    assert (result.size, result.parts) == (len(data), 2)


async def test_given_text_when_uploaded_then_it_is_stored_as_utf8_and_never_taken_for_a_path(
    storage: BackblazeStorage, tmp_path: Path
) -> None:
    (tmp_path / "transcript.txt").write_text("the file's own text")
    name = str(tmp_path / "transcript.txt")
    await storage.upload_file("name.txt", name)
    await storage.upload_file("words.txt", "Grüße, 録音 🎙️")
    assert await storage.get_file("name.txt") == name.encode()
    assert (await storage.get_file("words.txt")).decode() == "Grüße, 録音 🎙️"


@pytest.mark.parametrize("size", [10_000, 300_000])
async def test_given_a_file_that_was_read_a_little_when_uploaded_then_the_rest_is_stored(
    storage: BackblazeStorage, size: int
) -> None:
    data = noise(size)
    file = io.BytesIO(data)
    file.seek(4321)
    result = await storage.upload_file("a.bin", file)
    assert result.size == size - 4321
    assert await storage.get_file("a.bin") == data[4321:]


@pytest.mark.parametrize("size", [10_000, 300_000])
async def test_given_files_that_the_caller_opened_when_uploaded_then_they_stay_open(
    storage: BackblazeStorage, size: int, tmp_path: Path
) -> None:
    (tmp_path / "a.bin").write_bytes(noise(size))
    async_file = AsyncFile(noise(size))
    with (tmp_path / "a.bin").open("rb") as file:
        await storage.upload_file("sync", file)
        assert not file.closed
        assert file.read() == b""
    await storage.upload_file("async", async_file)
    assert not async_file.closed


async def test_given_an_iterator_with_empty_chunks_when_uploaded_then_they_do_not_end_it(
    storage: BackblazeStorage,
) -> None:
    await storage.upload_file("sync", iter([b"", b"one", b"", b"two", b""]))
    await storage.upload_file("async", stream_of(b"", b"one", b"", b"two", b""))
    assert await storage.get_file("sync") == b"onetwo"
    assert await storage.get_file("async") == b"onetwo"


async def test_given_one_chunk_larger_than_a_part_when_uploaded_then_it_is_cut(
    storage: BackblazeStorage,
) -> None:
    data = noise(2 * PART + 3)
    result = await storage.upload_file("a.bin", iter([data]))
    assert result.parts == 3
    assert await storage.get_file("a.bin") == data


async def test_given_a_result_then_it_holds_the_url_and_the_verified_checksum(
    storage: BackblazeStorage,
) -> None:
    data = noise(1000)
    result = await storage.upload_file("dir/a b+c.bin", data)
    settings = storage.settings
    assert result.key == "dir/a b+c.bin"
    assert result.bucket == settings.bucket_name
    assert result.url == f"{settings.endpoint}/{settings.bucket_name}/dir/a%20b%2Bc.bin"
    assert result.etag == hashlib.md5(data, usedforsecurity=False).hexdigest()
    assert (result.checksum.algorithm, result.checksum.value) == ("md5", result.etag)
    assert result.version_id
    assert type(result).model_validate_json(result.model_dump_json()) == result


async def test_given_many_uploads_at_once_when_memory_is_scarce_then_all_arrive(
    settings: StorageSettings, tmp_path: Path
) -> None:
    scarce = settings.model_copy(
        update={"part_size": PART, "multipart_threshold": THRESHOLD, "memory_budget": 8 * MIB}
    )
    data = noise(PART + 1000)
    (tmp_path / "a.bin").write_bytes(data)
    bodies: list[UploadBody] = [tmp_path / "a.bin", io.BytesIO(data), pieces(data), stream(data)]
    async with BackblazeStorage(scarce) as storage:
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            for number, body in enumerate(bodies):
                group.create_task(storage.upload_file(f"{number}.bin", body))
        for number in range(len(bodies)):
            assert await storage.get_file(f"{number}.bin") == data


async def stream_of(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
