"""With resume=True a download reuses the bytes of the last run, if they are intact."""

from __future__ import annotations

import asyncio
import os
import random
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from careflow_storage.errors import AccessDeniedError, ChecksumMismatchError
from careflow_storage.models import Progress
from careflow_storage.settings import StorageSettings
from careflow_storage.storage import BackblazeStorage
from careflow_storage.testing.proxy.proxy import FaultProxy
from tests.support.behind_proxy import NOTHING_HELD, PART, held, storage_behind

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="no file locks: no resume"),
]

LARGE = random.Random(3).randbytes(4 * PART + 7)
LAST_RANGE = f"bytes={4 * PART}-"


@pytest.fixture
async def storage(proxy: FaultProxy, settings: StorageSettings) -> AsyncIterator[BackblazeStorage]:
    async with storage_behind(proxy, settings) as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "folder"
    place.mkdir()
    return place


async def put_foreign(storage: BackblazeStorage) -> None:
    """Store an object whose part size is not in its metadata."""
    client = await storage.client()
    where: dict[str, Any] = {"Bucket": storage.settings.bucket_name, "Key": "key"}
    upload_id = (await client.create_multipart_upload(**where))["UploadId"]
    parts = []
    for number, content in enumerate((LARGE[:1000], LARGE[1000:]), start=1):
        response = await client.upload_part(
            **where, UploadId=upload_id, PartNumber=number, Body=content
        )
        parts.append({"PartNumber": number, "ETag": response["ETag"]})
    await client.complete_multipart_upload(
        **where, UploadId=upload_id, MultipartUpload={"Parts": parts}
    )


async def put(storage: BackblazeStorage, kind: str) -> None:
    if kind == "length":
        await put_foreign(storage)
    elif kind == "md5":
        client = await storage.client()
        await client.put_object(Bucket=storage.settings.bucket_name, Key="key", Body=LARGE)
    else:
        await storage.upload_file("key", LARGE)


async def interrupt(storage: BackblazeStorage, proxy: FaultProxy, target: Path) -> None:
    """Start a download whose last range fails after the others are written."""

    def others_are_done(attempt: Any) -> bool:
        return bool(attempt.headers.get("range", "").startswith(LAST_RANGE))

    proxy.add(operation="GetObject", when=others_are_done, status=403, code="AccessDenied")
    with pytest.raises(AccessDeniedError):
        await storage.download_file("key", target, resume=True)
    proxy.clear()
    assert target.name not in names(target.parent)
    assert held(storage) == NOTHING_HELD


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def files_of(folder: Path) -> dict[str, Path]:
    return {path.suffix: path for path in folder.iterdir() if path.name.startswith(".careflow-")}


@pytest.mark.parametrize("kind", ["composite-md5", "md5", "length"])
async def test_the_same_call_again_fetches_only_what_is_missing(
    storage: BackblazeStorage, proxy: FaultProxy, folder: Path, kind: str
) -> None:
    await put(storage, kind)
    await interrupt(storage, proxy, folder / "file")
    seen: list[Progress] = []

    result = await storage.download_file("key", folder / "file", resume=True, progress=seen.append)

    assert result.verified == kind
    assert result.reused >= 2 * PART
    fetched = [a.headers["range"] for a in proxy.log if a.operation == "GetObject"]
    assert len(fetched) == 5 - result.reused // PART
    assert seen[-1].transferred == len(LARGE)
    assert (folder / "file").read_bytes() == LARGE
    assert names(folder) == ["file"]


async def test_a_cancelled_download_goes_on(
    storage: BackblazeStorage, proxy: FaultProxy, folder: Path
) -> None:
    await put(storage, "composite-md5")
    hanging = proxy.add(operation="GetObject", when=lambda a: LAST_RANGE in a.headers["range"])
    hanging.cut = "hang"
    download = asyncio.create_task(storage.download_file("key", folder / "file", resume=True))
    await hanging.fired.wait()
    download.cancel()
    with pytest.raises(asyncio.CancelledError):
        await download
    proxy.clear()
    result = await storage.download_file("key", folder / "file", resume=True)
    assert result.reused >= 2 * PART
    assert (folder / "file").read_bytes() == LARGE


@pytest.mark.parametrize("kind", ["composite-md5", "length"])
async def test_damaged_bytes_of_the_last_run_are_fetched_again(
    storage: BackblazeStorage, proxy: FaultProxy, folder: Path, kind: str
) -> None:
    await put(storage, kind)
    await interrupt(storage, proxy, folder / "file")
    part = files_of(folder)[".part"]
    with part.open("r+b") as file:
        file.seek(100)
        file.write(b"damaged")
    before = files_of(folder)[".journal"].read_bytes().count(b"\n") - 1
    result = await storage.download_file("key", folder / "file", resume=True)
    assert result.reused == (before - 1) * PART
    assert (folder / "file").read_bytes() == LARGE


