"""The client is killed with SIGKILL: a resume loses nothing, doubles nothing, leaves nothing."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Any

import pytest

from careflow_storage import BackblazeStorage
from careflow_storage.jobs import CopyJob, resume_job
from careflow_storage.testing import B2Server
from tests.jobs.conftest import TARGET
from tests.support.jobs import Buckets, fill, location_of, numbered

MIB = 1024 * 1024
BIG = "recordings/CA0009/long.webm"
PROGRAM = """
import asyncio, sys
from careflow_storage.jobs import CopyJob, run_job
asyncio.run(run_job(CopyJob.model_validate_json(sys.argv[1])))
"""
MOMENTS = [
    pytest.param("PutObject", "^recordings/CA0012", "head", id="small object"),
    pytest.param("PutObject", "^recordings/CA0012", "resp", id="small object stored"),
    pytest.param("PutObject", "/shards/", "head", id="record of a shard"),
    pytest.param("PutObject", "/shards/", "resp", id="record of a shard stored"),
    pytest.param("PutObject", "/uploads/", "resp", id="record of an upload stored"),
    pytest.param("CreateMultipartUpload", "", "resp", id="upload created"),
    pytest.param("UploadPart", "", "resp", id="part"),
    pytest.param("CompleteMultipartUpload", "", "head", id="completion"),
    pytest.param("CompleteMultipartUpload", "", "resp", id="completed"),
    pytest.param("PutObject", "/report.json", "head", id="report"),
]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
@pytest.mark.parametrize(("operation", "key", "at"), MOMENTS)
async def test_a_killed_client(
    buckets: Buckets, server: B2Server, tmp_path: Any, operation: str, key: str, at: Any
) -> None:
    bodies = numbered(14) | {BIG: bytes(range(256)) * (6 * MIB // 256)}
    await fill(buckets.source_storage, bodies)
    parts = server.settings(
        key=server.create_key(),
        bucket_name=TARGET,
        part_size=5 * MIB,
        multipart_threshold=5 * MIB,
        transfer_concurrency=1,
    )
    target = location_of(parts, tmp_path / "parts.env")
    job = CopyJob(source=buckets.source, target=target, prefix="recordings/", shard_keys=4)
    async with BackblazeStorage(parts) as other:
        # Of another program: it must stay.
        client = await other.client()
        foreign = await client.create_multipart_upload(Bucket=TARGET, Key=BIG)
    moment = server.faults.next(operation, key=key, cut="hang", at=at)

    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, job.model_dump_json()
    )
    await moment.fired.wait()
    process.send_signal(signal.SIGKILL)
    assert await process.wait() == -signal.SIGKILL
    server.faults.clear()

    report = await resume_job(job.job_id, target)

    assert (report.state, report.errors) == ("finished", 0)
    assert report.objects + report.skipped >= len(bodies)
    assert await buckets.copies() == bodies
    stored = [each.key for each in server.versions(bucket=TARGET)]
    assert sorted(key for key in stored if key.startswith("recordings/")) == sorted(bodies)
    assert [each.upload_id for each in server.incomplete_uploads()] == [foreign["UploadId"]]
