"""The process of a cold start: open a client, get one small object, report the time.

The interpreter's start counts, and so does the little that is imported here, for every client
alike.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import resource
import sys
import time
from typing import TYPE_CHECKING, cast

from benchmarks.measure import peak_rss_mib
from benchmarks.model import Job, Measurement, Sample

if TYPE_CHECKING:
    from benchmarks.clients.protocol import Adapter, Objects


async def _first_byte(job: Job, adapter: Adapter, started: float) -> Sample:
    async with adapter.open_client(job) as client:
        size = await cast("Objects", client).get(job.keys["main"])
        wall, used = time.monotonic() - started, resource.getrusage(resource.RUSAGE_SELF)
    if size != job.size:
        raise RuntimeError(f"got {size} bytes, not {job.size}")
    peak = peak_rss_mib()
    return Sample(
        wall_s=wall,
        user_s=used.ru_utime,
        system_s=used.ru_stime,
        ops=1,
        size=size,
        base_rss_mib=0.0,
        peak_rss_mib=peak,
        lag_p50_ms=None,
        lag_p99_ms=None,
        lag_max_ms=None,
        preempted=used.ru_nivcsw,
    )


def main() -> None:
    job = Job.from_json(sys.stdin.read())
    start = time.monotonic()
    adapter = cast("Adapter", importlib.import_module(f"benchmarks.clients.{job.client}_client"))
    import_s = time.monotonic() - start
    sample = asyncio.run(_first_byte(job, adapter, float(sys.argv[1])))
    measurement = Measurement(import_s, 0.0, 0.0, 0.0, sample.peak_rss_mib, {"first byte": sample})
    print(measurement.to_json(), flush=True)
    # All is said and closed. obstore 0.12 sometimes aborts while the interpreter shuts down.
    os._exit(0)


if __name__ == "__main__":
    main()
