"""`DaskEngine` on a cluster in this process: errors, cancellation, and what the scheduler holds."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from distributed import LocalCluster, Scheduler, SchedulerPlugin

from careflow_storage import CapExceededError, InvalidInputError
from careflow_storage.jobs import (
    ClusterError,
    CopyJob,
    DaskEngine,
    JobProgress,
    Location,
    ShardTask,
    resume_job,
    run_job,
)
from careflow_storage.testing import B2Server
from tests.support.jobs import Buckets, fill, numbered


@pytest.fixture
def engine(dask_cluster: Any) -> DaskEngine:
    return DaskEngine(dask_cluster.scheduler_address)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so. The test's timeout is the limit."""
    while not condition():  # noqa: ASYNC110 - other threads make it so
        await asyncio.sleep(0.01)


# --- bad input --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"address": "tcp://127.0.0.1:1", "workers": 1},
        {"workers": 0},
        {"workers": True},
        {"workers": "2"},
        {"workers": 1, "shards_per_worker": 0},
        {"address": "", "timeout": 1},
        {"address": "tcp://127.0.0.1:1", "timeout": float("nan")},
        {"address": 8786},
    ],
)
def test_refuses_what_is_no_cluster(arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        DaskEngine(**arguments)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "http://127.0.0.1:1", "nonsense:"])
async def test_an_address_without_a_scheduler_is_a_clear_error(address: str) -> None:
    with pytest.raises(ClusterError, match=address) as caught:
        async with DaskEngine(address, timeout=0.2):
            pass
    assert caught.value.hint


async def test_a_cluster_without_workers_is_a_clear_error() -> None:
    async with LocalCluster(
        n_workers=0,
        processes=False,
        dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"dashboard": False},
        asynchronous=True,
    ) as cluster:
        with pytest.raises(ClusterError, match="No Dask cluster with workers"):
            async with DaskEngine(cluster.scheduler_address, timeout=0.2):
                pass


async def test_an_engine_that_is_not_open_says_so(engine: DaskEngine, buckets: Buckets) -> None:
    with pytest.raises(ClusterError, match="not open"):
        await engine.run(ShardTask(job=buckets.copy()))


# --- workers that cannot run a job ------------------------------------------------------