@pytest.mark.parametrize("loss", ["part", "empty part", "journal", "torn journal", "nonsense"])
async def test_after_any_power_failure_the_file_is_right(
    storage: BackblazeStorage, proxy: FaultProxy, folder: Path, loss: str
) -> None:
    await put(storage, "length")
    await interrupt(storage, proxy, folder / "file")
    part, journal = files_of(folder)[".part"], files_of(folder)[".journal"]
    if loss == "part":
        part.unlink()
    elif loss == "empty part":
        os.truncate(part, 0)
    elif loss == "journal":
        journal.unlink()
    elif loss == "torn journal":
        os.truncate(journal, journal.stat().st_size - 3)
    else:
        with journal.open("ab") as file:
            file.write(b"0 99999999999 00000000\n5 3 zz\n\0\0\0\0")
    result = await storage.download_file("key", folder / "file", resume=True)
    assert (result.reused > 0) == (loss in ("torn journal", "nonsense"))
    assert (folder / "file").read_bytes() == LARGE
    assert names(folder) == ["file"]


@pytest.mark.parametrize("changed", [LARGE[::-1], LARGE[:-1]])
async def test_another_version_of_the_object_starts_over(
    storage: BackblazeStorage, proxy: FaultProxy, folder: Path, changed: bytes
) -> None:
    await put(storage, "composite-md5")
    await interrupt(storage, proxy, folder / "file")
    await storage.upload_file("key", changed)
    result = await storage.download_file("key", folder / "file", resume=True)
    assert result.reused == 0
    assert (folder / "file").read_bytes() == changed


async def test_another_key_for_the_same_path_starts_over(
    storage: BackblazeStorage, proxy: FaultProxy, folder: Path
) -> None:
    await put(storage, "composite-md5")
    await interrupt(storage, proxy, folder / "file")
    await storage.upload_file("other", LARGE[::-1])
    result = await storage.download_file("other", folder / "file", resume=True)
    assert result.reused == 0
    assert (folder / "file").read_bytes() == LARGE[::-1]


async def test_bytes_damaged_in_transfer_are_not_kept(
    storage: BackblazeStorage, proxy: FaultProxy, folder: Path
) -> None:
    await put(storage, "composite-md5")
    proxy.add(operation="GetObject", corrupt=5, times=1)
    with pytest.raises(ChecksumMismatchError):
        await storage.download_file("key", folder / "file", resume=True)
    assert names(folder) == []
    result = await storage.download_file("key", folder / "file", resume=True)
    assert (folder / "file").read_bytes() == LARGE
    assert result.reused == 0


async def test_two_downloads_to_the_same_path_do_not_mix(
    storage: BackblazeStorage, proxy: FaultProxy, folder: Path
) -> None:
    await put(storage, "composite-md5")
    await interrupt(storage, proxy, folder / "file")
    await storage.upload_file("other", LARGE[::-1])
    for keys in (("key", "key"), ("key", "other"), ("other", "key", "other")):
        await asyncio.gather(
            *(storage.download_file(key, folder / "file", resume=True) for key in keys)
        )
        assert (folder / "file").read_bytes() in {
            {"key": LARGE, "other": LARGE[::-1]}[key] for key in keys
        }
        assert names(folder) == ["file"]


async def test_the_partial_file_is_private_and_the_finished_one_has_the_default_mode(
    storage: BackblazeStorage, proxy: FaultProxy, folder: Path
) -> None:
    await put(storage, "composite-md5")
    await interrupt(storage, proxy, folder / "file")
    kept = files_of(folder)
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept.values()} == {0o600}
    await storage.download_file("key", folder / "file", resume=True)
    await storage.download_file("key", folder / "plain")
    assert (folder / "file").stat().st_mode == (folder / "plain").stat().st_mode


@pytest.mark.parametrize("mode", [0o644, 0o664])
async def test_a_run_killed_while_publishing_does_not_block_the_next(
    storage: BackblazeStorage, proxy: FaultProxy, folder: Path, mode: int
) -> None:
    await put(storage, "composite-md5")
    await interrupt(storage, proxy, folder / "file")
    files_of(folder)[".part"].chmod(mode)
    result = await storage.download_file("key", folder / "file", resume=True)
    assert (result.reused > 0) == (mode == 0o644)
    assert names(folder) == ["file"]


@pytest.mark.parametrize("suffix", [".part", ".journal"])
async def test_a_link_at_the_path_of_the_partial_file_is_not_followed(
    storage: BackblazeStorage, proxy: FaultProxy, folder: Path, suffix: str
) -> None:
    await put(storage, "composite-md5")
    await interrupt(storage, proxy, folder / "file")
    precious = folder / "precious"
    precious.write_bytes(b"untouched")
    victim = files_of(folder)[suffix]
    victim.unlink()
    victim.symlink_to(precious)
    await storage.download_file("key", folder / "file", resume=True)
    assert precious.read_bytes() == b"untouched"
    assert (folder / "file").read_bytes() == LARGE
    assert not (folder / "file").is_symlink()


async def test_a_failure_before_the_first_range_leaves_no_file(
    storage: BackblazeStorage, proxy: FaultProxy, folder: Path
) -> None:
    await put(storage, "composite-md5")
    proxy.add(operation="GetObject", status=403, code="AccessDenied")
    with pytest.raises(AccessDeniedError):
        await storage.download_file("key", folder / "file", resume=True)
    assert names(folder) == []


async def test_an_empty_object_can_be_resumed(storage: BackblazeStorage, folder: Path) -> None:
    await storage.upload_file("key", b"")
    await storage.download_file("key", folder / "file", resume=True)
    assert (folder / "file").read_bytes() == b""
    assert names(folder) == ["file"]
