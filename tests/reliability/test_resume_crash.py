"""Kill -9, on a real server: the next process goes on, and nothing is lost or left behind."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from careflow_storage.local import LocalServer
from careflow_storage.settings import StorageSettings
from careflow_storage.storage import BackblazeStorage
from careflow_storage.testing.proxy.proxy import FaultProxy, Rule
from tests.support.crash_resume import Plan, crash_downloads, crash_uploads

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")

MIB = 1024 * 1024
PART = 5 * MIB
CONTENT = random.Random(5).randbytes(6 * PART + 1)
SCRIPT = """
import asyncio, sys
from pathlib import Path
from careflow_storage import BackblazeStorage

async def main(direction, path):
    async with BackblazeStorage() as storage:
        if direction == "upload":
            await storage.upload_file("key", Path(path), resume=True)
        else:
            await storage.download_file("key", path, resume=True)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
async def proxy(seaweed_settings: StorageSettings) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(seaweed_settings.endpoint or "") as opened:
        yield opened


@pytest.fixture
async def storage(seaweed_settings: StorageSettings) -> AsyncIterator[BackblazeStorage]:
    small = {"part_size": PART, "multipart_threshold": PART, "transfer_concurrency": 2}
    async with BackblazeStorage(seaweed_settings.model_copy(update=small)) as opened:
        yield opened


async def killed_at(
    rule: Rule, storage: BackblazeStorage, seaweedfs: LocalServer, proxy: FaultProxy, *what: str
) -> None:
    """Run a transfer in another process, and kill it when the rule strikes."""
    settings = storage.settings
    environment = {
        **os.environ,
        **seaweedfs.environment(),
        "BACKBLAZE_BUCKET_NAME": str(settings.bucket_name),
        "BACKBLAZE_ENDPOINT": proxy.url,
        "BACKBLAZE_PART_SIZE": str(PART),
        "BACKBLAZE_MULTIPART_THRESHOLD": str(PART),
        "BACKBLAZE_TRANSFER_CONCURRENCY": "2",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SCRIPT, *what, env=environment
    )
    struck = asyncio.create_task(rule.fired.wait())
    ended = asyncio.create_task(process.wait())
    await asyncio.wait({struck, ended}, return_when=asyncio.FIRST_COMPLETED)
    assert not ended.done()
    process.send_signal(signal.SIGKILL)
    assert await ended == -signal.SIGKILL


MOMENTS = {
    "before the response to the creation": {"operation": "CreateMultipartUpload", "at": "resp"},
    "before the first part": {"path": "partNumber=1&"},
    "in the middle": {"path": "partNumber=5&"},
    "before the completion": {"operation": "CompleteMultipartUpload"},
    "before the response to the completion": {"operation": "CompleteMultipartUpload", "at": "resp"},
}


@pytest.mark.parametrize("moment", MOMENTS)
async def test_an_upload_that_was_killed_goes_on_in_another_process(
    storage: BackblazeStorage,
    seaweedfs: LocalServer,
    proxy: FaultProxy,
    tmp_path: Path,
    moment: str,
) -> None:
    source = tmp_path / "source"
    source.write_bytes(CONTENT)
    rule = proxy.add(cut="hang", **MOMENTS[moment])
    await killed_at(rule, storage, seaweedfs, proxy, "upload", str(source))

    result = await storage.upload_file("key", source, resume=True)

    if moment == "in the middle":
        assert 3 * PART <= result.reused < len(CONTENT)
    elif "completion" in moment:
        assert result.reused == len(CONTENT)
    else:
        assert result.reused == 0
    assert await storage.get_file("key") == CONTENT
    # One without parts may be another writer's, whose first part is on its way.
    empty = moment in ("before the response to the creation", "before the first part")
    assert len(await storage.list_incomplete_uploads()) == empty


async def test_a_download_that_was_killed_goes_on_in_another_process(
    storage: BackblazeStorage, seaweedfs: LocalServer, proxy: FaultProxy, tmp_path: Path
) -> None:
    await storage.upload_file("key", CONTENT)
    place = tmp_path / "place"
    place.mkdir()
    last = f"bytes={5 * PART}-"
    rule = proxy.add(when=lambda each: each.headers.get("range", "").startswith(last), cut="hang")
    await killed_at(rule, storage, seaweedfs, proxy, "download", str(place / "file"))

    result = await storage.download_file("key", place / "file", resume=True)

    assert 3 * PART <= result.reused < len(CONTENT)
    assert result.verified == "composite-md5"
    assert names_and_contents(place) == {"file": CONTENT}


def names_and_contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


async def test_two_that_resume_the_same_upload_at_the_same_time_both_end_well(
    storage: BackblazeStorage, seaweedfs: LocalServer, proxy: FaultProxy, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(CONTENT)
    rule = proxy.add(cut="hang", path="partNumber=3&")
    await killed_at(rule, storage, seaweedfs, proxy, "upload", str(source))

    results = await asyncio.gather(
        *(storage.upload_file("key", source, resume=True) for _ in range(2))
    )

    assert len({result.etag for result in results}) == 1
    assert await storage.get_file("key") == CONTENT
    assert await storage.list_incomplete_uploads() == []


async def test_an_upload_that_is_aborted_under_way_starts_anew(
    storage: BackblazeStorage, proxy: FaultProxy
) -> None:
    settings = storage.settings.model_copy(update={"endpoint": proxy.url})
    async with BackblazeStorage(settings) as behind:
        slow = proxy.add(path="partNumber=4&", delay=60, times=1)
        upload = asyncio.create_task(behind.upload_file("key", CONTENT, resume=True))
        await slow.fired.wait()
        assert await storage.abort_stale_uploads(timedelta(days=1)) == []
        (under_way,) = await storage.list_incomplete_uploads("key")
        await storage.abort_upload("key", under_way.upload_id)
        slow.release.set()
        result = await upload
    assert result.reused == 0
    assert await storage.get_file("key") == CONTENT
    assert await storage.list_incomplete_uploads() == []


@pytest.mark.slow
async def test_killed_at_random_moments_a_transfer_ends_well(
    seaweedfs: LocalServer, tmp_path: Path
) -> None:
    for direction, crash in (("up", crash_uploads), ("down", crash_downloads)):
        folder = tmp_path / direction
        folder.mkdir()
        plan = Plan(size=60 * MIB, kills=6, rate=8 * MIB, longest_run=2.0, seed=7)
        outcome = await crash(plan, seaweedfs, folder, lambda _: None)
        assert outcome.kills == 6
        assert outcome.moved < 3 * outcome.needed
