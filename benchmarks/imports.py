"""``python -m benchmarks.imports MODULE``: the cost of one import.

Modules of the standard library that are loaded here already cost nobody anything.
"""

from __future__ import annotations

import resource
import sys
import time

from benchmarks.measure import peak_rss_mib, rss_mib
from benchmarks.model import Measurement, Sample

_HEAVY = ("aioboto3", "boto3", "botocore", "aiohttp", "pydantic", "rich")


def measure_import(module: str) -> Measurement:
    """Import ``module`` into this interpreter. The peak is what it added, in MiB."""
    modules, memory = len(sys.modules), rss_mib()
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    __import__(module)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
    sample = Sample(
        wall_s=wall,
        user_s=after.ru_utime - before.ru_utime,
        system_s=after.ru_stime - before.ru_stime,
        ops=1,
        size=0,
        base_rss_mib=memory,
        peak_rss_mib=rss_mib() - memory,
        lag_p50_ms=None,
        lag_p99_ms=None,
        lag_max_ms=None,
        preempted=after.ru_nivcsw - before.ru_nivcsw,
        extra={"modules": float(len(sys.modules) - modules)},
    )
    brings = ", ".join(sorted(set(_HEAVY) & set(sys.modules)))
    peak = peak_rss_mib()
    return Measurement(sample.wall_s, sample.cpu_s, 0.0, 0.0, peak, {"import": sample}, brings)


if __name__ == "__main__":
    print(measure_import(sys.argv[1]).to_json())