async def test_workers_with_another_version_are_named_before_the_first_object(
    engine: DaskEngine, buckets: Buckets, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(buckets.source_storage, numbered(3))
    monkeypatch.setattr("careflow_storage.jobs.engines.dask.__version__", "99.1")
    with pytest.raises(ClusterError) as caught:
        await run_job(buckets.copy(), engine=engine)
    assert caught.value.message.count("Worker tcp://127.0.0.1:") == 2
    assert "99.1" in caught.value.message
    assert not await buckets.copies()


async def test_workers_without_credentials_are_named_before_the_first_object(
    engine: DaskEngine, buckets: Buckets, tmp_path: Path
) -> None:
    missing = Location(env_file=tmp_path / "only-on-the-client.env")
    job = CopyJob(source=buckets.source, target=missing)
    async with engine:
        with pytest.raises(ClusterError, match=r"only-on-the-client\.env") as caught:
            await engine.run(ShardTask(job=job))
    assert caught.value.message.count("Worker tcp://127.0.0.1:") == 2


async def test_an_error_that_concerns_all_objects_names_the_worker(
    engine: DaskEngine, buckets: Buckets, server: B2Server
) -> None:
    await fill(buckets.source_storage, numbered(3))
    server.faults.always(
        "PutObject", key="recordings/.*", status=403, code="storage_cap_exceeded", message="full"
    )
    with pytest.raises(CapExceededError, match=r"Worker tcp://127\.0\.0\.1:\d+"):
        await run_job(buckets.copy(), engine=engine)


# --- a job ------------------------------------------------------------------------------


async def test_two_jobs_at_once_share_the_workers(dask_cluster: Any, buckets: Buckets) -> None:
    await fill(buckets.source_storage, numbered(12, "a/") | numbered(9, "b/"))
    reports = await asyncio.gather(
        *(
            run_job(buckets.copy(prefix), engine=DaskEngine(dask_cluster.scheduler_address))
            for prefix in ("a/", "b/")
        )
    )
    assert [report.objects for report in reports] == [12, 9]
    assert open_storages(dask_cluster) == 0


async def test_workers_get_equal_shares_of_the_rate(engine: DaskEngine, buckets: Buckets) -> None:
    await fill(buckets.source_storage, numbered(8))
    async with engine:
        assert (engine.capacity, engine.workers) == (4, 2)
    report = await run_job(buckets.copy(rate=1000.0), engine=engine)
    assert report.objects == 8


def open_storages(cluster: Any) -> int:
    """How many workers have storages open."""
    return sum("careflow-storage" in worker.plugins for worker in cluster.workers.values())


@pytest.fixture
async def hanging(
    engine: DaskEngine, buckets: Buckets, server: B2Server
) -> AsyncIterator[asyncio.Task[Any]]:
    """A job whose first upload gets no response."""
    await fill(buckets.source_storage, numbered(9))
    server.faults.next("PutObject", key="recordings/.*", cut="hang")
    job = asyncio.create_task(run_job(buckets.copy(), engine=engine))
    yield job
    job.cancel()
    await asyncio.wait([job])


async def test_a_cancelled_job_cancels_its_shards_and_closes_the_storages_of_the_workers(
    hanging: asyncio.Task[Any], dask_cluster: Any, buckets: Buckets, server: B2Server
) -> None:
    await until(lambda: any(one.fault is not None for one in server.requests))
    hanging.cancel()
    await asyncio.wait([hanging])
    assert hanging.cancelled()
    assert open_storages(dask_cluster) == 0
    assert not any(worker.state.executing for worker in dask_cluster.workers.values())


async def test_shards_end_when_the_connection_of_their_client_ends(
    hanging: asyncio.Task[Any],
    engine: DaskEngine,
    dask_cluster: Any,
    server: B2Server,
) -> None:
    await until(lambda: any(one.fault is not None for one in server.requests))
    client: Any = engine._client
    client.scheduler_comm.comm.abort()
    with pytest.raises(ClusterError, match="connection"):
        await hanging
    await until(lambda: not any(worker.state.executing for worker in dask_cluster.workers.values()))


# --- secrets ----------------------------------------------------------------------------


class _Recorder(SchedulerPlugin):
    """Keeps all that the scheduler is told of tasks: their keys, functions and arguments."""

    name = "recorder"

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self.keys: set[str] = set()
        self.seen = bytearray()

    def transition(self, key: Any, *arguments: Any, **keywords: Any) -> None:
        task = self._scheduler.tasks[key]
        self.keys.add(str(key))
        self.seen += pickle.dumps((task.run_spec, task.annotations, task.metadata, keywords))


async def test_no_task_holds_a_secret_and_each_has_a_name_for_the_dashboard(
    engine: DaskEngine, dask_cluster: Any, buckets: Buckets
) -> None:
    from dask.utils import key_split

    await fill(buckets.source_storage, numbered(12))
    recorder = _Recorder(dask_cluster.scheduler)
    dask_cluster.sync(_add_plugin, dask_cluster.scheduler, recorder)
    job = buckets.copy()
    try:
        report = await run_job(job, engine=engine)
    finally:
        dask_cluster.sync(_remove_plugin, dask_cluster.scheduler, recorder)

    assert report.objects == 12
    assert {key_split(key) for key in recorder.keys} == {"careflow-copy"}
    assert all(job.job_id in key for key in recorder.keys)
    assert job.job_id.encode() in recorder.seen
    for storage in (buckets.source_storage, buckets.target_storage):
        key = storage.settings.application_key
        assert key is not None
        assert key.get_secret_value().encode() not in recorder.seen
        assert str(storage.settings.key_id).encode() not in recorder.seen


async def _add_plugin(scheduler: Scheduler, plugin: SchedulerPlugin) -> None:
    scheduler.add_plugin(plugin)


async def _remove_plugin(scheduler: Scheduler, plugin: _Recorder) -> None:
    scheduler.remove_plugin(plugin.name)


# --- stop and resume --------------------------------------------------------------------


async def test_a_job_begun_on_a_cluster_ends_in_one_process(
    engine: DaskEngine, buckets: Buckets
) -> None:
    bodies = numbered(40)
    await fill(buckets.source_storage, bodies)
    job = buckets.copy()

    class StopError(Exception):
        pass

    def stop(progress: JobProgress) -> None:
        if progress.objects >= 10:
            raise StopError

    with pytest.raises(StopError):
        await run_job(job, engine=engine, progress=stop)
    report = await resume_job(job.job_id, job.target)
    assert report.state == "finished"
    assert await buckets.copies() == bodies
