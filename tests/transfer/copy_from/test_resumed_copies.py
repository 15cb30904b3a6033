"""A copy that continues: only what is missing is read, and never a part of another source."""

from __future__ import annotations

from typing import Any

import pytest

from careflow_storage import (
    ConnectionFailedError,
    PreconditionFailedError,
    StorageError,
    StorageSettings,
)
from careflow_storage.testing import B2Server
from tests.support.behind_proxy import PART
from tests.support.bodies import noise
from tests.support.two_storages import Pair, opened, pair, two_servers

__all__ = ["pair", "two_servers"]

MIB = 1024 * 1024
LARGE = noise(6 * PART + 7)
OTHER = LARGE[::-1]


def fail_at_part(server: B2Server, number: int) -> None:
    """Let the target refuse a part, with an error that no retry mends."""
    server.faults.always(
        "UploadPart", path=f"partNumber={number}&", status=403, code="AccessDenied"
    )


async def interrupted(pair: Pair, *, at: int = 4, **options: Any) -> int:
    """Copy until a part fails; return how many bytes the target has.

    One part at a time: a server may still store a part whose request was canceled.
    """
    fail_at_part(pair.target_server, at)
    async with opened(pair.target.settings, transfer_concurrency=1) as target:
        with pytest.raises(StorageError) as caught:
            await target.copy_from(pair.source, "key", resume=True, **options)
    pair.target_server.faults.clear()
    (left,) = pair.target_server.incomplete_uploads()
    assert caught.value.unfinished_upload_id == left.upload_id
    assert left.parts
    return sum(left.parts.values())


async def store(pair: Pair, body: bytes, *, whole: bool) -> None:
    await (pair.store_whole if whole else pair.store)("key", body)


def bytes_read(pair: Pair) -> int:
    """How many bytes of the source were asked for in ranges of parts."""
    total = 0
    for attempt in pair.source_server.requests:
        start, _, end = attempt.headers.get("range", "").removeprefix("bytes=").partition("-")
        # The first request asks for as much as one PUT may store, and is given up.
        if attempt.operation == "GetObject" and end and (start, end) != ("0", str(PART - 1)):
            total += int(end) - int(start) + 1
    return total


@pytest.mark.parametrize("whole", [False, True], ids=["in the source's parts", "in its own parts"])
async def test_parts_that_the_target_has_are_neither_read_nor_sent_again(
    pair: Pair, whole: bool
) -> None:
    await store(pair, LARGE, whole=whole)
    kept = await interrupted(pair)
    pair.source_server.requests.clear()
    seen: list[int] = []
    result = await pair.target.copy_from(
        pair.source, "key", resume=True, progress=lambda event: seen.append(event.transferred)
    )
    assert result.reused == kept
    assert bytes_read(pair) <= len(LARGE) - kept
    assert pair.copied("key") == LARGE
    assert (seen[-1], seen) == (len(LARGE), sorted(seen))
    assert len(pair.target_server.versions("key")) == 1
    pair.assert_nothing_left()


@pytest.mark.parametrize("whole", [False, True], ids=["in the source's parts", "in its own parts"])
async def test_a_source_that_was_replaced_is_copied_without_a_byte_of_the_older_one(
    pair: Pair, whole: bool
) -> None:
    await store(pair, OTHER, whole=whole)
    await interrupted(pair)
    await store(pair, LARGE, whole=whole)
    await pair.target.copy_from(pair.source, "key", resume=True)
    # Never a mixture, not even as an older version.
    assert [version.body for version in pair.target_server.versions("key")] == [LARGE]


@pytest.mark.parametrize("whole", [False, True], ids=["in the source's parts", "in its own parts"])
async def test_other_headers_are_never_those_of_the_earlier_run(pair: Pair, whole: bool) -> None:
    await store(pair, LARGE, whole=whole)
    await interrupted(pair, metadata={"run": "1"})
    await pair.target.copy_from(pair.source, "key", resume=True, metadata={"run": "2"})
    found = await pair.target.get_file_metadata("key")
    assert found.metadata["run"] == "2"
    assert pair.copied("key") == LARGE


