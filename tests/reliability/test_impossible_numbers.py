"""Sizes, counts and totals that no object has cost neither memory nor time: a typed error."""

from __future__ import annotations

import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from careflow_storage import BackblazeStorage, ServerResponseError, StorageError
from tests.support.bodies import noise
from tests.support.hostile import Asked, HostileServer, raw_response

MARK = f"{'0' * 32}-1"  # parts of one byte
Call = Callable[[BackblazeStorage, Path], Awaitable[Any]]


async def _open(storage: BackblazeStorage, _: Path) -> bytes:
    async with await storage.open_file("k") as file:
        return await file.read(10)


CALLS: dict[str, Call] = {
    "head": lambda storage, _: storage.get_file_metadata("k"),
    "get": lambda storage, _: storage.get_file("k"),
    "range": lambda storage, _: storage.stream_file("k", start=1, end=3).read(),
    "open": _open,
    "download": lambda storage, folder: storage.download_file("k", folder / "k"),
    "resume": lambda storage, folder: storage.download_file("k", folder / "k", resume=True),
    "copy": lambda storage, _: storage.admin.copy_file("k", "k2"),
    "upload resumed": lambda storage, _: storage.upload_file("k", noise(200_000), resume=True),
}


def _names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def object_of(length: str, etag: str = f"{'a' * 32}-3", **headers: str) -> bytes:
    lines = {
        "Content-Length": length,
        "ETag": f'"{etag}"',
        "Last-Modified": "Mon, 23 Nov 2026 06:36:09 GMT",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 200 OK\r\n{head}\r\nhello".encode()


@pytest.mark.parametrize("length", ["-1", str(10**15), str(10**18), "9" * 30, "9" * 5000, "1e3"])
@pytest.mark.parametrize("call", ["head", "get", "range", "open", "download", "resume", "copy"])
async def test_given_a_size_that_no_object_has_then_it_is_refused(
    call: str, length: str, tmp_path: Path
) -> None:
    error, peak = await _failure(
        lambda _: object_of(length), CALLS[call], tmp_path, control=call == "copy"
    )
    assert isinstance(error, ServerResponseError)
    assert peak < 8_000_000
    assert _names_in(tmp_path) == []


@pytest.mark.parametrize("total", [str(10**15), str(10**18), "9" * 5000])
@pytest.mark.parametrize("call", ["range", "open", "download", "resume"])
async def test_given_a_total_that_no_object_has_then_it_is_refused(
    call: str, total: str, tmp_path: Path
) -> None:
    def response(asked: Asked) -> bytes:
        if asked.method == "HEAD":
            return object_of("5")
        start, _, last = asked.headers["range"].removeprefix("bytes=").partition("-")
        size = int(last) + 1 - int(start)
        found = object_of(str(size), Content_Range=f"bytes {start}-{last}/{total}")
        return found.replace(b" 200 OK", b" 206 Partial")

    error, _ = await _failure(response, CALLS[call], tmp_path)
    assert isinstance(error, ServerResponseError)
    assert _names_in(tmp_path) == []


@pytest.mark.parametrize("count", ["2000000000", "9" * 1000, "10001", "0", "-5", "٣"])
@pytest.mark.parametrize(
    "size", ["2000000000", pytest.param(str(10**14 - 1), marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("call", ["get", "download", "resume", "open"])
async def test_given_a_part_count_that_no_object_has_then_nothing_is_planned_by_it(
    call: str, size: str, count: str, tmp_path: Path
) -> None:
    etag = f"{'a' * 32}-{count}"
    marked = {"x_amz_meta_careflow_upload": MARK}
    error, peak = await _failure(lambda _: object_of(size, etag, **marked), CALLS[call], tmp_path)
    assert isinstance(error, StorageError)
    assert peak < 8_000_000
    assert _names_in(tmp_path) == []


async def test_given_a_mark_of_tiny_parts_when_resumed_then_the_plan_stays_small(
    tmp_path: Path,
) -> None:
    marked = {"x_amz_meta_careflow_upload": MARK}
    etag = f"{'a' * 32}-9999"

    def response(asked: Asked) -> bytes:
        if asked.method == "HEAD":
            return object_of("200000", etag, **marked)
        return raw_response(b"", "500 Internal Server Error")

    error, peak = await _failure(response, CALLS["upload resumed"], tmp_path)
    assert isinstance(error, StorageError)
    assert peak < 64_000_000


PART_LIST = """<?xml version="1.0" encoding="UTF-8"?>
<ListPartsResult><Part><PartNumber>{number}</PartNumber>
<LastModified>2026-11-23T06:36:09.000Z</LastModified><ETag>"a"</ETag><Size>{size}</Size></Part>
<IsTruncated>false</IsTruncated></ListPartsResult>"""


@pytest.mark.parametrize(
    ("number", "size"),
    [
        ("0", "5"),
        ("-1", "5"),
        ("10001", "5"),
        ("2000000000", "5"),
        ("9" * 5000, "5"),
        ("1", "-5"),
        ("1", str(10**18)),
        ("1", "9" * 5000),
    ],
)
async def test_given_listed_parts_that_no_upload_has_then_they_are_refused(
    number: str, size: str, tmp_path: Path
) -> None:
    page = PART_LIST.format(number=number, size=size).encode()
    error, _ = await _failure(
        lambda _: raw_response(page, Content_Type="application/xml"),
        lambda storage, _: storage.keep_incomplete_upload("k", "id"),
        tmp_path,
    )
    assert isinstance(error, ServerResponseError)


async def _failure(
    response: Callable[[Asked], bytes], call: Call, folder: Path, *, control: bool = False
) -> tuple[BaseException, int]:
    """What a call raises, and the most memory that it took."""
    async with (
        HostileServer(response) as server,
        BackblazeStorage(server.settings(idle_timeout=1.0)) as storage,
    ):
        # What the first requests of all import and make is no concern here.
        if control:
            await storage.client()
        tracemalloc.start()
        try:
            with pytest.raises(StorageError) as caught:
                await call(storage, folder)
            return caught.value, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
