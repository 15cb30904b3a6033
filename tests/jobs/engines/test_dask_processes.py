"""`DaskEngine` on processes: each part of a cluster is killed in the middle of a job."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from careflow_storage.jobs import (
    ClusterError,
    CopyJob,
    DaskEngine,
    JobProgress,
    Location,
    WorkerLostError,
    resume_job,
    run_job,
)
from careflow_storage.testing import B2Server
from tests.jobs.conftest import TARGET
from tests.support.dask_cluster import DaskProcesses
from tests.support.jobs import Buckets, fill, numbered

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

BODIES = numbered(200)
# What the shards of a killed process may have sent without hearing the response.
IN_FLIGHT = 64

CLIENT = """
import asyncio, sys
from pathlib import Path
from careflow_storage.jobs import CopyJob, DaskEngine, run_job

def say(progress):
    print(progress.objects, flush=True)

job = CopyJob.model_validate_json(Path(sys.argv[1]).read_bytes())
asyncio.run(run_job(job, engine=DaskEngine(sys.argv[2]), progress=say))
"""


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[DaskProcesses]:
    async with DaskProcesses(tmp_path) as processes:
        yield processes


@pytest.fixture
async def job(buckets: Buckets) -> CopyJob:
    await fill(buckets.source_storage, BODIES)
    return buckets.copy(shard_keys=10)


def when(objects: int, action: Callable[[], None]) -> Callable[[JobProgress], None]:
    """Call ``action`` once, when that many objects are copied."""
    left = [action]

    def look(progress: JobProgress) -> None:
        if progress.objects >= objects and left:
            left.pop()()

    return look


async def check_copies(buckets: Buckets, server: B2Server) -> None:
    """Nothing is lost or left over; doubled is only what a killed worker could not report."""
    assert await buckets.copies() == BODIES
    versions = Counter(one.key for one in server.versions(bucket=TARGET) if one.key in BODIES)
    assert sum(versions.values()) - len(BODIES) <= IN_FLIGHT
    assert not server.incomplete_uploads(bucket=TARGET)


async def test_the_shards_of_a_killed_worker_run_on_another(
    cluster: DaskProcesses, job: CopyJob, buckets: Buckets, server: B2Server
) -> None:
    report = await run_job(
        job,
        engine=DaskEngine(cluster.address),
        progress=when(50, lambda: cluster.kill_worker(0)),
    )
    assert report.state == "finished"
    assert report.errors == 0
    assert report.objects + report.skipped >= len(BODIES)
    await check_copies(buckets, server)


async def test_without_its_last_worker_a_job_waits_for_a_new_one(
    cluster: DaskProcesses, job: CopyJob, buckets: Buckets, server: B2Server
) -> None:
    cluster.kill_worker(1)
    replaced: list[asyncio.Task[asyncio.subprocess.Process]] = []

    def replace() -> None:
        cluster.kill_worker(0)
        replaced.append(asyncio.create_task(cluster.start_worker(0)))

    report = await run_job(job, engine=DaskEngine(cluster.address), progress=when(50, replace))
    cluster.workers.append(await replaced[0])
    assert report.state == "finished"
    await check_copies(buckets, server)


async def test_a_killed_scheduler_stops_the_job_and_a_resume_finishes_it(
    cluster: DaskProcesses, job: CopyJob, buckets: Buckets, server: B2Server
) -> None:
    with pytest.raises((ClusterError, WorkerLostError), match="scheduler") as caught:
        await run_job(
            job,
            engine=DaskEngine(cluster.address, timeout=5),
            progress=when(50, cluster.kill_scheduler),
        )
    assert caught.value.retryable
    await cluster.kill()
    await cluster.start()
    report = await resume_job(job.job_id, job.target, engine=DaskEngine(cluster.address))
    assert report.state == "finished"
    await check_copies(buckets, server)


async def test_the_shards_of_a_killed_client_stop_and_a_resume_finishes_its_job(
    cluster: DaskProcesses, job: CopyJob, buckets: Buckets, server: B2Server, tmp_path: Path
) -> None:
    file = tmp_path / "job.json"
    file.write_text(job.model_dump_json())
    client = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CLIENT, str(file), cluster.address),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert client.stdout is not None
    while int(await client.stdout.readline()) < 50:
        pass
    client.kill()
    await client.wait()
    report = await resume_job(job.job_id, job.target, engine=DaskEngine(cluster.address))
    assert report.state == "finished"
    assert report.objects + report.skipped >= len(BODIES)
    await check_copies(buckets, server)


async def test_the_one_worker_without_credentials_is_named(
    cluster: DaskProcesses, buckets: Buckets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(buckets.source_storage, numbered(3))
    # A relative path: each process reads its own file.
    for folder in (tmp_path, cluster.folder_of(0)):
        assert buckets.target.env_file is not None
        (folder / "target-of-worker.env").write_text(buckets.target.env_file.read_text())
    monkeypatch.chdir(tmp_path)
    job = CopyJob(
        source=buckets.source, target=Location(env_file=Path("target-of-worker.env")), shard_keys=1
    )
    with pytest.raises(ClusterError, match=r"target-of-worker\.env") as caught:
        await run_job(job, engine=DaskEngine(cluster.address))
    assert f"process {cluster.workers[1].pid})" in caught.value.message
    assert f"process {cluster.workers[0].pid})" not in caught.value.message
    assert not await buckets.copies()


async def test_workers_of_this_machine_need_no_cluster_and_leave_no_process(
    job: CopyJob, buckets: Buckets, server: B2Server
) -> None:
    engine = DaskEngine(workers=2)
    report = await run_job(job, engine=engine)
    assert report.state == "finished"
    await check_copies(buckets, server)
    assert not multiprocessing.active_children()


def listening_addresses() -> set[str]:
    """The addresses, as the kernel writes them, at which this process and its children listen."""
    sockets: dict[str, str] = {}
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == "0A":
                sockets[rest[5]] = local.partition(":")[0]
    found = set()
    children = [child.pid for child in multiprocessing.active_children()]
    for pid in ("self", *map(str, children)):
        for descriptor in Path("/proc", pid, "fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed since
                name = str(descriptor.readlink())
                found.add(sockets.get(name.removeprefix("socket:[").removesuffix("]"), ""))
    return found - {""}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_workers_of_this_machine_listen_for_this_machine_only(job: CopyJob) -> None:
    seen: set[str] = set()

    def look(progress: JobProgress) -> None:
        assert multiprocessing.active_children()
        seen.update(listening_addresses())

    await run_job(job, engine=DaskEngine(workers=2), progress=look)
    assert seen == {"0100007F"}  # 127.0.0.1