async def test_a_copy_that_was_completed_is_found(pair: Pair) -> None:
    await pair.store("key", LARGE)
    first = await pair.target.copy_from(pair.source, "key", resume=True)
    sent = pair.target.request_counts()["UploadPart"]
    for if_exists in ("replace", "error", "return"):
        again = await pair.target.copy_from(pair.source, "key", resume=True, if_exists=if_exists)
        assert (again.version_id, again.reused) == (first.version_id, len(LARGE))
    assert pair.target.request_counts()["UploadPart"] == sent
    await pair.store("key", OTHER)
    with pytest.raises(PreconditionFailedError):
        await pair.target.copy_from(pair.source, "key", resume=True, if_exists="error")
    assert pair.copied("key") == LARGE
    await pair.target.copy_from(pair.source, "key", resume=True)
    assert pair.copied("key") == OTHER


async def test_a_source_that_never_comes_back_keeps_the_parts(pair: Pair) -> None:
    await pair.store("key", LARGE)
    pair.source_server.faults.always(
        "GetObject", when=lambda attempt: f"={4 * PART}-" in attempt.headers["range"], cut="rst"
    )
    with pytest.raises(ConnectionFailedError):
        await pair.target.copy_from(pair.source, "key", resume=True)
    assert len(pair.target_server.incomplete_uploads()) == 1
    pair.source_server.faults.clear()
    result = await pair.target.copy_from(pair.source, "key", resume=True)
    assert result.reused >= 2 * PART
    assert pair.copied("key") == LARGE


async def test_an_upload_that_was_aborted_meanwhile_is_begun_again(pair: Pair) -> None:
    await pair.store("key", LARGE)
    await interrupted(pair)
    (left,) = pair.target_server.incomplete_uploads()
    rule = pair.target_server.faults.next(
        "UploadPart", status=404, code="NoSuchUpload", path=left.upload_id
    )
    await pair.target.copy_from(pair.source, "key", resume=True)
    assert rule.hits == 1
    assert pair.copied("key") == LARGE
    pair.assert_nothing_left()


async def test_uploads_of_others_are_left_alone(pair: Pair) -> None:
    await pair.store("key", LARGE)
    # A body of the same size in parts of another one, by resume, and one without parts.
    async with opened(pair.target.settings, part_size=PART + 1) as other:
        pair.target_server.faults.always(
            "UploadPart", path="partNumber=3&", status=403, code="AccessDenied"
        )
        with pytest.raises(StorageError):
            await other.upload_file("key", OTHER, resume=True)
        pair.target_server.faults.clear()
    result = await pair.target.copy_from(pair.source, "key", resume=True)
    assert result.reused == 0
    assert pair.copied("key") == LARGE
    assert len(pair.target_server.incomplete_uploads()) == 1
    await pair.target.abort_upload("key", pair.target_server.incomplete_uploads()[0].upload_id)


@pytest.mark.integration
async def test_a_real_server_continues_a_copy(
    pair: Pair, seaweed_settings: StorageSettings
) -> None:
    body = noise(17 * MIB)
    big: dict[str, Any] = {
        "part_size": 5 * MIB,
        "multipart_threshold": 5 * MIB,
        "memory_budget": 20 * MIB,
    }
    async with (
        opened(pair.source.settings, **big) as source,
        opened(seaweed_settings, **big) as target,
    ):
        await source.upload_file("key", body)
        rule = pair.source_server.faults.always(
            "GetObject", when=lambda attempt: f"={15 * MIB}-" in attempt.headers["range"], cut="rst"
        )
        with pytest.raises(ConnectionFailedError):
            await target.copy_from(source, "key", resume=True)
        assert rule.hits
        pair.source_server.faults.clear()
        result = await target.copy_from(source, "key", resume=True)
        assert result.reused >= 5 * MIB
        assert await target.get_file("key") == body
        assert await target.list_incomplete_uploads() == []
