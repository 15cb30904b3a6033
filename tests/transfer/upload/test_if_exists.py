"""`if_exists` and `max_size`: what an upload does about an object that is there, and its limit."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from careflow_storage import (
    BackblazeStorage,
    CustomerKey,
    FileTooLargeError,
    InvalidInputError,
    PreconditionFailedError,
    StorageSettings,
)
from careflow_storage.browser import FileTooLargeError as FileTooLargeForBrowsers
from careflow_storage.testing import B2Server
from careflow_storage.testing.proxy.proxy import FaultProxy
from careflow_storage.testing.proxy.rule import Attempt
from tests.support.behind_proxy import NOTHING_HELD, PART, held, storage_behind, unfinished_uploads
from tests.support.bodies import noise
from tests.support.bucket import Bucket
from tests.support.url_source import Source

WHEN = datetime(2026, 11, 23, tzinfo=UTC)
LARGE = noise(3 * PART + 7)


@pytest.fixture(params=["moto", "emulator"])
async def proxy(request: pytest.FixtureRequest) -> AsyncIterator[FaultProxy]:
    """Before a server with conditional writes, and before one without, as B2 is."""
    if request.param == "emulator":
        server: B2Server = request.getfixturevalue("server")
        given = server.settings()
    else:
        given = request.getfixturevalue("settings")
    async with FaultProxy(given.endpoint or "") as opened:
        opened.given = given  # type: ignore[attr-defined]  # for `storage`
        yield opened


@pytest.fixture
async def storage(proxy: FaultProxy) -> AsyncIterator[BackblazeStorage]:
    given: StorageSettings = proxy.given  # type: ignore[attr-defined]
    async with storage_behind(proxy, given) as opened:
        yield opened
        assert held(opened) == NOTHING_HELD


async def never(*, read: list[str]) -> AsyncIterator[bytes]:
    read.append("begun")
    yield b"new"


async def in_pieces(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 70_001):
        yield data[start : start + 70_001]


async def test_return_gives_the_existing_result_with_one_head_and_reads_no_body(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    first = await storage.upload_recording("CA1", b"old", "a.wav", recorded_at=WHEN)
    proxy.log.clear()
    read: list[str] = []
    again = await storage.upload_recording(
        "CA1", never(read=read), "a.wav", recorded_at=WHEN, if_exists="return"
    )
    assert [attempt.method for attempt in proxy.log] == ["HEAD"]
    assert read == []
    assert again == first.model_copy(update={"reused": 3})
    assert again.checksum.value == hashlib.md5(b"old", usedforsecurity=False).hexdigest()
    assert await storage.get_file(first.key) == b"old"


async def test_return_stores_what_is_not_there_with_one_head_more(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    # The first missing key costs a request more: one that shows that the bucket exists.
    await storage.upload_file("seen", b"x")
    proxy.log.clear()
    result = await storage.upload_file("new", b"new", if_exists="return")
    methods = [attempt.method for attempt in proxy.log]
    # The emulator may close an idle connection, and a PUT is then sent again.
    assert (methods[0], set(methods[1:])) == ("HEAD", {"PUT"})
    assert (result.reused, await storage.get_file("new")) == (0, b"new")


@pytest.mark.parametrize("proxy", ["moto"], indirect=True)  # it takes small parts
async def test_return_of_an_object_in_parts(storage: BackblazeStorage, tmp_path: Path) -> None:
    given: dict[str, Any] = {"if_exists": "return"}
    (tmp_path / "file").write_bytes(LARGE)
    result = await storage.upload_file("large", LARGE, **given)
    for body in (LARGE, tmp_path / "file", in_pieces(LARGE)):
        result = await storage.upload_file("large", body, **given)
        assert result.size == len(LARGE)
        assert result.parts == 4
        assert result.checksum.parts == 4
    assert result.reused == len(LARGE)
    resumed = await storage.upload_file("large", tmp_path / "file", resume=True, **given)
    assert resumed.etag == result.etag


async def test_return_of_a_url_does_not_request_the_source(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    await storage.upload_recording("CA1", b"old", "a.wav", recorded_at=WHEN)
    given: dict[str, Any] = {"allow_private_addresses": True, "recorded_at": WHEN}
    proxy.log.clear()
    # No server is there.
    result = await storage.upload_from_url(
        "CA1", "http://127.0.0.1:9/a.wav", "a.wav", if_exists="return", **given
    )
    assert (result.size, result.reused) == (3, 3)
    assert [attempt.method for attempt in proxy.log] == ["HEAD"]
    async with Source(b"two", headers={"Content-Type": "audio/wav"}) as source:
        new = await storage.upload_from_url("CA2", source.url, "a.wav", if_exists="return", **given)
        assert await storage.get_file(new.key) == b"two"
        with pytest.raises(PreconditionFailedError):
            await storage.upload_from_url("CA2", source.url, "a.wav", if_exists="error", **given)


@pytest.mark.parametrize("body", [b"mine", LARGE], ids=["one PUT", "parts"])
async def test_return_gives_the_result_of_a_faster_writer(
    settings: StorageSettings, body: bytes
) -> None:
    bucket = Bucket(settings)

    def store_first(attempt: Attempt) -> bool:
        if attempt.method in ("PUT", "POST") and bucket.content("key") is None:
            bucket.put("key", b"theirs")
        return False

    async with FaultProxy(settings.endpoint or "") as proxy:
        proxy.add(when=store_first)
        async with storage_behind(proxy, settings) as storage:
            result = await storage.upload_file("key", body, if_exists="return")
            assert await unfinished_uploads(storage) == []
    # moto refuses a conditional PUT; a completion of parts it lets win.
    if body == b"mine":
        assert (result.size, bucket.content("key")) == (6, b"theirs")


async def test_error_is_overwrite_false_and_replace_is_the_default(
    storage: BackblazeStorage,
) -> None:
    await storage.upload_file("key", b"old")
    for given in ({"if_exists": "error"}, {"if_exists": "error", "overwrite": False}):
        with pytest.raises(PreconditionFailedError):
            await storage.upload_file("key", b"new", **given)
    await storage.upload_file("key", b"new", if_exists="replace")
    assert await storage.get_file("key") == b"new"


async def test_a_contradiction_or_an_unknown_value_sends_no_request(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    calls: list[Callable[..., Any]] = [
        lambda **given: storage.upload_file("key", b"", **given),
        lambda **given: storage.upload_recording("CA1", b"", "a.wav", **given),
        lambda **given: storage.upload_from_url("CA1", "https://a.example/b", "a.wav", **given),
        lambda **given: storage.admin.copy_file("key", "other", **given),
    ]
    for call in calls:
        for given in (
            {"if_exists": "return", "overwrite": False},
            {"if_exists": "replace", "overwrite": False},
            {"if_exists": "skip"},
            {"if_exists": ""},
        ):
            with pytest.raises(InvalidInputError, match="if_exists") as caught:
                await call(**given)
            assert caught.value.method is not None
    assert not proxy.log


async def test_return_does_not_invent_a_checksum(server: B2Server) -> None:
    key = CustomerKey(bytes(32))
    async with BackblazeStorage(server.settings()) as storage:
        await storage.upload_file("key", b"old", encryption=key)
        with pytest.raises(PreconditionFailedError, match="checksum"):
            await storage.upload_file("key", b"new", encryption=key, if_exists="return")


async def test_return_of_a_copy(storage: BackblazeStorage) -> None:
    await storage.upload_file("a", b"speech")
    made = await storage.admin.copy_file("a", "b", if_exists="return")
    again = await storage.admin.copy_file("a", "b", if_exists="return")
    assert (again.key, again.version_id, again.size) == ("b", made.version_id, 6)
    with pytest.raises(PreconditionFailedError):
        await storage.admin.copy_file("a", "b", if_exists="error")
    assert (await storage.admin.copy_file("a", "b", if_exists="replace")).size == 6


# --- max_size ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("proxy", "size"),
    [("emulator", 10), ("emulator", PART - 1), ("moto", PART - 1), ("moto", len(LARGE))],
    indirect=["proxy"],
)
async def test_a_body_of_the_largest_size_is_stored_and_one_byte_more_is_not(
    storage: BackblazeStorage, proxy: FaultProxy, tmp_path: Path, size: int
) -> None:
    data = LARGE[:size]
    (tmp_path / "file").write_bytes(data)
    for body in (data, tmp_path / "file", in_pieces(data)):
        assert (await storage.upload_file("key", body, max_size=size)).size == size
    proxy.log.clear()
    known: list[Any] = [data, tmp_path / "file"]
    for body in known:
        with pytest.raises(FileTooLargeError):
            await storage.upload_file("other", body, max_size=size - 1)
    with pytest.raises(FileTooLargeError):
        await storage.upload_file("other", in_pieces(data), size=size, max_size=size - 1)
    assert not proxy.log
    with pytest.raises(FileTooLargeError) as caught:
        await storage.upload_recording("CA1", in_pieces(data), "a.wav", max_size=size - 1)
    assert caught.value.method == "upload_recording"
    assert isinstance(caught.value, FileTooLargeForBrowsers)
    assert await unfinished_uploads(storage) == []
    assert [file.key for file in await storage.list_files()] == ["key"]


@pytest.mark.parametrize("wrong", [-1, 1.5, "1", True])
async def test_a_bad_limit_is_refused(storage: BackblazeStorage, wrong: Any) -> None:
    with pytest.raises(InvalidInputError, match="max_size"):
        await storage.upload_file("key", b"", max_size=wrong)
