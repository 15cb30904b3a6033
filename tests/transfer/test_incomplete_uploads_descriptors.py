"""Cancelled at every await: no task, socket, file descriptor or temporary file is left."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from careflow_storage.settings import StorageSettings
from careflow_storage.storage import BackblazeStorage
from careflow_storage.testing.proxy.proxy import FaultProxy
from tests.support.behind_proxy import (
    NOTHING_HELD,
    PART,
    held,
    storage_behind,
    tasks_of_the_library,
    unfinished_uploads,
)
from tests.support.cancelled import cancelled_at_step
from tests.support.descriptors import open_files, sockets_to

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
]

LARGE = random.Random(6).randbytes(2 * PART + 7)


async def keep_one(storage: BackblazeStorage) -> None:
    client = await storage.client()
    bucket = storage.settings.bucket_name
    begun = await client.create_multipart_upload(Bucket=bucket, Key="kept")
    await client.upload_part(
        Bucket=bucket, Key="kept", UploadId=begun["UploadId"], PartNumber=1, Body=b"part"
    )
    await storage.keep_incomplete_upload("kept", begun["UploadId"])


async def stored_parts(storage: BackblazeStorage) -> int:
    """How many parts the unfinished uploads hold; one without any costs nothing."""
    client = await storage.client()
    bucket, count = storage.settings.bucket_name, 0
    for upload in await storage.list_incomplete_uploads():
        found = await client.list_parts(Bucket=bucket, Key=upload.key, UploadId=upload.upload_id)
        count += len(found.get("Parts", []))
    return count


Work = Callable[[BackblazeStorage, Path], Awaitable[Any]]
WORK: dict[str, Work] = {
    "upload": lambda storage, place: storage.upload_file("key", place / "source"),
    "resumed upload": lambda storage, place: storage.upload_file(
        "key", place / "source", resume=True
    ),
    "download": lambda storage, place: storage.download_file("there", place / "file"),
    "resumed download": lambda storage, place: storage.download_file(
        "there", place / "file", resume=True
    ),
    "abort": lambda storage, place: storage.abort_stale_uploads(timedelta(seconds=1)),
    "keep": lambda storage, place: keep_one(storage),
}


def assert_only_known_files(place: Path, *, resumed: bool) -> None:
    for path in place.iterdir():
        if path.name not in ("source", "file"):
            assert resumed
            assert path.suffix in (".part", ".journal")
    if (place / "file").exists():
        assert (place / "file").read_bytes() == LARGE
        (place / "file").unlink()


@pytest.mark.parametrize("kind", WORK)
async def test_cancelled_at_every_await_it_leaves_nothing_open(
    settings: StorageSettings, temporary: Path, tmp_path: Path, kind: str
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    (place / "source").write_bytes(LARGE)
    resumed = kind.startswith("resumed")
    async with FaultProxy(settings.endpoint or "") as proxy:
        async with storage_behind(proxy, settings) as storage:
            await storage.client()
            await storage.upload_file("there", LARGE)
            tasks, number = tasks_of_the_library(), 1

            async def work() -> None:
                await WORK[kind](storage, place)

            first = 0  # of the requests of this run
            while await cancelled_at_step(work(), number):
                first = len(proxy.log)
                assert tasks_of_the_library() <= tasks
                assert held(storage) == NOTHING_HELD
                assert open_files(tmp_path) == []
                assert_only_known_files(place, resumed=resumed)
                if kind in ("upload", "download", "resumed download"):
                    assert await unfinished_uploads(storage) == []
                number += 1
                assert number < 400
            assert number > 2
            assert_only_known_files(place, resumed=False)
            went_on = any("uploadId=" in each.target for each in proxy.log[first:])
            if kind == "resumed upload" and not went_on:
                # The last run found the object of a cancelled one, which the server completed
                # only after another run, cancelled too, had begun an upload of its own.
                assert await storage.get_file("key") == LARGE
            elif resumed:
                assert await stored_parts(storage) == 0
            assert list(temporary.iterdir()) == []  # noqa: ASYNC240 - a test may wait for a disk
        # A closed connection leaves the loop with its next turns.
        for _ in range(20):
            await asyncio.sleep(0)
        assert sockets_to(proxy.url) == set()
