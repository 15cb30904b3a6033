"""What docs/integrity.md says about each download is what happens when a bit flips on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable
from pathlib import Path

import pytest

from careflow_storage import BackblazeStorage, ChecksumAlgorithm, ChecksumMismatchError
from careflow_storage.testing import B2Server

PAGE = Path(__file__).parents[2] / "docs" / "integrity.md"
BODY = bytes(range(256)) * 1000
KEY = "call.webm"
Download = Callable[[BackblazeStorage, Path], Awaitable[object]]


async def read_all(chunks: AsyncIterable[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])


async def serve(storage: BackblazeStorage, headers: dict[str, str]) -> bytes:
    served = await storage.serve_file(KEY, headers=headers)
    return await read_all(served.body)


async def read_open_file(storage: BackblazeStorage) -> bytes:
    async with await storage.open_file(KEY) as file:
        return await file.read()


DOWNLOADS: dict[str, Download] = {
    "`get_file`": lambda storage, target: storage.get_file(KEY),
    "`download_file`": lambda storage, target: storage.download_file(KEY, target),
    "`stream_file` of a whole file": lambda storage, target: read_all(storage.stream_file(KEY)),
    "`serve_file` of a whole file": lambda storage, target: serve(storage, {}),
    "`stream_file` with `start=` or `end=`": lambda storage, target: read_all(
        storage.stream_file(KEY, start=0, end=len(BODY) - 1)
    ),
    "`serve_file` of a range": lambda storage, target: serve(storage, {"range": "bytes=0-5000"}),
    "`open_file`": lambda storage, target: read_open_file(storage),
}


def documented() -> dict[str, str]:
    """Return the last cell of each row of the table of downloads, by its first."""
    lines = PAGE.read_text(encoding="utf-8").partition("## Downloads")[2].splitlines()
    table = [line for line in lines[: lines.index("", 2)] if line.startswith("| `")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    return {row[0]: row[2] for row in rows}


def test_the_table_has_the_downloads_that_are_tried() -> None:
    assert list(documented()) == list(DOWNLOADS)


@pytest.mark.parametrize("call", DOWNLOADS)
async def test_a_flipped_bit_is_reported_as_the_page_says(
    server: B2Server, tmp_path: Path, call: str
) -> None:
    target = tmp_path / "copy"
    async with BackblazeStorage(server.settings()) as storage:
        await storage.upload_file(KEY, BODY)
        flip = server.faults.next("GetObject", corrupt=1000)
        if documented()[call] == "not detected":
            await DOWNLOADS[call](storage, target)
        else:
            assert documented()[call].startswith("`ChecksumMismatchError`")
            with pytest.raises(ChecksumMismatchError):
                await DOWNLOADS[call](storage, target)
    assert flip.hits == 1
    assert not await asyncio.to_thread(target.exists)


@pytest.mark.parametrize("algorithm", ["md5", "crc32", "sha256"])
async def test_a_bit_that_flips_in_an_upload_is_refused_and_sent_again(
    server: B2Server, algorithm: ChecksumAlgorithm
) -> None:
    settings = server.settings(retry_base_delay=0.0)
    async with BackblazeStorage(settings) as storage:
        flip = server.faults.next("PutObject", corrupt_upload=1000)
        with storage.count_requests() as requests:
            await storage.upload_file(KEY, BODY, checksum=algorithm)
        assert (flip.hits, requests["PutObject"]) == (1, 2)
        assert await storage.get_file(KEY) == BODY
