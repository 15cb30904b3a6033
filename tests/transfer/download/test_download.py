"""Downloads to a file: complete and verified, or no file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from careflow_storage import (
    BackblazeStorage,
    ChecksumMismatchError,
    InvalidInputError,
    NoSuchKeyError,
    Progress,
    StorageSettings,
)
from careflow_storage.testing.proxy.proxy import FaultProxy
from tests.support.bodies import MIB, noise, stream

PART = 5 * MIB
LARGE = noise(2 * PART + 1000)


@pytest.fixture
async def storage(settings: StorageSettings) -> AsyncIterator[BackblazeStorage]:
    """Uploads files above 100 kB in parts of 5 MiB."""
    small = settings.model_copy(update={"part_size": PART, "multipart_threshold": 100_000})
    async with BackblazeStorage(small) as opened:
        yield opened


@pytest.mark.parametrize("size", [0, 1, 300_000])
@pytest.mark.parametrize("as_text", [False, True])
async def test_given_an_object_when_downloaded_then_the_file_has_its_bytes(
    storage: BackblazeStorage, tmp_path: Path, size: int, as_text: bool
) -> None:
    target = tmp_path / "out.webm"
    uploaded = await storage.upload_file("a.webm", noise(size))
    result = await storage.download_file("a.webm", str(target) if as_text else target)
    assert target.read_bytes() == noise(size)
    assert (result.key, result.path, result.size) == ("a.webm", target, size)
    assert (result.etag, result.version_id) == (uploaded.etag, uploaded.version_id)
    assert type(result).model_validate_json(result.model_dump_json()) == result


async def test_given_objects_of_several_tools_then_the_result_says_what_was_verified(
    storage: BackblazeStorage, tmp_path: Path
) -> None:
    await storage.upload_file("whole", noise(1000))
    await storage.upload_file("known length", LARGE)
    await storage.upload_file("unknown length", stream(LARGE, MIB))
    client = await storage.client()
    bucket = storage.settings.bucket_name
    # A foreign multipart upload, whose part size is unknown.
    theirs = {"Bucket": bucket, "Key": "theirs"}
    upload = {**theirs, "UploadId": (await client.create_multipart_upload(**theirs))["UploadId"]}
    part = await client.upload_part(**upload, PartNumber=1, Body=b"theirs")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    await client.complete_multipart_upload(**upload, MultipartUpload=parts)
    verified = {
        key: (await storage.download_file(key, tmp_path / key)).verified
        for key in ("whole", "known length", "unknown length", "theirs")
    }
    assert verified == {
        "whole": "md5",
        "known length": "composite-md5",
        "unknown length": "composite-md5",
        "theirs": "length",
    }
    assert (tmp_path / "known length").read_bytes() == LARGE
    assert (tmp_path / "unknown length").read_bytes() == LARGE


async def test_given_verify_false_then_only_the_length_is_verified(
    storage: BackblazeStorage, tmp_path: Path
) -> None:
    await storage.upload_file("a", b"abc")
    assert (await storage.download_file("a", tmp_path / "a", verify=False)).verified == "length"


async def test_given_a_damaged_response_when_downloaded_then_the_file_does_not_appear(
    settings: StorageSettings, moto_server: str, tmp_path: Path
) -> None:
    async with FaultProxy(moto_server) as proxy:
        damaged = settings.model_copy(update={"endpoint": proxy.url})
        async with BackblazeStorage(damaged) as storage:
            await storage.upload_file("a", noise(10_000))
            proxy.add(method="GET", corrupt=5000)
            (tmp_path / "a").write_bytes(b"old")
            with pytest.raises(ChecksumMismatchError):
                await storage.download_file("a", tmp_path / "a")
    assert contents(tmp_path) == {"a": b"old"}


async def test_given_a_version_when_downloaded_then_it_is_that_one(
    storage: BackblazeStorage, tmp_path: Path
) -> None:
    old = await storage.upload_file("a", b"old")
    await storage.upload_file("a", b"new")
    result = await storage.download_file("a", tmp_path / "a", version_id=old.version_id)
    assert (result.version_id, (tmp_path / "a").read_bytes()) == (old.version_id, b"old")


class TestProgress:
    @pytest.mark.parametrize("data", [b"", noise(1000), LARGE], ids=["empty", "small", "large"])
    async def test_given_a_callback_then_its_counts_rise_to_the_size(
        self, storage: BackblazeStorage, tmp_path: Path, data: bytes
    ) -> None:
        heard: list[Progress] = []

        async def listen(event: Progress) -> None:
            heard.append(event)

        await storage.upload_file("a", data)
        await storage.download_file("a", tmp_path / "a", progress=listen)
        counts = [event.transferred for event in heard]
        assert counts == sorted(counts)
        assert heard[-1] == Progress(transferred=len(data), total=len(data))

    async def test_given_a_callback_that_raises_then_its_exception_is_raised_and_no_file_appears(
        self, storage: BackblazeStorage, tmp_path: Path
    ) -> None:
        complaint = RuntimeError("the disk is wanted for something else")

        def refuse(_: Progress) -> None:
            raise complaint

        await storage.upload_file("a", LARGE)
        with pytest.raises(RuntimeError) as caught:
            await storage.download_file("a", tmp_path / "a", progress=refuse)
        assert caught.value is complaint
        assert contents(tmp_path) == {}


class TestTargets:
    async def test_given_an_existing_file_when_downloaded_then_it_is_replaced(
        self, storage: BackblazeStorage, tmp_path: Path
    ) -> None:
        (tmp_path / "a").write_bytes(b"old and longer")
        await storage.upload_file("a", b"new")
        await storage.download_file("a", tmp_path / "a")
        assert contents(tmp_path) == {"a": b"new"}

    async def test_given_an_existing_file_when_the_object_is_missing_then_the_file_stays(
        self, storage: BackblazeStorage, tmp_path: Path
    ) -> None:
        (tmp_path / "a").write_bytes(b"old")
        with pytest.raises(NoSuchKeyError) as caught:
            await storage.download_file("missing", tmp_path / "a")
        assert caught.value.key == "missing"
        assert contents(tmp_path) == {"a": b"old"}

    async def test_given_a_folder_as_target_or_no_folder_for_it_then_it_is_refused(
        self, storage: BackblazeStorage, tmp_path: Path
    ) -> None:
        await storage.upload_file("a", b"x")
        with pytest.raises(InvalidInputError, match="folder"):
            await storage.download_file("a", tmp_path)
        with pytest.raises(InvalidInputError, match="does not exist"):
            await storage.download_file("a", tmp_path / "missing" / "a")
        assert contents(tmp_path) == {}

    @pytest.mark.parametrize("target", [None, 5, b"a"], ids=repr)
    async def test_given_a_target_that_is_not_a_path_then_it_is_refused(
        self, storage: BackblazeStorage, target: Any
    ) -> None:
        await storage.upload_file("a", b"x")
        with pytest.raises(InvalidInputError):
            await storage.download_file("a", target)

    async def test_given_the_longest_name_that_a_file_can_have_then_it_is_written(
        self, storage: BackblazeStorage, tmp_path: Path
    ) -> None:
        await storage.upload_file("a", b"x")
        for name in ("音" * 80 + ".webm", "a" * 255):
            await storage.download_file("a", tmp_path / name)
            assert (tmp_path / name).read_bytes() == b"x"

    async def test_given_two_downloads_to_one_file_at_once_then_it_is_whole(
        self, storage: BackblazeStorage, tmp_path: Path
    ) -> None:
        await storage.upload_file("a", noise(300_000))
        await asyncio.gather(*(storage.download_file("a", tmp_path / "a") for _ in range(5)))
        assert contents(tmp_path) == {"a": noise(300_000)}

    async def test_given_a_download_when_cancelled_then_nothing_is_left(
        self, storage: BackblazeStorage, tmp_path: Path
    ) -> None:
        begun = asyncio.Event()

        def begin(_: Progress) -> None:
            begun.set()

        await storage.upload_file("a", LARGE)
        download = asyncio.create_task(storage.download_file("a", tmp_path / "a", progress=begin))
        await begun.wait()
        download.cancel()
        with pytest.raises(asyncio.CancelledError):
            await download
        assert contents(tmp_path) == {}
        assert asyncio.all_tasks() == {asyncio.current_task()}


def contents(folder: Path) -> dict[str, bytes]:
    """All entries of a folder, hidden files included."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}
