"""`if_exists` and `max_size` mean the same for every way of storing a file."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from careflow_storage import (
    BackblazeStorage,
    BodyTimeoutError,
    FileTooLargeError,
    InvalidInputError,
    NoSuchKeyError,
    PreconditionFailedError,
    StorageSettings,
)
from careflow_storage._transfer import incomplete
from careflow_storage.outbox import Outbox
from careflow_storage.recordings import recording_key
from careflow_storage.testing.proxy.proxy import FaultProxy
from careflow_storage.testing.proxy.rule import Attempt
from tests.support.behind_proxy import NOTHING_HELD, PART, held, storage_behind, unfinished_uploads
from tests.support.bodies import noise
from tests.support.bucket import Bucket
from tests.support.url_source import Source

WHEN = datetime(2026, 11, 23, tzinfo=UTC)
KEY = recording_key("CA1", "a.wav", int(WHEN.timestamp() * 1000))
QUICK: dict[str, Any] = {"poll_interval": 0.05, "retry_base_delay": 0.001, "retry_max_delay": 0.01}
THEIRS = b"their recording"
SMALL = b"my own recording"
LARGE = noise(2 * PART + 7)


@dataclass
class Scene:
    """A storage behind a proxy, and what another client sees of its bucket."""

    storage: BackblazeStorage
    proxy: FaultProxy
    bucket: Bucket
    folder: Path

    @property
    def stored(self) -> bytes | None:
        return self.bucket.content(KEY)


@pytest.fixture
async def scene(settings: StorageSettings, tmp_path: Path) -> AsyncIterator[Scene]:
    async with (
        FaultProxy(settings.endpoint or "") as proxy,
        storage_behind(proxy, settings) as storage,
    ):
        # The first missing key costs a request more: one that shows that the bucket exists.
        await storage.upload_file("seen", b"x")
        yield Scene(storage, proxy, Bucket(settings), tmp_path)
        assert await unfinished_uploads(storage) == []
        assert held(storage) == NOTHING_HELD


# Each stores the bytes under KEY and returns the size and ETag of its result.
Stored = tuple[int, str | None]
Way = Callable[..., Awaitable[Stored]]


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 70_001):
        yield data[start : start + 70_001]


async def upload_file(scene: Scene, data: bytes, **given: Any) -> Stored:
    result = await scene.storage.upload_file(KEY, pieces(data), **given)
    return result.size, result.etag


async def upload_recording(scene: Scene, data: bytes, **given: Any) -> Stored:
    result = await scene.storage.upload_recording("CA1", data, "a.wav", recorded_at=WHEN, **given)
    return result.size, result.etag


async def upload_from_url(scene: Scene, data: bytes, **given: Any) -> Stored:
    async with Source(data) as source:
        result = await scene.storage.upload_from_url(
            "CA1",
            source.url,
            "a.wav",
            recorded_at=WHEN,
            allow_private_addresses=True,
            content_types=None,
            **given,
        )
    return result.size, result.etag


async def open_recording(scene: Scene, data: bytes, **given: Any) -> Stored:
    async with scene.storage.open_recording("CA1", "a.wav", recorded_at=WHEN, **given) as writer:
        async for piece in pieces(data):
            await writer.write(piece)
    return writer.result.size, writer.result.etag


async def copy_file(scene: Scene, data: bytes, **given: Any) -> Stored:
    result = await scene.storage.admin.copy_file("source", KEY, **given)
    return result.size, result.etag


async def move_file(scene: Scene, data: bytes, **given: Any) -> Stored:
    result = await scene.storage.admin.move_file("source", KEY, **given)
    return result.size, result.etag


async def delivered(scene: Scene, put: Callable[[Outbox], Awaitable[Any]]) -> Stored:
    async with Outbox(scene.folder / "outbox") as outbox:
        entry = await put(outbox)
    # Another process delivers it.
    async with Outbox(scene.folder / "outbox", scene.storage, **QUICK) as outbox:
        await outbox.drain()
        found = await outbox.get(entry.id)
    assert found is not None
    if found.state == "dead":
        assert found.last_error is not None
        raise PreconditionFailedError(found.last_error)
    head = await scene.storage.get_file_metadata(KEY)
    assert found.etag == head.etag
    return head.size, found.etag


async def put_recording(scene: Scene, data: bytes, **given: Any) -> Stored:
    return await delivered(
        scene,
        lambda outbox: outbox.put_recording("CA1", data, "a.wav", recorded_at=WHEN, **given),
    )


async def put_url(scene: Scene, data: bytes, **given: Any) -> Stored:
    async with Source(data) as source:
        return await delivered(
            scene,
            lambda outbox: outbox.put_url(
                "CA1",
                source.url,
                "a.wav",
                recorded_at=WHEN,
                allow_private_addresses=True,
                content_types=None,
                ready_within=timedelta(0),
                **given,
            ),
        )


COPIES: list[Way] = [copy_file, move_file]
QUEUED: list[Way] = [put_recording, put_url]
UPLOADS: list[Way] = [upload_file, upload_recording, upload_from_url, open_recording]
EVERY = [*UPLOADS, *QUEUED, *COPIES]
RETURNING = [way for way in EVERY if way is not open_recording]
MATRIX = [
    (way, if_exists)
    for way in EVERY
    for if_exists in ("replace", "error", "return")
    # A live recording refuses it.
    if (way, if_exists) != (open_recording, "return")
]
IDS = [f"{way.__name__}, {if_exists}" for way, if_exists in MATRIX]
every = pytest.mark.parametrize("way", EVERY, ids=lambda way: way.__name__)
every_returning = pytest.mark.parametrize("way", RETURNING, ids=lambda way: way.__name__)


async def prepare(scene: Scene, way: Way) -> None:
    if way in COPIES:
        await scene.storage.upload_file("source", SMALL)


@pytest.mark.parametrize(("way", "if_exists"), MATRIX, ids=IDS)
async def test_a_missing_key_is_stored(scene: Scene, way: Way, if_exists: str) -> None:
    await prepare(scene, way)
    size, _ = await way(scene, SMALL, if_exists=if_exists)
    assert (size, scene.stored) == (len(SMALL), SMALL)


@every
async def test_replace_stores_a_new_version(scene: Scene, way: Way) -> None:
    await prepare(scene, way)
    scene.bucket.put(KEY, THEIRS)
    size, _ = await way(scene, SMALL, if_exists="replace")
    assert (size, scene.stored) == (len(SMALL), SMALL)


@every
async def test_error_stores_nothing(scene: Scene, way: Way) -> None:
    await prepare(scene, way)
    scene.bucket.put(KEY, THEIRS)
    scene.proxy.log.clear()
    with pytest.raises(PreconditionFailedError, match="exists already"):
        await way(scene, SMALL, if_exists="error")
    assert scene.stored == THEIRS
    assert {attempt.method for attempt in scene.proxy.log} == {"HEAD"}


@every_returning
async def test_return_sends_one_head(scene: Scene, way: Way) -> None:
    await prepare(scene, way)
    scene.bucket.put(KEY, THEIRS)
    scene.proxy.log.clear()
    size, etag = await way(scene, SMALL, if_exists="return")
    # After a delivery the test looks at the metadata, too.
    more = ["HEAD"] if way in QUEUED else []
    assert [attempt.method for attempt in scene.proxy.log] == ["HEAD", *more]
    assert (size, scene.stored) == (len(THEIRS), THEIRS)
    assert etag == (await scene.storage.get_file_metadata(KEY)).etag
    if way in COPIES:
        assert await scene.storage.get_file("source") == SMALL


def let_another_writer_win(scene: Scene) -> None:
    """Store another file when ours is sent, and refuse ours as a conditional write."""

    def store_theirs(attempt: Attempt) -> bool:
        if attempt.method in ("PUT", "POST") and scene.stored is None:
            scene.bucket.put(KEY, THEIRS)
        return False

    scene.proxy.add(when=store_theirs)
    scene.proxy.add(
        when=lambda attempt: "if-none-match" in attempt.headers,
        status=412,
        code="PreconditionFailed",
    )


SIZES = [
    *[(*each, SMALL) for each in MATRIX],
    *[(*each, LARGE) for each in MATRIX if each[0] not in COPIES],
]


@pytest.mark.parametrize(
    ("way", "if_exists", "data"),
    SIZES,
    ids=[f"{way.__name__}, {if_exists}, {len(data)}" for way, if_exists, data in SIZES],
)
async def test_a_faster_writer(scene: Scene, way: Way, if_exists: str, data: bytes) -> None:
    await prepare(scene, way)
    let_another_writer_win(scene)
    if if_exists == "replace":
        assert (await way(scene, data, if_exists=if_exists))[0] == len(data)
        assert scene.stored == data
        return
    if if_exists == "error":
        with pytest.raises(PreconditionFailedError):
            await way(scene, data, if_exists=if_exists)
    else:
        assert (await way(scene, data, if_exists=if_exists))[0] == len(THEIRS)
    assert scene.stored == THEIRS
    if way in COPIES:
        assert await scene.storage.get_file("source") == SMALL


@every
@pytest.mark.parametrize("wrong", ["skip", "", "Error", 1])
async def test_an_unknown_value_sends_no_request(scene: Scene, way: Way, wrong: Any) -> None:
    scene.proxy.log.clear()
    with pytest.raises(InvalidInputError, match="if_exists"):
        await way(scene, SMALL, if_exists=wrong)
    assert not scene.proxy.log


@pytest.mark.parametrize(
    "way", [upload_file, upload_recording, upload_from_url, *COPIES], ids=lambda way: way.__name__
)
@pytest.mark.parametrize("if_exists", ["replace", "return"])
async def test_overwrite_false_contradicts_all_but_error(
    scene: Scene, way: Way, if_exists: str
) -> None:
    await prepare(scene, way)
    scene.proxy.log.clear()
    with pytest.raises(InvalidInputError, match="contradict"):
        await way(scene, SMALL, if_exists=if_exists, overwrite=False)
    assert not scene.proxy.log
    scene.bucket.put(KEY, THEIRS)
    with pytest.raises(PreconditionFailedError):
        await way(scene, SMALL, if_exists="error", overwrite=False)
    with pytest.raises(PreconditionFailedError):
        await way(scene, SMALL, overwrite=False)


# --- the ways that are special ---------------------------------------------------------------


async def test_a_live_recording_does_not_begin_under_an_existing_key(scene: Scene) -> None:
    scene.bucket.put(KEY, THEIRS)
    writer = scene.storage.open_recording("CA1", "a.wav", recorded_at=WHEN, if_exists="error")
    with pytest.raises(PreconditionFailedError) as caught:
        await writer.__aenter__()
    assert (caught.value.method, caught.value.key) == ("open_recording", KEY)
    with pytest.raises(InvalidInputError, match="exist only once"):
        await open_recording(scene, SMALL, if_exists="return")


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["one PUT", "parts"])
async def test_a_live_recording_that_lost_the_race_keeps_its_bytes(
    scene: Scene, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incomplete, "_SMALLEST_PART_BYTES", 1)
    let_another_writer_win(scene)
    with pytest.raises(PreconditionFailedError) as caught:
        await open_recording(scene, data, if_exists="error", on_error="keep", keep_dir=scene.folder)
    scene.proxy.clear()
    if caught.value.kept_file is not None:
        kept_file = Path(caught.value.kept_file)
        assert await asyncio.to_thread(kept_file.read_bytes) == data
    else:
        upload_id = caught.value.unfinished_upload_id
        assert upload_id is not None
        kept = await scene.storage.keep_incomplete_upload(KEY, upload_id)
        assert (kept.size, scene.stored) == (len(data), data)


async def test_a_moved_file_is_moved_once(scene: Scene) -> None:
    await prepare(scene, move_file)
    first = await move_file(scene, SMALL, if_exists="return")
    with pytest.raises(NoSuchKeyError):
        await scene.storage.get_file("source")
    assert await move_file(scene, SMALL, if_exists="return") == first


async def test_the_outbox_returns_its_own_entry_and_reads_no_body(scene: Scene) -> None:
    given: dict[str, Any] = {"recorded_at": WHEN, "if_exists": "return"}
    async with Outbox(scene.folder / "outbox") as outbox:
        first = await outbox.put_recording("CA1", b"first", "a.wav", **given)
        body = pieces(b"second")
        assert await outbox.put_recording("CA1", body, "a.wav", **given) == first
        assert await anext(body) == b"second"
        with pytest.raises(PreconditionFailedError):
            await outbox.put_recording("CA1", b"second", "a.wav", recorded_at=WHEN)


# --- max_size ---------------------------------------------------------------------------


LIMITED = [*UPLOADS, *QUEUED]


@pytest.mark.parametrize("way", LIMITED, ids=lambda way: way.__name__)
@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
async def test_the_largest_size_is_stored_and_one_byte_more_is_not(
    scene: Scene, way: Way, data: bytes
) -> None:
    # The worker finds out how large the source is, and gives the entry up.
    error = PreconditionFailedError if way is put_url else FileTooLargeError
    with pytest.raises(error, match="bytes"):
        await way(scene, data, max_size=len(data) - 1)
    assert await scene.storage.list_files("recordings/") == []
    assert not [*(scene.folder / "outbox").glob("**/*.part")]
    if way is put_url:
        return
    assert (await way(scene, data, max_size=len(data)))[0] == len(data)
    assert scene.stored == data


@pytest.mark.parametrize("on_error", ["abort", "keep"])
@pytest.mark.parametrize("size", [100, 2 * PART])
async def test_a_live_recording_ends_at_its_limit(scene: Scene, on_error: str, size: int) -> None:
    given: dict[str, Any] = {"recorded_at": WHEN, "on_error": on_error, "max_size": size}
    data = noise(size)
    writer = scene.storage.open_recording("CA1", "a.wav", **given)

    async def write_too_much() -> None:
        async with writer:
            await writer.write(data)
            await writer.write(b"")
            await writer.write(b"one byte too many")

    with pytest.raises(FileTooLargeError, match="nothing was appended") as caught:
        await write_too_much()
    assert (caught.value.method, caught.value.key) == ("write", KEY)
    assert writer.bytes_written == size
    assert scene.stored == (data if on_error == "keep" else None)


async def test_a_live_recording_may_end_well_at_its_limit(scene: Scene) -> None:
    async with scene.storage.open_recording("CA1", "a.wav", max_size=10) as writer:
        await writer.write(b"all of it")
        with contextlib.suppress(FileTooLargeError):
            await writer.write(b"more")
    assert (writer.result.size, writer.result.partial) == (9, False)


async def test_the_outbox_does_not_wait_for_a_body_that_stalls(scene: Scene) -> None:
    async def stalls() -> AsyncIterator[bytes]:
        yield b"RIFF"
        await asyncio.Event().wait()

    async with Outbox(scene.folder / "outbox") as outbox:
        with pytest.raises(BodyTimeoutError):
            await outbox.put_recording("CA1", stalls(), "a.wav", read_timeout=0.05)
        assert (await outbox.status()).bytes == 0
        assert await outbox.entries() == []


@pytest.mark.parametrize("way", LIMITED, ids=lambda way: way.__name__)
@pytest.mark.parametrize("wrong", [-1, 1.5, "1", True])
async def test_a_bad_limit_sends_no_request(scene: Scene, way: Way, wrong: Any) -> None:
    scene.proxy.log.clear()
    with pytest.raises(InvalidInputError, match="max_size"):
        await way(scene, SMALL, max_size=wrong)
    assert not scene.proxy.log
