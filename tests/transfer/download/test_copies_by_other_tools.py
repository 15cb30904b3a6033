"""Objects that another tool has copied with their metadata, the upload marker included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from careflow_storage import BackblazeStorage, ChecksumMismatchError, StorageSettings
from tests.support.behind_proxy import PART
from tests.support.bodies import noise
from tests.support.two_storages import Pair, pair, two_servers

__all__ = ["pair", "two_servers"]

MIB = 1024 * 1024
# Cut at PART it has two parts, and cut a little later, too: so the ETags have the same number.
DATA = noise(PART + PART // 2)
OTHER_CUT = PART + PART // 4


async def copy_as_other_tools_do(storage: BackblazeStorage, cut: int, body: bytes = DATA) -> None:
    """Upload "original", and copy it to "copy": same metadata, and two parts divided at ``cut``."""
    await storage.upload_file("original", body, "audio/webm")
    client, bucket = await storage.client(), str(storage.settings.bucket_name)
    head = await client.head_object(Bucket=bucket, Key="original")
    begun = await client.create_multipart_upload(
        Bucket=bucket, Key="copy", Metadata=head["Metadata"]
    )
    sent: dict[str, Any] = {"Bucket": bucket, "Key": "copy", "UploadId": begun["UploadId"]}
    parts = []
    for number, part in enumerate((body[:cut], body[cut:]), start=1):
        stored = await client.upload_part(**sent, PartNumber=number, Body=part)
        parts.append({"PartNumber": number, "ETag": stored["ETag"]})
    await client.complete_multipart_upload(**sent, MultipartUpload={"Parts": parts})


async def streamed(storage: BackblazeStorage, key: str) -> bytes:
    async with storage.stream_file(key) as stream:
        return b"".join([chunk async for chunk in stream])


async def test_a_copy_in_other_parts_is_read_as_an_object_without_a_marker(
    pair: Pair, tmp_path: Path
) -> None:
    storage = pair.source
    await copy_as_other_tools_do(storage, OTHER_CUT)
    assert await storage.get_file("copy") == DATA
    assert await streamed(storage, "copy") == DATA
    result = await storage.download_file("copy", tmp_path / "file")
    assert result.verified == "length"
    assert (tmp_path / "file").read_bytes() == DATA
    result = await storage.download_file("copy", tmp_path / "file", resume=True)
    assert result.verified == "length"


async def test_a_copy_in_other_parts_is_copied(pair: Pair) -> None:
    await copy_as_other_tools_do(pair.source, OTHER_CUT)
    await pair.target.copy_from(pair.source, "copy")
    assert pair.copied("copy") == DATA
    await pair.source.copy_from(pair.source, "copy", "again")
    assert await pair.source.get_file("again") == DATA


async def test_a_copy_in_other_parts_is_streamed_into_one_put(pair: Pair) -> None:
    await copy_as_other_tools_do(pair.source, OTHER_CUT)
    pair.target.settings.__dict__["multipart_threshold"] = 10 * PART
    await pair.target.copy_from(pair.source, "copy")
    assert pair.copied("copy") == DATA


async def test_a_copy_in_the_same_parts_is_verified_by_them(pair: Pair, tmp_path: Path) -> None:
    await copy_as_other_tools_do(pair.source, PART)
    assert await pair.source.get_file("copy") == DATA
    result = await pair.source.download_file("copy", tmp_path / "file")
    assert result.verified == "composite-md5"


@pytest.mark.parametrize("key", ["original", "copy"])
async def test_damage_to_an_object_in_its_own_parts_is_still_an_error(
    pair: Pair, tmp_path: Path, key: str
) -> None:
    storage = pair.source
    await copy_as_other_tools_do(storage, PART)
    pair.source_server.faults.always(method="GET", path=key, corrupt=77_777)
    with pytest.raises(ChecksumMismatchError, match="get_file"):
        await storage.get_file(key)
    with pytest.raises(ChecksumMismatchError, match="stream_file"):
        await streamed(storage, key)
    with pytest.raises(ChecksumMismatchError, match="download_file"):
        await storage.download_file(key, tmp_path / "file")
    with pytest.raises(ChecksumMismatchError, match="copy_from"):
        await pair.target.copy_from(storage, key)
    pair.assert_nothing_left(key)


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 501, "code": "NotImplemented"},
        {"status": 416, "code": "InvalidPartNumber"},
        {"status": 200, "headers": {"ETag": '"another"', "x-amz-mp-parts-count": "2"}},
    ],
    ids=["unknown", "refused", "another object"],
)
async def test_without_an_answer_about_the_parts_the_mismatch_is_an_error(
    pair: Pair, fault: dict[str, Any]
) -> None:
    await copy_as_other_tools_do(pair.source, OTHER_CUT)
    pair.source_server.faults.always(method="HEAD", path="partNumber=1", **fault)
    with pytest.raises(ChecksumMismatchError) as caught:
        await pair.source.get_file("copy")
    assert "verify=False" in (caught.value.hint or "")
    assert await pair.source.get_file("copy", verify=False) == DATA


async def test_the_parts_are_asked_for_only_after_a_mismatch(pair: Pair) -> None:
    await copy_as_other_tools_do(pair.source, OTHER_CUT)
    with pair.source.count_requests() as counts:
        await pair.source.get_file("original")
    assert counts == {"GetObject": 1}
    with pair.source.count_requests() as counts:
        await pair.source.get_file("copy")
    assert counts == {"GetObject": 1, "HeadObject": 1}


@pytest.mark.integration
async def test_a_real_server_tells_the_parts_of_a_copy(
    seaweed_settings: StorageSettings, tmp_path: Path
) -> None:
    settings = seaweed_settings.model_copy(
        update={"part_size": 5 * MIB, "multipart_threshold": 5 * MIB}
    )
    body = noise(8 * MIB)
    async with BackblazeStorage(settings) as storage:
        await copy_as_other_tools_do(storage, 6 * MIB, body)
        assert (await storage.get_file_metadata("copy")).size == len(body)
        assert await storage.get_file("copy") == body
        assert (await storage.download_file("copy", tmp_path / "file")).verified == "length"
        found = await storage.download_file("original", tmp_path / "original")
        assert found.verified == "composite-md5"
