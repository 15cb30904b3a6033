"""Cost of importing a module, told by a fresh interpreter that does nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass

_HEAVY = ("aioboto3", "boto3", "botocore", "aiohttp", "pydantic", "rich")
_PROGRAM = """
import json, re, resource, sys, time
def rss():
    try:
        text = open("/proc/self/status").read()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return int(re.search(r"VmRSS:\\s+(\\d+)", text).group(1)) / 1024
def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
modules, memory, busy, start = len(sys.modules), rss(), cpu(), time.perf_counter()
__import__(sys.argv[1])
print(json.dumps({
    "wall_s": time.perf_counter() - start,
    "cpu_s": cpu() - busy,
    "rss_mib": rss() - memory,
    "modules": len(sys.modules) - modules,
    "brings": sorted(set(sys.argv[2:]) & set(sys.modules)),
}))
"""


@dataclass(frozen=True, slots=True)
class ImportSample:
    """What one import added: seconds, MiB, modules, and which heavy packages came along."""

    wall_s: float
    cpu_s: float
    rss_mib: float
    modules: int
    brings: list[str]


def measure_import(module: str) -> ImportSample:
    """Import ``module`` in a fresh interpreter. Raises CalledProcessError when that fails."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, module, *_HEAVY],
        check=True,
        capture_output=True,
        text=True,
    )
    return ImportSample(**json.loads(done.stdout))
