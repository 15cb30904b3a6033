"""Responses that contradict the request, each other or themselves: right bytes or an error."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from careflow_storage import BackblazeStorage, StorageError
from careflow_storage.errors import ServerResponseError
from tests.support.behind_proxy import NOTHING_HELD, held
from tests.support.bodies import noise
from tests.support.hostile import Asked, HostileServer, raw_response

pytestmark = pytest.mark.slow

PART = 64 * 1024
DATA = noise(3 * PART + 17)
MD5 = hashlib.md5(DATA, usedforsecurity=False).hexdigest()
# A foreign object, whose part size is unknown.
COMPOSITE = f"{'a' * 32}-4"


@dataclass
class Said:
    """The fields of a response; a false response changes some of them."""

    status: int
    headers: dict[str, str]
    body: bytes
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.body)

    def range(self, start: int, last: int, total: int | str = len(DATA)) -> None:
        self.headers["Content-Range"] = f"bytes {start}-{last}/{total}"


Lie = Callable[[Said], None]


def total_is_the_ranges_end(said: Said) -> None:
    said.range(said.start, said.end - 1, said.end)


def range_and_total_are_short(said: Said) -> None:
    said.body = said.body[:93]
    said.range(said.start, said.end - 1, said.end)


def total_is_larger(said: Said) -> None:
    said.range(said.start, said.end - 1, len(DATA) + 5)


def range_ends_early(said: Said) -> None:
    said.body = said.body[:-10]
    said.range(said.start, said.end - 1)


def range_begins_late(said: Said) -> None:
    said.body = DATA[said.start + 1 : said.end + 1]
    said.range(said.start + 1, said.start + len(said.body))


def range_begins_early(said: Said) -> None:
    said.range(max(0, said.start - 1), said.end - 2)


def range_is_upside_down(said: Said) -> None:
    said.range(said.end, said.start)


def range_goes_beyond_the_total(said: Said) -> None:
    said.range(said.start, said.end - 1, said.end - 1)


def range_is_of_other_units(said: Said) -> None:
    said.headers["Content-Range"] = f"items {said.start}-{said.end - 1}/{len(DATA)}"


def range_has_a_tail(said: Said) -> None:
    said.headers["Content-Range"] = f"bytes {said.start}-{said.end - 1}/{len(DATA)} x"


def range_is_half(said: Said) -> None:
    said.headers["Content-Range"] = f"bytes {said.start}-"


def range_is_in_other_digits(said: Said) -> None:
    said.headers["Content-Range"] = f"bytes {said.start}-{said.end - 1}/١٢٣٤"


def range_is_missing(said: Said) -> None:
    said.status = 206
    said.headers.pop("Content-Range", None)


def total_has_thousands_of_digits(said: Said) -> None:
    said.range(said.start, said.end - 1, "9" * 5000)


def total_is_larger_than_any_object(said: Said) -> None:
    said.range(said.start, said.end - 1, 10**18)


def whole_object(said: Said) -> None:
    said.status, said.body = 200, DATA
    said.headers.pop("Content-Range", None)


def status_is_204(said: Said) -> None:
    said.status, said.body = 204, b""


def status_is_203(said: Said) -> None:
    said.status = 203


def status_is_304(said: Said) -> None:
    said.status, said.body = 304, b""


def status_is_416(said: Said) -> None:
    said.status, said.body = 416, b""
    said.headers["Content-Range"] = f"bytes */{len(DATA)}"


def body_is_long(said: Said) -> None:
    said.body += b"more"


def body_is_short(said: Said) -> None:
    said.body = said.body[:-1]


def body_is_missing(said: Said) -> None:
    said.body = b""


def etag_is_another(said: Said) -> None:
    said.headers["ETag"] = '"another-4"'


def etag_is_missing(said: Said) -> None:
    del said.headers["ETag"]


def version_is_another(said: Said) -> None:
    said.headers["x-amz-version-id"] = "v2"


def several_ranges(said: Said) -> None:
    said.status = 206
    said.headers.pop("Content-Range", None)
    said.headers["Content-Type"] = "multipart/byteranges; boundary=x"
    part = f"--x\r\nContent-Range: bytes {said.start}-{said.end - 1}/{len(DATA)}\r\n\r\n"
    said.body = part.encode() + said.body + b"\r\n--x--"


def encoding_is_another(said: Said) -> None:
    said.headers["Content-Encoding"] = "gzip"


# False responses that are detectable on their own.
OF_ANY_RESPONSE: list[Lie] = [
    range_is_missing,
    status_is_204,
    status_is_203,
    status_is_304,
    status_is_416,
    several_ranges,
    etag_is_missing,
    version_is_another,
    range_and_total_are_short,
    total_is_the_ranges_end,
    total_is_larger,
    range_ends_early,
    range_begins_late,
    range_begins_early,
    range_is_upside_down,
    range_goes_beyond_the_total,
    range_is_of_other_units,
    range_has_a_tail,
    range_is_half,
    range_is_in_other_digits,
    total_has_thousands_of_digits,
    total_is_larger_than_any_object,
]
# False responses to a range, detectable because another response described the object.
OF_A_RANGE: list[Lie] = [
    *OF_ANY_RESPONSE,
    whole_object,
    body_is_long,
    body_is_short,
    body_is_missing,
    etag_is_another,
    encoding_is_another,
]


@dataclass
class LyingServer:
    """Has `DATA` under every key; lies in the GETs from ``first`` to ``last``."""

    lie: Lie
    etag: str = COMPOSITE
    first: int = 1
    last: int = 1_000_000
    gets: int = 0
    asked: list[str] = field(default_factory=list)

    def __call__(self, asked: Asked) -> bytes:
        told = {
            "ETag": f'"{self.etag}"',
            "Last-Modified": "Mon, 23 Nov 2026 06:36:09 GMT",
            "Content-Type": "audio/wav",
            "x-amz-version-id": "v1",
        }
        said = Said(200, told, DATA, 0)
        if "range" in asked.headers:
            start, _, last = asked.headers["range"].removeprefix("bytes=").partition("-")
            said.start = int(start)
            said.body = DATA[said.start : int(last) + 1 if last else None]
            said.status = 206
            said.range(said.start, said.end - 1)
        if asked.method == "GET":
            self.gets += 1
            if self.first <= self.gets <= self.last:
                self.lie(said)
        headers: dict[str, Any] = dict(said.headers)
        return raw_response(said.body, f"{said.status} X", **headers)


def _bytes_of(path: Path) -> bytes:
    return path.read_bytes()


def _is_there(path: Path) -> bool:
    return path.exists()


Read = Callable[[BackblazeStorage, Path], Awaitable[bytes]]


async def get(storage: BackblazeStorage, _: Path) -> bytes:
    return await storage.get_file("k", version_id="v1")


async def stream(storage: BackblazeStorage, _: Path) -> bytes:
    async with storage.stream_file("k", version_id="v1") as opened:
        return b"".join([chunk async for chunk in opened])


async def stream_a_range(storage: BackblazeStorage, _: Path) -> bytes:
    middle = storage.stream_file("k", start=1000, end=PART, version_id="v1")
    return DATA[:1000] + b"".join([chunk async for chunk in middle]) + DATA[PART:]


async def open_and_read(storage: BackblazeStorage, _: Path) -> bytes:
    async with await storage.open_file("k") as file:
        first = await file.read(PART + 5)
        await file.seek(PART)
        return first[:PART] + await file.read()


async def download(storage: BackblazeStorage, target: Path) -> bytes:
    await storage.download_file("k", target)
    return _bytes_of(target)


async def download_and_resume(storage: BackblazeStorage, target: Path) -> bytes:
    await storage.download_file("k", target, resume=True)
    return _bytes_of(target)


OF_RANGES: list[Read] = [open_and_read, download, download_and_resume]
ONE_RESPONSE: list[Read] = [get, stream, stream_a_range]


async def outcome(server: LyingServer, read: Read, target: Path) -> bytes | StorageError:
    """Return the result of a call; check that nothing is held, and no file is left by an error."""
    async with HostileServer(server) as hostile:
        settings = hostile.settings()
        # Bypasses the validation of the models.
        settings.__dict__.update(part_size=PART)
        async with BackblazeStorage(settings) as storage:
            try:
                return await read(storage, target)
            except StorageError as error:
                assert not _is_there(target)
                return error
            finally:
                assert held(storage) == NOTHING_HELD


@pytest.mark.parametrize("etag", [MD5, COMPOSITE], ids=["md5", "composite"])
@pytest.mark.parametrize(
    ("lie", "read"),
    [
        (lie, read)
        for lie in OF_A_RANGE
        for read in OF_RANGES
        # For a read to the end, this response is correct.
        if (lie, read) != (total_is_the_ranges_end, open_and_read)
    ],
)
async def test_given_ranges_that_contradict_the_head_then_they_are_refused(
    lie: Lie, read: Read, etag: str, tmp_path: Path
) -> None:
    found = await outcome(LyingServer(lie, etag), read, tmp_path / "file")
    assert isinstance(found, StorageError)


async def serve_a_range(storage: BackblazeStorage, _: Path) -> bytes:
    served = await storage.serve_file("k", headers={"Range": f"bytes=1000-{PART - 1}"})
    assert (served.status, served.headers["Content-Length"]) == (206, str(PART - 1000))
    return DATA[:1000] + b"".join([chunk async for chunk in served.body]) + DATA[PART:]


def range_has_the_status_200(said: Said) -> None:
    said.status = 200


@pytest.mark.parametrize("read", [*OF_RANGES, *ONE_RESPONSE, serve_a_range])
async def test_given_a_server_whose_ranges_have_the_status_200_then_each_is_read_once(
    read: Read, tmp_path: Path
) -> None:
    usual = LyingServer(lambda _: None)
    assert await outcome(usual, read, tmp_path / "usual") == DATA
    server = LyingServer(range_has_the_status_200)
    assert await outcome(server, read, tmp_path / "file") == DATA
    assert server.gets == usual.gets


@pytest.mark.parametrize("at", [1, 2, 3])
@pytest.mark.parametrize("read", OF_RANGES)
@pytest.mark.parametrize("lie", OF_A_RANGE)
async def test_given_one_contradicting_range_then_the_bytes_are_right_anyway(
    lie: Lie, read: Read, at: int, tmp_path: Path
) -> None:
    server = LyingServer(lie, first=at, last=at)
    found = await outcome(server, read, tmp_path / "file")
    assert found == DATA or isinstance(found, StorageError)


@pytest.mark.parametrize(
    ("lie", "read"),
    [
        (lie, read)
        for lie in OF_ANY_RESPONSE
        for read in ONE_RESPONSE
        # A single range response declares this size of the object.
        if read is not stream_a_range
        or lie not in (total_is_larger, total_is_the_ranges_end, range_and_total_are_short)
    ],
)
async def test_given_a_response_that_contradicts_itself_then_it_is_refused(
    lie: Lie, read: Read, tmp_path: Path
) -> None:
    found = await outcome(LyingServer(lie), read, tmp_path / "file")
    assert isinstance(found, StorageError)


@pytest.mark.parametrize("read", [get, stream])
@pytest.mark.parametrize("lie", [body_is_long, body_is_short, body_is_missing, whole_object])
async def test_given_the_md5_of_the_whole_then_the_bytes_must_match_it(
    lie: Lie, read: Read, tmp_path: Path
) -> None:
    found = await outcome(LyingServer(lie, MD5), read, tmp_path / "file")
    assert found == DATA if lie is whole_object else isinstance(found, StorageError)


@pytest.mark.parametrize("read", [stream_a_range])
@pytest.mark.parametrize("lie", [body_is_long, body_is_short, body_is_missing, whole_object])
async def test_given_a_length_that_does_not_match_the_range_then_it_is_refused(
    lie: Lie, read: Read, tmp_path: Path
) -> None:
    found = await outcome(LyingServer(lie), read, tmp_path / "file")
    assert isinstance(found, ServerResponseError)


@pytest.mark.parametrize(
    "head",
    [
        raw_response(b"", "206 Partial", ETag='"a"', Content_Range="bytes 0-4/5", length=5),
        raw_response(b"", "200 OK", ETag='"a"', Content_Range="bytes 0-4/5", length=5),
        raw_response(b"", "203 Transformed", ETag='"a"', length=5),
        raw_response(b"", "200 OK", ETag='"a"', length=10**17),
    ],
    ids=["206", "range", "203", "too large"],
)
async def test_given_an_invalid_head_response_then_it_is_refused(head: bytes) -> None:
    date = b"\r\nLast-Modified: Mon, 23 Nov 2026 06:36:09 GMT\r\n\r\n"
    server = HostileServer(lambda _: head.replace(b"\r\n\r\n", date))
    async with server, BackblazeStorage(server.settings()) as storage:
        for call in (storage.get_file_metadata, storage.open_file, storage.file_exists):
            with pytest.raises(ServerResponseError) as caught:
                await call("k")
            assert caught.value.key == "k"
