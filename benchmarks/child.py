"""The client process: reads a job from stdin, measures it, writes the measurement to stdout.

Nothing but the standard library is imported before the client, so that the cost of its import
can be told.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
import time
from collections.abc import Callable
from typing import cast

from benchmarks.clients.protocol import Adapter
from benchmarks.measure import cpu_seconds, peak_rss_mib
from benchmarks.model import Job, Measurement
from benchmarks.workloads import make_workload


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    if name == "uvloop":
        return cast(
            "Callable[[], asyncio.AbstractEventLoop]",
            importlib.import_module("uvloop").new_event_loop,
        )
    return asyncio.new_event_loop


async def perform(job: Job, adapter: Adapter, import_s: float, import_cpu_s: float) -> Measurement:
    cpu, wall = cpu_seconds(), time.perf_counter()
    async with adapter.open_client(job) as client:
        workload = make_workload(job, client)
        await workload.warm()
        ready_s, ready_cpu_s = time.perf_counter() - wall, cpu_seconds() - cpu
        early_peak = peak_rss_mib()
        sections = await workload.run()
    return Measurement(
        import_s=import_s,
        import_cpu_s=import_cpu_s,
        ready_s=ready_s,
        ready_cpu_s=ready_cpu_s,
        process_peak_mib=max([early_peak, *(one.peak_rss_mib for one in sections.values())]),
        sections=sections,
    )


def main() -> None:
    job = Job.from_json(sys.stdin.read())
    cpu, wall = cpu_seconds(), time.perf_counter()
    adapter = cast("Adapter", importlib.import_module(f"benchmarks.clients.{job.client}_client"))
    import_s, import_cpu_s = time.perf_counter() - wall, cpu_seconds() - cpu
    with asyncio.Runner(loop_factory=loop_factory(job.loop)) as runner:
        measurement = runner.run(perform(job, adapter, import_s, import_cpu_s))
    print(measurement.to_json(), flush=True)
    # All is said and closed. obstore 0.12 sometimes aborts while the interpreter shuts down.
    os._exit(0)


if __name__ == "__main__":
    main()
