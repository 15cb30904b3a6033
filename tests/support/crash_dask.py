"""Kill -9 of a Dask worker in the middle of a copy: what is lost, doubled and left over.

::

    python -m tests.support.crash_dask --small 20000 --large 20 --at 0.44

Copies between two SeaweedFS servers on two workers, one of which is killed. Then the same job runs
again over the finished target. Prints JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil

from careflow_storage import BackblazeStorage
from careflow_storage.jobs import CopyJob, DaskEngine, JobProgress, JobReport, run_job
from careflow_storage.local import LocalServer
from tests.support.dask_cluster import DaskProcesses
from tests.support.jobs import location_of

MIB = 1024 * 1024
_BLOCK = os.urandom(MIB)


async def _large(number: int, size: int) -> AsyncIterator[bytes]:
    for block in range(size // MIB):
        yield number.to_bytes(4, "big") + block.to_bytes(4, "big") + _BLOCK[8:]


async def _fill(storage: BackblazeStorage, small: int, large: int, size: int) -> None:
    slots = asyncio.Semaphore(64)

    async def store(number: int) -> None:
        async with slots:
            await storage.upload_file(f"recordings/CA{number:06}/call.webm", b"%d" % number * 500)

    async with asyncio.TaskGroup() as group:
        for number in range(small):
            group.create_task(store(number))
    for number in range(large):
        await storage.upload_file(
            f"recordings/long/{number:03}.webm", _large(number, size), size=size
        )


async def _peak_memory(processes: DaskProcesses, peaks: dict[str, float]) -> None:
    """Keep the highest resident memory of each process, in MiB, until cancelled."""
    watched = {"client": psutil.Process()}
    for number, worker in enumerate(processes.workers):
        watched[f"worker {number}"] = psutil.Process(worker.pid)
    while True:
        for name, process in list(watched.items()):
            try:
                peaks[name] = max(peaks.get(name, 0), round(process.memory_info().rss / MIB))
            except psutil.NoSuchProcess:
                del watched[name]
        await asyncio.sleep(0.2)


async def _compare(source: BackblazeStorage, target: BackblazeStorage) -> dict[str, Any]:
    """Compare sizes and ETags of all keys, and count versions and unfinished uploads."""
    ours = {file.key: (file.size, file.etag) async for file in source.list_files("recordings/")}
    theirs = {file.key: (file.size, file.etag) async for file in target.list_files("recordings/")}
    versions = Counter(
        [version.key async for version in target.admin.list_file_versions("recordings/")]
    )
    uploads = await target.list_incomplete_uploads()
    return {
        "lost": len(ours.keys() - theirs.keys()),
        "other size": sum(key in theirs and ours[key][0] != theirs[key][0] for key in ours),
        # The ETag of parts depends on their size, which is equal on both sides here.
        "other ETag": sum(key in theirs and ours[key][1] != theirs[key][1] for key in ours),
        "doubled": sum(count > 1 for count in versions.values()),
        "unfinished uploads": len(uploads),
    }


def _summary(report: JobReport, seconds: float) -> dict[str, Any]:
    return {
        "state": report.state,
        "seconds": round(seconds, 1),
        "copied": report.objects,
        "skipped": report.skipped,
        "errors": report.errors,
        "shards": report.shards,
        "requests": report.requests,
    }


async def run(small: int, large: int, size: int, at: float, folder: Path) -> dict[str, Any]:
    """Copy with a kill at a share of the objects, then once more; return the numbers."""
    with LocalServer() as first, LocalServer() as second:
        settings = first.settings(), second.settings()
        async with (
            BackblazeStorage(settings[0]) as source,
            BackblazeStorage(settings[1]) as target,
            DaskProcesses(folder) as cluster,
        ):
            await _fill(source, small, large, size)
            locations = [
                location_of(one, folder / f"{name}.env")
                for name, one in zip(("source", "target"), settings, strict=True)
            ]
            killed: list[int] = []

            def kill(progress: JobProgress) -> None:
                if not killed and progress.objects >= at * (small + large):
                    killed.append(progress.objects)
                    cluster.kill_worker(0)

            peaks: dict[str, float] = {}
            watch = asyncio.create_task(_peak_memory(cluster, peaks))
            found: dict[str, Any] = {}
            for name, progress in (("with a kill", kill), ("again", None)):
                job = CopyJob(source=locations[0], target=locations[1], prefix="recordings/")
                started = time.monotonic()
                report = await run_job(job, engine=DaskEngine(cluster.address), progress=progress)
                found[name] = _summary(report, time.monotonic() - started)
                found[name] |= await _compare(source, target)
            watch.cancel()
            return found | {"killed at": killed, "peak MiB": peaks}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", type=int, default=20_000)
    parser.add_argument("--large", type=int, default=20)
    parser.add_argument("--size", type=int, default=50 * MIB, help="of a large object, in bytes")
    parser.add_argument("--at", type=float, default=0.44, help="share of the objects")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(
            run(arguments.small, arguments.large, arguments.size, arguments.at, Path(folder))
        )
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
